//! An execution that runs out of time. Step Functions ends it as `TIMED_OUT` wherever it is: no Catch runs, and the step that is
//! at work works on. Its status event wakes the reconciler.
//!
//! The deployed machines have three days, a day for an instance, four hours for an answer. A swap of a group comes there only
//! with its settings at their limits, and a history is shorter: these scenes give the machines less, and the settings more.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use spot_world::campaign::{Case, each_that, sample};
use spot_world::fault::{Fault, Plan};
use spot_world::fleet::{AwsHabits, LifecycleHook};
use spot_world::history::Ended;
use spot_world::machine::Outcome;
use spot_world::oracles::SWAPS;
use spot_world::scene::Scene;
use spot_world::virtual_time::BEGIN;

use crate::holds::{CHANGES_OF_A_FULL_GROUP, holds, play_or_tell, scene, seconds_of_swap};

const HOUR: u64 = 3600;
/// The longest of the patience that the settings of a newcomer allow.
const PATIENT: u32 = 7_200;
/// The faults of a call whose step works on for seconds.
const LASTING: [Fault; 5] =
    [Fault::RequestLost, Fault::AnswerLate, Fault::EffectLate(15), Fault::EffectLate(55), Fault::Zombie(20)];

fn with_setting(scene: Scene, name: &str, value: u32) -> Scene {
    let settings: BTreeMap<String, Value> = [(name.to_owned(), json!(value))].into();
    Scene { settings, machine_timeout: Some(HOUR), ..scene }
}

/// Returns when the execution timed out.
fn timed_out_at(ended: &Ended) -> Result<Timestamp, String> {
    let mut ends = ended.world.executions.all().filter_map(|(_, record)| record.ended.clone());
    match ends.next() {
        Some((at, Outcome::TimedOut)) => Ok(at),
        other => Err(format!("it has not timed out: {other:?}")),
    }
}

/// The execution timed out, and the reconciler acted on its status event: before its schedule came.
fn assert_the_event_is_answered(ended: &Ended) {
    let at = timed_out_at(ended).unwrap_or_else(|problem| panic!("{problem}:\n{}", ended.world.chronicle));
    let next_sweep = at + SignedDuration::from_mins(5);
    let mut calls = ended.world.chronicle.calls.iter();
    let acts = calls.any(|call| {
        let is_change = !call.is_read && call.action != "UpdateItem";
        call.by.starts_with("Reconciler") && is_change && call.at < next_sweep
    });
    assert!(acts, "nobody has heard of the end:\n{}", ended.world.chronicle);
}

/// The group is as its owner had it, and no swap is left.
fn is_the_owners(scene: &Scene, ended: &Ended) -> Result<(), String> {
    let (fleet, owners) = (&ended.world.fleet, &scene.group);
    let group = fleet.group(&owners.name).ok_or("the group is gone")?;
    let is_sized = (group.min, group.desired, group.max) == (owners.min, owners.size, owners.max);
    let serves = fleet.serving(&owners.name).len() == owners.size as usize;
    let is_open = ended.world.tables.items(SWAPS).any(|row| row.contains_key("journal"));
    let is_restored = is_sized && group.suspended.is_empty() && serves && !is_open;
    is_restored.then_some(()).ok_or_else(|| format!("{group:?}"))
}

fn spot(ended: &Ended) -> usize {
    ended.world.fleet.instances().values().filter(|it| it.is_spot() && it.state.is_alive()).count()
}

#[test]
fn a_group_whose_newcomer_never_turns_healthy_is_brought_back() {
    let habits = AwsHabits { turns_healthy_after: SignedDuration::from_hours(9), ..AwsHabits::default() };
    let scene = with_setting(scene("full-group"), "in_service_timeout_seconds", PATIENT);
    let scene = Scene { habits, ..scene };
    let ended = play_or_tell(&scene, Plan::none());
    assert_the_event_is_answered(&ended);
    assert_eq!((is_the_owners(&scene, &ended), spot(&ended)), (Ok(()), 0));
}

#[test]
fn a_group_whose_hook_holds_the_old_instance_for_two_hours_is_brought_to_its_end() {
    let hook = LifecycleHook { heartbeat_seconds: 7_200, ..LifecycleHook::at_termination(7_000) };
    let mut scene = with_setting(scene("group-with-hook"), "retire_timeout_seconds", 10_800);
    scene.group.hooks = vec![hook];
    let ended = play_or_tell(&scene, Plan::none());
    assert!(timed_out_at(&ended).is_ok(), "{:?}", ended.executions);
    assert_eq!((is_the_owners(&scene, &ended), spot(&ended)), (Ok(()), 1));
}

#[test]
fn an_instance_whose_image_takes_hours_keeps_running_and_the_image_goes() {
    let habits = AwsHabits { images_after: SignedDuration::from_mins(100), ..AwsHabits::default() };
    let scene = with_setting(scene("lab-image"), "image_timeout_seconds", PATIENT);
    let ended = play_or_tell(&Scene { habits, ..scene }, Plan::none());
    assert_the_event_is_answered(&ended);
    let images = ended.world.fleet.own_images();
    assert_eq!((images.images.len(), images.snapshots.len(), spot(&ended)), (0, 0, 0));
}

/// Returns the scene with so much time that its execution times out within a second of a call of the history without a fault.
fn out_of_time_at(scene: &Scene, at: Timestamp) -> Scene {
    let seconds = at.duration_since(BEGIN).as_secs().unsigned_abs() + 1;
    Scene { machine_timeout: Some(seconds), ..scene.clone() }
}

/// The step that makes the call is at work as its execution times out, and its call lands after that.
#[test]
fn a_step_that_works_on_beside_the_end_of_its_execution_leaves_nothing() {
    let scene = scene("full-group");
    let calls = play_or_tell(&scene, Plan::none()).world.chronicle.calls;
    let cases: Vec<(Scene, Plan)> = CHANGES_OF_A_FULL_GROUP
        .into_iter()
        .map(|action| {
            let first = calls.iter().position(|call| call.action == action);
            let first = first.unwrap_or_else(|| panic!("{action} is not called"));
            let plan = Plan::At([(first, Fault::EffectLate(15))].into());
            (out_of_time_at(&scene, calls[first].at), plan)
        })
        .collect();
    let cases: Vec<Case<'_>> = cases.iter().map(|(scene, plan)| (scene, plan, 1)).collect();
    holds(Ok(each_that(&cases, |ended| {
        let end = timed_out_at(ended)?;
        let struck = ended.world.chronicle.calls.iter().find(|call| call.fault.is_some());
        let landed = struck.and_then(|call| call.effect).ok_or("the call has had no effect")?;
        (landed.0 > end).then_some(()).ok_or("the call landed before the end")?;
        is_the_owners(&scene, ended)
    })));
}

/// Plays the end of the time within a second of each call that lasts, × each of those faults: one in so many without a full
/// campaign. The seed decides which.
fn survives_steps_that_work_on(name: &str, n: usize, seed: u64) {
    let scene = scene(name);
    let calls = play_or_tell(&scene, Plan::none()).world.chronicle.calls;
    let steps = calls.iter().enumerate().filter(|(_, call)| !call.by.starts_with("Reconciler"));
    let pairs = steps.flat_map(|call| LASTING.map(|fault| (call, fault)));
    let pairs = pairs.filter(|((_, call), fault)| fault.concerns(call.is_read));
    let cases: Vec<(Scene, Plan)> = sample(n, seed, pairs)
        .into_iter()
        .map(|((number, call), fault)| (out_of_time_at(&scene, call.at), Plan::At([(number, fault)].into())))
        .collect();
    let cases: Vec<Case<'_>> = cases.iter().map(|(scene, plan)| (scene, plan, 1)).collect();
    holds(Ok(each_that(&cases, |ended| timed_out_at(ended).map(drop))));
}

/// Plays the end of the time in one of so many seconds of the swap: in each in a full campaign. The seed decides which.
fn survives_timeouts(name: &str, n: usize, seed: u64) {
    let scene = scene(name);
    let scenes: Vec<Scene> = sample(n, seed, seconds_of_swap(&scene))
        .into_iter()
        .map(|seconds| Scene { machine_timeout: Some(seconds), ..scene.clone() })
        .collect();
    let none = Plan::none();
    let cases: Vec<Case<'_>> = scenes.iter().map(|scene| (scene, &none, 1)).collect();
    holds(Ok(each_that(&cases, |ended| timed_out_at(ended).map(drop))));
}

#[test]
fn a_swap_of_a_group_survives_the_end_of_its_time() {
    survives_timeouts("full-group-of-two", 211, 1);
    survives_steps_that_work_on("full-group-of-two", 61, 4);
}

#[test]
fn a_swap_of_a_node_survives_the_end_of_its_time() {
    survives_timeouts("node", 149, 2);
    survives_steps_that_work_on("node", 61, 5);
}

#[test]
fn a_swap_of_an_instance_survives_the_end_of_its_time() {
    survives_timeouts("lab", 149, 3);
    survives_steps_that_work_on("lab", 61, 6);
}
