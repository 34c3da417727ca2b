//! The campaign that `make test` runs: each call of a swap × each fault, and one in 32 of another scene's.
//! `CAMPAIGN=full` plays them all.

use spot_world::campaign::{each_call_and_fault, one_in};
use spot_world::fault::{Fault, Plan};
use spot_world::fleet::GroupSpec;
use spot_world::machine::Outcome;
use spot_world::scene::Scene;

use crate::holds::{holds, play_or_tell};

#[test]
fn a_group_moves_to_spot_without_a_fault() {
    let ended = play_or_tell(&Scene::default(), Plan::none());
    assert!(matches!(ended.executions["by-hand"], Outcome::Succeeded(_)));
}

#[test]
fn a_group_of_one_survives_each_fault_at_each_call() {
    holds(each_call_and_fault(&Scene::default(), 1));
}

#[test]
fn a_full_group_behind_a_load_balancer_survives_faults_at_its_calls() {
    let group = GroupSpec::full_behind_load_balancer();
    let scene = Scene { group, ..Scene::default() };
    holds(one_in(32, &scene, &Fault::ALL, 1));
}
