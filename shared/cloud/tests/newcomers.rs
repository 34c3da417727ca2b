//! The pools that newcomers were launched into, kept in the Swaps table under its id.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use serde_json::{Value, json};
use spot_cloud::Kind;
use spot_cloud::tables::swaps::{Lease, Leased, Owner, Swaps};
use spot_domain::clock;
use spot_domain::{InstanceId, Pool, Region};
use spot_scripted::{Endpoint, ScriptedAnswer};

const ARN: &str = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:u:autoScalingGroupName/web";
const KEY: &str = "newcomer#123456789012#us-east-1#i-0123456789abcdef1";

async fn table(answer: Value) -> (Swaps, Endpoint) {
    let endpoint = Endpoint::start(vec![ScriptedAnswer::ok(answer.to_string())]).await;
    let client = aws_sdk_dynamodb::Client::new(&endpoint.config().await);
    (Swaps::over(client, "swaps"), endpoint)
}

fn newcomer() -> InstanceId {
    "i-0123456789abcdef1".parse().unwrap()
}

async fn looked_up(answer: Value) -> Result<Option<Pool>, String> {
    let (swaps, endpoint) = table(answer).await;
    let region: Region = "us-east-1".parse().unwrap();
    let pool = swaps.pool_of(&"123456789012".parse().unwrap(), &region, &newcomer()).await;
    let [asked] = &endpoint.requests()[..] else { panic!("one call, by the key of one row") };
    let asked: Value = serde_json::from_str(asked).unwrap();
    assert_eq!(asked["Key"], json!({"target": {"S": KEY}}));
    pool.map_err(|error| error.to_string())
}

/// The pools of this many newcomers, in the order of their ids.
fn launched(many: u64) -> BTreeMap<InstanceId, Pool> {
    let pool: Pool = "us-east-1#use1-az6#m5.large".parse().unwrap();
    (1..=many).map(|n| (format!("i-0123456789abcd{n:03x}").parse().unwrap(), pool.clone())).collect()
}

fn lease() -> Lease {
    Lease {
        on: Leased::Group { arn: ARN.parse().unwrap(), name: "web".parse().unwrap() },
        account_id: "123456789012".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        owner: Owner::Execution(
            "arn:aws:states:us-east-1:123456789012:execution:swap:run-1".parse().unwrap(),
        ),
        since: Timestamp::UNIX_EPOCH,
    }
}

/// The rows of each `BatchWriteItem` so far.
fn written(endpoint: &Endpoint) -> Vec<Vec<Value>> {
    let rows = |body: &String| {
        let request: Value = serde_json::from_str(body).unwrap();
        let puts = request["RequestItems"]["swaps"].as_array().unwrap().iter();
        puts.map(|put| put["PutRequest"]["Item"].clone()).collect()
    };
    endpoint.requests().iter().map(rows).collect()
}

/// A table that writes the first row of each request alone for the first `times`, then all.
async fn busy(times: usize) -> (Swaps, Endpoint) {
    let calls = AtomicUsize::new(0);
    let endpoint = Endpoint::answering(move |_, body| {
        let request: Value = serde_json::from_str(body).unwrap();
        let left = match &request["RequestItems"]["swaps"].as_array().unwrap()[..] {
            [_, left @ ..] if calls.fetch_add(1, Ordering::SeqCst) < times => json!({"swaps": left}),
            _ => json!({}),
        };
        ScriptedAnswer::ok(json!({"UnprocessedItems": left}).to_string())
    })
    .await;
    (Swaps::over(aws_sdk_dynamodb::Client::new(&endpoint.config().await), "swaps"), endpoint)
}

#[tokio::test]
async fn the_pool_of_a_newcomer_lies_under_its_id_and_no_lease_does() {
    let (swaps, endpoint) = busy(0).await;
    let pool: Pool = "us-east-1#use1-az6#m5.large".parse().unwrap();
    let before = clock::now().as_second();
    swaps.keep_pools(&lease(), &BTreeMap::from([(newcomer(), pool)])).await.unwrap();
    let [row] = &written(&endpoint).concat()[..] else { panic!("one row") };
    let expires_at: i64 = row["expires_at"]["N"].as_str().unwrap().parse().unwrap();
    let days = 90 * 86_400;
    assert!((before + days..before + days + 600).contains(&expires_at), "{expires_at}");
    let (target, pool) = (json!({"S": KEY}), json!({"S": "us-east-1#use1-az6#m5.large"}));
    assert_eq!(*row, json!({"target": target, "launched_into": pool, "expires_at": row["expires_at"]}));
    for other in [lease(), Lease { on: Leased::Instance(newcomer()), ..lease() }] {
        assert_ne!(other.key(), KEY, "a row that expires would take the lease on {} along", other.on);
    }
}

#[tokio::test]
async fn one_call_keeps_the_pools_of_25_newcomers_and_none_is_made_for_none() {
    for (many, calls) in [(0, vec![]), (1, vec![1]), (25, vec![25]), (65, vec![25, 25, 15])] {
        let (swaps, endpoint) = busy(0).await;
        swaps.keep_pools(&lease(), &launched(many)).await.unwrap();
        assert_eq!(written(&endpoint).iter().map(Vec::len).collect::<Vec<_>>(), calls);
        let keys: BTreeSet<_> =
            written(&endpoint).concat().iter().map(|row| row["target"].to_string()).collect();
        assert_eq!(keys.len() as u64, many);
    }
}

#[tokio::test]
async fn what_dynamodb_leaves_unprocessed_is_sent_again_and_nothing_else_is() {
    let (swaps, endpoint) = busy(2).await;
    swaps.keep_pools(&lease(), &launched(5)).await.unwrap();
    let written = written(&endpoint);
    assert_eq!(written.iter().map(Vec::len).collect::<Vec<_>>(), [5, 4, 3]);
    assert_eq!(written[0][2..], written[2][..]);
}

#[tokio::test]
async fn a_table_that_never_takes_all_rows_or_refuses_them_is_an_error() {
    let (swaps, endpoint) = busy(usize::MAX).await;
    let error = swaps.keep_pools(&lease(), &launched(25)).await.unwrap_err();
    assert!(
        error.kind == Kind::Retry && error.message.starts_with("21 rows are still unprocessed"),
        "{error}"
    );
    assert_eq!(endpoint.requests().len(), 4);
    let refusing = Endpoint::start(vec![ScriptedAnswer::json_error(400, "AccessDeniedException")]).await;
    let swaps = Swaps::over(aws_sdk_dynamodb::Client::new(&refusing.config().await), "swaps");
    assert_eq!(swaps.keep_pools(&lease(), &launched(65)).await.unwrap_err().kind, Kind::Denied);
    assert_eq!(refusing.requests().len(), 1, "the other batches would be refused, too");
}

#[tokio::test]
async fn a_row_names_a_pool_of_its_region_or_is_refused() {
    let row = |pool: Value| json!({"Item": {"target": {"S": KEY}, "launched_into": pool}});
    let pool = looked_up(row(json!({"S": "us-east-1#use1-az6#m5.large"}))).await;
    assert_eq!(pool, Ok(Some("us-east-1#use1-az6#m5.large".parse().unwrap())));
    assert_eq!(looked_up(json!({})).await, Ok(None));
    for (forged, problem) in [
        (json!({"S": "eu-west-1#euw1-az1#m5.large"}), "does not lie in region us-east-1"),
        (json!({"S": "us-east-1#us-east-1a#m5.large"}), "launched_into: "),
        (json!({"S": "m5.large"}), "launched_into: "),
        (json!({"N": "5"}), "launched_into is missing or no text"),
    ] {
        let error = looked_up(row(forged)).await.unwrap_err();
        assert!(error.contains(KEY) && error.contains(problem), "{error}");
    }
}
