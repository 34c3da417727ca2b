//! An action or a whole service of AWS is out for seconds, minutes or hours: it throttles, fails, or its answers are lost.
//! Everything else works on.

mod holds;

use holds::holds;
use spot_world::campaign::outages;
use spot_world::fault::Extent;
use spot_world::fleet::{GroupSpec, InstanceSpec};
use spot_world::scene::Scene;

/// Seconds: the SDK gives up, the steps give up, the execution has ended long since.
const LENGTHS: [u32; 3] = [20, 300, 3600];

/// Of all these histories, one in so many is played without `CAMPAIGN=full`.
const SHARE: usize = 101;

/// A group that serves at its MaxSize, behind a load balancer: its swap raises MaxSize, too.
fn full_group() -> Scene {
    let group = GroupSpec { size: 1, max: 1, has_target_group: true, ..GroupSpec::default() };
    Scene { group, ..Scene::default() }
}

/// A stand-alone instance with an Elastic IP, in a target group.
fn web() -> Scene {
    let lab = Some(InstanceSpec { has_address: true, target_groups: 1 });
    Scene { lab, ..Scene::default() }
}

#[test]
fn a_group_survives_an_action_that_is_out() {
    holds(outages(SHARE, &full_group(), (Extent::Action, &LENGTHS), 1));
}

#[test]
fn a_group_survives_a_service_that_is_out() {
    holds(outages(SHARE, &full_group(), (Extent::Service, &LENGTHS), 2));
}

#[test]
fn an_instance_survives_an_action_that_is_out() {
    holds(outages(SHARE, &web(), (Extent::Action, &LENGTHS), 3));
}

#[test]
fn an_instance_survives_a_service_that_is_out() {
    holds(outages(SHARE, &web(), (Extent::Service, &LENGTHS), 4));
}
