//! A swap of several members, whose newcomers are launched ahead.

#![allow(clippy::panic)]

mod holds;

use holds::{holds, play_or_tell};
use spot_world::campaign::one_in;
use spot_world::fault::{Fault, Plan};
use spot_world::fleet::GroupSpec;
use spot_world::machine::Outcome;
use spot_world::scene::Scene;

fn four_on_demand() -> Scene {
    Scene { group: GroupSpec { size: 4, max: 5, ..GroupSpec::default() }, ..Scene::default() }
}

#[test]
fn a_group_of_four_moves_with_newcomers_that_are_launched_ahead() {
    let ended = play_or_tell(&four_on_demand(), Plan::none());
    assert!(matches!(ended.executions["by-hand"], Outcome::Succeeded(_)), "{:?}", ended.executions);
    let fleet = &ended.world.fleet;
    let spot = fleet.serving("web").into_iter().filter(|id| fleet.instances()[*id].is_spot());
    assert_eq!(spot.count(), 4);
    let calls = ended.world.chronicle.calls.iter().map(|call| call.action.as_str());
    let changing: Vec<&str> =
        calls.filter(|action| ["RunInstances", "AttachInstances"].contains(action)).collect();
    assert!(
        changing.windows(2).any(|two| two == ["RunInstances"; 2]),
        "none was launched ahead: {changing:?}"
    );
}

#[test]
fn a_swap_that_launches_ahead_survives_faults_at_its_calls() {
    holds(one_in(120, &four_on_demand(), &Fault::ALL, 1));
}

#[test]
fn the_reconciler_ends_all_swaps_of_an_execution_that_is_stopped() {
    holds(one_in(60, &four_on_demand(), &[Fault::StoppedBefore, Fault::StoppedAfter], 1));
}

#[test]
fn the_reconciler_finishes_the_swap_whose_old_instance_was_leaving_and_ends_those_ahead() {
    let calls = play_or_tell(&four_on_demand(), Plan::none()).world.chronicle.calls;
    let mut retired = calls.iter().enumerate().filter(|(_, call)| call.action == "DetachInstances");
    let (second, _) = retired.nth(1).unwrap_or_else(|| panic!("none is detached"));
    let ended = play_or_tell(&four_on_demand(), Plan::At([(second, Fault::StoppedAfter)].into()));
    assert!(matches!(ended.executions["by-hand"], Outcome::Aborted), "{:?}", ended.executions);
    let fleet = &ended.world.fleet;
    let launched = fleet.instances().values().filter(|it| it.is_spot()).count();
    assert!(launched > 2, "none was ahead");
    let alive: Vec<_> = fleet.instances().values().filter(|it| it.state.is_alive()).collect();
    assert_eq!((alive.len(), alive.iter().filter(|it| it.is_spot()).count()), (4, 2));
    assert_eq!(fleet.serving("web").len(), 4);
}
