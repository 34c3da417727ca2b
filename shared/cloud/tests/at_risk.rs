//! The row that brakes rebalance recommendations.

#![allow(clippy::unwrap_used, clippy::panic)]

use jiff::Timestamp;
use serde_json::{Value, json};
use spot_cloud::tables::swaps::Swaps;
use spot_domain::GroupArn;
use spot_scripted::{Endpoint, ScriptedAnswer};

const ARN: &str = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:u:autoScalingGroupName/web";

async fn admitted(script: Vec<ScriptedAnswer>) -> (Result<(), String>, Vec<Value>) {
    let endpoint = Endpoint::start(script).await;
    let swaps = Swaps::over(aws_sdk_dynamodb::Client::new(&endpoint.config().await), "swaps");
    let (group, id): (GroupArn, _) = (ARN.parse().unwrap(), "i-0123456789abcdef1".parse().unwrap());
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let answer = swaps.admit_at_risk(&group, &id, (5, 20), now).await.unwrap();
    let requests = endpoint.requests().iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    (answer.map_err(|refused| refused.to_string()), requests)
}

fn row(instance: &str) -> ScriptedAnswer {
    let at_risk = json!({instance: "2023-11-14T22:00:00Z"}).to_string();
    ScriptedAnswer::ok(json!({"Item": {"at_risk": {"S": at_risk}, "revision": {"N": "1"}}}).to_string())
}

#[tokio::test]
async fn a_member_is_admitted_by_a_write_that_expires_and_that_a_faster_one_refuses() {
    let (answer, requests) = admitted(vec![ScriptedAnswer::ok("{}"), ScriptedAnswer::ok("{}")]).await;
    assert_eq!(answer, Ok(()));
    let [_, write] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!(write["Key"], json!({"target": {"S": format!("at-risk#{ARN}")}}));
    assert_eq!(write["ConditionExpression"], "attribute_not_exists(revision) OR revision = :read");
    assert_eq!(write["ExpressionAttributeValues"][":expires_at"], json!({"N": "1700007200"}));
}

#[tokio::test]
async fn of_two_that_come_together_one_is_admitted() {
    let script =
        vec![ScriptedAnswer::ok("{}"), ScriptedAnswer::condition_failed(None), row("i-0123456789abcdef2")];
    let (answer, requests) = admitted(script).await;
    assert!(answer.unwrap_err().contains("max_at_risk_percent"), "the other has used the share up");
    assert_eq!(requests.len(), 3, "it reads again");
}

#[tokio::test]
async fn one_that_was_admitted_stays_so() {
    let (answer, _) = admitted(vec![row("i-0123456789abcdef1"), ScriptedAnswer::ok("{}")]).await;
    assert_eq!(answer, Ok(()));
}
