//! A policy scales out in the second in which an answer to a notice sets desired: 2 → 4 beside 2 → 3.

use spot_world::acts::Act;
use spot_world::campaign::{all, spread};
use spot_world::fault::{Fault, Plan, Strike};
use spot_world::fleet::{AwsHabits, SetBesidePolicy};
use spot_world::history::Ended;
use spot_world::scene::Scene;

use super::{FEW, SEED, histories};
use crate::holds::{self, last_call, play_or_tell};

const SCALES_OUT: Act = Act::PolicyScales(2);

/// A notice for one of two Spot members, in a group with room for the policy.
fn scene(set_desired_beside_policy: SetBesidePolicy) -> Scene {
    let habits = AwsHabits { set_desired_beside_policy, ..AwsHabits::default() };
    let mut scene = Scene { habits, ..holds::scene("notice-with-room") };
    scene.group.max = 5;
    scene
}

/// Plays the scale-out beside the call. Returns desired at rest, how many serve, and if a person was told of desired.
fn beside_the_call(scene: &Scene) -> (u32, usize, bool) {
    let ended = play_or_tell(scene, Plan::ActAt(last_call(scene, "SetDesiredCapacity"), SCALES_OUT));
    let Ended { world, .. } = &ended;
    let desired = world.fleet.group("web").map_or(0, |group| group.desired);
    let mut messages = world.mailbox.messages.iter();
    let is_told = messages.any(|told| told.message.contains("desired capacity is"));
    (desired, world.fleet.serving("web").len(), is_told)
}

/// The promises hold with a fault besides, after the call.
fn survives_faults(scene: &Scene) {
    let first = last_call(scene, "SetDesiredCapacity");
    let calls = play_or_tell(scene, Plan::ActAt(first, SCALES_OUT)).world.chronicle.calls;
    let later = calls.iter().enumerate().skip(first + 1);
    let plans = later.flat_map(|(number, call)| {
        let faults = Fault::ALL.into_iter().filter(move |fault| fault.concerns(call.is_read));
        faults.map(move |fault| {
            let strikes = [(first, Strike::Act(SCALES_OUT)), (number, Strike::Fault(fault))];
            (Plan::Random(strikes.into()), SEED)
        })
    });
    let plans: Vec<_> = plans.collect();
    let sample = spread(&plans, histories(FEW), &mut fastrand::Rng::with_seed(SEED));
    holds::holds(Ok(all(scene, &sample)));
}

/// The call says how many, and not how many more: the answer takes the number for its own, and lowers it again. Nobody can see
/// what the policy has asked for.
#[test]
fn a_scale_out_that_set_desired_capacity_overwrites_is_lost() {
    let scene = scene(SetBesidePolicy::Overwrites);
    assert_eq!(beside_the_call(&scene), (2, 2, false));
    survives_faults(&scene);
}

/// The number is not what the answer has asked for: it lowers nothing, and a person is told.
#[test]
fn a_scale_out_that_stands_beside_set_desired_capacity_is_kept_and_a_person_is_told() {
    let scene = scene(SetBesidePolicy::Yields);
    assert_eq!(beside_the_call(&scene), (4, 4, true));
    survives_faults(&scene);
}

/// The repeated step sees the policy's number, and asks for nothing.
#[test]
fn a_scale_out_for_which_set_desired_capacity_is_refused_is_kept() {
    let scene = scene(SetBesidePolicy::IsRefused);
    assert_eq!(beside_the_call(&scene), (4, 4, false));
    survives_faults(&scene);
}
