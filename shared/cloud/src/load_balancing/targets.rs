//! Registrations of one instance in target groups: found, made, ended. [`crate::load_balancing::target_groups`] answers the
//! questions of the groups' own swaps, and [`crate::load_balancing::others`] those about target groups that others fill.

use std::collections::BTreeSet;
use std::net::IpAddr;

use aws_sdk_elasticloadbalancingv2::types::{
    TargetDescription, TargetGroup, TargetHealthDescription, TargetHealthStateEnum, TargetTypeEnum,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use spot_domain::ids::InstanceId;
use spot_domain::swap::group::Instance;
use spot_domain::swap::lab::Registration;
use spot_domain::swap::recovery::lab::TargetState;

use crate::error::{CallError, Kind, failed};

/// Target groups that are asked at the same time: a VPC may have hundreds.
const SIDE_BY_SIDE: usize = 8;
const HEALTH: &str = "elasticloadbalancing:DescribeTargetHealth";

/// The registrations of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registrations {
    /// Registrations by the instance's id.
    pub registrations: Vec<Registration>,
    /// A target group in which the instance is not healthy.
    pub unhealthy_in: Option<String>,
    /// A target group that has the instance by its private address, which no other instance can have.
    pub by_address_in: Option<String>,
}

/// Searches every target group but those of functions and load balancers. A group of another VPC may have the
/// instance by its address. AWS has no call that goes from an instance to its target groups.
///
/// # Errors
/// A call fails. The result is never "nowhere" then.
pub async fn of(
    client: &aws_sdk_elasticloadbalancingv2::Client,
    instance: &Instance,
) -> Result<Registrations, CallError> {
    let vpcs: BTreeSet<&str> = instance.belongings.vpc_id.as_deref().into_iter().collect();
    let with_instances = not_own(client, &[], |group| may_have(group, &vpcs)).await?;
    let mut found = Registrations::default();
    for (group, targets) in ask_all(client, &with_instances).await? {
        look_into(group, &targets, instance, &mut found);
    }
    Ok(found)
}

/// Returns true if the target group may have an instance of these VPCs. A target group of another VPC can name the
/// instance by its address only.
pub(super) fn may_have(group: &TargetGroup, vpcs: &BTreeSet<&str>) -> bool {
    match group.target_type() {
        Some(TargetTypeEnum::Alb | TargetTypeEnum::Lambda) => false,
        Some(TargetTypeEnum::Instance) => group.vpc_id().is_none_or(|vpc| vpcs.contains(vpc)),
        _ => true,
    }
}

/// Target groups, other than its group's own, in which an instance on its way out is still registered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// ARNs of the target groups that drain the instance: its open requests may end.
    pub draining: Vec<String>,
    /// ARNs of the target groups that still send requests to the instance.
    pub serving: Vec<String>,
}

/// Searches every target group of the VPC but the group's own. A load-balancer controller registers nodes by
/// their ids in target groups that no Auto Scaling group knows.
///
/// # Errors
/// A call fails. The result is never "nowhere" then.
pub async fn elsewhere(
    client: &aws_sdk_elasticloadbalancingv2::Client,
    vpc_id: &str,
    id: &InstanceId,
    own: &[String],
) -> Result<Elsewhere, CallError> {
    let others = not_own(client, own, |group| group.vpc_id() == Some(vpc_id)).await?;
    Ok(those(&ask_all(client, &others).await?, id))
}

/// Asks these target groups only. A target group that was deleted meanwhile no longer has the instance.
///
/// # Errors
/// A call fails.
pub async fn in_those(
    client: &aws_sdk_elasticloadbalancingv2::Client,
    arns: &[String],
    id: &InstanceId,
) -> Result<Elsewhere, CallError> {
    let groups: Vec<TargetGroup> =
        arns.iter().map(|arn| TargetGroup::builder().target_group_arn(arn).build()).collect();
    Ok(those(&ask_all(client, &groups).await?, id))
}

fn those(asked: &[(&TargetGroup, Vec<TargetHealthDescription>)], id: &InstanceId) -> Elsewhere {
    let mut found = Elsewhere::default();
    for (group, targets) in asked {
        let of_it = targets.iter().filter(|t| t.target().and_then(|t| t.id()) == Some(id.as_str()));
        let states: Vec<&TargetHealthStateEnum> =
            of_it.filter_map(|target| target.target_health()?.state()).collect();
        let arn = group.target_group_arn().unwrap_or_default().to_owned();
        // One instance may be registered by several ports.
        if states.iter().any(|state| is_draining(state)) {
            found.draining.push(arn);
        } else if states.iter().any(|state| **state != TargetHealthStateEnum::Unused) {
            found.serving.push(arn);
        }
    }
    found
}

fn is_draining(state: &TargetHealthStateEnum) -> bool {
    matches!(state, TargetHealthStateEnum::Draining | TargetHealthStateEnum::UnhealthyDraining)
}

/// Returns the target groups that may have what is searched for, without the group's own.
pub(super) async fn not_own(
    client: &aws_sdk_elasticloadbalancingv2::Client,
    own: &[String],
    may_have_it: impl Fn(&TargetGroup) -> bool,
) -> Result<Vec<TargetGroup>, CallError> {
    let mut others = Vec::new();
    let mut groups = client.describe_target_groups().into_paginator().items().send();
    while let Some(group) = groups.next().await {
        let group = group.map_err(failed("elasticloadbalancing:DescribeTargetGroups"))?;
        let is_own = group.target_group_arn().is_none_or(|arn| own.iter().any(|own| own == arn));
        if !is_own && may_have_it(&group) {
            others.push(group);
        }
    }
    Ok(others)
}

pub(super) async fn ask_all<'a>(
    client: &aws_sdk_elasticloadbalancingv2::Client,
    groups: &'a [TargetGroup],
) -> Result<Vec<(&'a TargetGroup, Vec<TargetHealthDescription>)>, CallError> {
    stream::iter(groups)
        .map(|group| async move { targets_of(client, group).await.map(|targets| (group, targets)) })
        .buffered(SIDE_BY_SIDE)
        .try_collect()
        .await
}

async fn targets_of(
    client: &aws_sdk_elasticloadbalancingv2::Client,
    group: &TargetGroup,
) -> Result<Vec<TargetHealthDescription>, CallError> {
    let answer = client.describe_target_health().set_target_group_arn(group.target_group_arn.clone());
    match answer.send().await.map_err(failed(HEALTH)) {
        Err(error) if error.kind == Kind::NotFound => Ok(Vec::new()), // deleted meanwhile
        answer => Ok(answer?.target_health_descriptions.unwrap_or_default()),
    }
}

fn look_into(
    group: &TargetGroup,
    targets: &[TargetHealthDescription],
    instance: &Instance,
    found: &mut Registrations,
) {
    let arn = group.target_group_arn().unwrap_or_default();
    let name = || Some(group.target_group_name().unwrap_or(arn).to_owned());
    for target in targets {
        let Some(description) = target.target() else { continue };
        if group.target_type() == Some(&TargetTypeEnum::Ip) {
            // An address that drains may be that of an instance that had it before.
            if parse(Some(target)) != TargetState::Draining && has_address(group, description, instance) {
                found.by_address_in = name();
            }
            continue;
        }
        if description.id() != Some(instance.id.as_str()) {
            continue;
        }
        match parse(Some(target)) {
            TargetState::Absent | TargetState::Draining | TargetState::NoGroup => {}
            state => {
                let port = description.port();
                found.registrations.push(Registration { target_group_arn: arn.to_owned(), port });
                if state != TargetState::Healthy {
                    found.unhealthy_in = name();
                }
            }
        }
    }
}

/// Returns true if the target is an address of the instance.
///
/// In a group of another VPC, the same address may be a stranger's, which is in that VPC and has one of its
/// zones. A target from outside has the zone `all`.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetDescription.html>
pub(super) fn has_address(group: &TargetGroup, target: &TargetDescription, instance: &Instance) -> bool {
    let belongings = &instance.belongings;
    let is_same_vpc = group.vpc_id() == belongings.vpc_id.as_deref();
    let is_from_outside = target.availability_zone().is_none_or(|zone| zone.is_empty() || zone == "all");
    let parsed = |text: &str| text.parse::<IpAddr>().ok();
    let is_its = |id: &str| {
        belongings
            .addresses
            .iter()
            .any(|own| own == id || parsed(own).is_some_and(|own| Some(own) == parsed(id)))
    };
    (is_same_vpc || is_from_outside) && target.id().is_some_and(is_its)
}

fn target(registration: &Registration, id: &InstanceId) -> TargetDescription {
    TargetDescription::builder().id(id.as_str()).set_port(registration.port).build()
}

/// Returns the state of one instance in a target group, at the group's own port.
///
/// # Errors
/// The call fails.
pub async fn state_in(
    client: &aws_sdk_elasticloadbalancingv2::Client,
    target_group_arn: &str,
    id: &InstanceId,
) -> Result<TargetState, CallError> {
    ask(client, target_group_arn, TargetDescription::builder().id(id.as_str()).build()).await
}

/// Returns the state of one instance in the target group.
///
/// # Errors
/// The call fails.
pub async fn state(
    client: &aws_sdk_elasticloadbalancingv2::Client,
    registration: &Registration,
    id: &InstanceId,
) -> Result<TargetState, CallError> {
    ask(client, &registration.target_group_arn, target(registration, id)).await
}

async fn ask(
    client: &aws_sdk_elasticloadbalancingv2::Client,
    target_group_arn: &str,
    target: TargetDescription,
) -> Result<TargetState, CallError> {
    let answer =
        client.describe_target_health().target_group_arn(target_group_arn).targets(target).send().await;
    match answer.map_err(failed(HEALTH)) {
        Err(error) if error.code == "InvalidTarget" => Ok(TargetState::Absent), // EC2 has forgotten it
        Err(error) if error.kind == Kind::NotFound => Ok(TargetState::NoGroup),
        answer => Ok(parse(answer?.target_health_descriptions().first())),
    }
}

pub(super) fn parse(target: Option<&TargetHealthDescription>) -> TargetState {
    let health = target.and_then(|t| t.target_health());
    let reason = health.and_then(|h| h.reason()).map(|r| r.as_str());
    match health.and_then(|h| h.state()) {
        Some(TargetHealthStateEnum::Healthy) => TargetState::Healthy,
        // No load balancer uses this target group: nothing will ever check the target.
        Some(TargetHealthStateEnum::Unused) if reason == Some("Target.NotInUse") => TargetState::Healthy,
        // The instance is registered, and stopped or terminated.
        Some(TargetHealthStateEnum::Unused) if reason == Some("Target.InvalidState") => {
            TargetState::Unhealthy
        }
        Some(TargetHealthStateEnum::Unused) | None => TargetState::Absent,
        Some(TargetHealthStateEnum::Initial) => TargetState::Checking,
        Some(TargetHealthStateEnum::Draining) => TargetState::Draining,
        // `unhealthy.draining` among them: checks fail, and connections are kept for a while. The target is registered.
        // <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-health-checks.html>
        Some(_) => TargetState::Unhealthy,
    }
}

/// Registers an instance with the port of another's registration. A repeated call changes nothing.
///
/// # Errors
/// The call fails.
pub async fn register(
    client: &aws_sdk_elasticloadbalancingv2::Client,
    registration: &Registration,
    id: &InstanceId,
) -> Result<(), CallError> {
    client
        .register_targets()
        .target_group_arn(&registration.target_group_arn)
        .targets(target(registration, id))
        .send()
        .await
        .map(drop)
        .map_err(failed("elasticloadbalancing:RegisterTargets"))
}

/// Deregisters an instance: it gets no new requests, and drains. An instance that is not registered counts as
/// deregistered.
///
/// # Errors
/// The call fails.
pub async fn deregister(
    client: &aws_sdk_elasticloadbalancingv2::Client,
    registration: &Registration,
    id: &InstanceId,
) -> Result<(), CallError> {
    let answer = client
        .deregister_targets()
        .target_group_arn(&registration.target_group_arn)
        .targets(target(registration, id))
        .send()
        .await;
    match answer.map_err(failed("elasticloadbalancing:DeregisterTargets")) {
        Err(error) if error.kind == Kind::NotFound || error.code == "InvalidTarget" => Ok(()),
        answer => answer.map(drop),
    }
}

#[cfg(test)]
mod fuzz;
