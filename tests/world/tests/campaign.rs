//! The campaign that `make test` runs: each call of a swap × each fault, and one in eight of another scene's.
//! `CAMPAIGN=full` plays them all.

#![allow(clippy::panic)]

use spot_world::campaign::{Findings, each_call_and_fault, one_in};
use spot_world::fault::{Fault, Plan};
use spot_world::fleet::GroupSpec;
use spot_world::history::play;
use spot_world::machine::Outcome;
use spot_world::scene::Scene;

fn holds(findings: &Findings) {
    for failure in &findings.failures {
        eprintln!("{failure}");
    }
    let broken: Vec<String> =
        findings.failures.iter().map(|it| format!("{:?}: {}", it.plan, it.broken.promise)).collect();
    assert!(broken.is_empty(), "{} of {}:\n{}", broken.len(), findings.histories, broken.join("\n"));
}

#[test]
fn a_group_moves_to_spot_without_a_fault() {
    let ended = play(&Scene::default(), Plan::none(), 1).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(matches!(ended.executions["by-hand"], Outcome::Succeeded(_)));
}

#[test]
fn a_group_of_one_survives_each_fault_at_each_call() {
    holds(&each_call_and_fault(&Scene::default(), 1).unwrap_or_else(|broken| panic!("{broken}")));
}

#[test]
fn a_full_group_behind_a_load_balancer_survives_faults_at_its_calls() {
    let group = GroupSpec { size: 1, max: 1, has_target_group: true, ..GroupSpec::default() };
    let scene = Scene { group, ..Scene::default() };
    holds(&one_in(8, &scene, &Fault::ALL, 1).unwrap_or_else(|broken| panic!("{broken}")));
}
