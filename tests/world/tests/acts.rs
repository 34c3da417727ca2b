//! A swap beside the acts of others, one act at a time.

use jiff::SignedDuration;
use spot_world::acts::Act;
use spot_world::campaign::{all, beside_calls};
use spot_world::fault::Plan;
use spot_world::fleet::GroupSpec;
use spot_world::machine::Outcome;
use spot_world::scene::Scene;

use crate::holds::{holds, last_call, output, play_or_tell};

/// Plays each act beside calls of the swap of a group of two: with room, and full behind a load balancer.
fn take_place_in_a_swap(acts: &[Act]) {
    take_place_in(&with_room(), acts);
    take_place_in(&full_behind_a_load_balancer(), acts);
}

fn take_place_in(scene: &Scene, acts: &[Act]) {
    for (seed, act) in (1..).zip(acts) {
        holds(beside_calls(scene, *act, seed));
    }
}

fn with_room() -> Scene {
    Scene { group: GroupSpec { size: 2, max: 4, ..GroupSpec::default() }, ..Scene::default() }
}

fn full_behind_a_load_balancer() -> Scene {
    let group = GroupSpec { size: 2, max: 2, has_target_group: true, ..GroupSpec::default() };
    Scene { group, ..Scene::default() }
}

#[test]
fn a_policy_may_scale_a_group_in_its_swap() {
    take_place_in_a_swap(&[Act::PolicyScales(1), Act::PolicyScales(-1)]);
}

#[test]
fn an_owner_may_set_the_sizes_of_a_group_in_its_swap() {
    take_place_in_a_swap(&[
        Act::OwnerSetsDesired(1),
        Act::OwnerSetsDesired(3),
        Act::OwnerSetsMax(2),
        Act::OwnerSetsMax(5),
        Act::OwnerSetsDesired(2),
    ]);
}

/// AWS has no decrement with a condition: what an owner sets between the last look and our call falls by one. The answer shows
/// it, and the report tells.
#[test]
fn a_size_that_an_owner_sets_in_the_second_of_a_detach_is_remarked() {
    let detach = last_call(&with_room(), "DetachInstances");
    for act in [Act::OwnerSetsMax(2), Act::OwnerSetsDesired(2)] {
        let ended = play_or_tell(&with_room(), Plan::ActAt(detach, act));
        let report = output(&ended).to_string();
        assert!(report.contains("desired fell from 2 to 1"), "{act:?}: {report}");
    }
}

/// It keeps the room for two hours. The execution ends as `Stuck` before, and the reconciler sets MaxSize after.
#[test]
fn a_policy_that_takes_the_room_that_we_made_keeps_it_until_it_scales_in() {
    let scene = full_behind_a_load_balancer();
    let detach = last_call(&scene, "DetachInstances");
    let ended = play_or_tell(&scene, Plan::ActAt(detach + 1, Act::PolicyScales(1)));
    let is_stuck = |error: &str, cause: &str| error == "Stuck" && cause.contains("MaxSize stays raised");
    let end = &ended.executions["by-hand"];
    assert!(
        matches!(end, Outcome::Failed { error: Some(error), cause: Some(cause) } if is_stuck(error, cause)),
        "{end:?}"
    );
    let calls = &ended.world.chronicle.calls;
    let since = calls[detach + 1].at;
    let effects = calls.iter().filter(|call| call.action == "UpdateAutoScalingGroup");
    let effects = effects.filter_map(|call| call.effect).filter(|(_, status)| *status == 200);
    let after: Vec<_> =
        effects.map(|(at, _)| at.duration_since(since)).filter(|it| it.is_positive()).collect();
    assert!(!after.is_empty(), "MaxSize stays raised:\n{}", ended.world.chronicle);
    assert!(after.iter().all(|at| *at >= SignedDuration::from_hours(2)), "{after:?}");
    let group = ended.world.fleet.group("web").expect("the group is there");
    assert_eq!((group.desired, group.max), (2, 2));
}

#[test]
fn an_owner_may_opt_out_protect_detach_and_suspend_during_a_swap() {
    let suspends = ["AZRebalance", "Launch", "Terminate"].map(Act::OwnerSuspends);
    take_place_in_a_swap(&[
        Act::OwnerOptsOut,
        Act::OwnerProtects(0),
        Act::OwnerProtects(2),
        Act::OwnerDetaches(0),
    ]);
    take_place_in_a_swap(&suspends);
}

#[test]
fn a_member_or_the_newcomer_may_die_in_a_swap() {
    take_place_in_a_swap(&[Act::MemberDies(0), Act::MemberDies(1), Act::NewcomerDies]);
}

const DOUBTS: [Act; 3] =
    [Act::NewcomersPoolIsPoisoned, Act::NewcomerIsInterrupted(1), Act::NewcomerIsInterrupted(2)];

#[test]
fn the_newcomer_s_pool_may_be_poisoned_and_its_notice_may_come() {
    take_place_in(&with_room(), &DOUBTS);
}

#[test]
fn a_newcomer_in_doubt_serves_until_the_old_instance_is_healthy_again() {
    take_place_in(&full_behind_a_load_balancer(), &DOUBTS);
}

#[test]
fn zones_capacity_and_targets_may_be_out_of_order_during_a_swap() {
    take_place_in_a_swap(&[
        Act::GroupRebalances,
        Act::CapacityIsShort(0),
        Act::TargetTurnsUnhealthy(0),
        Act::TargetTurnsUnhealthy(2),
    ]);
}

/// The group launches another in its place, which is InService half a minute before the target group finds it healthy. The
/// old instance stays until then.
#[test]
fn an_owner_may_detach_a_member_while_the_newcomer_comes_into_service() {
    let scene = full_behind_a_load_balancer();
    let calls = play_or_tell(&scene, Plan::none()).world.chronicle.calls;
    let attach = calls.iter().position(|call| call.by.ends_with(" Attach")).expect("a newcomer is attached");
    let beside = (attach - 5..attach + 5).map(|call| (Plan::ActAt(call, Act::OwnerDetaches(1)), 1));
    holds(Ok(all(&scene, &beside.collect::<Vec<_>>())));
}
