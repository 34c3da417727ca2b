//! Faults that must cost no swap. One call that changes something is lost, late, doubled or refused, or its Lambda dies; or an
//! action is out for seconds. The SDK repeats the call, or the state machine its step, and the swap goes on.

use std::collections::BTreeMap;

use spot_world::campaign::{all_that, is_full};
use spot_world::chronicle::SentCall;
use spot_world::fault::{Extent, Fault, Outage, Plan};
use spot_world::fleet::{Ec2State, GroupSpec, LifecycleHook};
use spot_world::history::Ended;
use spot_world::oracles::SWAPS;
use spot_world::scene::Scene;
use spot_world::wire::Service;

use crate::holds::{CHANGES_OF_A_FULL_GROUP, holds, outcome_of, play_or_tell, scene};

/// The faults that one call may suffer.
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
/// The faults that are played at each change of AWS but DynamoDB's.
const ALWAYS: [Fault; 3] = [Fault::AnswerLost, Fault::ErrorAfterEffect, Fault::Throttled];
/// Of the other histories, one in so many is played without `CAMPAIGN=full`.
const SHARE: usize = 7;
/// Longer than the SDK repeats a call that fails at once. A request that is lost is waited for longer than that.
const SECONDS: u32 = 5;

/// A group at its MaxSize: its swap raises MaxSize, and detaches the old instance.
fn full_group() -> Scene {
    scene("group-at-its-max")
}

/// A group with a terminating hook: its swap has the group terminate the old instance.
fn hooked_group() -> Scene {
    let hooks = vec![LifecycleHook::at_termination(30)];
    let group = GroupSpec { size: 1, min: 0, hooks, ..GroupSpec::default() };
    Scene { group, ..Scene::default() }
}

/// A stand-alone instance with an Elastic IP, in a target group, whose twin starts from an image of its disks.
fn instance() -> Scene {
    scene("lab-image")
}

/// A group of four, whose later newcomers are launched ahead of their turn.
fn four() -> Scene {
    scene("launch-ahead")
}

/// Returns the calls of the history without a fault, with their numbers.
fn calls(scene: &Scene) -> Vec<(usize, SentCall)> {
    play_or_tell(scene, Plan::none()).world.chronicle.calls.into_iter().enumerate().collect()
}

/// Returns the calls that change something, with their numbers. The calls of these actions must be among them.
fn changes(scene: &Scene, actions: &[&str]) -> Vec<(usize, SentCall)> {
    let changes: Vec<_> = calls(scene).into_iter().filter(|(_, call)| !call.is_read).collect();
    for action in actions {
        assert!(changes.iter().any(|(_, call)| call.action == *action), "{action} is not called");
    }
    changes
}

/// Plays each of these calls × each fault, and an outage of its action from there on. Each history must end in a swap.
fn must_swap(scene: &Scene, calls: &[(usize, SentCall)], has_swapped: fn(&Ended) -> Result<(), String>) {
    let is_always = |call: &SentCall, fault| call.service != Service::DynamoDb && ALWAYS.contains(&fault);
    let singles = calls.iter().flat_map(|call| FAULTS.map(|fault| (call, fault)));
    let (always, others): (Vec<_>, Vec<_>) = singles.partition(|((_, call), fault)| is_always(call, *fault));
    let single = |((number, _), fault): (&(usize, SentCall), Fault)| at(*number, fault);
    let outages = calls.iter().flat_map(|(from, _)| ALWAYS.map(|fault| out(*from, fault)));
    let share = others.into_iter().map(single).chain(outages).step_by(if is_full() { 1 } else { SHARE });
    each_has_swapped(scene, always.into_iter().map(single).chain(share), has_swapped);
}

fn at(number: usize, fault: Fault) -> Plan {
    Plan::At([(number, fault)].into())
}

fn out(from: usize, fault: Fault) -> Plan {
    Plan::Outage(Outage { from, extent: Extent::Action, fault, seconds: SECONDS })
}

fn each_has_swapped(
    scene: &Scene,
    plans: impl Iterator<Item = Plan>,
    has_swapped: fn(&Ended) -> Result<(), String>,
) {
    let plans: Vec<_> = plans.map(|plan| (plan, 1)).collect();
    holds(Ok(all_that(scene, &plans, |ended| {
        let calls = &ended.world.chronicle.calls;
        let struck = calls.iter().find(|call| call.fault.is_some()).ok_or("no call has had its fault")?;
        let at = format!("{} {}: ", struck.by, struck.action);
        has_swapped(ended).map_err(|why| at + &why)
    })));
}

/// So many members were swapped, as many Spot instances are alive, and no journal is left. The newcomers' pools are known,
/// unless each try to keep them failed: no run waits for that.
fn has_swapped(members: usize, ended: &Ended) -> Result<(), String> {
    let output = outcome_of(ended, "by-hand")?;
    let swapped = output["swapped"].as_array().map_or(0, Vec::len);
    let spot = ended.world.fleet.instances().values().filter(|it| it.is_spot() && it.state.is_alive());
    let rows = |name: &str| ended.world.tables.items(SWAPS).filter(|row| row.contains_key(name)).count();
    let keeps_pools = |call: &SentCall| call.action == "BatchWriteItem" && call.fault.is_none();
    let calls = &ended.world.chronicle.calls;
    let are_asked_for = calls.iter().any(|call| call.action == "BatchWriteItem");
    let pools_known = are_asked_for && (rows("launched_into") == members || !calls.iter().any(keeps_pools));
    let found = (swapped, spot.count(), rows("journal"), pools_known);
    (found == (members, members, 0, true)).then_some(()).ok_or_else(|| format!("{found:?}: {output}"))
}

/// Its one member was swapped by the only newcomer.
fn group_has_swapped(ended: &Ended) -> Result<(), String> {
    let launched = ended.world.fleet.instances().values().filter(|it| it.is_spot()).count();
    (launched == 1).then_some(()).ok_or_else(|| format!("{launched} newcomers"))?;
    has_swapped(1, ended)
}

/// Each member was swapped, and no newcomer is left over.
fn four_have_swapped(ended: &Ended) -> Result<(), String> {
    has_swapped(4, ended)
}

/// The twin alone runs, has the address, is healthy in the target group, and leaves neither image nor journal.
fn instance_has_swapped(ended: &Ended) -> Result<(), String> {
    let (output, fleet) = (outcome_of(ended, "by-hand")?, &ended.world.fleet);
    let running: Vec<_> = fleet.instances().values().filter(|it| it.state == Ec2State::Running).collect();
    let [twin] = running[..] else { return Err(format!("{running:?}: {output}")) };
    let holders = fleet.addresses().values().map(|address| address.instance_id.as_deref());
    let has_address = holders.eq([Some(twin.id.as_str())]);
    let target_groups: Vec<String> = fleet.target_groups().keys().cloned().collect();
    let is_healthy = target_groups.len() == 1 && fleet.is_healthy_in(&target_groups, &twin.id);
    let images = fleet.own_images().images.len() + fleet.own_images().snapshots.len();
    let journals = ended.world.tables.items(SWAPS).filter(|row| row.contains_key("journal")).count();
    let is_swapped = output["outcome"] == "SWAPPED" && twin.is_spot();
    let found = (is_swapped, has_address, is_healthy, images, journals);
    (found == (true, true, true, 0, 0)).then_some(()).ok_or_else(|| format!("{found:?}: {output}"))
}

#[test]
fn no_single_fault_and_no_outage_of_seconds_costs_the_swap_of_a_full_group() {
    must_swap(&full_group(), &changes(&full_group(), &CHANGES_OF_A_FULL_GROUP), group_has_swapped);
}

/// An action is throttled from its last call on: what went before is at stake then.
#[test]
fn no_late_read_that_is_throttled_for_seconds_costs_the_swap_of_a_full_group() {
    let calls = calls(&full_group());
    let reads = calls.iter().filter(|(_, call)| call.is_read);
    let last: BTreeMap<_, usize> =
        reads.map(|(number, call)| ((call.service, call.action.as_str()), *number)).collect();
    for read in [(Service::Ec2, "DescribeInstances"), (Service::AutoScaling, "DescribeAutoScalingGroups")] {
        assert!(last.contains_key(&read), "{read:?}");
    }
    let throttled = last.into_values().map(|from| out(from, Fault::Throttled));
    each_has_swapped(&full_group(), throttled, group_has_swapped);
}

#[test]
fn no_fault_at_a_termination_through_the_group_costs_the_swap_of_a_group_with_a_hook() {
    let terminates = "TerminateInstanceInAutoScalingGroup";
    let mut changes = changes(&hooked_group(), &[terminates]);
    changes.retain(|(_, call)| call.action == terminates);
    must_swap(&hooked_group(), &changes, group_has_swapped);
}

#[test]
fn no_fault_at_a_launch_ahead_costs_a_swap() {
    let calls = calls(&four()).into_iter();
    let ahead = calls.filter(|(_, call)| call.action == "RunInstances" && call.by.ends_with("LaunchAhead"));
    let ahead: Vec<usize> = ahead.map(|(number, _)| number).collect();
    assert!(!ahead.is_empty(), "none is launched ahead");
    let suffers = ALWAYS.into_iter().chain([Fault::Twice, Fault::DiesAfter, Fault::Zombie(20)]);
    let faults = suffers.flat_map(|fault| ahead.iter().map(move |number| at(*number, fault)));
    each_has_swapped(&four(), faults, four_have_swapped);
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
    let mut changes = changes(&instance(), &actions);
    // The full group's swap writes its journal as this one does.
    changes.retain(|(_, call)| call.service != Service::DynamoDb);
    must_swap(&instance(), &changes, instance_has_swapped);
}
