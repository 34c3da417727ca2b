//! A person stops the executions at any second, in a step or between two, and may redrive them at any time after.

use spot_world::campaign::{all, sample};
use spot_world::fault::{Plan, Stop};
use spot_world::machine::Outcome;
use spot_world::scene::Scene;

use crate::holds::{holds, play_or_tell, scene, seconds_of_swap};

/// While the last step may be at work, while the reconciler is, and long after it has ended the swap.
const REDRIVEN_AFTER: [u64; 4] = [5, 100, 400, 1500];

/// Plays a stop in one of so many seconds of the swap, with one of the redrives or none: each in its turn. A full campaign plays
/// each second with each. The seed decides which.
fn survives_stops(scene: &Scene, step: usize, seed: u64) {
    let seconds = seconds_of_swap(scene);
    let redrives: Vec<_> = [None].into_iter().chain(REDRIVEN_AFTER.map(Some)).collect();
    let stops = seconds.flat_map(|at| redrives.iter().map(move |after| Stop { at, redriven_after: *after }));
    // A step that is no multiple of their number takes each redrive in its turn.
    let stops = sample(step, seed, stops).into_iter();
    let plans: Vec<_> = stops.map(|stop| (Plan::Stopped(stop), 1)).collect();
    holds(Ok(all(scene, &plans)));
}

#[test]
fn a_swap_of_a_group_survives_a_stop_and_a_redrive() {
    survives_stops(&scene("full-group-of-two"), 101, 1);
}

#[test]
fn a_swap_through_a_hook_survives_a_stop_and_a_redrive() {
    survives_stops(&scene("group-with-hook"), 101, 2);
}

#[test]
fn a_swap_of_a_node_survives_a_stop_and_a_redrive() {
    survives_stops(&scene("node"), 201, 3);
}

#[test]
fn a_swap_of_an_instance_survives_a_stop_and_a_redrive() {
    survives_stops(&Scene::of_instance(), 201, 4);
}

/// The swap goes on where it was stopped.
#[test]
fn a_swap_that_is_redriven_at_once_ends_on_spot() {
    let stop = Stop { at: 60, redriven_after: Some(5) };
    let ended = play_or_tell(&Scene::default(), Plan::Stopped(stop));
    assert!(matches!(ended.executions["by-hand"], Outcome::Succeeded(_)), "{:?}", ended.executions);
    assert!(ended.world.is_settled_on_spot(), "{}", ended.world.chronicle);
}
