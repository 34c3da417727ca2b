//! A visit of one account and region against scripted answers: the calls that it makes, and what it does when some fail.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;

use group_watcher::judge::fingerprint;
use group_watcher::table::{Memories, Memory, Seen, Told};
use group_watcher::tools::now;
use jiff::SignedDuration;
use spot_domain::EnvironmentType::Prod;
use spot_domain::watch::{Deferral, Deferred};
use spot_scripted::{Endpoint, ScriptedAnswer};
use support::{Described, ENABLED, LONG_AGO, arn, auto_scaling, described, group, sweep};

const PAGE: usize = 100;

/// Returns the page that the request asks for, of `all` groups with a member each. All bear `tags`.
fn groups(body: &str, all: usize, tags: &[(&str, &str)]) -> ScriptedAnswer {
    let page: usize =
        body.split('&').find_map(|field| field.strip_prefix("NextToken=")?.parse().ok()).unwrap_or(0);
    let of = |n| group(&format!("web-{n}"), &[&format!("i-{n:017x}")], tags, "");
    let xml: String = (page * PAGE..all).take(PAGE).map(of).collect();
    let next =
        if (page + 1) * PAGE < all { format!("<NextToken>{}</NextToken>", page + 1) } else { String::new() };
    auto_scaling("DescribeAutoScalingGroups", &format!("<AutoScalingGroups>{xml}</AutoScalingGroups>{next}"))
}

/// Returns the instances that the request asks for, running since long.
fn instances(body: &str, is_spot: bool) -> ScriptedAnswer {
    let values = body.split('&').filter_map(|field| field.split_once('=')).map(|(_, value)| value);
    let ids = values.filter(|value| value.starts_with("i-"));
    let all: Vec<_> = ids.map(|id| Described { id, is_spot, launched: LONG_AGO, tags: &[] }).collect();
    described(&all)
}

#[tokio::test]
async fn five_hundred_groups_that_are_spot_take_a_few_calls() {
    let endpoint = Endpoint::answering(|action, body| match action {
        "DescribeAutoScalingGroups" => groups(body, 500, &[ENABLED]),
        "DescribeInstances" => instances(body, true),
        other => panic!("{other} is not expected"),
    })
    .await;
    let (answer, calls) = sweep(&endpoint, Prod, Memories::default()).await;
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
        memories.rows.insert(arn(&format!("web-{n}")), Ok(memory));
    }
    let (answer, calls) = sweep(&endpoint, Prod, memories).await;
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
    let (answer, _) = sweep(&endpoint, Prod, Memories::default()).await;
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
                arn("web-1")
            ))
        }
        "PutEvents" => ScriptedAnswer::ok(r#"{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}"#),
        "UpdateItem" => ScriptedAnswer::ok("{}"),
        other => panic!("{other} is not expected"),
    })
    .await;
    let mut memories = Memories::default();
    memories.rows.insert(arn("web-0"), Err("failures is malformed".to_owned()));
    let (answer, _) = sweep(&endpoint, Prod, memories).await;
    assert_eq!(answer.failed[0].asg_name.as_deref(), Some("web-0"));
    assert_eq!(answer.deferred.len(), 1);
    assert_eq!(answer.deferred[0].subject.name.as_str(), "web-1");
    assert_eq!(answer.deferred[0].deferred.reason, Deferral::SwapInProgress);
}
