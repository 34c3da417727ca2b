//! The promises can be broken.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::fault::Plan;
use crate::fleet::{GroupSpec, SetBesidePolicy};
use crate::scene::Scene;
use crate::virtual_time::{self, BEGIN};
use crate::world::World;

const SENT: Timestamp = BEGIN;

/// A group whose members a swap replaces.
fn world_of(size: u32) -> World {
    world_with(GroupSpec { size, max: size, ..GroupSpec::default() })
}

fn world_with(group: GroupSpec) -> World {
    let mut world = Scene { group, ..Scene::default() }.world(Plan::none());
    world.oracles.provenance.replaced.extend(world.fleet.instances().keys().cloned());
    world
}

fn call(service: &str, action: &str, parameters: &[(&str, &str)]) -> ApiCall {
    let body = parameters
        .iter()
        .fold(format!("Action={action}"), |body, (name, value)| format!("{body}&{name}={value}"));
    ApiCall::parse(service, "us-east-1", None, body.as_bytes()).unwrap()
}

/// Carries a call out, sent at the beginning of the history, and returns the promise that it breaks.
fn breaks(world: &mut World, call: &ApiCall) -> Option<String> {
    breaks_by("ClusterOptimizer", world, call)
}

/// Carries a call of this function out, and returns the promise that it breaks.
fn breaks_by(by: &str, world: &mut World, call: &ApiCall) -> Option<String> {
    let before = world.fleet.clone();
    let answer = world.fleet.carry_out(call, SENT);
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = Seen { fleet: &world.fleet, tables: &world.tables, mailbox: &world.mailbox };
    world.oracles.after_call(call, by, &answer, SENT, &before, seen);
    world.oracles.broken.clone()
}

fn detach(world: &World) -> ApiCall {
    let id = world.fleet.serving("web").first().map(|id| (*id).to_owned()).unwrap();
    let parameters = [
        ("AutoScalingGroupName", "web"),
        ("InstanceIds.member.1", &id),
        ("ShouldDecrementDesiredCapacity", "true"),
    ];
    call("autoscaling", "DetachInstances", &parameters)
}

fn launch() -> ApiCall {
    let parameters = [
        ("InstanceMarketOptions.MarketType", "spot"),
        ("InstanceType", "m5.large"),
        ("ImageId", "ami-1"),
        ("ClientToken", "i-00000000000000002-1795000000000-0"),
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "ManagedBy"),
        ("TagSpecification.1.Tag.1.Value", "SpotOptimizer"),
        ("TagSpecification.1.Tag.2.Key", "spot-optimizer:swap"),
        ("TagSpecification.1.Tag.2.Value", "i-00000000000000002-1795000000000"),
        ("SubnetId", "subnet-0a000001"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
    ];
    call("ec2", "RunInstances", &parameters)
}

#[test]
fn a_call_that_takes_a_member_breaks_a_promise() {
    let mut world = world_of(2);
    let detach = detach(&world);
    assert_eq!(
        breaks(&mut world, &detach).unwrap(),
        "DetachInstances left 1 of 2 serving members of web; 2 must, 0 died or were taken just before"
    );
}

#[test]
fn a_call_that_takes_what_no_swap_is_about_breaks_a_promise_whatever_its_tags_say() {
    let mut world = world_of(1);
    world.tags_are_forged();
    let stranger = world.fleet.instances().values().find(|instance| instance.is_a_strangers());
    let id = stranger.map(|stranger| stranger.id.clone()).unwrap();
    let terminate = call("ec2", "TerminateInstances", &[("InstanceId.1", id.as_str())]);
    assert!(breaks(&mut world, &terminate).unwrap().contains("neither launched nor replaced"));
}

/// An answer has raised desired, and its group has launched one more.
#[test]
fn only_those_who_end_an_answer_take_its_extra_member() {
    let mut world = world_with(GroupSpec { max: 2, ..GroupSpec::default() });
    let raise = [("AutoScalingGroupName", "web"), ("DesiredCapacity", "2"), ("HonorCooldown", "false")];
    let raise = call("autoscaling", "SetDesiredCapacity", &raise);
    assert_eq!(breaks_by("InterruptionResponder Replace", &mut world, &raise), None);
    world.fleet.group_acts("web", 0, SENT);
    world.fleet.pass(SENT + SignedDuration::from_mins(5));
    let extra = world.fleet.instances().keys().next_back().cloned().unwrap();
    assert!(world.fleet.serving("web").contains(&extra.as_str()));
    let parameters = [("InstanceId", extra.as_str()), ("ShouldDecrementDesiredCapacity", "true")];
    let leaves = call("autoscaling", "TerminateInstanceInAutoScalingGroup", &parameters);
    let ends = call("ec2", "TerminateInstances", &[("InstanceId.1", extra.as_str())]);
    let cases = [
        ("InterruptionResponder Release", &leaves, false),
        ("Reconciler event", &leaves, false),
        ("ClusterOptimizer RetireOld", &leaves, true),
        ("Reconciler event", &ends, true),
    ];
    for (by, call, is_broken) in cases {
        let told = breaks_by(by, &mut world.clone(), call).unwrap_or_default();
        assert_eq!(told.contains("neither launched nor replaced"), is_broken, "{by}: {told}");
    }
}

#[test]
fn a_call_after_the_owner_has_asked_for_fewer_breaks_none() {
    let mut world = world_of(2);
    world.oracles.owner_asks("web", false, |wish| wish.desired = 1);
    let detach = detach(&world);
    assert_eq!(breaks(&mut world, &detach), None);
}

#[test]
fn a_member_that_dies_is_excused_and_a_second_one_that_we_take_is_not() {
    let mut world = world_of(3);
    let id = world.fleet.serving("web").last().map(|id| (*id).to_owned()).unwrap();
    world.fleet.instance_dies(&id, SENT);
    world.passes();
    assert_eq!(world.oracles.broken, None);
    let detach = detach(&world);
    assert!(breaks(&mut world, &detach).unwrap().starts_with("DetachInstances left 1 of 2 serving members"));
}

/// A group of one behind a load balancer, with a newcomer that serves, too. Returns the newcomer's id.
fn one_and_its_newcomer() -> (World, String) {
    let mut world = world_with(GroupSpec { max: 2, ..GroupSpec::full_behind_load_balancer() });
    assert_eq!(breaks(&mut world, &launch()), None);
    world.fleet.pass(SENT + SignedDuration::from_mins(3));
    let id = world.fleet.instances().keys().next_back().cloned().unwrap();
    let parameters = [("AutoScalingGroupName", "web"), ("InstanceIds.member.1", id.as_str())];
    assert_eq!(breaks(&mut world, &call("autoscaling", "AttachInstances", &parameters)), None);
    world.fleet.pass(SENT + SignedDuration::from_mins(6));
    world.passes();
    assert_eq!(world.fleet.serving("web").len(), 2);
    (world, id)
}

#[test]
fn a_newcomer_that_has_long_been_ill_excuses_no_departure() {
    for (minutes, is_broken) in [(1, false), (6, true)] {
        virtual_time::begin();
        let (mut world, newcomer) = one_and_its_newcomer();
        world.fleet.set_target_health(&newcomer, false);
        world.passes();
        virtual_time::skip(Duration::from_mins(minutes));
        let detach = detach(&world);
        assert_eq!(breaks(&mut world, &detach).is_some(), is_broken, "{minutes}");
    }
}

#[test]
fn a_launch_into_a_poisoned_pool_breaks_a_promise_unless_the_gate_may_not_have_seen_it() {
    let mut poisoned_now = world_of(1);
    poisoned_now.oracles.is_poisoned("us-east-1#use1-az1#m5.large", now());
    assert_eq!(breaks(&mut poisoned_now, &launch()), None);
    let mut poisoned = world_of(1);
    let long_ago = SENT - GATE_LASTS - SignedDuration::from_secs(1);
    poisoned.oracles.poisoned.insert("us-east-1#use1-az1#m5.large".to_owned(), long_ago);
    assert!(breaks(&mut poisoned, &launch()).unwrap().contains("which is poisoned"));
    let mut elsewhere = world_of(1);
    elsewhere.oracles.poisoned.insert("us-east-1#use1-az2#m5.large".to_owned(), long_ago);
    assert_eq!(breaks(&mut elsewhere, &launch()), None);
}

#[test]
fn a_launch_without_a_tag_of_what_it_replaces_breaks_a_promise() {
    let mut world = world_of(1);
    let old = world.fleet.serving("web").first().map(|id| (*id).to_owned()).unwrap();
    assert_eq!(old, "i-00000000000000002");
    world.fleet.tag_instance(&old, "team", Some("payments"));
    let mut long_tagged = world.clone();
    long_tagged.oracles.tags = StandingTags::of(&long_tagged.fleet);
    assert!(breaks(&mut long_tagged, &launch()).unwrap().contains("without its tag"));
    world.oracles.tags.look(&world.fleet);
    assert_eq!(breaks(&mut world, &launch()), None, "the launch can't know of the tag yet");
}

/// The old instance is of another type than what is launched.
#[test]
fn a_launch_of_another_type_breaks_a_promise_unless_its_price_is_known_and_saves() {
    virtual_time::begin();
    let overrides = ["m5a.large", "m5.large"].map(str::to_owned).to_vec();
    let group = GroupSpec { instance_type: "m5a.large".to_owned(), overrides, ..GroupSpec::default() };
    let mut world = world_with(group);
    let old = world.fleet.instances().get("i-00000000000000002").cloned().unwrap();
    assert_eq!(old.instance_type, "m5a.large");
    let told = breaks(&mut world.clone(), &launch()).unwrap();
    assert!(told.contains("whose price was None"), "nobody has asked: {told}");
    let mut risen = world.clone();
    world.oracles.spot_prices.are_told();
    assert_eq!(breaks(&mut world, &launch()), None);
    risen.fleet.spot_prices_rise();
    risen.passes();
    virtual_time::skip(Duration::from_mins(1));
    risen.oracles.spot_prices.are_told();
    let told = breaks(&mut risen, &launch()).unwrap();
    assert!(told.contains("whose price was Some(96000)"), "{told}");
}

#[test]
fn a_wish_that_a_call_of_ours_overwrites_is_lost_and_one_that_stands_is_not() {
    virtual_time::begin();
    let parameters = [("AutoScalingGroupName", "web"), ("DesiredCapacity", "3")];
    for (habit, asked) in [(SetBesidePolicy::Overwrites, 2), (SetBesidePolicy::Yields, 4)] {
        let mut world = world_with(GroupSpec { size: 2, max: 5, ..GroupSpec::default() });
        world.fleet.habits.set_desired_beside_policy = habit;
        world.policy_scales("web", 2);
        let set = call("autoscaling", "SetDesiredCapacity", &parameters);
        assert_eq!(breaks(&mut world, &set), None);
        assert_eq!(world.oracles.wishes["web"].desired, asked, "{habit:?}");
    }
}

/// Carries a call out as it is sent, now, and returns the first promise that is broken. A second passes.
fn breaks_now(world: &mut World, call: &ApiCall) -> Option<String> {
    let (number, _) = world.is_sent(call, None);
    world.carries_out(number, call);
    virtual_time::skip(Duration::from_secs(1));
    world.oracles.broken.clone()
}

/// Desired holds our one, and somebody takes that away: what the owner asks for is as before.
#[test]
fn a_desired_that_is_moved_back_loses_one_to_a_decrement_that_could_not_know_and_none_to_another() {
    let describe = [("AutoScalingGroupNames.member.1", "web")];
    let describe = call("autoscaling", "DescribeAutoScalingGroups", &describe);
    let acts: [fn(&mut World); 2] =
        [|world| world.owner_sets_desired("web", 2), |world| world.owner_sets_max("web", 2)];
    for (act, is_seen) in [(0, false), (0, true), (1, false), (1, true)] {
        virtual_time::begin();
        let mut world = world_with(GroupSpec { size: 3, min: 0, max: 4, ..GroupSpec::default() });
        let wish = world.oracles.wishes.get_mut("web").unwrap();
        (wish.desired, wish.desired_at_most) = (2, 2);
        assert_eq!(breaks_now(&mut world, &describe), None);
        acts[act](&mut world);
        virtual_time::skip(Duration::from_secs(1));
        assert_eq!(world.fleet.group("web").map(|group| group.desired), Some(2));
        if is_seen {
            assert_eq!(breaks_now(&mut world, &describe), None);
        }
        let first = detach(&world);
        let broken = breaks_now(&mut world, &first);
        let told = is_seen.then(|| "desired of web is 1, and its owner asks for 2".to_owned());
        assert_eq!(broken, told, "{act}");
        if !is_seen {
            let second = detach(&world);
            let broken = breaks_now(&mut world, &second);
            assert_eq!(broken.as_deref(), Some("desired of web is 0, and its owner asks for 1"), "{act}");
        }
    }
}

/// Desired holds our one. Others take it away, and ask for one more: the number is the one that we left.
#[test]
fn a_desired_that_is_moved_away_and_back_looks_like_ours_once() {
    let describe = [("AutoScalingGroupNames.member.1", "web")];
    let describe = call("autoscaling", "DescribeAutoScalingGroups", &describe);
    let acts: [fn(&mut World); 2] =
        [|world| world.owner_sets_desired("web", 2), |world| world.policy_scales("web", -1)];
    for (act, moves) in acts.iter().enumerate() {
        virtual_time::begin();
        let mut world = world_with(GroupSpec { size: 3, min: 0, max: 4, ..GroupSpec::default() });
        let wish = world.oracles.wishes.get_mut("web").unwrap();
        (wish.desired, wish.desired_at_most) = (2, 2);
        moves(&mut world);
        virtual_time::skip(Duration::from_mins(1));
        world.policy_scales("web", 1);
        virtual_time::skip(Duration::from_mins(1));
        assert_eq!(breaks_now(&mut world, &describe), None);
        let first = detach(&world);
        assert_eq!(breaks_now(&mut world, &first), None, "{act}");
        let second = detach(&world);
        assert!(breaks_now(&mut world, &second).is_some(), "{act}");
    }
}

#[test]
fn a_desired_that_nobody_asked_for_breaks_a_promise_unless_a_resize_hides_our_one() {
    for (may_hold_ours, is_broken) in [(false, true), (true, false)] {
        let mut world = world_of(1);
        world.oracles.owner_asks("web", may_hold_ours, |wish| {
            (wish.desired, wish.desired_at_most, wish.max) = (2, 2, 4);
        });
        let group = world.fleet.group_mut("web").unwrap();
        (group.desired, group.max) = (4, 4);
        world.oracles.excuses.fewer_serve("web", 1, SignedDuration::ZERO, SENT);
        world.passes();
        assert_eq!(world.oracles.broken.is_some(), is_broken);
    }
}
