//! Notices of EC2 on their way through the risk manager: late, repeated, out of order, and with a fault at each of its calls.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use spot_world::acts::Act;
use spot_world::campaign::{Selection, selected};
use spot_world::fault::Plan;
use spot_world::fleet::{GroupSpec, LifecycleHook};
use spot_world::history::Ended;
use spot_world::machine::Outcome;
use spot_world::oracles::POOL_RISK;
use spot_world::scene::Scene;
use spot_world::virtual_time::BEGIN;

use crate::holds::{holds, play_or_tell};

const DAY: i64 = 24 * 3600;
const HOUR: u64 = 3600;

/// A group of two Spot members in one pool, and what EC2 announces of them.
fn announced(acts: Vec<(u64, Act)>, to_risk_manager: &[&[u64]]) -> Scene {
    let tags = [("spot-optimizer:enabled".to_owned(), "true".to_owned())].into();
    let overrides = ["m5.large", "m5a.large"].map(str::to_owned).to_vec();
    let group = GroupSpec { size: 2, spot: 2, max: 4, zones: 1, overrides, tags, ..GroupSpec::default() };
    let to_risk_manager = to_risk_manager.iter().map(|after| after.to_vec()).collect();
    Scene { group, is_quiet: true, acts, to_risk_manager, ..Scene::default() }
}

/// Returns each poisoned pool with the second of its end, counted from the beginning, and its number of interruptions.
fn pools(ended: &Ended) -> Vec<(String, i64, String)> {
    let rows = ended.world.tables.items(POOL_RISK).map(|row| {
        let text = |name: &str| {
            row[name].to_json().as_object().and_then(|it| it.values().next()?.as_str().map(str::to_owned))
        };
        let [pool, until, interruptions] =
            ["pool", "poison_expires_at", "interruptions"].map(|name| text(name).unwrap_or_default());
        let until = until.parse().ok().and_then(|second| Timestamp::from_second(second).ok());
        (pool, until.map_or(0, |until| until.duration_since(BEGIN).as_secs()), interruptions)
    });
    rows.collect()
}

fn m5_until(second: i64, interruptions: &str) -> Vec<(String, i64, String)> {
    vec![("us-east-1#use1-az1#m5.large".to_owned(), second, interruptions.to_owned())]
}

#[test]
fn a_notice_poisons_its_pool_once_for_15_days_however_often_and_late_it_comes() {
    for after in [&[0][..], &[0, 0], &[0, 1, 90], &[600], &[0, 2 * HOUR], &[2 * HOUR]] {
        let scene = announced(vec![(10, Act::MemberIsInterrupted(0, 1))], &[after]);
        let ended = play_or_tell(&scene, Plan::none());
        assert_eq!(pools(&ended), m5_until(10 + 15 * DAY, "1"), "delivered after {after:?} s");
    }
}

#[test]
fn a_notice_that_comes_after_a_later_one_shortens_nothing() {
    let acts = || vec![(10, Act::MemberIsInterrupted(0, 1)), (40, Act::MemberIsInterrupted(1, 1))];
    for (after, interruptions) in
        [([&[0][..], &[0]], "2"), ([&[400], &[0]], "1"), ([&[0, 400], &[0, 0]], "2")]
    {
        let ended = play_or_tell(&announced(acts(), &after), Plan::none());
        assert_eq!(pools(&ended), m5_until(40 + 15 * DAY, interruptions), "delivered after {after:?} s");
    }
}

#[test]
fn a_recommendation_poisons_too_and_its_member_moves_to_another_pool() {
    let ended = play_or_tell(&announced(vec![(10, Act::MemberIsAtRisk(0))], &[&[0]]), Plan::none());
    assert_eq!(pools(&ended), m5_until(10 + 15 * DAY, "1"));
    let types = |ended: &Ended| {
        let fleet = &ended.world.fleet;
        let mut types: Vec<String> =
            fleet.serving("web").into_iter().map(|id| fleet.instances()[id].instance_type.clone()).collect();
        types.sort();
        types
    };
    assert_eq!(types(&ended), ["m5.large", "m5a.large"], "{}", ended.world.chronicle);
}

#[test]
fn a_notice_survives_each_fault_at_each_call_of_the_risk_manager() {
    let scene = announced(vec![(10, Act::MemberIsInterrupted(0, 1))], &[&[0, 30]]);
    holds(selected(&scene, 1, &Selection::of_environment().or_calls(&["RiskManager"])));
}

#[test]
fn two_notices_out_of_order_survive_each_fault_at_each_call_of_the_risk_manager() {
    let acts = vec![(10, Act::MemberIsInterrupted(0, 1)), (30, Act::MemberIsAtRisk(1))];
    let scene = announced(acts, &[&[45], &[0, 20]]);
    holds(selected(&scene, 2, &Selection::of_environment().or_calls(&["RiskManager"])));
}

/// The swap of one of two members, whose newcomer gets its notice while the old instance leaves for some minutes.
fn noticed_in_a_retirement(group: GroupSpec) -> Scene {
    let acts = vec![(300, Act::NewcomerIsInterrupted(2))];
    let input = [("max_swaps".to_owned(), json!(1))].into();
    Scene { group: GroupSpec { size: 2, max: 3, ..group }, acts, input, ..Scene::default() }
}

fn with_a_slow_drain() -> Scene {
    let deregistration_delay = SignedDuration::from_secs(300);
    noticed_in_a_retirement(GroupSpec {
        has_target_group: true,
        deregistration_delay,
        ..GroupSpec::default()
    })
}

fn with_a_slow_hook() -> Scene {
    let hooks = vec![LifecycleHook::at_termination(300)];
    noticed_in_a_retirement(GroupSpec { hooks, ..GroupSpec::default() })
}

fn answer(ended: &Ended) -> &Value {
    let mut answers = ended.executions.iter().filter(|(name, _)| name.starts_with("interruption-"));
    match (answers.next(), answers.next()) {
        (Some((_, Outcome::Succeeded(output))), None) => output,
        other => panic!("{other:?}"),
    }
}

/// The swap holds the lease. The answer needs none, since it leaves desired as it is.
#[test]
fn a_newcomer_leaves_its_group_in_time_while_the_old_instance_drains_or_its_hook_runs() {
    for scene in [with_a_slow_drain(), with_a_slow_hook()] {
        let ended = play_or_tell(&scene, Plan::none());
        let (answer, world) = (answer(&ended), &ended.world);
        let told = (&answer["outcome"], &answer["reason"]);
        assert_eq!(told, (&json!("RELEASED"), &json!("GROUP_LEASED")), "{answer}");
        let terminates = "TerminateInstanceInAutoScalingGroup";
        let mut calls = world.chronicle.calls.iter();
        let leaves = calls.any(|call| call.by.ends_with("Leave") && call.action == terminates);
        assert!(leaves, "{}", world.chronicle);
        let sizes = world.fleet.group("web").map(|group| (group.desired, group.max));
        assert_eq!((sizes, world.fleet.serving("web").len()), (Some((2, 3)), 2), "{}", world.chronicle);
    }
}

#[test]
fn a_notice_during_a_retirement_survives_each_fault_as_the_newcomer_leaves() {
    let selection = || Selection::of_environment().or_calls(&["Leave autoscaling:Terminate"]);
    for scene in [with_a_slow_drain(), with_a_slow_hook()] {
        holds(selected(&scene, 3, &selection()));
    }
}
