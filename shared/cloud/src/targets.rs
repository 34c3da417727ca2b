//! Registrations of one instance in target groups: found, made, ended. (What the groups' own swaps ask
//! of target groups is in [`crate::target_groups`].)

use aws_sdk_elasticloadbalancingv2::types::{
    TargetDescription, TargetGroup, TargetHealthDescription, TargetHealthStateEnum, TargetTypeEnum,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use spot_domain::ids::InstanceId;
use spot_domain::lab::Registration;
use spot_domain::lab_recovery::TargetState;

use crate::error::{CallError, Kind, failed};

/// Target groups that are asked at a time: a VPC may have hundreds.
const SIDE_BY_SIDE: usize = 8;
const HEALTH: &str = "elasticloadbalancing:DescribeTargetHealth";

/// Where an instance is registered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// By its id.
    pub registrations: Vec<Registration>,
    /// A target group in which it is not healthy.
    pub unhealthy_in: Option<String>,
    /// A target group that has it by its private address, which no other instance can have.
    pub by_address_in: Option<String>,
}

/// Looks through every target group of the VPC. AWS has no call that goes from an instance to its
/// target groups.
///
/// # Errors
/// A call fails: nothing is said then, never "nowhere".
pub async fn of(
    client: &aws_sdk_elasticloadbalancingv2::Client,
    vpc_id: &str,
    id: &InstanceId,
    private_address: Option<&str>,
) -> Result<Found, CallError> {
    let mut in_vpc = Vec::new();
    let mut groups = client.describe_target_groups().into_paginator().items().send();
    while let Some(group) = groups.next().await {
        let group = group.map_err(failed("elasticloadbalancing:DescribeTargetGroups"))?;
        if group.vpc_id() == Some(vpc_id) {
            in_vpc.push(group);
        }
    }
    let targets: Vec<_> = stream::iter(&in_vpc)
        .map(|group| async move { targets_of(client, group).await.map(|targets| (group, targets)) })
        .buffered(SIDE_BY_SIDE)
        .try_collect()
        .await?;
    let mut found = Found::default();
    for (group, targets) in targets {
        look_into(group, &targets, id, private_address, &mut found);
    }
    Ok(found)
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
    id: &InstanceId,
    private_address: Option<&str>,
    found: &mut Found,
) {
    let arn = group.target_group_arn().unwrap_or_default();
    let name = || Some(group.target_group_name().unwrap_or(arn).to_owned());
    for target in targets {
        let Some(description) = target.target() else { continue };
        match group.target_type() {
            Some(TargetTypeEnum::Ip) if private_address.is_some() && private_address == description.id() => {
                found.by_address_in = name();
            }
            Some(TargetTypeEnum::Ip) => {}
            _ if description.id() != Some(id.as_str()) => {}
            _ => match parse(Some(target)) {
                TargetState::Absent | TargetState::Draining | TargetState::NoGroup => {}
                state => {
                    let port = description.port();
                    found.registrations.push(Registration { target_group_arn: arn.to_owned(), port });
                    if state != TargetState::Healthy {
                        found.unhealthy_in = name();
                    }
                }
            },
        }
    }
}

fn target(registration: &Registration, id: &InstanceId) -> TargetDescription {
    TargetDescription::builder().id(id.as_str()).set_port(registration.port).build()
}

/// What a target group says of one instance, at the group's own port.
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

/// What the target group says of one instance.
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

fn parse(target: Option<&TargetHealthDescription>) -> TargetState {
    let health = target.and_then(|t| t.target_health());
    let reason = health.and_then(|h| h.reason()).map(|r| r.as_str());
    match health.and_then(|h| h.state()) {
        Some(TargetHealthStateEnum::Healthy) => TargetState::Healthy,
        // No load balancer uses its target group: nothing will ever check it.
        Some(TargetHealthStateEnum::Unused) if reason == Some("Target.NotInUse") => TargetState::Healthy,
        // It is registered, and stopped or terminated.
        Some(TargetHealthStateEnum::Unused) if reason == Some("Target.InvalidState") => {
            TargetState::Unhealthy
        }
        Some(TargetHealthStateEnum::Unused) | None => TargetState::Absent,
        Some(TargetHealthStateEnum::Initial) => TargetState::Checking,
        Some(TargetHealthStateEnum::Draining | TargetHealthStateEnum::UnhealthyDraining) => {
            TargetState::Draining
        }
        Some(_) => TargetState::Unhealthy,
    }
}

/// Registers an instance as another was. Registering it again changes nothing.
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

/// Deregisters an instance: it gets no new requests, and drains. One that is not registered is as good
/// as deregistered.
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
