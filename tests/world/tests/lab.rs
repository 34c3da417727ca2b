//! The swap of a stand-alone instance of a LAB account: its Spot twin takes over address and registrations, whatever fails
//! on the way.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;
use spot_world::acts::Act;
use spot_world::campaign::{all, beside_calls, one_in};
use spot_world::fault::{Fault, Plan};
use spot_world::fleet::{AwsHabits, Ec2State};
use spot_world::history::Ended;
use spot_world::machine::Outcome;
use spot_world::oracles::{POOL_RISK, SWAPS};
use spot_world::scene::{Happening, Scene};
use spot_world::virtual_time::{BEGIN, now};
use spot_world::world::World;

use crate::holds::{
    faults_of_recovery, first_call_by, holds, last_call, output, play_or_tell, scene, stopped_after,
};

/// An instance whose twin starts from an image of its disks.
fn with_image() -> Scene {
    scene("lab-image")
}

fn state(ended: &Ended, id: &str) -> Ec2State {
    ended.world.fleet.instances()[id].state
}

/// Asserts that the old instance runs, and has its address, and that no twin is left.
fn assert_untouched(ended: &Ended, scene: &Scene) {
    let (fleet, old) = (&ended.world.fleet, scene.first_instance());
    let alive: Vec<_> =
        fleet.instances().values().filter(|it| it.state.is_alive()).map(|it| &it.id).collect();
    assert_eq!(alive, [&old]);
    assert_has_all(ended, &old);
}

/// Asserts that the instance has the address, is healthy in the target group, and that nothing of ours is left.
fn assert_has_all(ended: &Ended, id: &str) {
    let fleet = &ended.world.fleet;
    assert!(fleet.addresses().values().map(|address| address.instance_id.as_deref()).eq([Some(id)]));
    let target_groups: Vec<String> = fleet.target_groups().keys().cloned().collect();
    assert_eq!(target_groups.len(), 1);
    assert!(fleet.is_healthy_in(&target_groups, id), "{id} is not healthy in {target_groups:?}");
    assert!(fleet.own_images().images.is_empty() && fleet.own_images().snapshots.is_empty());
    assert!(!ended.world.tables.items(SWAPS).any(|row| row.contains_key("journal")));
}

#[test]
fn a_stand_alone_instance_moves_to_spot_with_its_address_and_registration() {
    let ended = play_or_tell(&Scene::of_instance(), Plan::none());
    let output = output(&ended);
    assert_eq!(output["outcome"], json!("SWAPPED"), "{output}");
    let twin = output["new_instance_id"].as_str().unwrap_or_default();
    assert!(ended.world.fleet.instances()[twin].is_spot());
    assert_eq!(state(&ended, &Scene::of_instance().first_instance()), Ec2State::Stopped);
    let mut addresses = ended.world.fleet.addresses().values();
    assert!(addresses.all(|address| address.instance_id.as_deref() == Some(twin)));
}

#[test]
fn a_twin_from_an_image_leaves_neither_image_nor_snapshot() {
    let ended = play_or_tell(&with_image(), Plan::none());
    let output = output(&ended);
    assert_eq!(output["outcome"], json!("SWAPPED"), "{output}");
    let twin = output["new_instance_id"].as_str().unwrap_or_default();
    assert!(ended.world.fleet.instances()[twin].image_id.starts_with("ami-1"));
    assert!(ended.world.fleet.own_images().images.is_empty());
    assert!(ended.world.fleet.own_images().snapshots.is_empty());
}

#[test]
fn an_owner_who_wants_it_has_the_old_instance_terminated_after_an_image() {
    let settings = BTreeMap::from([("lab_old_instance".to_owned(), json!("terminate"))]);
    let scene = Scene { settings, ..with_image() };
    let ended = play_or_tell(&scene, Plan::none());
    assert_eq!(output(&ended)["outcome"], json!("SWAPPED"));
    let old = ended.world.fleet.instances().get(&scene.first_instance());
    assert!(old.is_none_or(|old| old.state == Ec2State::Terminated), "{old:?}");
}

#[test]
fn a_twin_that_never_turns_healthy_goes_and_the_old_instance_stays() {
    let habits = AwsHabits { turns_healthy_after: SignedDuration::from_hours(9), ..AwsHabits::default() };
    let scene = Scene { habits, ..Scene::of_instance() };
    let ended = play_or_tell(&scene, Plan::none());
    let output = output(&ended);
    assert_eq!(
        (&output["outcome"], &output["reason"]),
        (&json!("ROLLED_BACK"), &json!("NEWCOMER_NOT_SERVING"))
    );
    assert_untouched(&ended, &scene);
}

/// The old instance drains at this second.
const OLD_DRAINS: Duration = Duration::from_secs(230);

/// Lets this happen while the old instance drains.
fn while_the_old_drains(happens: Happening) -> Ended {
    let scene = Scene { happenings: vec![(OLD_DRAINS, happens)], ..Scene::of_instance() };
    let ended = play_or_tell(&scene, Plan::none());
    let drained = last_call(&Scene::of_instance(), "DeregisterTargets")
        ..last_call(&Scene::of_instance(), "StopInstances");
    let at = |call: usize| {
        play_or_tell(&Scene::of_instance(), Plan::none()).world.chronicle.calls[call].at - BEGIN
    };
    let moment = SignedDuration::try_from(OLD_DRAINS).unwrap_or_default();
    assert!(at(drained.start) < moment && moment < at(drained.end), "the old instance does not drain then");
    ended
}

#[test]
fn an_old_instance_comes_back_if_its_twin_fails_while_it_drains() {
    let fails: Happening = |world| {
        let Some(twin) = world.fleet.instances().keys().next_back().cloned() else { return };
        world.fleet.set_target_health(&twin, false);
        world.oracles.lab.iter_mut().for_each(|ledger| ledger.is_lost(&twin));
    };
    let ended = while_the_old_drains(fails);
    assert_eq!(output(&ended)["outcome"], json!("ROLLED_BACK"), "{}", output(&ended));
    assert_untouched(&ended, &Scene::of_instance());
}

#[test]
fn a_twin_that_has_taken_over_stays_if_the_old_instance_dies() {
    let dies: Happening = |world| {
        let old = world.fleet.instances().keys().next().cloned().unwrap_or_default();
        world.fleet.instance_dies(&old, now());
    };
    let ended = while_the_old_drains(dies);
    assert_eq!(output(&ended)["outcome"], json!("SWAPPED"), "{}", output(&ended));
    let alive = ended.world.fleet.instances().values().filter(|it| it.state.is_alive());
    assert!(alive.map(|it| it.is_spot()).eq([true]));
}

#[test]
fn the_reconciler_puts_a_swap_back_that_was_stopped_before_the_old_instance_left() {
    for (scene, action) in [
        (with_image(), "CreateImage"),
        (Scene::of_instance(), "RunInstances"),
        (Scene::of_instance(), "AssociateAddress"),
    ] {
        let faults = BTreeMap::from([(last_call(&scene, action), Fault::StoppedAfter)]);
        let ended = play_or_tell(&scene, Plan::At(faults));
        assert!(matches!(ended.executions["by-hand"], Outcome::Aborted), "{:?}", ended.executions);
        assert_untouched(&ended, &scene);
    }
}

/// The old instance runs alone, as it was; or the twin does, with the address.
fn assert_untouched_or_swapped(ended: &Ended, scene: &Scene) {
    let fleet = &ended.world.fleet;
    if state(ended, &scene.first_instance()) == Ec2State::Running {
        return assert_untouched(ended, scene);
    }
    let running: Vec<_> = fleet.instances().values().filter(|it| it.state == Ec2State::Running).collect();
    assert!(matches!(running[..], [twin] if twin.is_spot()), "{running:?}");
    assert_has_all(ended, &running[0].id);
}

#[test]
fn the_reconciler_ends_a_swap_that_was_stopped_as_a_phase_began() {
    let scene = with_image();
    for phase in ["CaptureImage", "Launch", "WaitForHealth", "TakeOver", "RetireOld"] {
        let first = first_call_by(&scene, phase);
        for fault in [Fault::StoppedBefore, Fault::StoppedAfter] {
            let ended = play_or_tell(&scene, Plan::At(BTreeMap::from([(first, fault)])));
            assert!(
                matches!(ended.executions["by-hand"], Outcome::Aborted),
                "{phase}: {:?}",
                ended.executions
            );
            assert_untouched_or_swapped(&ended, &scene);
        }
    }
}

/// The twin dies, if the old instance is in this state. Else it lives on, and the old one need not come back.
fn twin_dies(world: &mut World, old_is: Ec2State) {
    let mut instances = world.fleet.instances().values();
    if instances.next().map(|old| old.state) != Some(old_is) {
        return;
    }
    let twin = instances.next_back().map(|twin| twin.id.clone()).unwrap_or_default();
    world.fleet.instance_dies(&twin, now());
}

/// The twin dies as the old instance is stopping, or once it has stopped.
#[test]
fn the_reconciler_starts_a_stopped_old_instance_again_if_its_twin_died_with_the_execution() {
    let stops = last_call(&Scene::of_instance(), "StopInstances");
    let at = play_or_tell(&Scene::of_instance(), Plan::none()).world.chronicle.calls[stops].at;
    let moments: [(u64, Happening); 2] = [
        (20, |world| twin_dies(world, Ec2State::Stopping)),
        (60, |world| twin_dies(world, Ec2State::Stopped)),
    ];
    for (seconds, dies) in moments {
        let moment = Duration::try_from(at - BEGIN).unwrap_or_default() + Duration::from_secs(seconds);
        let scene = Scene { happenings: vec![(moment, dies)], ..Scene::of_instance() };
        let ended = play_or_tell(&scene, Plan::At(BTreeMap::from([(stops, Fault::StoppedAfter)])));
        assert!(matches!(ended.executions["by-hand"], Outcome::Aborted), "{:?}", ended.executions);
        assert!(ended.world.chronicle.calls.iter().any(|call| call.action == "StartInstances"));
        assert_untouched(&ended, &scene);
    }
}

#[test]
fn the_reconciler_finishes_a_swap_whose_old_instance_was_leaving() {
    let faults = BTreeMap::from([(last_call(&Scene::of_instance(), "DeregisterTargets"), Fault::DiesAfter)]);
    let stopped = last_call(&Scene::of_instance(), "StopInstances");
    for faults in [faults, BTreeMap::from([(stopped, Fault::StoppedAfter)])] {
        let ended = play_or_tell(&Scene::of_instance(), Plan::At(faults));
        assert_eq!(state(&ended, &Scene::of_instance().first_instance()), Ec2State::Stopped);
    }
}

#[test]
fn a_swap_of_an_instance_survives_faults_at_its_calls() {
    holds(one_in(150, &Scene::of_instance(), &Fault::ALL, 1));
}

#[test]
fn a_swap_by_an_image_survives_faults_at_its_calls() {
    holds(one_in(250, &with_image(), &Fault::ALL, 2));
}

#[test]
fn the_newcomer_may_die_in_a_swap_of_an_instance() {
    holds(beside_calls(&Scene::of_instance(), Act::NewcomerDies, 1));
}

/// Plays one in so many faults at the reconciler's calls, after an execution that was stopped as this call was sent. The seed
/// decides which.
fn survives_in_recovery(scene: &Scene, action: &str, share: (usize, u64)) {
    let stopped = stopped_after(scene, action);
    holds(Ok(all(scene, &faults_of_recovery(scene, &stopped, |_| true, &Fault::ALL, share))));
}

#[test]
fn the_way_back_of_a_twin_with_the_address_survives_faults_at_its_calls() {
    survives_in_recovery(&Scene::of_instance(), "AssociateAddress", (100, 1));
}

#[test]
fn the_way_back_from_an_image_survives_faults_at_its_calls() {
    survives_in_recovery(&with_image(), "CreateImage", (100, 2));
}

#[test]
fn the_end_of_a_swap_of_an_instance_that_the_reconciler_finishes_survives_faults_at_its_calls() {
    survives_in_recovery(&Scene::of_instance(), "StopInstances", (100, 3));
}

#[test]
fn the_same_seed_plays_the_same_history_of_an_instance() {
    let faults = BTreeMap::from([(last_call(&Scene::of_instance(), "AssociateAddress"), Fault::Zombie(20))]);
    let told = || play_or_tell(&Scene::of_instance(), Plan::At(faults.clone())).world.chronicle.to_string();
    assert_eq!(told(), told());
}

/// Whatever the event says, the registry calls the account LAB.
#[test]
fn an_interruption_in_a_lab_account_poisons_no_pool() {
    let acts = vec![(120, Act::NewcomerIsInterrupted(2))];
    let scene = Scene { acts, to_risk_manager: vec![vec![1], vec![30]], ..Scene::of_instance() };
    let world = play_or_tell(&scene, Plan::none()).world;
    let is_heard = world.chronicle.calls.iter().any(|call| call.by.starts_with("RiskManager"));
    assert!(is_heard, "nobody hears of it:\n{}", world.chronicle);
    assert_eq!(world.tables.items(POOL_RISK).next(), None);
}
