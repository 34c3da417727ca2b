//! The promises about a stand-alone instance and its twin can be broken.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use jiff::SignedDuration;

use super::Seen;
use crate::fault::Plan;
use crate::fleet::InstanceSpec;
use crate::mailbox::PublishedMessage;
use crate::scene::Scene;
use crate::virtual_time::{self, BEGIN};
use crate::wire::ApiCall;
use crate::world::World;

const GROUP: &str = "arn:aws:elasticloadbalancing:us-east-1:210987654321:targetgroup/lab-1/0a0000000000000a";
const ADDRESS: &str = "eipalloc-0a000000000000001";

fn lab() -> World {
    let lab = Some(InstanceSpec { has_address: true, target_groups: 1 });
    Scene { lab, ..Scene::default() }.world(Plan::none())
}

/// Carries a call out, and returns the first promise that is broken.
fn breaks(world: &mut World, service: &str, body: &str) -> Option<String> {
    let call = ApiCall::parse(service, "us-east-1", None, body.as_bytes()).unwrap();
    let before = world.fleet.clone();
    let answer = world.fleet.carry_out(&call, BEGIN + SignedDuration::from_mins(4));
    assert_eq!(answer.status, 200, "{answer:?}");
    world.oracles.after_call_in_lab(&call, &answer, BEGIN + SignedDuration::from_mins(4), &before);
    looks(world)
}

fn looks(world: &mut World) -> Option<String> {
    let seen = Seen { fleet: &world.fleet, tables: &world.tables, mailbox: &world.mailbox };
    world.oracles.look_at_lab(seen);
    world.oracles.broken.clone()
}

fn old(world: &World) -> String {
    world.oracles.lab.as_ref().unwrap().old.clone()
}

/// A twin that runs and is registered nowhere.
fn twin(world: &mut World) -> String {
    let body = "Action=RunInstances&MinCount=1&MaxCount=1&InstanceType=m5.large&ImageId=ami-1&ClientToken=t\
                &SubnetId=subnet-0a000001&InstanceMarketOptions.MarketType=spot&TagSpecification.1.ResourceType=instance\
                &TagSpecification.1.Tag.1.Key=ManagedBy&TagSpecification.1.Tag.1.Value=SpotOptimizer";
    let call = ApiCall::parse("ec2", "us-east-1", None, body.as_bytes()).unwrap();
    assert_eq!(world.fleet.carry_out(&call, BEGIN).status, 200);
    world.fleet.pass(BEGIN + SignedDuration::from_mins(3));
    world.fleet.instances().keys().next_back().unwrap().clone()
}

fn of(action: &str, id: &str) -> String {
    format!("Action={action}&InstanceId.1={id}")
}

fn target(action: &str, id: &str) -> String {
    format!("Action={action}&TargetGroupArn={GROUP}&Targets.member.1.Id={id}")
}

fn address_to(id: &str) -> String {
    format!("Action=AssociateAddress&AllocationId={ADDRESS}&InstanceId={id}&AllowReassociation=true")
}

/// The twin has all that the old instance had.
fn has_taken_over(world: &mut World) -> String {
    let twin = twin(world);
    assert_eq!(breaks(world, "elasticloadbalancing", &target("RegisterTargets", &twin)), None);
    world.fleet.pass(BEGIN + SignedDuration::from_mins(5));
    assert_eq!(breaks(world, "ec2", &address_to(&twin)), None);
    twin
}

/// A minute after the twin's checks have passed.
fn later() {
    virtual_time::begin();
    virtual_time::skip(Duration::from_mins(5));
}

fn at_rest(world: &mut World) -> Option<String> {
    let seen = Seen { fleet: &world.fleet, tables: &world.tables, mailbox: &world.mailbox };
    world.oracles.lab_at_rest(seen);
    world.oracles.broken.clone()
}

#[test]
fn an_old_instance_stops_for_a_twin_that_has_all_and_for_no_other() {
    later();
    let mut world = lab();
    twin(&mut world);
    let stop = of("StopInstances", &old(&world));
    assert!(breaks(&mut world, "ec2", &stop).unwrap().contains("no twin has all"));
    let mut world = lab();
    has_taken_over(&mut world);
    let leave = target("DeregisterTargets", &old(&world));
    assert_eq!(breaks(&mut world, "elasticloadbalancing", &leave), None);
    assert_eq!(breaks(&mut world, "ec2", &stop), None);
}

#[test]
fn an_old_instance_is_terminated_only_if_its_owner_wants_that() {
    later();
    let mut world = lab();
    has_taken_over(&mut world);
    let terminate = of("TerminateInstances", &old(&world));
    assert!(breaks(&mut world, "ec2", &terminate).unwrap().ends_with("which its owner keeps"));
}

#[test]
fn an_address_moves_to_a_twin_only_once_it_is_healthy_and_has_passed_its_checks() {
    later();
    let mut world = lab();
    let to_twin = address_to(&twin(&mut world));
    assert!(breaks(&mut world, "ec2", &to_twin).unwrap().contains("is not healthy"));
    let mut world = lab();
    world.fleet.habits.passes_checks_after = SignedDuration::from_hours(1);
    let to_twin = address_to(&twin(&mut world));
    world.oracles.lab.as_mut().unwrap().target_groups.clear();
    assert!(breaks(&mut world, "ec2", &to_twin).unwrap().starts_with("moved the address"));
}

#[test]
fn an_address_with_one_that_does_not_run_breaks_a_promise() {
    later();
    let mut world = lab();
    let gone = has_taken_over(&mut world);
    assert!(breaks(&mut world, "ec2", &of("TerminateInstances", &gone)).unwrap().contains("does not run"));
}

#[test]
fn a_target_group_without_a_healthy_target_breaks_a_promise_until_ec2_is_to_blame() {
    later();
    let mut world = lab();
    let leave = target("DeregisterTargets", &old(&world));
    let told = breaks(&mut world, "elasticloadbalancing", &leave).unwrap();
    assert!(told.contains("nor a twin is healthy"), "{told}");
    let mut world = lab();
    let dead = has_taken_over(&mut world);
    assert_eq!(breaks(&mut world, "elasticloadbalancing", &leave), None);
    world.fleet.instance_dies(&dead, BEGIN + SignedDuration::from_mins(5));
    assert_eq!(looks(&mut world), None);
}

#[test]
fn only_the_address_and_the_target_groups_of_the_old_instance_are_touched() {
    later();
    let mut world = lab();
    world.oracles.lab.as_mut().unwrap().target_groups.clear();
    let register = target("RegisterTargets", &old(&world));
    assert!(breaks(&mut world, "elasticloadbalancing", &register).unwrap().starts_with("registered in"));
    let mut world = lab();
    world.oracles.lab.as_mut().unwrap().address = None;
    let moves = address_to(&old(&world));
    assert!(breaks(&mut world, "ec2", &moves).unwrap().starts_with("moved address"));
}

#[test]
fn a_call_in_the_account_of_the_stack_breaks_a_promise() {
    let mut world = lab();
    let call = ApiCall::parse("ec2", "us-east-1", None, b"Action=DescribeInstances").unwrap();
    world.oracles.is_in_account(&call, Some("210987654321"));
    assert_eq!(world.oracles.broken, None);
    world.oracles.is_in_account(&call, None);
    assert!(world.oracles.broken.is_some());
}

#[test]
fn two_that_run_at_rest_break_a_promise() {
    let mut world = lab();
    assert_eq!(at_rest(&mut world), None);
    twin(&mut world);
    assert!(at_rest(&mut world).unwrap().starts_with("at rest"));
}

#[test]
fn an_image_that_is_left_is_one_that_a_person_was_told_of() {
    let mut world = lab();
    let image = format!("Action=CreateImage&InstanceId={}&Name=x&NoReboot=true", old(&world));
    assert_eq!(breaks(&mut world, "ec2", &image), None);
    let message = "ami-1000000000000000 and snap-0 are left".to_owned();
    world.mailbox.messages.push(PublishedMessage { subject: None, message, at: BEGIN });
    assert!(at_rest(&mut world).unwrap().contains("is left, and nobody was told"));
    world.oracles.broken = None;
    let own = world.fleet.own_images();
    let message = own.images.keys().chain(own.snapshots.keys()).cloned().collect();
    world.mailbox.messages.push(PublishedMessage { subject: None, message, at: BEGIN });
    assert_eq!(at_rest(&mut world), None);
}
