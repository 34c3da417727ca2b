//! A sample of histories with each open question about AWS answered the other way. `docs/to-try-on-aws.md` has the script
//! that settles each on a real account.

#![allow(clippy::panic)]

use std::collections::BTreeMap;

use jiff::SignedDuration;
use spot_world::campaign::all;
use spot_world::fault::{Fault, Plan};
use spot_world::fleet::{AwsHabits, GroupSpec};
use spot_world::history::{Ended, play};
use spot_world::machine::{DataLimit, Outcome};
use spot_world::scene::Scene;

/// Histories with a fault, for each answer.
const SAMPLE: usize = 30;
const SEED: u64 = 1;

/// A full group of one behind a load balancer: MaxSize is raised, and the old member drains.
fn scene(habits: AwsHabits) -> Scene {
    let group = GroupSpec { size: 1, max: 1, has_target_group: true, ..GroupSpec::default() };
    Scene { group, habits, ..Scene::default() }
}

/// The swap succeeds without a fault, and the promises hold with one.
fn holds(scene: &Scene) {
    let Ended { world, executions, .. } = without_a_fault(scene);
    assert!(matches!(executions["by-hand"], Outcome::Succeeded(_)), "{}", world.chronicle);
    promises_hold(scene);
}

fn without_a_fault(scene: &Scene) -> Ended {
    play(scene, Plan::none(), SEED).unwrap_or_else(|broken| panic!("{broken}"))
}

/// Plays the history without a fault and, of each call × each fault, a sample that is spread evenly.
fn promises_hold(scene: &Scene) {
    let Ended { world, .. } = without_a_fault(scene);
    let of_each = world.chronicle.calls.iter().enumerate().flat_map(|(number, call)| {
        let faults = Fault::ALL.into_iter().filter(|fault| fault.concerns(call.is_read));
        faults.map(move |fault| (Plan::At(BTreeMap::from([(number, fault)])), SEED))
    });
    let of_each: Vec<_> = of_each.collect();
    let sample = of_each.iter().step_by(of_each.len().div_ceil(SAMPLE)).cloned().collect::<Vec<_>>();
    let findings = all(scene, &sample);
    for failure in &findings.failures {
        eprintln!("{failure}");
    }
    let broken: Vec<String> =
        findings.failures.iter().map(|it| format!("{:?}: {}", it.plan, it.broken.promise)).collect();
    assert!(broken.is_empty(), "{} of {}:\n{}", broken.len(), findings.histories, broken.join("\n"));
}

#[test]
fn a_second_terminate_may_lower_desired_once_more() {
    holds(&scene(AwsHabits { second_terminate_counts_again: true, ..AwsHabits::default() }));
}

#[test]
fn a_launch_may_be_invisible_for_half_a_minute() {
    holds(&scene(AwsHabits { visible_after: SignedDuration::from_secs(30), ..AwsHabits::default() }));
}

#[test]
fn the_filter_client_token_may_take_no_wildcards() {
    holds(&scene(AwsHabits { client_token_takes_wildcards: false, ..AwsHabits::default() }));
}

#[test]
fn a_detached_instance_may_keep_the_tag_of_its_group() {
    holds(&scene(AwsHabits { detached_keeps_group_tag: true, ..AwsHabits::default() }));
}

#[test]
fn an_instance_that_dies_while_detaching_may_keep_the_tag_of_its_group() {
    holds(&scene(AwsHabits { dead_detaching_keeps_group_tag: true, ..AwsHabits::default() }));
}

/// The run fails: it lowers MaxSize while the old member leaves. The reconciler ends the swap once the member has left.
#[test]
fn a_max_size_may_have_to_cover_the_members_that_leave() {
    promises_hold(&scene(AwsHabits { max_covers_leaving: true, ..AwsHabits::default() }));
}

#[test]
fn every_page_may_have_one_item() {
    holds(&scene(AwsHabits { page_size: Some(1), ..AwsHabits::default() }));
}

#[test]
fn a_wildcard_may_catch_a_payload_that_is_too_large() {
    holds(&Scene { data_limit: DataLimit::Caught, ..scene(AwsHabits::default()) });
}
