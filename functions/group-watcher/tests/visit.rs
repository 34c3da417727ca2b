//! A visit of one account and region against scripted answers: the calls that it makes, and what it does when some fail.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;

use group_watcher::answer::Answer;
use group_watcher::input::Request;
use group_watcher::judge::fingerprint;
use group_watcher::table::{Memories, Memory, Seen, Told};
use group_watcher::tools::now;
use jiff::SignedDuration;
use spot_domain::EnvironmentType::Prod;
use spot_domain::InstanceId;
use spot_domain::watch::back_off::{Past, RunEnd};
use spot_domain::watch::{Deferral, Deferred};
use spot_scripted::{Endpoint, ScriptedAnswer};
use support::{
    CONFIGURATION, Described, ENABLED, LONG_AGO, ZONE_A, ZONE_B, ZONE_C, Zone, arn, auto_scaling, described,
    group, sweep, visited,
};

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
    let all: Vec<_> =
        ids.map(|id| Described { id, is_spot, launched: LONG_AGO, tags: &[], zone: ZONE_A }).collect();
    described(&all)
}

#[tokio::test]
async fn a_region_that_an_organization_denies_is_a_failure_only_if_somebody_names_it() {
    let words = "User: arn:aws:sts::123456789012:assumed-role/a/b is not authorized to perform: \
                 autoscaling:DescribeAutoScalingGroups with an explicit deny in a service control policy";
    let endpoint = Endpoint::answering(move |action, _| match action {
        "DescribeAutoScalingGroups" => ScriptedAnswer::query_error(403, "AccessDenied").saying(words),
        other => panic!("{other} is not expected"),
    })
    .await;
    let answer = visited(&endpoint, Prod, &Request::Sweep, Memories::default(), false).await.unwrap();
    assert_eq!((answer.not_watched.len(), answer.failed.len(), answer.looked_at), (1, 0, 0));
    let named = visited(&endpoint, Prod, &Request::Sweep, Memories::default(), true).await;
    assert!(named.unwrap_err().is_denied_by_organization());
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

/// Answers what comes after the look: `web-1` is leased by another run, and nothing is asked of `web-0`.
fn while_web_1_is_leased(action: &str, body: &str) -> ScriptedAnswer {
    match action {
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
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_starts_nothing_for_its_group_and_holds_up_no_other() {
    let endpoint = Endpoint::answering(|action, body| match action {
        "DescribeAutoScalingGroups" => groups(body, 2, &[ENABLED]),
        "DescribeInstances" => instances(body, body.contains("none")),
        _ => while_web_1_is_leased(action, body),
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

#[tokio::test]
async fn a_misspelt_tag_starts_nothing_for_its_group_and_holds_up_no_other() {
    let endpoint = Endpoint::answering(|action, body| match action {
        "DescribeAutoScalingGroups" => {
            let odd = [ENABLED, ("spot-optimizer:opt_out", "true")];
            let both = group("web-0", &["i-00000000000000000"], &odd, "")
                + &group("web-1", &["i-00000000000000001"], &[ENABLED], "");
            auto_scaling(action, &format!("<AutoScalingGroups>{both}</AutoScalingGroups>"))
        }
        "DescribeInstances" => instances(body, false),
        _ => while_web_1_is_leased(action, body),
    })
    .await;
    let (answer, _) = sweep(&endpoint, Prod, Memories::default()).await;
    let told: Vec<_> =
        answer.deferred.iter().map(|told| (told.subject.name.as_str(), told.deferred.reason)).collect();
    assert_eq!(told, [("web-0", Deferral::BadTag), ("web-1", Deferral::SwapInProgress)]);
    let detail = &answer.deferred[0].deferred.detail;
    assert!(
        detail.contains("spot-optimizer:opt_out") && detail.contains("\"spot-optimizer:opt-out\""),
        "{detail}"
    );
    assert!(answer.failed.is_empty(), "{answer:?}");
}

fn node(n: usize) -> InstanceId {
    format!("i-{n:017x}").parse().unwrap()
}

/// Sweeps a group of nodes, one in each of these zones. The pool of zone A is poisoned, and the group has left zone C.
/// Returns the answer, and the bodies of all calls.
async fn nodes_swept(zones: &[Zone], memory: Memory) -> (Answer, Vec<String>) {
    let nodes: Vec<(String, Zone)> = (1..).map(|n| node(n).to_string()).zip(zones.iter().copied()).collect();
    let members: Vec<&str> = nodes.iter().map(|(id, _)| id.as_str()).collect();
    let current =
        "<AvailabilityZones><member>us-east-1a</member><member>us-east-1b</member></AvailabilityZones>";
    let workers = group("workers", &members, &[ENABLED], current);
    let until = (now() + SignedDuration::from_mins(30)).as_second();
    let endpoint = Endpoint::answering(move |action, body| match action {
        "DescribeAutoScalingGroups" => {
            auto_scaling(action, &format!("<AutoScalingGroups>{workers}</AutoScalingGroups>"))
        }
        "DescribeInstances" => {
            let (is_spot, launched, tags) = (false, LONG_AGO, &[("kubernetes.io/cluster/shop", "owned")]);
            let all: Vec<Described<'_>> = nodes
                .iter()
                .map(|(id, zone)| Described { id, is_spot, launched, tags, zone: *zone })
                .collect();
            described(&all)
        }
        "DescribeLifecycleHooks" => auto_scaling(action, "<LifecycleHooks/>"),
        "DescribeInstanceRefreshes" => auto_scaling(action, "<InstanceRefreshes/>"),
        "DescribeLaunchConfigurations" => auto_scaling(action, CONFIGURATION),
        "BatchGetItem" if body.contains("\"swaps\"") => {
            ScriptedAnswer::ok(r#"{"Responses":{"swaps":[]},"UnprocessedKeys":{}}"#)
        }
        "BatchGetItem" => ScriptedAnswer::ok(format!(
            r#"{{"Responses":{{"risk":[{{"pool":{{"S":"us-east-1#use1-az6#m5.large"}},"is_poisoned":{{"BOOL":true}},
                "poison_expires_at":{{"N":"{until}"}}}}]}},"UnprocessedKeys":{{}}}}"#
        )),
        "StartExecution" => ScriptedAnswer::ok(r#"{"executionArn":"arn","startDate":1}"#),
        "PutEvents" => ScriptedAnswer::ok(r#"{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}"#),
        "UpdateItem" => ScriptedAnswer::ok("{}"),
        other => panic!("{other} is not expected"),
    })
    .await;
    let mut memories = Memories::default();
    memories.rows.insert(arn("workers"), Ok(memory));
    let (answer, _) = sweep(&endpoint, Prod, memories).await;
    assert_eq!(answer.failed.len(), 0, "{answer:?}");
    (answer, endpoint.requests())
}

/// Returns the node whose swap was started.
fn started(answer: &Answer) -> Option<&InstanceId> {
    answer.started.first().and_then(|started| started.node.as_ref())
}

#[tokio::test]
async fn a_node_that_cannot_be_swapped_now_holds_up_no_other() {
    for (zones, expected) in
        [(&[ZONE_A, ZONE_B][..], 2), (&[ZONE_C, ZONE_A, ZONE_B][..], 3), (&[ZONE_B, ZONE_A][..], 1)]
    {
        let (answer, calls) = nodes_swept(zones, Memory::default()).await;
        assert_eq!(started(&answer), Some(&node(expected)), "{zones:?}");
        assert_eq!((answer.started.len(), answer.deferred.len()), (1, 0), "one at a time: {answer:?}");
        let input = format!(r#"\"instance_id\":\"{}\""#, node(expected));
        assert!(
            calls.iter().any(|body| body.contains("stateMachineArn") && body.contains(&input)),
            "{calls:?}"
        );
        let noted = format!(r#"":node":{{"S":"{}"}}"#, node(expected));
        assert!(calls.iter().any(|body| body.contains(&noted)), "its turn is over: {calls:?}");
    }
}

#[tokio::test]
async fn a_group_waits_once_none_of_its_nodes_can_be_swapped_and_many_take_no_more_calls_than_one() {
    let (one, calls_of_one) = nodes_swept(&[ZONE_A], Memory::default()).await;
    let (all, calls_of_all) = nodes_swept(&[ZONE_A, ZONE_C, ZONE_A, ZONE_C], Memory::default()).await;
    assert_eq!(calls_of_one.len(), calls_of_all.len());
    for answer in [one, all] {
        assert_eq!((started(&answer), answer.deferred.len()), (None, 1), "{answer:?}");
        assert_eq!(answer.deferred[0].deferred.reason, Deferral::PoolPoisoned);
    }
    let (answer, _) = nodes_swept(&[ZONE_C, ZONE_C], Memory::default()).await;
    assert_eq!(answer.deferred[0].deferred.reason, Deferral::NoCandidate);
    for n in [1, 2] {
        assert!(answer.deferred[0].deferred.detail.contains(node(n).as_str()), "{answer:?}");
    }
}

#[tokio::test]
async fn the_turn_of_the_nodes_goes_on_after_that_of_the_last_run() {
    let ids: Vec<InstanceId> = (1..=3).map(node).collect();
    let ran = |past| Memory {
        past,
        members_of_run: Some(fingerprint(&ids.iter().collect())),
        instance_id: Some(node(2)),
        ..Memory::default()
    };
    let nothing = || Past::default().and(&RunEnd::NothingSwapped("why".to_owned()), now());
    for (zones, past, expected) in [
        ([ZONE_B, ZONE_B, ZONE_B], nothing(), Some(3)),
        ([ZONE_B, ZONE_B, ZONE_A], Past::default(), Some(1)),
        // Of the first two, nothing says that a run would swap them now.
        ([ZONE_B, ZONE_B, ZONE_A], nothing(), None),
    ] {
        let (answer, _) = nodes_swept(&zones, ran(past)).await;
        assert_eq!(started(&answer), expected.map(node).as_ref(), "{zones:?}: {answer:?}");
    }
}
