//! The journal's row against a scripted DynamoDB: of two recoveries that have read the same, one goes on.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Mutex;

use jiff::Timestamp;
use spot_cloud::swaps::{Lease, Leased, Owner, Swaps, SwapsError};
use spot_domain::journal::{Journal, Retirement};
use spot_scripted::{Answer, Endpoint};

fn lease() -> Lease {
    let owner = "arn:aws:states:us-east-1:123456789012:execution:swap:run-1".parse().unwrap();
    Lease {
        on: Leased::Instance("i-0123456789abcdef0".parse().unwrap()),
        account_id: "123456789012".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        owner: Owner::ReconcilerFor(owner),
        since: Timestamp::UNIX_EPOCH,
    }
}

fn journal() -> Journal {
    Journal::new(&"i-0123456789abcdef0".parse().unwrap(), Timestamp::UNIX_EPOCH, Retirement::Detach)
}

fn value(body: &str, name: &str) -> Option<u64> {
    let (_, rest) = body.split_once(&format!(r#""{name}":{{"N":""#))?;
    rest.split_once('"')?.0.parse().ok()
}

/// A row that knows its revision, as far as the conditions of `revise` and `write` ask for it.
fn row() -> impl Fn(&str, &str) -> Answer + Send + Sync + 'static {
    let stored = Mutex::new(0);
    move |_, body| {
        let mut stored = stored.lock().unwrap();
        let written = value(body, ":revision").unwrap();
        let holds = match value(body, ":read") {
            Some(read) => body.contains("revision = :read") && *stored == read,
            None => body.contains("revision <= :revision") && *stored <= written,
        };
        if !holds {
            return Answer::json_error(400, "ConditionalCheckFailedException");
        }
        *stored = written;
        Answer::ok("{}")
    }
}

#[tokio::test]
async fn of_two_recoveries_the_first_to_write_goes_on() {
    let endpoint = Endpoint::answering(row()).await;
    let swaps = Swaps::over(aws_sdk_dynamodb::Client::new(&endpoint.config().await), "swaps");
    let (mut one, mut other) = (journal(), journal());
    swaps.revise(&lease(), &mut one).await.unwrap();
    swaps.revise(&lease(), &mut one).await.unwrap();
    let lost = swaps.revise(&lease(), &mut other).await;
    assert!(matches!(lost, Err(SwapsError::LeaseLost { .. })), "{lost:?}");
    swaps.revise(&lease(), &mut one).await.unwrap();
}

#[tokio::test]
async fn a_step_that_a_recovery_has_overtaken_writes_nothing() {
    let endpoint = Endpoint::answering(row()).await;
    let swaps = Swaps::over(aws_sdk_dynamodb::Client::new(&endpoint.config().await), "swaps");
    let step = journal();
    swaps.write(&lease(), &step).await.unwrap();
    let mut recovered = step.clone();
    swaps.revise(&lease(), &mut recovered).await.unwrap();
    for lost in [swaps.write(&lease(), &step).await, swaps.note(&lease(), &step).await] {
        assert!(matches!(lost, Err(SwapsError::LeaseLost { .. })), "{lost:?}");
    }
    swaps.write(&lease(), &recovered).await.unwrap();
}
