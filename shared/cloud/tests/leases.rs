//! Rows of the Swaps table that hold a lease.

#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::json;
use spot_cloud::tables::swaps::Swaps;
use spot_scripted::{Endpoint, ScriptedAnswer};

const ARN: &str = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:u:autoScalingGroupName/web";

/// An error about a row sends a person to that row. A row that says it leases another target would send them elsewhere.
#[tokio::test]
async fn a_row_is_read_under_the_key_of_what_it_leases_alone() {
    let row = |key: &str| {
        json!({"Count": 1, "Items": [{
            "target": {"S": key},
            "leased": {"S": json!({"Group": {"arn": ARN, "name": "web"}}).to_string()},
            "account_id": {"S": "123456789012"},
            "region": {"S": "us-east-1"},
            "lease_owner": {"S": "arn:aws:states:us-east-1:123456789012:execution:swap:run-1"},
            "lease_since": {"N": "1700000000000"},
        }]})
    };
    for (key, is_read) in [(ARN, true), ("zzz", false)] {
        let endpoint = Endpoint::start(vec![ScriptedAnswer::ok(row(key).to_string())]).await;
        let client = aws_sdk_dynamodb::Client::new(&endpoint.config().await);
        let [held] = Swaps::over(client, "swaps").all_held().await.unwrap().try_into().unwrap();
        assert_eq!(held.is_ok(), is_read, "{key}");
        if let Err(error) = held {
            assert!(error.to_string().contains("zzz"), "{error}");
        }
    }
}
