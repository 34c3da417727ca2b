//! What must hold after a changed input.

use std::collections::BTreeMap;
use std::env;

use spot_world::arrival::{Arrival, Handled};
use spot_world::campaign::{is_full, side_by_side, spread};
use spot_world::fault::Plan;
use spot_world::mutation::{Change, Mutation};
use spot_world::scene::Scene;

use crate::holds::play_or_tell;

/// The names of the errors that are about the input itself.
const OF_INPUT: [&str; 5] = ["InvalidInput", "InvalidEvent", "InvalidSettings", "AccountUnknown", "Protocol"];

/// The names of the errors by which a step ends that can read its payload: tables, AWS or a cluster contradict what it says. The
/// step may have changed something before.
const OF_WORLD: [&str; 10] = [
    "GroupNotFound",
    "GroupBusy",
    "ClusterBusy",
    "InstanceBusy",
    "GroupNotSupported",
    "Transient",
    "NotAuthorized",
    "LeaseLost",
    "Stuck",
    "Rejected",
];

/// Returns the first input of each function and phase in the history without a fault.
pub(crate) fn arrivals(scene: &Scene) -> Vec<Arrival> {
    let recorded = Scene { keeps_arrivals: true, ..scene.clone() };
    let mut firsts = BTreeMap::new();
    for arrival in play_or_tell(&recorded, Plan::none()).arrivals {
        firsts.entry(arrival.label()).or_insert(arrival);
    }
    firsts.into_values().collect()
}

/// Returns true for the input of a step that another step has written.
pub(crate) fn is_of_step(arrival: &Arrival) -> bool {
    arrival.event.get("work").is_some()
}

/// Returns so many of these, spread evenly; all of them in a full campaign. `PROPTEST_RNG_SEED` decides which.
pub(crate) fn share<T: Clone>(all: &[T], most: usize) -> Vec<T> {
    if is_full() {
        return all.to_vec();
    }
    let seed = env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    spread(all, most, &mut fastrand::Rng::with_seed(seed))
}

/// Gives the functions their inputs, which they take, and then so many changed ones.
pub(crate) fn judge(scene: &Scene, arrivals: &[Arrival], most: usize) {
    assert!(!arrivals.is_empty(), "no input is changed");
    for arrival in arrivals {
        let handled = handled(scene, arrival, &arrival.event).unwrap_or_else(|broken| panic!("{broken}"));
        assert_eq!(handled.refusal(), None, "{}: unchanged", arrival.label());
    }
    let of = |(number, arrival): (usize, &Arrival)| -> Vec<(usize, Mutation)> {
        Mutation::each(&arrival.event).into_iter().map(|mutation| (number, mutation)).collect()
    };
    let cases = share(&arrivals.iter().enumerate().flat_map(of).collect::<Vec<_>>(), most);
    let broken = side_by_side(&cases, |(number, mutation)| {
        let arrival = &arrivals[*number];
        let broken = changed(scene, arrival, mutation).err()?;
        Some(format!("{} {mutation:?}: {broken}", arrival.label()))
    });
    let broken: Vec<String> = broken.into_iter().flatten().collect();
    assert!(!cases.is_empty(), "nothing was changed");
    assert!(broken.is_empty(), "{} of {}:\n{}", broken.len(), cases.len(), broken.join("\n"));
}

/// Gives the function one changed input.
fn changed(scene: &Scene, arrival: &Arrival, mutation: &Mutation) -> Result<(), String> {
    let event = mutation.of(&arrival.event).ok_or("nothing is changed")?;
    // The world has one region: what is done in another one is not played. A panic is one anywhere.
    let is_elsewhere = mutation.change == Change::OtherRegion;
    let handled =
        if is_elsewhere { answered(scene, arrival, &event)? } else { handled(scene, arrival, &event)? };
    let Some(refusal) = handled.refusal() else { return Ok(()) };
    let is_one_of = |names: &[&str]| names.iter().any(|name| refusal.starts_with(name));
    if is_elsewhere && handled.world.oracles.broken.is_some() && !is_one_of(&OF_INPUT) {
        return Ok(());
    }
    // A field that is missing, misspelt or null may have its default. A value of another type or shape can't be read.
    let can_be_read = !matches!(mutation.change, Change::OtherType | Change::InArray);
    if is_of_step(arrival) && can_be_read && is_one_of(&OF_WORLD) {
        return Ok(());
    }
    if !mutation.is_named_in(&refusal) {
        return Err(format!("the error names no field: {refusal}"));
    }
    unwritten(&handled).map_err(|changes| format!("{changes}, and then refused: {refusal}"))
}

/// Gives the function an input. It must not panic, and no promise may be broken.
pub(crate) fn handled(
    scene: &Scene,
    arrival: &Arrival,
    event: &serde_json::Value,
) -> Result<Handled, String> {
    let handled = answered(scene, arrival, event)?;
    match &handled.world.oracles.broken {
        Some(promise) => Err(format!("{promise}\n{}", handled.world.chronicle)),
        None => Ok(handled),
    }
}

/// Gives the function an input. It must not panic.
fn answered(scene: &Scene, arrival: &Arrival, event: &serde_json::Value) -> Result<Handled, String> {
    let handled = arrival.handles(scene, event.clone())?;
    if handled.has_panicked { Err("the handler has panicked".to_owned()) } else { Ok(handled) }
}

/// Asks that nothing was written.
pub(crate) fn unwritten(handled: &Handled) -> Result<(), String> {
    let changes = handled.changes();
    if changes.is_empty() { Ok(()) } else { Err(changes.join(", ")) }
}
