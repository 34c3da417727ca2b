//! The plan of a scheduled function, with scripted accounts that ask for all their regions.

#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::{Value, json};
use spot_cloud::scopes::plan;
use spot_cloud::{Stack, environment};
use spot_scripted::{Endpoint, ScriptedAnswer};

/// Accounts whose row says `*`.
const ACCOUNTS: usize = 16;

fn account_id(n: usize) -> String {
    format!("{:012}", 100 + n)
}

fn row(n: usize) -> Value {
    let id = account_id(n);
    json!({"account_id": {"S": id}, "environment_type": {"S": "PROD"}, "regions": {"SS": ["*"]},
        "role_arn": {"S": format!("arn:aws:iam::{id}:role/SpotOptimizer")}})
}

/// Answers the calls of a plan. No role of the account `refused` can be assumed.
fn answer(action: &str, body: &str, refused: &str) -> ScriptedAnswer {
    match action {
        "Scan" => {
            let rows: Vec<Value> = (0..ACCOUNTS).map(row).collect();
            ScriptedAnswer::ok(json!({"Items": rows, "Count": ACCOUNTS}).to_string())
        }
        "AssumeRole" if body.contains(refused) => ScriptedAnswer::ec2_error(403, "AccessDenied"),
        "AssumeRole" => ScriptedAnswer::ok(
            "<AssumeRoleResponse><AssumeRoleResult><AssumedRoleUser><AssumedRoleId>A:b</AssumedRoleId>\
             <Arn>arn:aws:sts::1:assumed-role/a/b</Arn></AssumedRoleUser><Credentials><AccessKeyId>key</AccessKeyId>\
             <SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>\
             <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>",
        ),
        "DescribeRegions" => {
            let region = |name| {
                format!("<item><regionName>{name}</regionName><optInStatus>opted-in</optInStatus></item>")
            };
            let regions = ["us-west-2", "eu-west-1"].map(region).concat();
            let answer = format!(
                "<DescribeRegionsResponse><regionInfo>{regions}</regionInfo></DescribeRegionsResponse>"
            );
            ScriptedAnswer::ok(answer)
        }
        "BatchGetItem" => {
            let odd = format!("account#{}", account_id(5));
            let row = format!(r#"{{"scope":{{"S":"{odd}"}},"max_swaps":{{"N":"0"}}}}"#);
            let rows = if body.contains(&odd) { row } else { String::new() };
            ScriptedAnswer::ok(format!(r#"{{"Responses":{{"settings":[{rows}]}},"UnprocessedKeys":{{}}}}"#))
        }
        other => panic!("{other} is not expected"),
    }
}

#[tokio::test]
async fn an_account_that_cannot_be_looked_at_as_it_asks_holds_up_no_other() {
    let variables = [
        ("STACK_ACCOUNT_ID", "123456789012"),
        ("AWS_REGION", "us-east-1"),
        ("ENVIRONMENT_TYPE", "PROD"),
        ("ROLE_SESSION_NAME", "spot-optimizer-watch"),
        ("ACCOUNTS_TABLE", "accounts"),
        ("SETTINGS_TABLE", "settings"),
    ];
    environment::replace(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    let refused = account_id(3);
    let endpoint = Endpoint::answering(move |action, body| answer(action, body, &refused)).await;
    let stack = Stack::over(endpoint.config().await).unwrap();

    let west = plan(&stack, None, Some(&"us-west-2".parse().unwrap())).await.unwrap();
    assert!(!west.visits.is_empty() && west.visits.iter().all(|scope| scope.is_named), "by the input");
    let plan = plan(&stack, None, None).await.unwrap();

    let own = ["123456789012 us-east-1".to_owned()];
    let regions = |n: usize| if n == 3 { vec!["us-east-1"] } else { vec!["eu-west-1", "us-west-2"] };
    let of = |n: usize| regions(n).into_iter().map(move |region| format!("{} {region}", account_id(n)));
    let expected: Vec<String> = (0..ACCOUNTS).filter(|n| *n != 5).flat_map(of).chain(own).collect();
    let planned =
        plan.visits.iter().map(|scope| format!("{} {}", scope.place.account_id, scope.place.region));
    assert_eq!(planned.collect::<Vec<_>>(), expected);
    let named = plan.visits.iter().filter(|scope| scope.is_named).map(|scope| scope.place.to_string());
    assert_eq!(named.collect::<Vec<_>>(), ["account 123456789012, us-east-1"], "no row but the stack's own");
    let told: Vec<String> = plan.unreadable.iter().map(ToString::to_string).collect();
    assert!(told.len() == 3 && told[0].contains(&account_id(3)), "{told:?}");
    assert!(
        told[1..].iter().all(|told| told.contains(&account_id(5)) && told.contains("max_swaps")),
        "{told:?}"
    );
    assert_eq!(plan.accounts.len(), ACCOUNTS + 1);
}
