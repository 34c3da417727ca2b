//! What the chapters share: how a campaign tells what it has found, and which calls of a history it is about.

#![allow(clippy::panic, dead_code)]

use std::env;
use std::ops::RangeInclusive;

use spot_world::campaign::Findings;
use spot_world::fault::Plan;
use spot_world::history::{Broken, Ended, play};
use spot_world::scene::Scene;
use spot_world::scenes::named;
use spot_world::virtual_time::BEGIN;

/// Fails with each broken promise, and tells its history.
pub(crate) fn holds(findings: Result<Findings, Broken>) {
    let findings = findings.unwrap_or_else(|broken| panic!("without a fault: {broken}"));
    for failure in &findings.failures {
        eprintln!("{failure}");
    }
    let broken: Vec<String> =
        findings.failures.iter().map(|it| format!("{:?}: {}", it.plan, it.broken.promise)).collect();
    let is_selected = env::var_os("CAMPAIGN_CALLS").is_some() || env::var_os("CAMPAIGN_FAULTS").is_some();
    assert!(findings.histories > 0 || is_selected, "nothing was played");
    assert!(broken.is_empty(), "{} of {}:\n{}", broken.len(), findings.histories, broken.join("\n"));
}

/// Returns the scene of this name, by which a failure tells how to play it again.
#[must_use]
pub(crate) fn scene(name: &str) -> Scene {
    named(name).unwrap_or_else(|| panic!("{name} is no scene"))
}

/// Plays a history in which every promise holds.
#[must_use]
pub(crate) fn play_or_tell(scene: &Scene, plan: Plan) -> Ended {
    play(scene, plan, 1).unwrap_or_else(|broken| panic!("{broken}"))
}

/// Returns the seconds of the history without a fault until the last call of its execution. The reconciler's sweeps go on.
pub(crate) fn seconds_of_swap(scene: &Scene) -> RangeInclusive<u64> {
    let calls = play_or_tell(scene, Plan::none()).world.chronicle.calls;
    let last = calls.iter().rfind(|call| !call.by.starts_with("Reconciler"));
    1..=last.map_or(0, |call| call.at.duration_since(BEGIN).as_secs().unsigned_abs())
}

/// The calls of AWS by which the swap of a group at its MaxSize changes something.
pub(crate) const CHANGES_OF_A_FULL_GROUP: [&str; 7] = [
    "RunInstances",
    "SuspendProcesses",
    "UpdateAutoScalingGroup",
    "AttachInstances",
    "DetachInstances",
    "TerminateInstances",
    "ResumeProcesses",
];

/// Returns the number of the last call of this action in the history without a fault.
pub(crate) fn last_call(scene: &Scene, action: &str) -> usize {
    let calls = play_or_tell(scene, Plan::none()).world.chronicle.calls;
    calls.iter().rposition(|call| call.action == action).unwrap_or_else(|| panic!("{action} is not called"))
}

/// Returns the number of the first call by this phase in the history without a fault.
pub(crate) fn first_call_by(scene: &Scene, phase: &str) -> usize {
    let calls = play_or_tell(scene, Plan::none()).world.chronicle.calls;
    let first = calls.iter().position(|call| call.by.ends_with(phase));
    first.unwrap_or_else(|| panic!("{phase} calls nothing"))
}
