//! The fuzz target `targets`: a target group and the health of its targets, with absent and odd fields.
//!
//! The parser promises: no panic. A target is healthy only if the answer says so, or if no load balancer uses its group.
//! An instance is registered only where its id stands, and by its address only where that stands.

use aws_sdk_elasticloadbalancingv2::types::{TargetHealth, TargetHealthReasonEnum};
use serde_json::Value;
use spot_fuzz::Target;

use super::*;
use crate::ec2::described_instance;
use crate::sample::{list, part, promise, text, whole};

const ID: &str = "i-0123456789abcdef0";
const ADDRESS: &str = "10.0.0.1";

#[test]
fn targets() {
    let words = &[
        "unused",
        "initial",
        "draining",
        "unavailable",
        "Target.NotInUse",
        "Target.InvalidState",
        "ip",
        "all",
        "::1",
    ];
    Target { name: "targets", samples: &[], words, cases: 3_000 }.fuzz(check);
}

fn check(bytes: &[u8]) -> Result<(), String> {
    let Ok(sample) = serde_json::from_slice::<Value>(bytes) else { return Ok(()) };
    let group = part(&sample, "TargetGroup", group_of).unwrap_or_else(|| TargetGroup::builder().build());
    let targets = list(&sample, "Targets", described).unwrap_or_default();
    for target in &targets {
        healthy_only_if_told(target)?;
    }
    registered(&group, &targets)?;
    let Elsewhere { draining, serving } = those(&[(&group, targets)], &ID.parse().unwrap());
    promise(draining.len() + serving.len() <= 1, || {
        format!("it drains in {draining:?} and serves in {serving:?}")
    })
}

fn healthy_only_if_told(target: &TargetHealthDescription) -> Result<(), String> {
    let health = target.target_health();
    let state = health.and_then(|health| health.state()).map(|state| state.as_str());
    let reason = health.and_then(|health| health.reason()).map(|reason| reason.as_str());
    let told = state == Some("healthy") || (state, reason) == (Some("unused"), Some("Target.NotInUse"));
    let read = parse(Some(target));
    promise((read == TargetState::Healthy) == told, || {
        format!("{state:?} with {reason:?} is read as {read:?}")
    })
}

fn registered(group: &TargetGroup, targets: &[TargetHealthDescription]) -> Result<(), String> {
    let mut found = Registrations::default();
    look_into(group, targets, &instance(), &mut found);
    let ids: Vec<_> = targets.iter().filter_map(|target| target.target()?.id()).collect();
    let its_own = ids.iter().filter(|id| **id == ID).count();
    let Registrations { registrations, unhealthy_in, by_address_in } = &found;
    promise(registrations.len() <= its_own, || format!("{ids:?} are read as {registrations:?}"))?;
    let arn = group.target_group_arn().unwrap_or_default();
    promise(registrations.iter().all(|of| of.target_group_arn == arn), || format!("{registrations:?}"))?;
    promise(unhealthy_in.is_none() || !registrations.is_empty(), || {
        format!("it is unhealthy in {unhealthy_in:?}, and not registered")
    })?;
    let is_its = |id: &&str| *id == ADDRESS || id.parse::<IpAddr>().ok() == ADDRESS.parse().ok();
    let may_have_it = group.target_type() == Some(&TargetTypeEnum::Ip) && ids.iter().any(is_its);
    promise(by_address_in.is_none() || may_have_it, || format!("{ids:?} have it by address"))
}

fn instance() -> Instance {
    let described = aws_sdk_ec2::types::Instance::builder()
        .instance_id(ID)
        .instance_type(aws_sdk_ec2::types::InstanceType::M5Large)
        .private_ip_address(ADDRESS)
        .vpc_id("vpc-1");
    described_instance::parse(&described.build()).unwrap()
}

fn group_of(sample: &Value) -> TargetGroup {
    TargetGroup::builder()
        .set_target_group_arn(text(sample, "TargetGroupArn"))
        .set_target_group_name(text(sample, "TargetGroupName"))
        .set_target_type(text(sample, "TargetType").as_deref().map(TargetTypeEnum::from))
        .set_vpc_id(text(sample, "VpcId"))
        .build()
}

fn described(sample: &Value) -> TargetHealthDescription {
    let target_of = |of: &Value| {
        TargetDescription::builder()
            .set_id(text(of, "Id"))
            .set_port(whole(of, "Port"))
            .set_availability_zone(text(of, "AvailabilityZone"))
            .build()
    };
    let health_of = |of: &Value| {
        TargetHealth::builder()
            .set_state(text(of, "State").as_deref().map(TargetHealthStateEnum::from))
            .set_reason(text(of, "Reason").as_deref().map(TargetHealthReasonEnum::from))
            .build()
    };
    TargetHealthDescription::builder()
        .set_target(part(sample, "Target", target_of))
        .set_target_health(part(sample, "TargetHealth", health_of))
        .build()
}
