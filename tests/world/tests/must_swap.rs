//! What must cost no swap: one call that changes something is lost, late, doubled, refused, or its Lambda dies; or its
//! action is out for seconds. The SDK repeats the call, or the state machine its step. The swap goes on.

#![allow(clippy::panic)]

mod holds;

use std::collections::BTreeMap;

use holds::{holds, play_or_tell};
use serde_json::json;
use spot_world::campaign::{all_that, is_full};
use spot_world::chronicle::SentCall;
use spot_world::fault::{Extent, Fault, Outage, Plan};
use spot_world::fleet::{Ec2State, GroupSpec, InstanceSpec, LifecycleHook};
use spot_world::history::Ended;
use spot_world::machine::Outcome;
use spot_world::oracles::SWAPS;
use spot_world::scene::Scene;

/// What one call may suffer.
const FAULTS: [Fault; 11] = [
    Fault::RequestLost,
    Fault::AnswerLost,
    Fault::AnswerLate,
    Fault::EffectLate(1),
    Fault::EffectLate(15),
    Fault::Twice,
    Fault::ErrorAfterEffect,
    Fault::Throttled,
    Fault::DiesBefore,
    Fault::DiesAfter,
    Fault::Zombie(20),
];
/// Of all these histories, one in so many is played without `CAMPAIGN=full`.
const SHARE: usize = 5;
/// Longer than the SDK repeats a call that fails at once.
const SECONDS: u32 = 5;

/// A group at its MaxSize: its swap raises MaxSize, and detaches the old instance.
fn full_group() -> Scene {
    Scene { group: GroupSpec { size: 1, max: 1, ..GroupSpec::default() }, ..Scene::default() }
}

/// A group with a terminating hook: its swap has the group terminate the old instance.
fn hooked_group() -> Scene {
    let hook = LifecycleHook {
        name: "drain".to_owned(),
        is_launching: false,
        heartbeat_seconds: 300,
        completed_after_seconds: Some(30),
    };
    let group = GroupSpec { size: 1, min: 0, hooks: vec![hook], ..GroupSpec::default() };
    Scene { group, ..Scene::default() }
}

/// A stand-alone instance with an Elastic IP, in a target group, whose twin starts from an image of its disks.
fn instance() -> Scene {
    let lab = Some(InstanceSpec { has_address: true, target_groups: 1 });
    let input = BTreeMap::from([("capture_image".to_owned(), json!(true))]);
    Scene { lab, input, ..Scene::default() }
}

/// A group of four, whose later newcomers are launched ahead of their turn.
fn four() -> Scene {
    Scene { group: GroupSpec { size: 4, max: 5, ..GroupSpec::default() }, ..Scene::default() }
}

/// Returns number and action of each call that changes something. The calls of these actions must be among them.
fn changes(scene: &Scene, actions: &[&str]) -> Vec<(usize, String)> {
    let calls = play_or_tell(scene, Plan::none()).world.chronicle.calls;
    let changes = calls.into_iter().enumerate().filter(|(_, call)| !call.is_read);
    let changes: Vec<_> = changes.map(|(number, call)| (number, call.action)).collect();
    for action in actions {
        assert!(changes.iter().any(|(_, called)| called == action), "{action} is not called");
    }
    changes
}

/// Plays each of these calls × each fault, and an outage of its action from there on. Each history must end in a swap.
fn must_swap(scene: &Scene, calls: &[(usize, String)], has_swapped: fn(&Ended) -> Result<(), String>) {
    let numbers = || calls.iter().map(|(number, _)| *number);
    let faults = numbers().flat_map(|number| FAULTS.map(|fault| Plan::At([(number, fault)].into())));
    let outages = numbers().flat_map(|from| {
        let outage = move |fault| Outage { from, extent: Extent::Action, fault, seconds: SECONDS };
        Fault::OF_OUTAGES.map(|fault| Plan::Outage(outage(fault)))
    });
    let plans = faults.chain(outages).map(|plan| (plan, 1));
    let plans: Vec<_> = plans.step_by(if is_full() { 1 } else { SHARE }).collect();
    holds(Ok(all_that(scene, &plans, |ended| {
        let calls = &ended.world.chronicle.calls;
        let struck = calls.iter().find(|call| call.fault.is_some()).ok_or("no call has had its fault")?;
        let at = format!("{} {}: ", struck.by, struck.action);
        has_swapped(ended).map_err(|why| at + &why)
    })));
}

fn output(ended: &Ended) -> Result<&serde_json::Value, String> {
    match &ended.executions["by-hand"] {
        Outcome::Succeeded(output) => Ok(output),
        other => Err(format!("{other:?}")),
    }
}

/// So many members were swapped, as many Spot instances are alive, and no journal is left. The newcomers' pools are known,
/// unless each try to keep them failed: no run waits for that.
fn has_swapped(members: usize, ended: &Ended) -> Result<(), String> {
    let output = output(ended)?;
    let swapped = output["swapped"].as_array().map_or(0, Vec::len);
    let spot = ended.world.fleet.instances().values().filter(|it| it.is_spot() && it.state.is_alive());
    let rows = |name: &str| ended.world.tables.items(SWAPS).filter(|row| row.contains_key(name)).count();
    let keeps_pools = |call: &SentCall| call.action == "BatchWriteItem" && call.fault.is_none();
    let pools_known =
        rows("launched_into") == members || !ended.world.chronicle.calls.iter().any(keeps_pools);
    let found = (swapped, spot.count(), rows("journal"), pools_known);
    (found == (members, members, 0, true)).then_some(()).ok_or_else(|| format!("{found:?}: {output}"))
}

/// Its one member was swapped by the only newcomer.
fn group_has_swapped(ended: &Ended) -> Result<(), String> {
    let launched = ended.world.fleet.instances().values().filter(|it| it.is_spot()).count();
    (launched == 1).then_some(()).ok_or_else(|| format!("{launched} newcomers"))?;
    has_swapped(1, ended)
}

/// A newcomer that was launched ahead and whose answer was lost goes, and another takes its place.
fn four_have_swapped(ended: &Ended) -> Result<(), String> {
    has_swapped(4, ended)
}

/// The twin alone runs, with the address, and leaves neither image nor journal.
fn instance_has_swapped(ended: &Ended) -> Result<(), String> {
    let (output, fleet) = (output(ended)?, &ended.world.fleet);
    let running: Vec<_> = fleet.instances().values().filter(|it| it.state == Ec2State::Running).collect();
    let is_twin = |id: Option<&str>| running.iter().any(|it| it.is_spot() && Some(it.id.as_str()) == id);
    let has_address = fleet.addresses().values().all(|address| is_twin(address.instance_id.as_deref()));
    let images = fleet.own_images().images.len() + fleet.own_images().snapshots.len();
    let journals = ended.world.tables.items(SWAPS).filter(|row| row.contains_key("journal")).count();
    let found = (output["outcome"] == "SWAPPED", running.len(), has_address, images, journals);
    (found == (true, 1, true, 0, 0)).then_some(()).ok_or_else(|| format!("{found:?}: {output}"))
}

#[test]
fn no_single_fault_and_no_outage_of_seconds_costs_the_swap_of_a_full_group() {
    let actions = [
        "RunInstances",
        "SuspendProcesses",
        "UpdateAutoScalingGroup",
        "AttachInstances",
        "DetachInstances",
        "TerminateInstances",
        "ResumeProcesses",
    ];
    must_swap(&full_group(), &changes(&full_group(), &actions), group_has_swapped);
}

#[test]
fn no_single_fault_and_no_outage_of_seconds_costs_the_swap_of_a_group_with_a_hook() {
    let changes = changes(&hooked_group(), &["TerminateInstanceInAutoScalingGroup"]);
    must_swap(&hooked_group(), &changes, group_has_swapped);
}

#[test]
fn no_fault_at_a_launch_ahead_costs_a_swap() {
    let mut launches = changes(&four(), &["RunInstances"]);
    launches.retain(|(_, action)| action == "RunInstances");
    must_swap(&four(), &launches, four_have_swapped);
}

#[test]
fn no_single_fault_and_no_outage_of_seconds_costs_the_swap_of_an_instance() {
    let actions = [
        "CreateImage",
        "RunInstances",
        "RegisterTargets",
        "AssociateAddress",
        "DeregisterTargets",
        "StopInstances",
        "DeregisterImage",
        "DeleteSnapshot",
    ];
    must_swap(&instance(), &changes(&instance(), &actions), instance_has_swapped);
}
