//! What the chapters share: how a campaign tells what it has found, and which calls of a history it is about.

pub(crate) mod lab;

use std::collections::BTreeMap;
use std::env;
use std::ops::RangeInclusive;

use jiff::SignedDuration;
use serde_json::{Value, json};
use spot_world::campaign::{Findings, sample};
use spot_world::chronicle::SentCall;
use spot_world::fault::{Fault, Plan};
use spot_world::history::{Broken, Ended, play};
use spot_world::machine::Outcome;
use spot_world::oracles::POOL_RISK;
use spot_world::scene::Scene;
use spot_world::scenes::named;
use spot_world::virtual_time::{BEGIN, now};
use spot_world::wire::Service;
use spot_world::world::World;

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

/// Returns the output of the execution by this name, or how else it has ended.
pub(crate) fn outcome_of<'a>(ended: &'a Ended, execution: &str) -> Result<&'a Value, String> {
    match &ended.executions[execution] {
        Outcome::Succeeded(output) => Ok(output),
        other => Err(format!("{execution}: {other:?}")),
    }
}

/// Returns the output of the execution by this name, which has succeeded.
#[must_use]
pub(crate) fn output_of<'a>(ended: &'a Ended, execution: &str) -> &'a Value {
    outcome_of(ended, execution).unwrap_or_else(|other| panic!("{other}"))
}

/// Returns the output of the execution that a user has started, which has succeeded.
#[must_use]
pub(crate) fn output(ended: &Ended) -> &Value {
    output_of(ended, "by-hand")
}

/// Puts a row into a table that takes it.
pub(crate) fn put(world: &mut World, table: &str, row: &Value) {
    world.tables.put(table, row).unwrap_or_else(|error| panic!("{error:?}"));
}

/// Poisons the pools since so long ago and for another day, as the risk manager does.
pub(crate) fn poison(world: &mut World, pools: &[&str], since: SignedDuration) {
    let (at, until) = (now() - since, now() + SignedDuration::from_hours(24));
    for pool in pools {
        let number = |at: jiff::Timestamp| json!({"N": at.as_second().to_string()});
        let row = json!({
            "pool": {"S": pool}, "is_poisoned": {"BOOL": true}, "cause": {"S": "interruption"},
            "poisoned_at": number(at), "poison_expires_at": number(until), "interruptions": {"N": "1"},
        });
        put(world, POOL_RISK, &row);
        world.oracles.is_poisoned(pool, at);
    }
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

/// The stop of an execution as the last call of this action is sent.
pub(crate) fn stopped_after(scene: &Scene, action: &str) -> BTreeMap<usize, Fault> {
    [(last_call(scene, action), Fault::StoppedAfter)].into()
}

/// Returns a plan for each of these faults at each call of the reconciler that is meant, in the history of this stop. One in
/// so many of them; the seed decides which. What has ended can't be stopped again.
pub(crate) fn faults_of_recovery(
    scene: &Scene,
    stopped: &BTreeMap<usize, Fault>,
    is_meant: impl Fn(&SentCall) -> bool,
    faults: &[Fault],
    (n, seed): (usize, u64),
) -> Vec<(Plan, u64)> {
    let is_stop = |fault: &Fault| matches!(fault, Fault::StoppedBefore | Fault::StoppedAfter);
    let faults: Vec<Fault> = faults.iter().copied().filter(|fault| !is_stop(fault)).collect();
    let is_of_recovery = |call: &SentCall| call.by.starts_with("Reconciler") && is_meant(call);
    faults_beside(scene, stopped, is_of_recovery, &faults, (n, seed))
}

/// Returns a plan for each of these faults at each call that is meant, in the history of the first faults. One in so many of
/// them; the seed decides which. No read of a cluster is late.
pub(crate) fn faults_beside(
    scene: &Scene,
    first: &BTreeMap<usize, Fault>,
    is_meant: impl Fn(&SentCall) -> bool,
    faults: &[Fault],
    (n, seed): (usize, u64),
) -> Vec<(Plan, u64)> {
    let calls = play_or_tell(scene, Plan::At(first.clone())).world.chronicle.calls;
    let meant = calls.iter().enumerate().filter(|(_, call)| is_meant(call));
    let pairs = meant.flat_map(|(number, call)| faults.iter().map(move |fault| (number, call, *fault)));
    let matters = |call: &SentCall, fault: Fault| {
        let is_late = matches!(fault, Fault::Stale(_)) && call.service == Service::Kubernetes;
        fault.concerns(call.is_read) && !is_late
    };
    let pairs = sample(n, seed, pairs.filter(|(_, call, fault)| matters(call, *fault)));
    let plan =
        |(number, _, fault)| (Plan::At(first.clone().into_iter().chain([(number, fault)]).collect()), 1);
    pairs.into_iter().map(plan).collect()
}
