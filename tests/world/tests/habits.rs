//! A sample of histories with each open question about AWS answered the other way. `docs/to-try-on-aws.md` has the script
//! that settles each on a real account.

#![allow(clippy::panic)]

use std::collections::BTreeMap;

use jiff::SignedDuration;
use spot_world::acts::Act;
use spot_world::campaign::all;
use spot_world::chronicle::SentCall;
use spot_world::fault::{Fault, Plan};
use spot_world::fleet::{AwsHabits, GroupSpec, LifecycleHook};
use spot_world::history::play;
use spot_world::machine::{DataLimit, Outcome};
use spot_world::scene::Scene;

const SEED: u64 = 1;

/// The histories with a fault for each answer, unless the variable `HISTORIES` sets another number.
const SAMPLE: usize = 16;

/// A full group of one behind a load balancer: MaxSize is raised, and the old member drains.
fn scene(habits: AwsHabits) -> Scene {
    let group = GroupSpec::full_behind_load_balancer();
    Scene { group, habits, ..Scene::default() }
}

/// The swap succeeds without a fault, and the promises hold with one. `action` is a call that the answer concerns: half of the
/// sample are faults at such calls, half are faults at others, both spread evenly.
fn holds(scene: &Scene, action: &str) {
    let ended = play(scene, Plan::none(), SEED).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(matches!(ended.executions["by-hand"], Outcome::Succeeded(_)), "{}", ended.world.chronicle);
    let calls = &ended.world.chronicle.calls;
    assert!(calls.iter().any(|call| call.action == action), "nothing of it asks for {action}");
    let histories = std::env::var("HISTORIES").ok().and_then(|number| number.parse().ok()).unwrap_or(SAMPLE);
    let concerned = plans(scene, calls, |call| call.action == action);
    let others = plans(scene, calls, |call| call.action != action);
    let sample = [spread(&concerned, histories / 2), spread(&others, histories / 2)].concat();
    let findings = all(scene, &sample);
    for failure in &findings.failures {
        eprintln!("{failure}");
    }
    let broken: Vec<String> =
        findings.failures.iter().map(|it| format!("{:?}: {}", it.plan, it.broken.promise)).collect();
    assert!(broken.is_empty(), "{} of {}:\n{}", broken.len(), findings.histories, broken.join("\n"));
}

fn plans(scene: &Scene, calls: &[SentCall], is_meant: impl Fn(&SentCall) -> bool) -> Vec<(Plan, u64)> {
    let meant = calls.iter().enumerate().filter(|(_, call)| is_meant(call));
    let of_each = meant.flat_map(|(number, call)| {
        let faults = Fault::ALL.into_iter().filter(|fault| fault.concerns(call.is_read));
        let faults = faults.filter(|fault| !is_known_to_break(scene, call, *fault));
        faults.map(move |fault| (Plan::At(BTreeMap::from([(number, fault)])), SEED))
    });
    of_each.collect()
}

/// A termination that the network delivers twice is counted twice: the API takes no token.
fn is_known_to_break(scene: &Scene, call: &SentCall, fault: Fault) -> bool {
    let is_termination = call.action == "TerminateInstanceInAutoScalingGroup";
    scene.habits.second_terminate_counts_again && is_termination && fault == Fault::Twice
}

/// Returns so many of the plans, or all if they are fewer.
fn spread(plans: &[(Plan, u64)], most: usize) -> Vec<(Plan, u64)> {
    plans.iter().step_by(plans.len().div_ceil(most.max(1)).max(1)).cloned().collect()
}

#[test]
fn a_second_terminate_may_lower_desired_once_more() {
    let mut scene = scene(AwsHabits { second_terminate_counts_again: true, ..AwsHabits::default() });
    scene.group.min = 0; // AWS refuses to go below.
    scene.group.hooks = vec![LifecycleHook::at_termination(60)];
    holds(&scene, "TerminateInstanceInAutoScalingGroup");
}

#[test]
fn a_launch_may_be_invisible_for_half_a_minute() {
    let visible_after = SignedDuration::from_secs(30);
    holds(&scene(AwsHabits { visible_after, ..AwsHabits::default() }), "RunInstances");
}

#[test]
fn the_filter_client_token_may_take_no_wildcards() {
    let habits = AwsHabits { client_token_takes_wildcards: false, ..AwsHabits::default() };
    holds(&scene(habits), "RunInstances");
}

#[test]
fn a_detached_instance_may_keep_the_tag_of_its_group() {
    holds(&scene(AwsHabits { detached_keeps_group_tag: true, ..AwsHabits::default() }), "DetachInstances");
}

/// The old member dies at one of the calls after its detach: in some of these histories it is Detaching still.
#[test]
fn an_instance_that_dies_while_detaching_may_keep_the_tag_of_its_group() {
    let scene = scene(AwsHabits { dead_detaching_keeps_group_tag: true, ..AwsHabits::default() });
    let calls = play(&scene, Plan::none(), SEED).map(|ended| ended.world.chronicle.calls);
    let calls = calls.unwrap_or_else(|broken| panic!("{broken}"));
    let detach = calls.iter().rposition(|call| call.action == "DetachInstances").expect("the old one leaves");
    let plans = (detach + 1..calls.len())
        .flat_map(|call| [0, 1].map(|which| Plan::ActAt(call, Act::MemberDies(which))));
    let kept = plans.filter(|plan| {
        let ended = play(&scene, plan.clone(), SEED).unwrap_or_else(|broken| panic!("{plan:?}: {broken}"));
        let old = ended.world.fleet.instances().get(&scene.first_member());
        old.is_some_and(|old| old.tags.contains_key("aws:autoscaling:groupName"))
    });
    assert!(kept.count() > 0, "it has died while Detaching in none");
}

/// AWS refuses the owner's MaxSize while the old member leaves, and the run asks again.
#[test]
fn a_max_size_may_have_to_cover_the_members_that_leave() {
    let habits = AwsHabits { max_covers_leaving: true, ..AwsHabits::default() };
    holds(&scene(habits), "UpdateAutoScalingGroup");
}

/// The newcomer of a way back counts until it has left. The run asks again, and ends without a person.
#[test]
fn a_way_back_asks_again_where_max_size_has_to_cover_the_newcomer() {
    let scene = scene(AwsHabits { max_covers_leaving: true, ..AwsHabits::default() });
    let played = |plan| play(&scene, plan, SEED).unwrap_or_else(|broken| panic!("{broken}"));
    let calls = played(Plan::none()).world.chronicle.calls;
    let retires = calls.iter().position(|call| call.by.ends_with("RetireOld")).expect("the old one retires");
    let ended = played(Plan::ActAt(retires, Act::OwnerProtects(0)));
    let is_refused = ended.world.chronicle.to_string().contains("must not be less than");
    assert!(is_refused, "AWS refused nothing: {}", ended.world.chronicle);
    let end = &ended.executions["by-hand"];
    assert!(matches!(end, Outcome::Succeeded(_)), "{end}: {}", ended.world.chronicle);
}

#[test]
fn every_page_may_have_one_item() {
    let mut scene = scene(AwsHabits { page_size: Some(1), ..AwsHabits::default() });
    (scene.group.size, scene.group.max) = (2, 2);
    holds(&scene, "DescribeInstances");
}

/// No payload of this scene is too large: nothing else may depend on the answer.
#[test]
fn a_wildcard_may_catch_a_payload_that_is_too_large() {
    holds(&Scene { data_limit: DataLimit::Caught, ..scene(AwsHabits::default()) }, "UpdateItem");
}
