//! What AWS may say of one enrolled group: each answer has its reason, and a start that fails leaves no wrong count.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::sync::{Arc, Mutex};

use group_watcher::answer::Answer;
use group_watcher::input::Request;
use group_watcher::table::Memories;
use group_watcher::tools::now;
use serde_json::{Value, json};
use spot_domain::EnvironmentType::Prod;
use spot_domain::watch::Deferral;
use spot_scripted::{Endpoint, ScriptedAnswer};
use support::{CONFIGURATION, Described, ENABLED, LONG_AGO, ZONE_A, auto_scaling, described, group, visit};

const OLD: &str = "i-0123456789abcdef0";
const YOUNG: &str = "i-0123456789abcdef1";
const NO_HOOKS: &str = "<LifecycleHooks/>";
const NO_REFRESHES: &str = "<InstanceRefreshes/>";

/// The answers of AWS; by default those under which the swap of a group of two starts.
#[derive(Clone)]
struct World {
    tags: &'static [(&'static str, &'static str)],
    /// The tags of each member.
    of_members: &'static [(&'static str, &'static str)],
    /// Further fields of the group.
    more: &'static str,
    hooks: &'static str,
    refreshes: &'static str,
    configurations: &'static str,
    /// The start of the second member.
    launched: String,
    risk: ScriptedAnswer,
    count_in: ScriptedAnswer,
    start: ScriptedAnswer,
    put_events: ScriptedAnswer,
}

impl Default for World {
    fn default() -> Self {
        Self {
            tags: &[ENABLED],
            of_members: &[],
            more: "<AvailabilityZones><member>us-east-1a</member></AvailabilityZones>",
            hooks: NO_HOOKS,
            refreshes: NO_REFRESHES,
            configurations: CONFIGURATION,
            launched: LONG_AGO.to_owned(),
            risk: ScriptedAnswer::ok(r#"{"Responses":{"risk":[]},"UnprocessedKeys":{}}"#),
            count_in: ScriptedAnswer::ok("{}"),
            start: ScriptedAnswer::ok(r#"{"executionArn":"arn","startDate":1}"#),
            put_events: ScriptedAnswer::ok(r#"{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}"#),
        }
    }
}

impl World {
    fn answer(&self, action: &str, body: &str) -> ScriptedAnswer {
        match action {
            "DescribeAutoScalingGroups" if body.contains("gone") => support::no_groups(),
            "DescribeAutoScalingGroups" => {
                let group = group("web", &[OLD, YOUNG], self.tags, self.more);
                auto_scaling(action, &format!("<AutoScalingGroups>{group}</AutoScalingGroups>"))
            }
            "DescribeInstances" => described(&[
                Described {
                    id: OLD,
                    is_spot: false,
                    launched: LONG_AGO,
                    tags: self.of_members,
                    zone: ZONE_A,
                },
                Described {
                    id: YOUNG,
                    is_spot: false,
                    launched: &self.launched,
                    tags: self.of_members,
                    zone: ZONE_A,
                },
            ]),
            "DescribeLifecycleHooks" => auto_scaling(action, self.hooks),
            "DescribeInstanceRefreshes" => auto_scaling(action, self.refreshes),
            "DescribeLaunchConfigurations" => auto_scaling(action, self.configurations),
            "DescribeTargetGroups" => auto_scaling(action, "<TargetGroups/>"),
            "BatchGetItem" if body.contains("\"swaps\"") => {
                ScriptedAnswer::ok(r#"{"Responses":{"swaps":[]},"UnprocessedKeys":{}}"#)
            }
            "BatchGetItem" => self.risk.clone(),
            "UpdateItem" if body.contains("ADD #executions") => self.count_in.clone(),
            "UpdateItem" => ScriptedAnswer::ok("{}"),
            "Scan" => ScriptedAnswer::ok(r#"{"Items":[],"Count":0}"#),
            "StartExecution" => self.start.clone(),
            "PutEvents" => self.put_events.clone(),
            other => panic!("{other} is not expected"),
        }
    }

    /// Visits the place. Returns the answer, and each call with its body.
    async fn visited(&self, request: &Request) -> (Answer, Vec<(String, String)>) {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (heard, world) = (Arc::clone(&calls), self.clone());
        let endpoint = Endpoint::answering(move |action, body| {
            heard.lock().unwrap().push((action.to_owned(), body.to_owned()));
            world.answer(action, body)
        })
        .await;
        let answer = visit(&endpoint, Prod, request, Memories::default()).await;
        let calls = calls.lock().unwrap().clone();
        (answer, calls)
    }
}

fn reason(answer: &Answer) -> Option<Deferral> {
    answer.deferred.first().map(|not_now| not_now.deferred.reason)
}

fn count(calls: &[(String, String)], action: &str) -> usize {
    calls.iter().filter(|(called, _)| called == action).count()
}

/// Returns true if the execution was taken out of those that run.
fn is_counted_out(calls: &[(String, String)]) -> bool {
    calls.iter().any(|(action, body)| action == "UpdateItem" && body.contains("DELETE #executions"))
}

fn launch_in(asg_name: &str) -> Request {
    Request::Group {
        asg_name: asg_name.parse().unwrap(),
        account_id: None,
        region: None,
        launched: Some(YOUNG.parse().unwrap()),
    }
}

#[tokio::test]
async fn a_group_with_something_to_swap_is_started_as_a_whole() {
    let (answer, calls) = World::default().visited(&Request::Sweep).await;
    assert_eq!((answer.started.len(), answer.deferred.len(), answer.failed.len()), (1, 0, 0), "{answer:?}");
    let (_, body) = calls.iter().find(|(action, _)| action == "StartExecution").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    let input: Value = serde_json::from_str(body["input"].as_str().unwrap()).unwrap();
    assert_eq!(input, json!({"asg_name": "web", "account_id": "123456789012", "region": "us-east-1"}));
}

#[tokio::test]
async fn of_a_group_with_a_young_member_the_settled_ones_are_named() {
    let world = World { launched: now().to_string(), ..World::default() };
    let (answer, calls) = world.visited(&Request::Sweep).await;
    assert_eq!((answer.started.len(), answer.deferred.len()), (1, 0), "{answer:?}");
    let (_, body) = calls.iter().find(|(action, _)| action == "StartExecution").unwrap();
    assert!(body.contains(r#"\"replace\":[\"i-0123456789abcdef0\"]"#), "{body}");
}

#[tokio::test]
async fn each_answer_of_aws_has_its_reason() {
    let hook = "<LifecycleHooks><member><LifecycleHookName>h</LifecycleHookName><AutoScalingGroupName>web\
        </AutoScalingGroupName><LifecycleTransition>autoscaling:EC2_INSTANCE_LAUNCHING</LifecycleTransition>\
        </member></LifecycleHooks>";
    let refresh = "<InstanceRefreshes><member><InstanceRefreshId>r</InstanceRefreshId><Status>InProgress</Status>\
        </member></InstanceRefreshes>";
    let elsewhere = "<AvailabilityZones><member>us-east-1b</member></AvailabilityZones>";
    let unreadable = r#"{"Responses":{"risk":[{"pool":{"S":"us-east-1#use1-az6#m5.large"},"is_poisoned":{"S":"?"}}]},
        "UnprocessedKeys":{}}"#;
    let world = World::default;
    for (world, expected) in [
        (World { hooks: hook, ..world() }, Deferral::GroupNotSupported),
        (World { configurations: "<LaunchConfigurations/>", ..world() }, Deferral::GroupNotSupported),
        (World { refreshes: refresh, ..world() }, Deferral::GroupBusy),
        (World { more: "<Status>Delete in progress</Status>", ..world() }, Deferral::GroupBusy),
        (World { more: elsewhere, ..world() }, Deferral::NoCandidate),
        (
            World { risk: ScriptedAnswer::json_error(400, "AccessDeniedException"), ..world() },
            Deferral::GateUnreachable,
        ),
        (World { risk: ScriptedAnswer::ok(unreadable), ..world() }, Deferral::PoolUnreadable),
        (World { count_in: ScriptedAnswer::condition_failed(None), ..world() }, Deferral::TooManyAtOnce),
        (World { tags: &[ENABLED, ("spot-optimizer:min-on-demand", "two")], ..world() }, Deferral::BadTag),
        (World { tags: &[ENABLED, ("spot-optimizer:min_on_demand", "2")], ..world() }, Deferral::BadTag),
        (World { of_members: &[("spot-optimizer:opt_out", "true")], ..world() }, Deferral::NoCandidate),
    ] {
        let (answer, calls) = world.visited(&Request::Sweep).await;
        assert_eq!(reason(&answer), Some(expected), "{answer:?}");
        assert_eq!((answer.started.len(), count(&calls, "StartExecution")), (0, 0), "{expected}");
        assert_eq!((count(&calls, "PutEvents"), answer.failed.len()), (1, 0), "{expected}: it is told");
    }
}

#[tokio::test]
async fn a_name_that_was_used_starts_nothing_and_is_not_counted_twice() {
    let world =
        World { start: ScriptedAnswer::json_error(400, "ExecutionAlreadyExists"), ..World::default() };
    let (answer, calls) = world.visited(&Request::Sweep).await;
    assert_eq!(reason(&answer), Some(Deferral::StartedRecently));
    // Another invocation may have started it a moment ago: it counts until Step Functions say otherwise.
    assert!(answer.started.is_empty() && !is_counted_out(&calls));
}

#[tokio::test]
async fn a_start_that_was_refused_counts_no_more_and_one_that_may_run_does() {
    for (start, out) in [
        (ScriptedAnswer::json_error(400, "AccessDeniedException"), true),
        (ScriptedAnswer::json_error(500, "InternalFailure"), false),
    ] {
        let (answer, calls) = World { start, ..World::default() }.visited(&Request::Sweep).await;
        assert_eq!((answer.started.len(), answer.deferred.len()), (0, 0), "{answer:?}");
        let failure = answer.failed.first().unwrap();
        assert_eq!(failure.asg_name.as_deref(), Some("web"));
        assert!(failure.error.contains("states:StartExecution"), "{failure:?}");
        assert_eq!(is_counted_out(&calls), out, "{calls:?}");
    }
}

#[tokio::test]
async fn a_start_that_nobody_could_be_told_of_is_a_start() {
    let world =
        World { put_events: ScriptedAnswer::json_error(400, "AccessDeniedException"), ..World::default() };
    let (answer, _) = world.visited(&Request::Sweep).await;
    assert_eq!((answer.started.len(), answer.failed.len()), (1, 1), "{answer:?}");
    assert!(answer.failed[0].error.contains("events:PutEvents"));
}

#[tokio::test]
async fn an_event_that_comes_late_or_of_a_group_that_nobody_enrolled_starts_nothing() {
    let (answer, calls) = World::default().visited(&launch_in("gone")).await;
    assert_eq!((answer.looked_at, answer.started.len(), answer.failed.len()), (0, 0, 0), "deleted meanwhile");
    assert_eq!(calls.len(), 1, "{calls:?}");
    let world = World { tags: &[], ..World::default() };
    let (answer, calls) = world.visited(&launch_in("web")).await;
    assert_eq!((answer.looked_at, answer.started.len(), answer.failed.len()), (0, 0, 0));
    assert_eq!(calls.len(), 1, "nothing but its tags is read: {calls:?}");
}

#[tokio::test]
async fn an_event_that_comes_twice_has_one_name_to_start() {
    let name = |calls: &[(String, String)]| {
        let (_, body) = calls.iter().find(|(action, _)| action == "StartExecution").unwrap();
        serde_json::from_str::<Value>(body).unwrap()["name"].as_str().unwrap().to_owned()
    };
    let (_, first) = World::default().visited(&launch_in("web")).await;
    let (_, second) = World::default().visited(&launch_in("web")).await;
    let (first, second) = (name(&first), name(&second));
    let quarter = |name: &str| name.rsplit('-').next().unwrap().parse::<i64>().unwrap();
    // The quarter of an hour may have turned between the two.
    assert!(first == second || quarter(&second) - quarter(&first) == 900, "{first} {second}");
}
