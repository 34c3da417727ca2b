//! The campaign that `make test` runs: each call of a swap × each fault, and one in eight of another scene's.
//! `CAMPAIGN=full` plays them all.

#![allow(clippy::panic)]

mod holds;

use holds::{holds, play_or_tell};
use spot_world::campaign::{each_call_and_fault, one_in};
use spot_world::fault::{Fault, Plan};
use spot_world::fleet::GroupSpec;
use spot_world::machine::Outcome;
use spot_world::oracles::SWAPS;
use spot_world::scene::Scene;

#[test]
fn a_group_moves_to_spot_without_a_fault() {
    let ended = play_or_tell(&Scene::default(), Plan::none());
    assert!(matches!(ended.executions["by-hand"], Outcome::Succeeded(_)));
}

#[test]
fn a_group_of_one_survives_each_fault_at_each_call() {
    holds(each_call_and_fault(&Scene::default(), 1));
}

/// The SDK repeats the call, or the state machine its step, and the repetition launches no second newcomer. The full
/// group raises MaxSize, too.
#[test]
fn a_changing_call_that_is_throttled_or_whose_answer_is_lost_costs_no_swap() {
    let group = GroupSpec { size: 1, max: 1, ..GroupSpec::default() };
    let scene = Scene { group, ..Scene::default() };
    let calls = play_or_tell(&scene, Plan::none()).world.chronicle.calls;
    let changes = || calls.iter().enumerate().filter(|(_, call)| !call.is_read);
    for action in CHANGES {
        assert!(changes().any(|(_, call)| call.action == action), "{action} is not called");
    }
    for (number, call) in changes() {
        for fault in [Fault::ErrorAfterEffect, Fault::AnswerLost, Fault::Throttled] {
            let ended = play_or_tell(&scene, Plan::At([(number, fault)].into()));
            let Outcome::Succeeded(output) = &ended.executions["by-hand"] else {
                panic!("{} {}, {fault}: {:?}", call.by, call.action, ended.executions)
            };
            let swapped = output["swapped"].as_array().map_or(0, Vec::len);
            let newcomers = ended.world.fleet.instances().values().filter(|it| it.is_spot()).count();
            assert_eq!((swapped, newcomers), (1, 1), "{} {}, {fault}: {output}", call.by, call.action);
            assert_eq!(ended.world.chronicle.calls[number].fault, Some(fault), "the fault came elsewhere");
            let rows =
                |name: &str| ended.world.tables.items(SWAPS).filter(|row| row.contains_key(name)).count();
            assert_eq!(
                (rows("journal"), rows("launched_into")),
                (0, 1),
                "{} {}, {fault}",
                call.by,
                call.action
            );
        }
    }
}

/// The AWS calls by which the swap of a full group changes something.
const CHANGES: [&str; 7] = [
    "RunInstances",
    "SuspendProcesses",
    "UpdateAutoScalingGroup",
    "AttachInstances",
    "DetachInstances",
    "TerminateInstances",
    "ResumeProcesses",
];

#[test]
fn a_full_group_behind_a_load_balancer_survives_faults_at_its_calls() {
    let group = GroupSpec { size: 1, max: 1, has_target_group: true, ..GroupSpec::default() };
    let scene = Scene { group, ..Scene::default() };
    holds(one_in(8, &scene, &Fault::ALL, 1));
}
