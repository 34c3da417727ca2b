//! Stand-alone instances of LAB accounts: which the loop starts, which it leaves for now and why, and which it never asks for.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::sync::{Arc, Mutex};

use group_watcher::answer::{Answer, Subject};
use group_watcher::table::{Memories, Memory};
use group_watcher::tools::now;
use jiff::SignedDuration;
use serde_json::{Value, json};
use spot_domain::EnvironmentType::{self, Lab, Prod};
use spot_domain::watch::back_off::{Past, RunEnd};
use spot_domain::watch::{Deferral, Deferred};
use spot_scripted::{Endpoint, ScriptedAnswer};
use support::{
    Described, ENABLED, LONG_AGO, ZONE_A, auto_scaling, described, group, no_groups, place, sweep,
};

const I: &str = "i-0123456789abcdef0";
const WINDOW: &str = "spot-optimizer:window";

fn alone<'a>(tags: &'a [(&'a str, &'a str)]) -> Described<'a> {
    Described { id: I, is_spot: false, launched: LONG_AGO, tags, zone: ZONE_A }
}

/// The rest of the world: who holds the lease, and until when the pool is poisoned.
#[derive(Clone, Copy, Default)]
struct World {
    /// A group hands its tag to its members.
    hands_on: bool,
    lease: Option<&'static str>,
    poisoned_until: Option<i64>,
}

/// Sweeps a place with this instance. Returns the answer, and each call with its body.
async fn swept(
    kind: EnvironmentType,
    instance: Described<'_>,
    world: World,
    memories: Memories,
) -> (Answer, Vec<(String, String)>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (heard, xml) = (Arc::clone(&calls), described(&[instance]));
    let endpoint = Endpoint::answering(move |action, body| {
        heard.lock().unwrap().push((action.to_owned(), body.to_owned()));
        match action {
            "DescribeAutoScalingGroups" if world.hands_on => auto_scaling(
                "DescribeAutoScalingGroups",
                &format!(
                    "<AutoScalingGroups>{}</AutoScalingGroups>",
                    group("web", &[], &[ENABLED], "")
                        .replace("</Value>", "</Value><PropagateAtLaunch>true</PropagateAtLaunch>")
                ),
            ),
            "DescribeAutoScalingGroups" => no_groups(),
            "DescribeInstances" => xml.clone(),
            "BatchGetItem" => rows(body, world),
            "StartExecution" => ScriptedAnswer::ok(r#"{"executionArn": "arn", "startDate": 1}"#),
            "PutEvents" => ScriptedAnswer::ok(r#"{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}"#),
            "UpdateItem" => ScriptedAnswer::ok("{}"),
            "Publish" => ScriptedAnswer::ok(
                "<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>",
            ),
            other => panic!("{other} is not expected"),
        }
    })
    .await;
    let (answer, _) = sweep(&endpoint, kind, memories).await;
    let calls = calls.lock().unwrap().clone();
    (answer, calls)
}

fn rows(body: &str, world: World) -> ScriptedAnswer {
    let key = Subject::of_instance(&I.parse().unwrap(), &place()).key;
    let responses = if body.contains("\"swaps\"") {
        assert!(body.contains(&key), "the lease of the instance is asked for: {body}");
        let owner = world.lease.map(|owner| json!({"target": {"S": key}, "lease_owner": {"S": owner}}));
        json!({"swaps": owner.into_iter().collect::<Vec<_>>()})
    } else {
        let row = world.poisoned_until.map(|until| {
            json!({"pool": {"S": "us-east-1#use1-az6#m5.large"}, "is_poisoned": {"BOOL": true},
                "poison_expires_at": {"N": until.to_string()}})
        });
        json!({"risk": row.into_iter().collect::<Vec<_>>()})
    };
    ScriptedAnswer::ok(json!({"Responses": responses, "UnprocessedKeys": {}}).to_string())
}

fn remembering(memory: Memory) -> Memories {
    let mut memories = Memories::default();
    memories.rows.insert(Subject::of_instance(&I.parse().unwrap(), &place()).key, Ok(memory));
    memories
}

fn reason(answer: &Answer) -> Option<Deferral> {
    assert!(answer.started.is_empty() && answer.failed.is_empty(), "{answer:?}");
    assert_eq!(serde_json::to_value(answer).unwrap()["deferred"][0]["instance_id"], json!(I));
    answer.deferred.first().map(|not_now| not_now.deferred.reason)
}

#[tokio::test]
async fn a_tagged_instance_of_a_lab_gets_one_lab_swap_with_a_name_for_the_quarter_of_an_hour() {
    let (answer, calls) = swept(Lab, alone(&[ENABLED]), World::default(), Memories::default()).await;
    let answer = serde_json::to_value(&answer).unwrap();
    let [started] = answer["started"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    assert_eq!((&started["instance_id"], started.get("asg_name")), (&json!(I), None));
    let (_, body) = calls.iter().find(|(action, _)| action == "StartExecution").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["stateMachineArn"], "arn:aws:states:us-east-1:123456789012:stateMachine:lab");
    let input: Value = serde_json::from_str(body["input"].as_str().unwrap()).unwrap();
    assert_eq!(input, json!({"instance_id": I, "account_id": "123456789012", "region": "us-east-1"}));
    let name = body["name"].as_str().unwrap();
    assert!(
        name.starts_with(&format!("loop-{I}-")) && started["execution_arn"].as_str().unwrap().ends_with(name)
    );
    // Counted in before the start, noted after it.
    let order: Vec<&str> = calls.iter().map(|(action, _)| action.as_str()).collect();
    let at = |wanted: &str| order.iter().position(|action| *action == wanted).unwrap();
    assert!(at("UpdateItem") < at("StartExecution") && at("StartExecution") < at("PutEvents"), "{order:?}");
    let (_, noted) = calls.iter().rfind(|(action, _)| action == "UpdateItem").unwrap();
    assert!(
        noted.contains("SET instance_id = :name") && noted.contains(&format!("123456789012#us-east-1#{I}"))
    );
    assert!(
        !noted.contains("REMOVE reason, detail, not_before, look_after, look_members, told_at, instance_id")
    );
}

#[tokio::test]
async fn its_owner_may_ask_for_an_image_of_its_disks() {
    let tags = [ENABLED, ("spot-optimizer:capture-image", "true")];
    let (answer, calls) = swept(Lab, alone(&tags), World::default(), Memories::default()).await;
    assert_eq!(answer.started.len(), 1, "{answer:?}");
    let (_, body) = calls.iter().find(|(action, _)| action == "StartExecution").unwrap();
    assert!(body.contains(r#"\"capture_image\":true"#), "{body}");
}

#[tokio::test]
async fn no_instance_is_asked_for_in_a_prod_account() {
    let (answer, calls) = swept(Prod, alone(&[ENABLED]), World::default(), Memories::default()).await;
    assert_eq!((answer.looked_at, answer.started.len(), answer.deferred.len()), (0, 0, 0));
    assert_eq!(
        calls.iter().map(|(action, _)| action.as_str()).collect::<Vec<_>>(),
        ["DescribeAutoScalingGroups"]
    );
}

#[tokio::test]
async fn what_is_not_meant_is_left_without_a_word() {
    let spot = Described { is_spot: true, ..alone(&[ENABLED]) };
    for (instance, what) in [
        (spot, "a twin bears the tags of the instance that it replaced"),
        (alone(&[ENABLED, ("aws:autoscaling:groupName", "web")]), "a group may hand its tag to its members"),
        (
            alone(&[ENABLED, ("spot-optimizer:swap", "i-1-1")]),
            "a newcomer of a swap bears the tags of its old one",
        ),
        (alone(&[("spot-optimizer:enabled", "false"), (WINDOW, "never")]), "its owner took it out"),
        (alone(&[ENABLED, ("spot-optimizer:opt-out", "true")]), "its owner opted out"),
    ] {
        let (answer, calls) = swept(Lab, instance, World::default(), Memories::default()).await;
        assert_eq!((answer.started.len(), answer.deferred.len(), answer.failed.len()), (0, 0, 0), "{what}");
        let reads = |(action, _): &(String, String)| action.starts_with("Describe");
        assert!(calls.iter().all(|call| reads(call) || call.0 == "BatchGetItem"), "{what}: {calls:?}");
    }
    let (_, calls) = swept(Lab, alone(&[ENABLED]), World::default(), Memories::default()).await;
    let (_, listed) = calls.iter().find(|(action, _)| action == "DescribeInstances").unwrap();
    assert!(
        listed.contains("tag-key") && listed.contains("spot-optimizer%3Aenabled"),
        "only tagged ones: {listed}"
    );
    assert!(listed.contains("instance-state-name") && listed.contains("running"), "{listed}");
}

/// What has left a group keeps the tag that the group gave it, and is described as any instance of its own is.
#[tokio::test]
async fn while_a_group_hands_its_tag_to_its_members_no_instance_is_started() {
    let world = World { hands_on: true, ..World::default() };
    let (answer, calls) = swept(Lab, alone(&[ENABLED]), world, Memories::default()).await;
    assert_eq!((answer.started.len(), answer.failed.len()), (0, 0), "{answer:?}");
    let told =
        answer.deferred.iter().find(|told| told.deferred.detail.contains("PropagateAtLaunch")).unwrap();
    assert_eq!(told.deferred.reason, Deferral::BadTag);
    assert!(calls.iter().all(|(action, _)| action != "StartExecution"), "{calls:?}");
}

#[tokio::test]
async fn its_own_tags_brake_as_those_of_a_group_do() {
    let just_now = now().to_string();
    let closed = (now() + SignedDuration::from_hours(72)).strftime("%a 00:00-24:00 UTC").to_string();
    for (instance, expected) in [
        (alone(&[("spot-optimizer:enabled", "yes")]), Deferral::BadTag),
        (alone(&[ENABLED, (WINDOW, "nine to five")]), Deferral::BadTag),
        (alone(&[ENABLED, ("spot-optimizer:capture-image", "yes")]), Deferral::BadTag),
        (alone(&[ENABLED, ("spot-optimizer:capture_image", "true")]), Deferral::BadTag),
        (alone(&[ENABLED, ("spot-optimizer:opt_out", "true")]), Deferral::BadTag),
        (alone(&[ENABLED, (WINDOW, &closed)]), Deferral::WindowClosed),
        (Described { launched: &just_now, ..alone(&[ENABLED]) }, Deferral::Settling),
        (alone(&[ENABLED, ("AWSBatchServiceTag", "batch")]), Deferral::NoCandidate),
        (alone(&[ENABLED, ("kubernetes.io/cluster/shop", "owned")]), Deferral::NoCandidate),
    ] {
        let (answer, calls) = swept(Lab, instance, World::default(), Memories::default()).await;
        assert_eq!(reason(&answer), Some(expected));
        let events = calls.iter().filter(|(action, _)| action == "PutEvents").count();
        assert_eq!(events, 1, "{expected}: {calls:?}");
        assert!(calls.iter().all(|(action, _)| action != "StartExecution"), "{expected}");
    }
}

#[tokio::test]
async fn so_do_leases_poison_and_the_number_of_executions() {
    let owner = "arn:aws:states:us-east-1:123456789012:execution:lab:by-hand";
    let leased = World { lease: Some(owner), ..World::default() };
    let (answer, _) = swept(Lab, alone(&[ENABLED]), leased, Memories::default()).await;
    assert_eq!(reason(&answer), Some(Deferral::SwapInProgress));
    assert!(answer.deferred[0].deferred.detail.contains(owner));

    let until = now().as_second() + 7_200;
    let poisoned = World { poisoned_until: Some(until), ..World::default() };
    let (answer, _) = swept(Lab, alone(&[ENABLED]), poisoned, Memories::default()).await;
    assert_eq!(reason(&answer), Some(Deferral::PoolPoisoned));
    assert_eq!(answer.deferred[0].deferred.not_before.unwrap().as_second(), until);

    let running = (0..5).map(|n| format!("{owner}-{n}").parse().unwrap()).collect();
    let many = Memories { running, ..Memories::default() };
    let (answer, _) = swept(Lab, alone(&[ENABLED]), World::default(), many).await;
    assert_eq!(reason(&answer), Some(Deferral::TooManyAtOnce));
}

#[tokio::test]
async fn so_does_the_end_of_its_last_run() {
    let failed = RunEnd::Failed("why".to_owned());
    let nothing = RunEnd::NothingSwapped("why".to_owned());
    let past = |ends: &[RunEnd]| ends.iter().fold(Past::default(), |past, end| past.and(end, now()));
    let stopped: Vec<RunEnd> = vec![failed.clone(); 20];
    for (past, expected) in [
        (past(&[failed]), Deferral::BackingOff),
        (past(&stopped), Deferral::TooManyFailures),
        (past(&[nothing]), Deferral::NothingSwapped),
        (past(&[RunEnd::Replaced]), Deferral::BroughtBack),
    ] {
        let memories = remembering(Memory { past, ..Memory::default() });
        let (answer, calls) = swept(Lab, alone(&[ENABLED]), World::default(), memories).await;
        assert_eq!(reason(&answer), Some(expected));
        let alerts = calls.iter().filter(|(action, _)| action == "Publish").count();
        assert_eq!(alerts, usize::from(expected == Deferral::TooManyFailures));
    }
    let running: spot_domain::ExecutionArn =
        "arn:aws:states:us-east-1:123456789012:execution:lab:loop".parse().unwrap();
    let mut memories = remembering(Memory { execution: Some(running.clone()), ..Memory::default() });
    memories.running.insert(running);
    let (answer, _) = swept(Lab, alone(&[ENABLED]), World::default(), memories).await;
    assert_eq!(reason(&answer), Some(Deferral::SwapInProgress));
}

#[tokio::test]
async fn a_reason_that_was_told_is_neither_told_nor_noted_again() {
    let detail = r#"tag "spot-optimizer:enabled" of the instance: "yes" is neither true nor false"#;
    let deferred = Deferred::new(Deferral::BadTag, detail);
    let told = group_watcher::table::Told { deferred, at: now(), seen: None };
    let memories = remembering(Memory { told: Some(told), ..Memory::default() });
    let bad = alone(&[("spot-optimizer:enabled", "yes")]);
    let (answer, calls) = swept(Lab, bad, World::default(), memories).await;
    assert_eq!(reason(&answer), Some(Deferral::BadTag));
    assert!(
        calls.iter().all(|(action, _)| action.starts_with("Describe") || action == "BatchGetItem"),
        "{calls:?}"
    );
}
