//! The promises about a stand-alone instance and its twin can be broken.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use jiff::SignedDuration;

use super::Seen;
use crate::acts::{Act, LabAct, TwinAct};
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
    lab_of(false)
}

fn lab_of(volume_outlives: bool) -> World {
    let lab = Some(InstanceSpec { has_address: true, target_groups: 1, volume_outlives });
    Scene { lab, ..Scene::default() }.world(Plan::none())
}

/// Carries a call out, and returns the first promise that is broken.
fn breaks(world: &mut World, service: &str, body: &str) -> Option<String> {
    breaks_at(4, world, service, body)
}

/// Carries a call of this minute out, and returns the first promise that is broken.
fn breaks_at(minute: i64, world: &mut World, service: &str, body: &str) -> Option<String> {
    let call = ApiCall::parse(service, "us-east-1", None, body.as_bytes()).unwrap();
    let (before, at) = (world.fleet.clone(), BEGIN + SignedDuration::from_mins(minute));
    let answer = world.fleet.carry_out(&call, at);
    assert_eq!(answer.status, 200, "{answer:?}");
    world.oracles.after_call_in_lab(&call, &answer, at, &before);
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

const LAUNCH: &str = "Action=RunInstances&MinCount=1&MaxCount=1&InstanceType=m5.large&ImageId=ami-0a000001\
     &ClientToken=t&SubnetId=subnet-0a000001&InstanceMarketOptions.MarketType=spot\
     &TagSpecification.1.ResourceType=instance\
     &TagSpecification.1.Tag.1.Key=ManagedBy&TagSpecification.1.Tag.1.Value=SpotOptimizer\
     &TagSpecification.2.ResourceType=volume&TagSpecification.2.Tag.1.Key=ManagedBy\
     &TagSpecification.2.Tag.1.Value=SpotOptimizer";

/// A twin that runs and is registered nowhere.
fn twin(world: &mut World) -> String {
    let call = ApiCall::parse("ec2", "us-east-1", None, LAUNCH.as_bytes()).unwrap();
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
    let mut call = ApiCall::parse("ec2", "us-east-1", None, b"Action=DescribeInstances").unwrap();
    call.account = Some("210987654321".to_owned());
    world.oracles.is_in_account(&call);
    assert_eq!(world.oracles.broken, None);
    call.account = None;
    world.oracles.is_in_account(&call);
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

/// Once the twin with the address is dead, the old instance must still serve in its target group.
#[test]
fn a_loss_excuses_what_it_has_taken_and_nothing_else() {
    later();
    let mut world = lab();
    let dead = has_taken_over(&mut world);
    world.fleet.instance_dies(&dead, BEGIN + SignedDuration::from_mins(5));
    assert_eq!(looks(&mut world), None, "the address was with the dead");
    let leave = target("DeregisterTargets", &old(&world));
    let told = breaks_at(6, &mut world, "elasticloadbalancing", &leave).unwrap();
    assert!(told.contains("nor a twin is healthy"), "{told}");
}

#[test]
fn a_loss_excuses_what_a_call_takes_whose_caller_could_not_see_it() {
    later();
    let mut world = lab();
    let dead = has_taken_over(&mut world);
    world.fleet.instance_dies(&dead, BEGIN + SignedDuration::from_mins(5));
    assert_eq!(looks(&mut world), None);
    let leave = target("DeregisterTargets", &old(&world));
    assert_eq!(breaks_at(5, &mut world, "elasticloadbalancing", &leave), None);
}

#[test]
fn what_somebody_has_again_is_excused_no_longer() {
    later();
    let mut world = lab();
    let dead = has_taken_over(&mut world);
    world.fleet.instance_dies(&dead, BEGIN + SignedDuration::from_mins(5));
    assert_eq!(looks(&mut world), None);
    let to_old = address_to(&old(&world));
    assert_eq!(breaks_at(6, &mut world, "ec2", &to_old), None);
    world.fleet.owner_moves_address(ADDRESS, Some(&dead));
    assert!(looks(&mut world).unwrap().contains("does not run"));
}

#[test]
fn an_owner_who_keeps_the_old_instance_is_heard_once_that_could_be_seen() {
    later();
    let stop = |minute| {
        let mut world = lab();
        has_taken_over(&mut world);
        world.befalls(Act::OwnerOfInstance(LabAct::OptsOldOut));
        let old = old(&world);
        breaks_at(minute, &mut world, "ec2", &of("StopInstances", &old))
    };
    assert_eq!(stop(5), None);
    assert!(stop(6).unwrap().ends_with("which its owner keeps"));
}

#[test]
fn no_twin_is_launched_for_an_old_instance_that_its_owner_keeps_once_that_could_be_seen() {
    later();
    let launch = |minute| {
        let mut world = lab();
        world.befalls(Act::OwnerOfInstance(LabAct::OptsOldOut));
        breaks_at(minute, &mut world, "ec2", LAUNCH)
    };
    assert_eq!(launch(6), None);
    assert!(launch(7).unwrap().starts_with("launched for"));
}

#[test]
fn a_twin_that_its_owner_keeps_is_not_terminated_once_that_could_be_seen() {
    later();
    let terminate = |minute| {
        let mut world = lab();
        let twin = twin(&mut world);
        world.befalls(Act::OwnerOfTwin(TwinAct::OptsOut));
        breaks_at(minute, &mut world, "ec2", &of("TerminateInstances", &twin))
    };
    assert_eq!(terminate(5), None);
    assert!(terminate(6).unwrap().ends_with("which its owner keeps"));
}

#[test]
fn a_twin_that_its_owner_keeps_may_run_beside_the_old_one_if_a_person_knows() {
    later();
    let mut world = lab();
    let twin = twin(&mut world);
    world.befalls(Act::OwnerOfTwin(TwinAct::OptsOut));
    assert!(at_rest(&mut world).unwrap().contains("run; they lack"));
    world.oracles.broken = None;
    world.mailbox.messages.push(PublishedMessage { subject: None, message: twin, at: BEGIN });
    assert_eq!(at_rest(&mut world), None);
}

#[test]
fn a_twin_that_its_owner_has_taken_out_is_not_registered_again_while_it_drains() {
    later();
    let mut world = lab();
    let twin = has_taken_over(&mut world);
    world.befalls(Act::OwnerOfTwin(TwinAct::TakesOut));
    let told = breaks_at(6, &mut world, "elasticloadbalancing", &target("RegisterTargets", &twin)).unwrap();
    assert!(told.starts_with("registered a twin in"), "{told}");
}

#[test]
fn an_address_stays_where_its_owner_has_put_it() {
    later();
    let mut world = lab();
    let twin = has_taken_over(&mut world);
    world.befalls(Act::OwnerOfInstance(LabAct::MovesAddress));
    assert_eq!(looks(&mut world), None);
    let told = breaks_at(6, &mut world, "ec2", &address_to(&twin)).unwrap();
    assert!(told.contains("its owner has given it to"), "{told}");
}

#[test]
fn a_target_that_its_owner_has_taken_out_stays_out() {
    later();
    let mut world = lab();
    world.befalls(Act::OwnerOfInstance(LabAct::TakesOldOut));
    assert_eq!(looks(&mut world), None);
    let back = target("RegisterTargets", &old(&world));
    let told = breaks_at(6, &mut world, "elasticloadbalancing", &back).unwrap();
    assert!(told.ends_with("its owner has taken it out"), "{told}");
}

#[test]
fn nobody_must_serve_once_the_owner_has_stopped_the_old_instance() {
    later();
    let mut world = lab();
    world.befalls(Act::OwnerOfInstance(LabAct::StopsOld));
    assert_eq!((looks(&mut world), at_rest(&mut world)), (None, None));
    let mut world = lab();
    let stop = of("StopInstances", &old(&world));
    assert!(breaks(&mut world, "ec2", &stop).is_some(), "ours is another matter");
}

#[test]
fn two_may_run_if_the_owner_has_started_the_old_one() {
    later();
    let mut world = lab();
    has_taken_over(&mut world);
    let leave = target("DeregisterTargets", &old(&world));
    assert_eq!(breaks(&mut world, "elasticloadbalancing", &leave), None);
    let stop = of("StopInstances", &old(&world));
    assert_eq!(breaks(&mut world, "ec2", &stop), None);
    world.fleet.pass(BEGIN + SignedDuration::from_mins(7));
    world.befalls(Act::OwnerOfInstance(LabAct::StartsOld));
    world.fleet.pass(BEGIN + SignedDuration::from_mins(9));
    assert_eq!(at_rest(&mut world), None);
}

/// Lets a twin die whose volume outlives it, and deletes the volume.
fn deletes_volume_of_twin(world: &mut World, twin: &str) -> Option<String> {
    world.fleet.instance_dies(twin, BEGIN + SignedDuration::from_mins(5));
    world.fleet.pass(BEGIN + SignedDuration::from_mins(6));
    let volume = twin.replacen("i-", "vol-", 1);
    assert!(world.fleet.free_volumes().contains_key(&volume));
    breaks_at(6, world, "ec2", &format!("Action=DeleteVolume&VolumeId={volume}"))
}

#[test]
fn the_volume_of_a_twin_is_deleted_only_if_it_never_served() {
    later();
    let mut world = lab_of(true);
    let unused = twin(&mut world);
    assert_eq!(deletes_volume_of_twin(&mut world, &unused), None);
    let mut world = lab_of(true);
    let served = twin(&mut world);
    assert_eq!(breaks(&mut world, "elasticloadbalancing", &target("RegisterTargets", &served)), None);
    world.fleet.pass(BEGIN + SignedDuration::from_mins(5));
    assert_eq!(looks(&mut world), None);
    let told = deletes_volume_of_twin(&mut world, &served).unwrap();
    assert!(told.contains("which is no volume of a twin without traffic"), "{told}");
}

#[test]
fn a_volume_that_only_bears_the_tags_is_not_deleted_and_a_person_is_told_of_it() {
    let mut world = lab();
    let copied = twin(&mut world);
    let copy = world.fleet.owner_copies_volume(&copied, BEGIN).unwrap();
    world.fleet.instance_dies(&copied, BEGIN + SignedDuration::from_mins(4));
    assert!(at_rest(&mut world).unwrap().contains("is left, and nobody was told"));
    world.oracles.broken = None;
    let message = format!("volume {copy} was left alone");
    world.mailbox.messages.push(PublishedMessage { subject: None, message, at: BEGIN });
    assert_eq!(at_rest(&mut world), None);
    let deletes = format!("Action=DeleteVolume&VolumeId={copy}");
    assert!(breaks(&mut world, "ec2", &deletes).unwrap().starts_with("deleted vol-"));
}
