//! The fuzz target `group`: an Auto Scaling group with absent and odd fields.
//!
//! The parser promises: no panic. A group with its ARN, its sizes and the ids of its members is read, and any other is
//! refused by the name of the field. A member of which AWS does not say so is protected. A maximum price that can't be
//! read is an obstacle.

use serde_json::Value;
use spot_domain::{GroupArn, InstanceId};
use spot_fuzz::Target;

use super::*;
use crate::sample::{flag, is_usable, list, part, promise, text, whole};

const PRICE: &str = "/MixedInstancesPolicy/InstancesDistribution/SpotMaxPrice";
const BAD_PRICE: &str = "its MixedInstancesPolicy.InstancesDistribution.SpotMaxPrice";

#[test]
fn group() {
    let words = &[
        "$Latest",
        "elbv2",
        "vpc-lattice",
        "vcpu",
        "InService",
        "Healthy",
        "0.05",
        "1e-9",
        "Delete in progress",
    ];
    Target { name: "group", samples: &[], words, cases: 2_000 }.fuzz(check);
}

fn check(bytes: &[u8]) -> Result<(), String> {
    let Ok(sample) = serde_json::from_slice::<Value>(bytes) else { return Ok(()) };
    let name = "web".parse().unwrap();
    match (parse(&name, &described(&sample)), unusable(&sample)) {
        (Ok(group), None) => {
            sizes(&group, &sample)?;
            members(&group, &sample)?;
            price_or_obstacle(&group, &sample)
        }
        (Err(error), Some(field)) => {
            promise(error.is_malformed() && error.to_string().contains(field), || {
                format!("the error does not name {field}: {error}")
            })
        }
        (read, bad) => Err(format!("{bad:?} is unusable, and it is read as {read:?}")),
    }
}

/// Returns the first field without which no group is read.
fn unusable(sample: &Value) -> Option<&'static str> {
    let is_size = |field: &&str| whole(sample, field).is_some_and(|size| size >= 0);
    if !is_usable::<GroupArn>(sample, "AutoScalingGroupARN") {
        return Some("AutoScalingGroupARN");
    }
    let size = ["MinSize", "MaxSize", "DesiredCapacity"].into_iter().find(|field| !is_size(field));
    let members = list(sample, "Instances", |member| is_usable::<InstanceId>(member, "InstanceId"));
    size.or(members.unwrap_or_default().contains(&false).then_some("InstanceId"))
}

fn sizes(group: &Group, sample: &Value) -> Result<(), String> {
    let told = ["MinSize", "MaxSize", "DesiredCapacity"].map(|field| whole(sample, field));
    let read = [group.min, group.max, group.desired].map(|size| i32::try_from(size).ok());
    promise(told == read, || format!("{told:?} is read as {read:?}"))?;
    let is_one = |id: &String| !id.is_empty() && id.trim() == id && !id.contains(',');
    promise(group.subnet_ids.iter().all(is_one), || format!("its subnets are {:?}", group.subnet_ids))?;
    let mut propagated = group.propagated_tags.keys();
    promise(propagated.all(|key| group.tags.contains_key(key)), || {
        format!("{:?} is propagated of {:?}", group.propagated_tags, group.tags)
    })
}

fn members(group: &Group, sample: &Value) -> Result<(), String> {
    let told = list(sample, "Instances", |member| {
        (text(member, "InstanceId"), flag(member, "ProtectedFromScaleIn") != Some(false))
    });
    let read: Vec<_> =
        group.members.iter().map(|member| (Some(member.id.to_string()), member.protected)).collect();
    promise(told.unwrap_or_default() == read, || format!("its members are {read:?}"))
}

fn price_or_obstacle(group: &Group, sample: &Value) -> Result<(), String> {
    let told = sample.pointer(PRICE).and_then(Value::as_str).map(str::trim).filter(|price| !price.is_empty());
    let is_obstacle = group.obstacles.iter().any(|obstacle| obstacle.starts_with(BAD_PRICE));
    let kept = match (told, group.spot_max_price) {
        (None, None) => !is_obstacle,
        (Some(_), None) => is_obstacle,
        (Some(_), Some(price)) => !is_obstacle && price.amount() > Decimal::ZERO,
        (None, Some(_)) => false,
    };
    promise(kept, || format!("the price {told:?} is read as {:?}", group.spot_max_price))
}

fn described(sample: &Value) -> asg::AutoScalingGroup {
    let told = |field| text(sample, field);
    asg::AutoScalingGroup::builder()
        .set_auto_scaling_group_arn(told("AutoScalingGroupARN"))
        .set_min_size(whole(sample, "MinSize"))
        .set_max_size(whole(sample, "MaxSize"))
        .set_desired_capacity(whole(sample, "DesiredCapacity"))
        .set_instances(list(sample, "Instances", member_of))
        .set_launch_configuration_name(told("LaunchConfigurationName"))
        .set_launch_template(part(sample, "LaunchTemplate", template_of))
        .set_mixed_instances_policy(part(sample, "MixedInstancesPolicy", policy_of))
        .set_vpc_zone_identifier(told("VPCZoneIdentifier"))
        .set_default_instance_warmup(whole(sample, "DefaultInstanceWarmup"))
        .set_health_check_grace_period(whole(sample, "HealthCheckGracePeriod"))
        .set_placement_group(told("PlacementGroup"))
        .set_desired_capacity_type(told("DesiredCapacityType"))
        .set_status(told("Status"))
        .set_traffic_sources(list(sample, "TrafficSources", source_of))
        .set_tags(list(sample, "Tags", tag_of))
        .build()
}

fn member_of(sample: &Value) -> asg::Instance {
    asg::Instance::builder()
        .set_instance_id(text(sample, "InstanceId"))
        .set_lifecycle_state(text(sample, "LifecycleState").as_deref().map(asg::LifecycleState::from))
        .set_health_status(text(sample, "HealthStatus"))
        .set_protected_from_scale_in(flag(sample, "ProtectedFromScaleIn"))
        .set_weighted_capacity(text(sample, "WeightedCapacity"))
        .set_launch_template(part(sample, "LaunchTemplate", template_of))
        .build()
}

fn template_of(sample: &Value) -> asg::LaunchTemplateSpecification {
    asg::LaunchTemplateSpecification::builder()
        .set_launch_template_id(text(sample, "LaunchTemplateId"))
        .set_launch_template_name(text(sample, "LaunchTemplateName"))
        .set_version(text(sample, "Version"))
        .build()
}

fn policy_of(sample: &Value) -> asg::MixedInstancesPolicy {
    let launch_of = |of: &Value| {
        asg::LaunchTemplate::builder()
            .set_launch_template_specification(part(of, "LaunchTemplateSpecification", template_of))
            .set_overrides(list(of, "Overrides", override_of))
            .build()
    };
    let distribution_of = |of: &Value| {
        asg::InstancesDistribution::builder()
            .set_spot_max_price(text(of, "SpotMaxPrice"))
            .set_on_demand_base_capacity(whole(of, "OnDemandBaseCapacity"))
            .set_on_demand_percentage_above_base_capacity(whole(of, "OnDemandPercentageAboveBaseCapacity"))
            .build()
    };
    asg::MixedInstancesPolicy::builder()
        .set_launch_template(part(sample, "LaunchTemplate", launch_of))
        .set_instances_distribution(part(sample, "InstancesDistribution", distribution_of))
        .build()
}

fn override_of(sample: &Value) -> asg::LaunchTemplateOverrides {
    let requirements_of = |_: &Value| asg::InstanceRequirements::builder().build();
    asg::LaunchTemplateOverrides::builder()
        .set_instance_type(text(sample, "InstanceType"))
        .set_weighted_capacity(text(sample, "WeightedCapacity"))
        .set_launch_template_specification(part(sample, "LaunchTemplateSpecification", template_of))
        .set_instance_requirements(part(sample, "InstanceRequirements", requirements_of))
        .build()
}

fn source_of(sample: &Value) -> asg::TrafficSourceIdentifier {
    asg::TrafficSourceIdentifier::builder()
        .set_identifier(text(sample, "Identifier"))
        .set_type(text(sample, "Type"))
        .build()
}

fn tag_of(sample: &Value) -> asg::TagDescription {
    asg::TagDescription::builder()
        .set_key(text(sample, "Key"))
        .set_value(text(sample, "Value"))
        .set_propagate_at_launch(flag(sample, "PropagateAtLaunch"))
        .build()
}
