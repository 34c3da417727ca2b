//! A visit of one account and region against scripted answers: the calls that it makes, and what it does when some fail.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use group_watcher::answer::Answer;
use group_watcher::executions::Machine;
use group_watcher::input::Request;
use group_watcher::judge::fingerprint;
use group_watcher::table::{GroupsTable, Memories, Memory, Seen, Told};
use group_watcher::tools::{Tools, now};
use group_watcher::visit::Visit;
use jiff::SignedDuration;
use spot_cloud::RegionClients;
use spot_cloud::access::Access;
use spot_cloud::announcements::Announcements;
use spot_cloud::launch::gatekeeper::Gatekeeper;
use spot_cloud::scopes::{AccountRegion, Scope};
use spot_cloud::tables::swaps::Swaps;
use spot_domain::EnvironmentType;
use spot_domain::settings::Settings;
use spot_domain::watch::{Deferral, Deferred};
use spot_scripted::{Endpoint, ScriptedAnswer};

const PAGE: usize = 100;

fn arn(n: usize) -> String {
    format!("arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:u:autoScalingGroupName/web-{n}")
}

/// Returns the page that the request asks for, of `all` groups with a member each. All bear `tags`.
fn groups(body: &str, all: usize, tags: &[(&str, &str)]) -> ScriptedAnswer {
    let page: usize =
        body.split('&').find_map(|field| field.strip_prefix("NextToken=")?.parse().ok()).unwrap_or(0);
    let mut xml = String::new();
    for n in (page * PAGE..all).take(PAGE) {
        let tags: String = tags
            .iter()
            .map(|(key, value)| format!("<member><Key>{key}</Key><Value>{value}</Value></member>"))
            .collect::<Vec<_>>()
            .concat();
        write!(
            xml,
            "<member><AutoScalingGroupName>web-{n}</AutoScalingGroupName><AutoScalingGroupARN>{}</AutoScalingGroupARN>\
             <MinSize>0</MinSize><MaxSize>2</MaxSize><DesiredCapacity>1</DesiredCapacity>\
             <LaunchConfigurationName>web</LaunchConfigurationName><Tags>{tags}</Tags><Instances><member>\
             <InstanceId>i-{n:017x}</InstanceId><LifecycleState>InService</LifecycleState>\
             <HealthStatus>Healthy</HealthStatus><ProtectedFromScaleIn>false</ProtectedFromScaleIn></member></Instances>\
             </member>",
            arn(n)
        )
        .unwrap();
    }
    let next =
        if (page + 1) * PAGE < all { format!("<NextToken>{}</NextToken>", page + 1) } else { String::new() };
    ScriptedAnswer::ok(format!(
        "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups>{xml}</AutoScalingGroups>\
         {next}</DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>"
    ))
}

/// Returns the instances that the request asks for, running since long.
fn instances(body: &str, is_spot: bool) -> ScriptedAnswer {
    let lifecycle = if is_spot { "<instanceLifecycle>spot</instanceLifecycle>" } else { "" };
    let mut xml = String::new();
    for id in body.split('&').filter_map(|field| field.split_once('=')).map(|(_, value)| value) {
        if id.starts_with("i-") {
            write!(
                xml,
                "<item><instanceId>{id}</instanceId><instanceType>m5.large</instanceType>{lifecycle}\
                 <instanceState><name>running</name></instanceState><launchTime>2024-01-01T00:00:00.000Z</launchTime>\
                 <placement><availabilityZone>us-east-1a</availabilityZone></placement><subnetId>subnet-1</subnetId></item>"
            )
            .unwrap();
        }
    }
    ScriptedAnswer::ok(format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet>{xml}</instancesSet></item></reservationSet>\
         </DescribeInstancesResponse>"
    ))
}

/// Sweeps one place; returns the answer, and the number of calls.
async fn sweep(endpoint: &Endpoint, mut memories: Memories) -> (Answer, usize) {
    let config = endpoint.config().await;
    let dynamodb = aws_sdk_dynamodb::Client::new(&config);
    let machine = |name: &str| Machine(format!("arn:aws:states:us-east-1:123456789012:stateMachine:{name}"));
    let tools = Tools {
        swaps: Swaps::over(dynamodb.clone(), "swaps"),
        table: GroupsTable::new(dynamodb.clone(), "groups".to_owned()),
        gatekeeper: Gatekeeper::over(dynamodb, "risk"),
        announcements: Announcements::over(&config, "arn:aws:sns:us-east-1:123456789012:alerts".to_owned()),
        sfn: aws_sdk_sfn::Client::new(&config),
        group_swap: machine("group"),
        node_swap: machine("node"),
        lab_swap: machine("lab"),
    };
    let scope = Scope {
        place: AccountRegion {
            account_id: "123456789012".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
        },
        access: Access { environment_type: EnvironmentType::Prod, role: None },
        settings: Settings::default(),
        auto_terminate: false,
    };
    let clients = RegionClients::new(&config);
    let mut answer = Answer::default();
    let stop_at = SystemTime::now() + Duration::from_mins(5);
    let mut visit =
        Visit { tools: &tools, scope: &scope, clients: &clients, now: now(), stop_at, answer: &mut answer };
    visit.run(&Request::Sweep, &mut memories).await.unwrap();
    (answer, endpoint.requests().len())
}

const ENABLED: (&str, &str) = ("spot-optimizer:enabled", "true");

#[tokio::test]
async fn five_hundred_groups_that_are_spot_take_a_few_calls() {
    let endpoint = Endpoint::answering(|action, body| match action {
        "DescribeAutoScalingGroups" => groups(body, 500, &[ENABLED]),
        "DescribeInstances" => instances(body, true),
        other => panic!("{other} is not expected"),
    })
    .await;
    let (answer, calls) = sweep(&endpoint, Memories::default()).await;
    assert_eq!((answer.looked_at, answer.deferred.len(), answer.failed.len()), (500, 0, 0));
    assert!(calls <= 20, "{calls} calls");
}

#[tokio::test]
async fn so_do_five_hundred_that_were_told_why_they_wait() {
    let endpoint = Endpoint::answering(|action, body| match action {
        "DescribeAutoScalingGroups" => groups(body, 500, &[ENABLED]),
        "DescribeInstances" => instances(body, false),
        other => panic!("{other} is not expected"),
    })
    .await;
    let mut memories = Memories::default();
    let until = now() + SignedDuration::from_mins(30);
    let deferred = Deferred::until(Deferral::NoCandidate, "none", until);
    let of = |n: usize| {
        let id = format!("i-{n:017x}").parse().unwrap();
        let members = fingerprint(&BTreeSet::from([&id]));
        Told { deferred: deferred.clone(), at: now(), seen: Some(Seen { until, members }) }
    };
    for n in 0..500 {
        let memory = Memory { told: Some(of(n)), ..Memory::default() };
        memories.rows.insert(arn(n), Ok(memory));
    }
    let (answer, calls) = sweep(&endpoint, memories).await;
    assert_eq!((answer.looked_at, answer.deferred.len(), answer.failed.len()), (500, 500, 0));
    assert!(calls <= 20, "{calls} calls");
}

#[tokio::test]
async fn what_could_not_be_told_is_not_noted_so_that_it_is_told_again() {
    let endpoint = Endpoint::answering(|action, body| match action {
        "DescribeAutoScalingGroups" => groups(body, 1, &[ENABLED, ("spot-optimizer:window", "never")]),
        "DescribeInstances" => instances(body, false),
        "PutEvents" => ScriptedAnswer::json_error(400, "AccessDeniedException"),
        other => panic!("{other} is not expected"),
    })
    .await;
    let (answer, _) = sweep(&endpoint, Memories::default()).await;
    assert_eq!(answer.deferred[0].deferred.reason, Deferral::BadTag);
    assert!(answer.failed[0].error.contains("events:PutEvents"), "{:?}", answer.failed);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_starts_nothing_for_its_group_and_holds_up_no_other() {
    let endpoint = Endpoint::answering(|action, body| match action {
        "DescribeAutoScalingGroups" => groups(body, 2, &[ENABLED]),
        "DescribeInstances" => instances(body, body.contains("none")),
        "BatchGetItem" => {
            assert!(!body.contains("web-0"), "its lease is not even asked for");
            let owner =
                r#""lease_owner":{"S":"arn:aws:states:us-east-1:123456789012:execution:group:by-hand"}"#;
            ScriptedAnswer::ok(format!(
                r#"{{"Responses":{{"swaps":[{{"target":{{"S":"{}"}},{owner}}}]}},"UnprocessedKeys":{{}}}}"#,
                arn(1)
            ))
        }
        "PutEvents" => ScriptedAnswer::ok(r#"{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}"#),
        "UpdateItem" => ScriptedAnswer::ok("{}"),
        other => panic!("{other} is not expected"),
    })
    .await;
    let mut memories = Memories::default();
    memories.rows.insert(arn(0), Err("failures is malformed".to_owned()));
    let (answer, _) = sweep(&endpoint, memories).await;
    assert_eq!(answer.failed[0].asg_name.as_deref(), Some("web-0"));
    assert_eq!(answer.deferred.len(), 1);
    assert_eq!(answer.deferred[0].subject.name.as_str(), "web-1");
    assert_eq!(answer.deferred[0].deferred.reason, Deferral::SwapInProgress);
}
