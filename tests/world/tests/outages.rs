//! An action or a whole service of AWS is out for seconds, minutes or an hour: it throttles, fails, or its answers are lost.
//! Everything else works on.

use spot_world::campaign::{all_that, outages};
use spot_world::fault::{Extent, Fault, Outage, Plan};
use spot_world::history::Ended;
use spot_world::scene::Scene;

use crate::holds::{CHANGES_OF_A_FULL_GROUP, holds, play_or_tell, scene};

/// Seconds: the SDK gives up, the steps give up, the execution has ended long since.
const LENGTHS: [u32; 3] = [20, 300, 3600];

/// Of all these histories, one in so many is played without `CAMPAIGN=full`.
const SHARE: usize = 211;

/// A group that serves at its MaxSize, behind a load balancer: its swap raises MaxSize, too.
fn full_group() -> Scene {
    scene("full-group")
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
    holds(outages(SHARE, &Scene::of_instance(), (Extent::Action, &LENGTHS), 3));
}

#[test]
fn an_instance_survives_a_service_that_is_out() {
    holds(outages(SHARE, &Scene::of_instance(), (Extent::Service, &LENGTHS), 4));
}

/// The group has the sizes and processes that its owner gave it, and serves in full.
fn is_the_owners(ended: &Ended) -> Result<(), String> {
    let (fleet, owners) = (&ended.world.fleet, full_group().group);
    let group = fleet.group(&owners.name).ok_or("the group is gone")?;
    let is_sized = (group.min, group.desired, group.max) == (owners.min, owners.size, owners.max);
    let serves = fleet.serving(&owners.name).len() == owners.size as usize;
    (is_sized && group.suspended.is_empty() && serves).then_some(()).ok_or_else(|| format!("{group:?}"))
}

/// Each call took effect and was answered with an error: a second newcomer would be a second launch.
fn launched_one(ended: &Ended) -> Result<(), String> {
    let newcomers = ended.world.fleet.instances().values().filter(|it| it.is_spot()).count();
    (newcomers == 1).then_some(()).ok_or_else(|| format!("{newcomers} newcomers"))
}

#[test]
fn a_change_that_fails_for_an_hour_leaves_the_group_as_its_owner_had_it() {
    let calls = play_or_tell(&full_group(), Plan::none()).world.chronicle.calls;
    let first = |action: &str| calls.iter().position(|call| call.action == action);
    for (fault, demand) in [
        (Fault::RequestLost, is_the_owners as fn(&Ended) -> Result<(), String>),
        (Fault::ErrorAfterEffect, |ended| is_the_owners(ended).and_then(|()| launched_one(ended))),
    ] {
        let plans = CHANGES_OF_A_FULL_GROUP.map(|action| {
            let from = first(action).unwrap_or_else(|| panic!("{action} is not called"));
            (Plan::Outage(Outage { from, extent: Extent::Action, fault, seconds: 3600 }), 1)
        });
        holds(Ok(all_that(&full_group(), &plans, demand)));
    }
}
