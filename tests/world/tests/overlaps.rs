//! Reconcilers beside each other on one row: EventBridge delivers the end of an execution and each sweep twice, and the schedule
//! fires as the execution's end is taken up.

use std::collections::{BTreeMap, BTreeSet};

use spot_world::campaign::{Findings, all, is_full};
use spot_world::chronicle::SentCall;
use spot_world::event_bridge::Wakes;
use spot_world::fault::{Fault, Plan};
use spot_world::history::Ended;
use spot_world::machine::Outcome;
use spot_world::oracles::SWAPS;
use spot_world::scene::Scene;
use spot_world::scenes::named;
use spot_world::wire::Service;

use crate::holds::{faults_of_recovery, holds, play_or_tell, stopped_after};

/// Further copies at once, as the first has taken the row over, and after 2 and 20 seconds, in milliseconds.
static COPIES: [u64; 4] = [7, 250, 2_007, 20_007];
/// The third try for the end of an execution begins 181 seconds after it, once the last step must have ended. A run of the
/// schedule begins a moment earlier.
const SWEEP: u64 = 180_013;
/// Of the faults at the reconcilers' calls, one in so many is played without `CAMPAIGN=full`.
const SHARE: usize = 307;

/// Scenes, and the calls after which their executions are stopped.
const GROUP: (&str, [&str; 2]) = ("full-group", ["AttachInstances", "DetachInstances"]);
const NODE: (&str, [&str; 2]) = ("node", ["EvictPods", "DetachInstances"]);
const INSTANCE: (&str, [&str; 2]) = ("lab", ["AssociateAddress", "DeregisterTargets"]);

/// The changes that move a member.
const CHANGES_OF_A_GROUP: [&str; 3] =
    ["AttachInstances", "DetachInstances", "TerminateInstanceInAutoScalingGroup"];
/// The changes that move the address, and those that end one of both instances.
const CHANGES_OF_AN_INSTANCE: [&str; 3] = ["AssociateAddress", "StopInstances", "TerminateInstances"];

/// One reconciler: its first and its last call, its writes to rows of swaps, and its changes of EC2 and groups.
#[derive(Debug, Default)]
struct Reconciler {
    first: usize,
    last: usize,
    writes: usize,
    changes: Vec<String>,
}

impl Reconciler {
    fn is_beside(&self, other: &Self) -> bool {
        self.first < other.last && other.first < self.last
    }
}

/// Returns the reconcilers that have written to a row, or tried to.
fn at_work(ended: &Ended) -> Vec<Reconciler> {
    let mut all: BTreeMap<u32, Reconciler> = BTreeMap::new();
    let calls = ended.world.chronicle.calls.iter().enumerate();
    for (number, call) in calls.filter(|(_, call)| call.by.starts_with("Reconciler")) {
        let Some(invocation) = call.invocation else { continue };
        let one = all.entry(invocation).or_insert(Reconciler { first: number, ..Reconciler::default() });
        one.last = number;
        one.writes += usize::from(call.action == "UpdateItem");
        if is_change_of_capacity(call) {
            one.changes.push(call.action.clone());
        }
    }
    all.into_values().filter(|one| one.writes > 0).collect()
}

fn is_change_of_capacity(call: &SentCall) -> bool {
    let services = [Service::Ec2, Service::AutoScaling, Service::ElasticLoadBalancing];
    !call.is_read && services.contains(&call.service)
}

/// Returns the pairs of reconcilers whose calls interleave, if one of both has changed something.
fn contests(reconcilers: &[Reconciler]) -> Vec<(&Reconciler, &Reconciler)> {
    let pairs = reconcilers
        .iter()
        .enumerate()
        .flat_map(|(n, one)| reconcilers.iter().skip(n + 1).map(move |other| (one, other)));
    let is_contest = |(one, other): &(&Reconciler, &Reconciler)| {
        one.is_beside(other) && !(one.changes.is_empty() && other.changes.is_empty())
    };
    pairs.filter(is_contest).collect()
}

fn scene(name: &str, copies: &[u64], sweeps: &[u64]) -> Scene {
    let scene = named(name).unwrap_or_else(|| panic!("{name} is no scene"));
    Scene { wakes: Wakes { copies: copies.to_vec(), sweeps: sweeps.to_vec() }, ..scene }
}

fn play_stopped(scene: &Scene, action: &str) -> Ended {
    let ended = play_or_tell(scene, Plan::At(stopped_after(scene, action)));
    assert_eq!(ended.executions["by-hand"], Outcome::Aborted);
    ended
}

/// What is left at the end: Spot instances, the sizes and the serving members of the group, and swaps in progress.
type Left = (usize, Option<(u32, u32, u32)>, usize, usize);

fn left(ended: &Ended) -> Left {
    let fleet = &ended.world.fleet;
    let spot = fleet.instances().values().filter(|it| it.is_spot() && it.state.is_alive()).count();
    let sizes = fleet.group("web").map(|group| (group.min, group.desired, group.max));
    let journals = ended.world.tables.items(SWAPS).filter(|row| row.contains_key("journal")).count();
    (spot, sizes, fleet.serving("web").len(), journals)
}

/// Of two reconcilers that get their events together one acts, whatever the other has read; and the end is that of one alone.
fn one_of_two_acts((name, actions): (&str, [&str; 2])) {
    for action in actions {
        let ended = play_stopped(&scene(name, &COPIES[..1], &[]), action);
        let reconcilers = at_work(&ended);
        let contests = contests(&reconcilers);
        assert!(!contests.is_empty(), "{action}: none are at work at once:\n{}", ended.world.chronicle);
        for (one, other) in contests {
            let acts_alone = one.changes.is_empty() || other.changes.is_empty();
            assert!(acts_alone, "{action}: {one:?} and {other:?}\n{}", ended.world.chronicle);
        }
        assert_eq!(left(&ended), left(&play_stopped(&scene(name, &[], &[]), action)), "{action}");
    }
}

/// The third copy of an event finds the row in the hands of the reconciler that the first has woken, and at work. None of these
/// changes is made twice, and at least one of them is made.
fn three_at_once_end_as_one((name, actions): (&str, [&str; 2]), once: &[&str]) {
    let mut made = BTreeSet::new();
    for action in actions {
        let ended = play_stopped(&scene(name, &COPIES[..2], &[SWEEP]), action);
        let reconcilers = at_work(&ended);
        let beside = |one: &Reconciler| reconcilers.iter().filter(|other| one.is_beside(other)).count();
        // Each is beside itself, too.
        let most = reconcilers.iter().map(beside).max();
        assert!(most >= Some(3), "{action}: {most:?} at once:\n{}", ended.world.chronicle);
        for change in once {
            let is_made = |call: &&SentCall| {
                let is_done = call.effect.is_some_and(|(_, status)| status == 200);
                call.by.starts_with("Reconciler") && call.action == *change && is_done
            };
            let times = ended.world.chronicle.calls.iter().filter(is_made).count();
            assert!(times <= 1, "{action}: {change} {times} times:\n{}", ended.world.chronicle);
            made.extend((times > 0).then_some(*change));
        }
        assert_eq!(left(&ended), left(&play_stopped(&scene(name, &[], &[]), action)), "{action}");
    }
    assert!(!made.is_empty(), "no reconciler makes any of {once:?}");
}

/// Plays each fault at each call of the reconcilers: one in so many without a full campaign. The seed decides which.
fn survives_faults((name, actions): (&str, [&str; 2]), seed: u64) {
    let together: [(&[u64], &[u64]); 1] = [(&COPIES[..2], &[SWEEP])];
    let apart: [(&[u64], &[u64]); 4] =
        [(&COPIES[..1], &[]), (&COPIES[2..3], &[]), (&COPIES[3..], &[]), (&COPIES[..1], &[SWEEP])];
    let apart = if is_full() { &apart[..] } else { &[] };
    for action in actions {
        for (copies, sweeps) in together.iter().chain(apart) {
            holds(Ok(faults_of_reconcilers(&scene(name, copies, sweeps), action, seed)));
        }
    }
}

fn faults_of_reconcilers(scene: &Scene, action: &str, seed: u64) -> Findings {
    let stopped = stopped_after(scene, action);
    all(scene, &faults_of_recovery(scene, &stopped, |_| true, &Fault::ALL, (SHARE, seed)))
}

#[test]
fn one_of_two_reconcilers_ends_the_stopped_swap_of_a_group() {
    one_of_two_acts(GROUP);
}

#[test]
fn one_of_two_reconcilers_ends_the_stopped_swap_of_a_node() {
    one_of_two_acts(NODE);
}

#[test]
fn one_of_two_reconcilers_ends_the_stopped_swap_of_an_instance() {
    one_of_two_acts(INSTANCE);
}

#[test]
fn three_reconcilers_at_once_end_the_stopped_swap_of_a_group_once() {
    three_at_once_end_as_one(GROUP, &CHANGES_OF_A_GROUP);
}

#[test]
fn three_reconcilers_at_once_end_the_stopped_swap_of_an_instance_once() {
    three_at_once_end_as_one(INSTANCE, &CHANGES_OF_AN_INSTANCE);
}

#[test]
fn overlapping_reconcilers_of_a_group_survive_faults_at_their_calls() {
    survives_faults(GROUP, 1);
}

#[test]
fn overlapping_reconcilers_of_a_node_survive_faults_at_their_calls() {
    survives_faults(NODE, 2);
}

#[test]
fn overlapping_reconcilers_of_an_instance_survive_faults_at_their_calls() {
    survives_faults(INSTANCE, 3);
}
