//! The pool that a newcomer was launched into, kept in the Swaps table under its id.

#![allow(clippy::unwrap_used, clippy::panic)]

use jiff::Timestamp;
use serde_json::{Value, json};
use spot_cloud::swaps::{Lease, Leased, Owner, Swaps};
use spot_domain::{InstanceId, Pool, Region};
use spot_scripted::{Answer, Endpoint};

const ARN: &str = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:u:autoScalingGroupName/web";
const KEY: &str = "newcomer#123456789012#us-east-1#i-0123456789abcdef1";

async fn table(answer: Value) -> (Swaps, Endpoint) {
    let endpoint = Endpoint::start(vec![Answer::ok(answer.to_string())]).await;
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

#[tokio::test]
async fn the_pool_of_a_newcomer_lies_under_its_id_and_no_lease_does() {
    let (swaps, endpoint) = table(json!({})).await;
    let lease = Lease {
        on: Leased::Group { arn: ARN.parse().unwrap(), name: "web".parse().unwrap() },
        account_id: "123456789012".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        owner: Owner::Execution(
            "arn:aws:states:us-east-1:123456789012:execution:swap:run-1".parse().unwrap(),
        ),
        since: Timestamp::UNIX_EPOCH,
    };
    let before = Timestamp::now().as_second();
    swaps.keep_pool(&lease, &newcomer(), &"us-east-1#use1-az6#m5.large".parse().unwrap()).await.unwrap();
    let [written] = &endpoint.requests()[..] else { panic!("one call") };
    let written: Value = serde_json::from_str(written).unwrap();
    assert_eq!(written["Key"], json!({"target": {"S": KEY}}));
    let values = &written["ExpressionAttributeValues"];
    assert_eq!(values[":pool"], json!({"S": "us-east-1#use1-az6#m5.large"}));
    let expires_at: i64 = values[":expires"]["N"].as_str().unwrap().parse().unwrap();
    let days = 90 * 86_400;
    assert!((before + days..before + days + 600).contains(&expires_at), "{expires_at}");
    for other in [lease.clone(), Lease { on: Leased::Instance(newcomer()), ..lease }] {
        assert_ne!(other.key(), KEY, "a row that expires would take the lease on {} along", other.on);
    }
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
