//! A tag is no proof. Somebody else marks instances, images and snapshots of their own with our tags, those of the swap in progress
//! among them; executions die and are stopped, so that the next step or the reconciler looks for what the swap has made.

use spot_world::acts::Act;
use spot_world::campaign::{Findings, all_that, is_full, sample};
use spot_world::fault::{Fault, Plan, Stop, Strike};
use spot_world::history::Ended;
use spot_world::machine::Outcome;
use spot_world::scene::Scene;
use spot_world::virtual_time::BEGIN;

use crate::holds::{holds, play_or_tell, scene};

/// The faults after which nobody knows what a call has made.
const FAULTS: [Fault; 6] = [
    Fault::DiesBefore,
    Fault::DiesAfter,
    Fault::StoppedBefore,
    Fault::StoppedAfter,
    Fault::RequestLost,
    Fault::AnswerLost,
];

/// Of the calls of a swap, one in so many is played without `CAMPAIGN=full`.
const MOMENTS: usize = 48;

fn group() -> Scene {
    scene("full-group-of-two")
}

fn instance() -> Scene {
    scene("lab-image")
}

/// What bears forged tags is as its owner has left it: two instances, in a LAB account with an image and a snapshot each.
fn is_left_alone(ended: &Ended) -> Result<(), String> {
    let fleet = &ended.world.fleet;
    let strangers = fleet.instances().values().filter(|one| one.is_a_strangers() && one.state.is_alive());
    let images = if ended.world.oracles.lab.is_some() { 2 } else { 0 };
    let of_theirs = fleet.own_images().images.values().filter(|image| image.name.starts_with("backup-"));
    let found = (strangers.count(), of_theirs.count());
    (found == (2, images)).then_some(()).ok_or_else(|| format!("{found:?} are left"))
}

fn are_left_alone(scene: &Scene, plans: impl Iterator<Item = Plan>) -> Findings {
    let plans: Vec<_> = plans.map(|plan| (plan, 1)).collect();
    all_that(scene, &plans, is_left_alone)
}

/// Each fault at the first call of these actions; the tags are forged before the next call.
fn survives_forgery_beside(scene: &Scene, actions: &[&str]) {
    let calls = play_or_tell(scene, Plan::none()).world.chronicle.calls;
    for action in actions {
        let first = calls.iter().position(|call| call.action == *action);
        let first = first.unwrap_or_else(|| panic!("{action} is not called"));
        let plan = |fault: Fault| {
            let forged = Strike::Act(Act::TagsAreForged);
            Plan::Random([(first, Strike::Fault(fault)), (first + 1, forged)].into())
        };
        holds(Ok(are_left_alone(scene, FAULTS.into_iter().map(plan))));
    }
}

#[test]
fn a_launch_whose_end_nobody_knows_is_found_by_its_token_alone() {
    survives_forgery_beside(&group(), &["RunInstances"]);
}

#[test]
fn an_image_and_a_twin_whose_end_nobody_knows_are_found_by_name_and_token_alone() {
    survives_forgery_beside(&instance(), &["CreateImage", "RunInstances"]);
}

/// The tags are forged in a second of the swap, and a person stops it in the next one.
fn survives_forgery_and_stop(scene: &Scene, every: usize) {
    let world = play_or_tell(scene, Plan::none()).world;
    let last = world.chronicle.calls.last().map_or(BEGIN, |call| call.at);
    let seconds = 2..=u64::try_from(last.duration_since(BEGIN).as_secs()).unwrap_or_default();
    for at in seconds.step_by(if is_full() { 7 } else { every }) {
        let scene = Scene { acts: vec![(at, Act::TagsAreForged)], ..scene.clone() };
        let stop = Stop { at: at + 1, redriven_after: None };
        holds(Ok(are_left_alone(&scene, [Plan::Stopped(stop)].into_iter())));
    }
}

#[test]
fn the_reconciler_ends_a_swap_of_a_group_beside_forged_tags() {
    survives_forgery_and_stop(&group(), 97);
}

#[test]
fn the_reconciler_ends_a_swap_of_an_instance_beside_forged_tags() {
    survives_forgery_and_stop(&instance(), 149);
}

/// Forges the tags beside one in so many calls of a swap without a fault. The execution itself comes to its end.
fn ends_beside_forgery(scene: &Scene, seed: u64) -> Findings {
    let calls = play_or_tell(scene, Plan::none()).world.chronicle.calls.len();
    let plans = (0..calls).map(|number| (Plan::ActAt(number, Act::TagsAreForged), 1));
    all_that(scene, &sample(MOMENTS, seed, plans), |ended| {
        is_left_alone(ended)?;
        let outcome = ended.executions.get("by-hand");
        let has_ended = matches!(outcome, Some(Outcome::Succeeded(_)));
        has_ended.then_some(()).ok_or_else(|| format!("the swap ended as {outcome:?}"))
    })
}

#[test]
fn swaps_come_to_their_end_beside_forged_tags() {
    holds(Ok(ends_beside_forgery(&group(), 1)));
    holds(Ok(ends_beside_forgery(&instance(), 2)));
}
