//! The gate against a scripted DynamoDB: the pools that it clears, and its failures, which close it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use spot_cloud::launch::gatekeeper::{GateClosed, Gatekeeper, PoolVerdict};
use spot_domain::Pool;
use spot_domain::clock;
use spot_scripted::{Endpoint, ScriptedAnswer};

const TABLE: &str = "risk";

fn pool(instance_type: &str) -> Pool {
    format!("us-east-1#use1-az6#{instance_type}").parse().unwrap()
}

fn row(instance_type: &str, is_poisoned: bool, expires_in: i64) -> String {
    let expires = clock::now().as_second() + expires_in;
    format!(
        r#"{{"pool":{{"S":"{}"}},"is_poisoned":{{"BOOL":{is_poisoned}}},"poison_expires_at":{{"N":"{expires}"}}}}"#,
        pool(instance_type)
    )
}

fn rows(rows: &[String], unprocessed: &str) -> ScriptedAnswer {
    ScriptedAnswer::ok(format!(
        r#"{{"Responses":{{"{TABLE}":[{}]}},"UnprocessedKeys":{{{unprocessed}}}}}"#,
        rows.join(",")
    ))
}

async fn gate(endpoint: &Endpoint) -> Gatekeeper {
    Gatekeeper::over(aws_sdk_dynamodb::Client::new(&endpoint.config().await), TABLE)
}

#[tokio::test]
async fn only_an_active_poison_closes_a_pool() {
    let script = [row("m5.large", true, 60), row("c5.large", true, -1), row("r5.large", false, 60)];
    let endpoint = Endpoint::start(vec![rows(&script, "")]).await;
    let pools = [pool("m5.large"), pool("c5.large"), pool("r5.large"), pool("t3.micro")];
    let verdicts = gate(&endpoint).await.ask(&pools).await.unwrap();
    assert!(matches!(verdicts[0], PoolVerdict::PoisonedUntil(_)));
    for verdict in &verdicts[1..] {
        assert!(matches!(verdict, PoolVerdict::Cleared(_)), "{verdict:?}");
    }
}

#[tokio::test]
async fn a_hundred_pools_are_one_strongly_consistent_call() {
    let endpoint = Endpoint::start(vec![rows(&[], "")]).await;
    let pools: Vec<Pool> = (1..=100).map(|n| pool(&format!("m{n}.large"))).collect();
    assert_eq!(gate(&endpoint).await.ask(&pools).await.unwrap().len(), 100);
    let requests = endpoint.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].contains(r#""ConsistentRead":true"#), "{}", requests[0]);
}

#[tokio::test]
async fn unprocessed_keys_are_asked_again() {
    let left = format!(r#""{TABLE}":{{"Keys":[{{"pool":{{"S":"{}"}}}}]}}"#, pool("m5.large"));
    let endpoint = Endpoint::start(vec![rows(&[], &left), rows(&[row("m5.large", true, 60)], "")]).await;
    let verdicts = gate(&endpoint).await.ask(&[pool("m5.large"), pool("c5.large")]).await.unwrap();
    assert!(matches!(verdicts[0], PoolVerdict::PoisonedUntil(_)));
    assert!(matches!(verdicts[1], PoolVerdict::Cleared(_)));
    assert_eq!(endpoint.requests().len(), 2);
}

#[tokio::test]
async fn keys_that_stay_unprocessed_close_the_gate() {
    let left = format!(r#""{TABLE}":{{"Keys":[{{"pool":{{"S":"{}"}}}}]}}"#, pool("m5.large"));
    let endpoint = Endpoint::start(vec![rows(&[], &left)]).await;
    assert!(matches!(gate(&endpoint).await.ask(&[pool("m5.large")]).await, Err(GateClosed::TooSlow { .. })));
}

#[tokio::test]
async fn a_slow_table_is_a_closed_gate() {
    let endpoint = Endpoint::start(vec![rows(&[], "").after(Duration::from_millis(1_500))]).await;
    assert!(matches!(gate(&endpoint).await.ask(&[pool("m5.large")]).await, Err(GateClosed::TooSlow { .. })));
}

#[tokio::test]
async fn a_table_that_fails_or_answers_nothing_is_a_closed_gate() {
    let answers = [
        ScriptedAnswer::json_error(500, "InternalServerError"),
        ScriptedAnswer::json_error(400, "AccessDeniedException"),
        ScriptedAnswer::json_error(400, "ResourceNotFoundException"),
        ScriptedAnswer::ok("{}"),
        ScriptedAnswer::ok(r#"{"Responses":{"another":[]}}"#),
        ScriptedAnswer::ok("not json"),
    ];
    for answer in answers {
        let endpoint = Endpoint::start(vec![answer.clone()]).await;
        let verdicts = gate(&endpoint).await.ask(&[pool("m5.large")]).await;
        assert!(verdicts.is_err(), "{answer:?} opened the gate: {verdicts:?}");
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_clears_nothing() {
    let rows_of = [
        r#""is_poisoned":{"BOOL":true}"#,
        r#""is_poisoned":{"S":"false"},"poison_expires_at":{"N":"1"}"#,
        r#""is_poisoned":{"BOOL":true},"poison_expires_at":{"S":"1"}"#,
        r#""is_poisoned":{"BOOL":true},"poison_expires_at":{"N":"1e99"}"#,
        r#""poison_expires_at":{"N":"1"}"#,
    ];
    for attributes in rows_of {
        let row = format!(r#"{{"pool":{{"S":"{}"}},{attributes}}}"#, pool("m5.large"));
        let endpoint = Endpoint::start(vec![rows(&[row], "")]).await;
        let verdicts = gate(&endpoint).await.ask(&[pool("m5.large")]).await.unwrap();
        assert!(matches!(verdicts[0], PoolVerdict::Unreadable(_)), "{attributes}: {verdicts:?}");
    }
}

async fn gate_of_member(own: &Endpoint, hub: &Endpoint) -> Gatekeeper {
    gate(own).await.and_hub(aws_sdk_dynamodb::Client::new(&hub.config().await), TABLE)
}

#[tokio::test]
async fn a_member_launches_only_where_its_own_table_and_the_hubs_are_clear() {
    let own = Endpoint::start(vec![rows(&[row("m5.large", true, 60), row("r5.large", true, 60)], "")]).await;
    let hub = Endpoint::start(vec![rows(&[row("c5.large", true, 60), row("r5.large", true, 600)], "")]).await;
    let pools = [pool("m5.large"), pool("c5.large"), pool("r5.large"), pool("t3.micro")];
    let verdicts = gate_of_member(&own, &hub).await.ask(&pools).await.unwrap();
    for verdict in &verdicts[..3] {
        assert!(matches!(verdict, PoolVerdict::PoisonedUntil(_)), "{verdict:?}");
    }
    let PoolVerdict::PoisonedUntil(until) = verdicts[2] else { panic!("{:?}", verdicts[2]) };
    assert!(until.as_second() > clock::now().as_second() + 500, "the later of the two ends: {until}");
    assert!(matches!(verdicts[3], PoolVerdict::Cleared(_)));
}

#[tokio::test]
async fn a_hub_that_does_not_answer_closes_the_members_gate() {
    let silent = [
        ScriptedAnswer::json_error(400, "AccessDeniedException"),
        ScriptedAnswer::json_error(500, "InternalServerError"),
        rows(&[], "").after(Duration::from_millis(3_500)),
    ];
    for answer in silent {
        let own = Endpoint::start(vec![rows(&[], "")]).await;
        let hub = Endpoint::start(vec![answer.clone()]).await;
        let closed = gate_of_member(&own, &hub).await.ask(&[pool("m5.large")]).await.unwrap_err();
        assert!(closed.to_string().starts_with("the hub's risk table"), "{answer:?}: {closed}");
    }
}
