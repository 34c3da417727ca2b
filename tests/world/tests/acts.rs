//! A swap beside the acts of others, one at a time, every few seconds of it.

#![allow(clippy::panic)]

mod holds;

use holds::holds;
use spot_world::acts::Act;
use spot_world::campaign::each_moment;
use spot_world::fleet::GroupSpec;
use spot_world::scene::Scene;

/// Plays an act at some moments of the swap of a group of two: with room, and full behind a load balancer.
fn at_each_moment(acts: &[Act]) {
    for (max, has_target_group) in [(4, false), (2, true)] {
        let group = GroupSpec { size: 2, max, has_target_group, ..GroupSpec::default() };
        let scene = Scene { group, ..Scene::default() };
        for act in acts {
            holds(each_moment(&scene, *act, 1));
        }
    }
}

#[test]
fn a_policy_may_scale_a_group_in_its_swap() {
    at_each_moment(&[Act::PolicyScales(1), Act::PolicyScales(-1)]);
}

#[test]
fn an_owner_may_set_the_sizes_of_a_group_in_its_swap() {
    at_each_moment(&[
        Act::OwnerSetsDesired(1),
        Act::OwnerSetsDesired(3),
        Act::OwnerSetsMax(2),
        Act::OwnerSetsMax(5),
    ]);
}

#[test]
fn an_owner_may_opt_out_protect_detach_and_suspend_during_a_swap() {
    let suspends = ["AZRebalance", "Launch", "Terminate"].map(Act::OwnerSuspends);
    at_each_moment(&[Act::OwnerOptsOut, Act::OwnerProtects(0), Act::OwnerProtects(2), Act::OwnerDetaches(0)]);
    at_each_moment(&suspends);
}

#[test]
fn a_member_or_the_newcomer_may_die_in_a_swap() {
    at_each_moment(&[Act::MemberDies(0), Act::MemberDies(1), Act::NewcomerDies]);
}

#[test]
fn the_newcomer_s_pool_may_be_poisoned_and_its_notice_may_come() {
    at_each_moment(&[
        Act::NewcomersPoolIsPoisoned,
        Act::NewcomerIsInterrupted(1),
        Act::NewcomerIsInterrupted(2),
    ]);
}

#[test]
fn zones_capacity_and_targets_may_be_out_of_order_during_a_swap() {
    at_each_moment(&[
        Act::GroupRebalances,
        Act::CapacityIsShort(0),
        Act::TargetTurnsUnhealthy(0),
        Act::TargetTurnsUnhealthy(2),
    ]);
}
