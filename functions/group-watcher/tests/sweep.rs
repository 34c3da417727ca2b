//! Sweeps of several places: one whose time does not suffice for all of them is continued by the next.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use group_watcher::GroupWatcher;
use group_watcher::answer::Answer;
use jiff::Timestamp;
use serde_json::{Value, json};
use spot_cloud::{Stack, environment};
use spot_domain::clock;
use spot_scripted::{Endpoint, ScriptedAnswer};

/// The seconds that the visit of a place takes.
const VISIT: i64 = 100;
/// The seconds that a run keeps free at its end.
const RESERVE: i64 = 20;
const VARIABLES: [(&str, &str); 15] = [
    ("STACK_ACCOUNT_ID", "123456789012"),
    ("AWS_REGION", "us-east-1"),
    ("ENVIRONMENT_TYPE", "PROD"),
    ("ROLE_SESSION_NAME", "spot-optimizer-watch"),
    ("STACK_ROLE", "standalone"),
    ("STACK_NAME", "blue"),
    ("ACCOUNTS_TABLE", "accounts"),
    ("SETTINGS_TABLE", "settings"),
    ("SWAPS_TABLE", "swaps"),
    ("SPOT_POOL_RISK_TABLE", "risk"),
    ("GROUPS_TABLE", "groups"),
    ("ALERTS_TOPIC_ARN", "arn:aws:sns:us-east-1:123456789012:alerts"),
    ("CLUSTER_SWAP_STATE_MACHINE_ARN", "arn:aws:states:us-east-1:123456789012:stateMachine:group"),
    ("NODE_SWAP_STATE_MACHINE_ARN", "arn:aws:states:us-east-1:123456789012:stateMachine:node"),
    ("LAB_SWAP_STATE_MACHINE_ARN", "arn:aws:states:us-east-1:123456789012:stateMachine:lab"),
];

thread_local! {
    static SECONDS: Cell<i64> = const { Cell::new(1_800_000_000) };
}

/// The row that says where the next sweep begins.
type Turn = Arc<Mutex<Option<Value>>>;

fn rows(rows: &[Value]) -> ScriptedAnswer {
    ScriptedAnswer::ok(json!({"Items": rows, "Count": rows.len(), "ScannedCount": rows.len()}).to_string())
}

/// Returns the watcher of an account with three regions, none of which has a group. `noted` answers its writes.
async fn watcher(turn: &Turn, noted: ScriptedAnswer) -> GroupWatcher {
    environment::replace(VARIABLES.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    clock::follow(|| Timestamp::from_second(SECONDS.get()).unwrap());
    let account = json!({"account_id": {"S": "123456789012"}, "environment_type": {"S": "PROD"},
        "regions": {"SS": ["us-west-2", "eu-west-1", "us-east-1"]}});
    let turn = Arc::clone(turn);
    let endpoint = Endpoint::answering(move |action, body| match action {
        "Scan" if body.contains("\"accounts\"") => rows(std::slice::from_ref(&account)),
        "Scan" => rows(turn.lock().unwrap().as_slice()),
        "BatchGetItem" => ScriptedAnswer::ok(r#"{"Responses":{"settings":[]},"UnprocessedKeys":{}}"#),
        "DescribeAutoScalingGroups" => {
            SECONDS.set(SECONDS.get() + VISIT);
            let none =
                "<DescribeAutoScalingGroupsResult><AutoScalingGroups/></DescribeAutoScalingGroupsResult>";
            ScriptedAnswer::ok(format!(
                "<DescribeAutoScalingGroupsResponse>{none}</DescribeAutoScalingGroupsResponse>"
            ))
        }
        "UpdateItem" => {
            let body: Value = serde_json::from_str(body).unwrap();
            let values = &body["ExpressionAttributeValues"];
            assert!(values[":expires"]["N"].is_string(), "the row does not stay for ever: {body}");
            let row = json!({"group": body["Key"]["group"], "account_id": values[":account"],
                "region": values[":region"]});
            *turn.lock().unwrap() = Some(row);
            noted.clone()
        }
        other => panic!("{other} is not expected"),
    })
    .await;
    let stack = Stack::over(endpoint.config().await).unwrap();
    GroupWatcher::new(stack).await.unwrap()
}

/// Sweeps while there is time for so many visits to begin.
async fn sweep(watcher: &GroupWatcher, visits: i64) -> Answer {
    let seconds = u64::try_from(visits * VISIT - VISIT / 2 + RESERVE).unwrap_or(0);
    let deadline = clock::system_time() + Duration::from_secs(seconds);
    watcher.handle(json!({}), deadline).await.unwrap()
}

/// Returns the region after which the next sweep begins.
fn region_of(turn: &Turn) -> Option<String> {
    turn.lock().unwrap().as_ref().map(|row| row["region"]["S"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_sweep_resumes_after_the_last_place_of_the_one_before() {
    let turn = Turn::default();
    let watcher = watcher(&turn, ScriptedAnswer::ok("{}")).await;
    for (visits, last) in [(2, "us-east-1"), (2, "eu-west-1"), (1, "us-east-1"), (1, "us-west-2")] {
        let answer = sweep(&watcher, visits).await;
        assert_eq!((answer.partial, answer.failed.len()), (true, 0), "{answer:?}");
        assert_eq!(region_of(&turn).as_deref(), Some(last));
    }
    // Once the time suffices for all, each sweep begins one place later.
    for first in ["eu-west-1", "us-east-1", "us-west-2", "eu-west-1"] {
        let answer = sweep(&watcher, 4).await;
        assert_eq!((answer.partial, answer.failed.len()), (false, 0), "{answer:?}");
        assert_eq!(region_of(&turn).as_deref(), Some(first));
    }
}

#[tokio::test]
async fn a_turn_that_cannot_be_read_or_noted_stops_no_sweep() {
    let odd = json!({"group": {"S": "turn"}, "account_id": {"N": "1"}, "region": {"S": "us-west-2"}});
    let turn: Turn = Arc::new(Mutex::new(Some(odd)));
    let watcher = watcher(&turn, ScriptedAnswer::json_error(400, "AccessDeniedException")).await;
    let answer = sweep(&watcher, 2).await;
    assert!(answer.partial);
    assert_eq!(region_of(&turn).as_deref(), Some("us-east-1"), "it has begun with the first place");
    assert!(!answer.failed.is_empty());
    let is_told = answer.failed.iter().all(|failure| failure.error.contains("dynamodb:UpdateItem"));
    assert!(is_told, "{answer:?}");
}

#[tokio::test]
async fn a_sweep_that_has_no_time_for_any_place_is_a_failure() {
    let turn = Turn::default();
    let watcher = watcher(&turn, ScriptedAnswer::ok("{}")).await;
    let answer = sweep(&watcher, 0).await;
    assert!(answer.partial);
    assert!(answer.failed[0].error.contains("no time was left"), "{answer:?}");
    assert_eq!(region_of(&turn), None, "the next sweep begins where this one should have begun");
}
