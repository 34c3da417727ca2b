//! Groups with a lifecycle hook: one that terminates in its group, and one that comes in the middle of a swap.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::Value;
use spot_world::campaign::{Selection, selected};
use spot_world::fleet::{AwsHabits, GroupSpec, LifecycleHook};
use spot_world::machine::Outcome;
use spot_world::scene::{Happening, Scene};
use spot_world::world::World;

use super::{WEB, newcomer, of, with_a_terminating_hook, without_a_fault};
use crate::holds::holds;

#[test]
fn a_group_with_a_terminating_hook_survives_each_fault_of_its_retirement() {
    let habits = AwsHabits { second_terminate_counts_again: true, ..AwsHabits::default() };
    let scene = Scene { group: with_a_terminating_hook(), habits, ..Scene::default() };
    let calls = Selection::of_environment().or_calls(&["RetireOld autoscaling"]);
    let selection = calls.or_faults(&["Lost", "Late(1)", "Error", "Throttled", "Dies", "Stopped", "Zombie"]);
    holds(selected(&scene, 1, &selection));
}

/// The newcomer never comes into service. The next look still sees it as a member.
#[test]
fn a_newcomer_whose_removal_lands_late_is_removed_once() {
    let habits = AwsHabits {
        second_terminate_counts_again: true,
        attach_lag: SignedDuration::from_hours(2),
        ..AwsHabits::default()
    };
    let scene = Scene { group: with_a_terminating_hook(), habits, ..Scene::default() };
    let selection = Selection::default()
        .or_calls(&["Rollback autoscaling:Terminate"])
        .or_faults(&["EffectLate", "AnswerLost"]);
    holds(selected(&scene, 1, &selection));
}

/// The repetition looks, and sees the member in service while the first call is under way.
#[test]
fn a_termination_that_lands_after_its_repetition_lowers_desired_once() {
    let habits = AwsHabits { second_terminate_counts_again: true, ..AwsHabits::default() };
    let scene = Scene { group: with_a_terminating_hook(), habits, ..Scene::default() };
    let selection = Selection::default().or_calls(&["RetireOld autoscaling"]).or_faults(&[
        "EffectLate",
        "Zombie",
        "Throttled",
        "AnswerLost",
    ]);
    holds(selected(&scene, 1, &selection));
}

/// Returns the output of a run whose group gets a hook in the middle of its swap.
fn with_a_late_hook(happens: Happening) -> Value {
    let happenings = (1..300).map(|second| (Duration::from_secs(second), happens)).collect();
    let ended = without_a_fault(&Scene { happenings, ..of(GroupSpec { min: 0, ..GroupSpec::default() }) });
    assert!(newcomer(&ended.world).is_none(), "the newcomer stays:\n{}", ended.world.chronicle);
    match &ended.executions["by-hand"] {
        Outcome::Succeeded(output) => output.clone(),
        other => panic!("{other:?}"),
    }
}

/// Adds a hook to a group without one, while its newcomer is a member or not yet.
fn add_a_hook(world: &mut World, is_launching: bool, while_member: bool) {
    let Some(newcomer) = newcomer(world) else { return };
    let Some(group) = world.fleet.group_mut(WEB) else { return };
    let is_member = group.members.iter().any(|member| member.instance_id == newcomer);
    if group.hooks.is_empty() && is_member == while_member {
        group.hooks.push(LifecycleHook { is_launching, ..LifecycleHook::at_termination(20) });
    }
}

#[test]
fn a_hook_that_would_not_run_undoes_the_swap() {
    let lates: [Happening; 3] = [
        |world| add_a_hook(world, true, false),
        |world| add_a_hook(world, false, false),
        |world| add_a_hook(world, false, true),
    ];
    for (n, late) in lates.into_iter().enumerate() {
        let output = with_a_late_hook(late);
        assert_eq!(output["rolled_back"][0]["reason"], "GROUP_CHANGED", "hook {n}: {output}");
    }
}
