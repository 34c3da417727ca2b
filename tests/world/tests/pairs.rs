//! Pairs of faults in one history: what a second fault makes of the way back from the first.

use spot_world::acts::Act;
use spot_world::campaign::pairs;
use spot_world::fleet::GroupSpec;
use spot_world::scene::Scene;

use crate::holds::{holds, scene};

#[test]
fn a_group_of_one_survives_pairs_of_faults() {
    holds(pairs(60, &Scene::default(), 1));
}

#[test]
fn a_full_group_behind_a_load_balancer_survives_pairs_of_faults() {
    holds(pairs(24, &scene("full-group"), 2));
}

#[test]
fn a_notice_survives_pairs_of_faults() {
    let tags = [("spot-optimizer:enabled".to_owned(), "true".to_owned())].into();
    let group = GroupSpec { size: 2, spot: 2, max: 2, tags, ..GroupSpec::default() };
    let acts = vec![(10, Act::MemberIsInterrupted(0, 1))];
    holds(pairs(24, &Scene { group, is_quiet: true, acts, ..Scene::default() }, 3));
}

#[test]
fn a_node_survives_pairs_of_faults() {
    holds(pairs(12, &scene("node"), 4));
}

#[test]
fn a_stand_alone_instance_survives_pairs_of_faults() {
    holds(pairs(12, &Scene::of_instance(), 5));
}
