//! The parser of an Auto Scaling group as AWS describes it. `docs/reference/fields` says what each field
//! means for a swap.

use std::collections::BTreeSet;

use aws_sdk_autoscaling::types as asg;
use rust_decimal::Decimal;
use spot_domain::Usd;
use spot_domain::ids::GroupName;
use spot_domain::swap::group::{Group, Launch, LaunchSource, Member, MemberState, Override, Requirements};
use spot_domain::tags::Tags;

use crate::error::CallError;
use crate::fields::filled;

pub(crate) const DESCRIBE: &str = "autoscaling:DescribeAutoScalingGroups";

pub(crate) fn parse(name: &GroupName, group: &asg::AutoScalingGroup) -> Result<Group, CallError> {
    let malformed = |what: &str| CallError::malformed(DESCRIBE, format!("group {name}: {what}"));
    let size = |value: Option<i32>, what| whole(value).ok_or_else(|| malformed(what));
    let distribution = group.mixed_instances_policy().and_then(|p| p.instances_distribution());
    let (spot_max_price, bad_price) = match spot_max_price(distribution) {
        Ok(price) => (price, None),
        Err(why) => (None, Some(why)),
    };
    Ok(Group {
        name: name.clone(),
        arn: group
            .auto_scaling_group_arn()
            .and_then(|a| a.parse().ok())
            .ok_or_else(|| malformed("no usable AutoScalingGroupARN"))?,
        min: size(group.min_size(), "no MinSize")?,
        max: size(group.max_size(), "no MaxSize")?,
        desired: size(group.desired_capacity(), "no DesiredCapacity")?,
        members: group
            .instances()
            .iter()
            .map(member)
            .collect::<Option<_>>()
            .ok_or_else(|| malformed("an instance without a usable InstanceId"))?,
        suspended: group
            .suspended_processes()
            .iter()
            .filter_map(|p| p.process_name().map(str::to_owned))
            .collect(),
        target_group_arns: target_groups(group),
        launch_source: launch_source(group),
        overrides: overrides(group).iter().filter_map(typed_override).collect(),
        requirements: requirements(group),
        requirement_launches: requirement_launches(group),
        subnet_ids: listed(group.vpc_zone_identifier()),
        availability_zones: group.availability_zones().to_vec(),
        placement_group: filled(group.placement_group()),
        warm_up_seconds: whole(group.default_instance_warmup())
            .or(whole(group.health_check_grace_period()))
            .unwrap_or(0),
        capacity_rebalance: group.capacity_rebalance().unwrap_or(false),
        retains_abandoned: group
            .instance_lifecycle_policy()
            .and_then(|policy| policy.retention_triggers()?.terminate_hook_abandon())
            .is_some_and(|action| action.as_str() == "retain"),
        spot_max_price,
        on_demand_base: whole(distribution.and_then(|d| d.on_demand_base_capacity())).unwrap_or(0),
        on_demand_percentage: whole(distribution.and_then(|d| d.on_demand_percentage_above_base_capacity())),
        tags: tags(group, |_| true),
        propagated_tags: tags(group, |tag| tag.propagate_at_launch() == Some(true)),
        obstacles: obstacles(group).into_iter().chain(bad_price).collect(),
        busy_with: group.status().map(|status| format!("it is being deleted ({status})")),
    })
}

fn whole(value: Option<i32>) -> Option<u32> {
    value.and_then(|v| u32::try_from(v).ok())
}

fn listed(text: Option<&str>) -> Vec<String> {
    text.unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
        .collect()
}

fn member(instance: &asg::Instance) -> Option<Member> {
    Some(Member {
        id: instance.instance_id()?.parse().ok()?,
        state: MemberState::parse(instance.lifecycle_state().map_or("", |s| s.as_str())),
        healthy: instance.health_status().is_some_and(|h| h.eq_ignore_ascii_case("healthy")),
        protected: instance.protected_from_scale_in().unwrap_or(true),
        template_id: instance.launch_template().and_then(|t| t.launch_template_id()).map(str::to_owned),
        image_id: filled(instance.image_id()),
    })
}

fn tags(group: &asg::AutoScalingGroup, wanted: impl Fn(&asg::TagDescription) -> bool) -> Tags {
    let pair =
        |t: &asg::TagDescription| Some((t.key()?.to_owned(), t.value().unwrap_or_default().to_owned()));
    group.tags().iter().filter(|tag| wanted(tag)).filter_map(pair).collect()
}

/// Returns the target groups of both lists: the call that attached a group decides which list names it.
fn target_groups(group: &asg::AutoScalingGroup) -> Vec<String> {
    let sources = group.traffic_sources().iter().filter(|source| is_target_group(source));
    let sources = sources.filter_map(|source| source.identifier().map(str::to_owned));
    group.target_group_arns().iter().cloned().chain(sources).collect::<BTreeSet<_>>().into_iter().collect()
}

fn is_target_group(source: &asg::TrafficSourceIdentifier) -> bool {
    source
        .identifier()
        .is_some_and(|arn| arn.contains(":elasticloadbalancing:") && arn.contains(":targetgroup/"))
}

fn template(specification: &asg::LaunchTemplateSpecification) -> Option<LaunchSource> {
    let version = filled(specification.version()).unwrap_or_else(|| "$Default".to_owned());
    if let Some(id) = filled(specification.launch_template_id()) {
        return Some(LaunchSource::Template { id, version });
    }
    Some(LaunchSource::NamedTemplate { name: filled(specification.launch_template_name())?, version })
}

fn launch_source(group: &asg::AutoScalingGroup) -> Option<LaunchSource> {
    let of_policy = || group.mixed_instances_policy()?.launch_template()?.launch_template_specification();
    let of_group = group.launch_template().or_else(of_policy).and_then(template);
    of_group.or_else(|| {
        group.launch_configuration_name().map(|name| LaunchSource::Configuration(name.to_owned()))
    })
}

fn overrides(group: &asg::AutoScalingGroup) -> &[asg::LaunchTemplateOverrides] {
    let policy = group.mixed_instances_policy().and_then(|p| p.launch_template());
    policy.map(|t| t.overrides()).unwrap_or_default()
}

fn typed_override(given: &asg::LaunchTemplateOverrides) -> Option<Override> {
    Some(Override {
        instance_type: given.instance_type()?.parse().ok()?,
        template: given.launch_template_specification().and_then(template),
        image_id: filled(given.image_id()),
    })
}

fn requirements(group: &asg::AutoScalingGroup) -> Option<Requirements> {
    let mut all = overrides(group).iter().filter_map(|o| o.instance_requirements()).peekable();
    all.peek()?;
    Some(all.fold(Requirements::default(), |mut all, more| {
        all.allowed.extend_from_slice(more.allowed_instance_types());
        all.excluded.extend_from_slice(more.excluded_instance_types());
        all
    }))
}

/// Returns the launches of the overrides by attributes; empty if all of them launch from the policy's own
/// template.
fn requirement_launches(group: &asg::AutoScalingGroup) -> Vec<Launch> {
    let by_attributes = || overrides(group).iter().filter(|o| o.instance_requirements().is_some());
    let own = |o: &asg::LaunchTemplateOverrides| o.launch_template_specification().and_then(template);
    if by_attributes().all(|o| own(o).is_none() && filled(o.image_id()).is_none()) {
        return Vec::new();
    }
    let launch = |o: &asg::LaunchTemplateOverrides| {
        Some(Launch { source: own(o).or_else(|| launch_source(group))?, image_id: filled(o.image_id()) })
    };
    by_attributes().filter_map(launch).collect()
}

/// Parses `SpotMaxPrice`. An empty text removes an earlier price: the API has no other way to say so.
fn spot_max_price(distribution: Option<&asg::InstancesDistribution>) -> Result<Option<Usd>, String> {
    let field = "MixedInstancesPolicy.InstancesDistribution.SpotMaxPrice";
    price(field, distribution.and_then(|d| d.spot_max_price()))
}

/// Parses a price as its owner wrote it, in US dollars an hour.
pub(crate) fn price(field: &str, text: Option<&str>) -> Result<Option<Usd>, String> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    match text.parse::<Decimal>() {
        Ok(price) if price > Decimal::ZERO => Ok(Some(Usd::new(price))),
        _ => Err(format!("its {field} {text:?} is no price: expected USD an hour, such as 0.05")),
    }
}

fn obstacles(group: &asg::AutoScalingGroup) -> Vec<String> {
    let policy = group.mixed_instances_policy();
    let weighted = overrides(group).iter().any(|o| o.weighted_capacity().is_some_and(|w| w != "1"))
        || group.instances().iter().any(|i| i.weighted_capacity().is_some_and(|w| w != "1"));
    let segments = policy.and_then(|p| p.instances_distribution()).map(|d| d.distribution_segments());
    let maintenance = group.instance_maintenance_policy().and_then(|m| m.max_healthy_percentage());
    let found = [
        group.operator().map(|o| format!("{} operates it", o.principal().unwrap_or("another AWS service"))),
        weighted.then(|| "its overrides carry weights: one instance is not one unit of its capacity".to_owned()),
        group
            .desired_capacity_type()
            .filter(|unit| *unit != "units")
            .map(|unit| format!("it counts its capacity in {unit}, not in instances")),
        group
            .warm_pool_configuration()
            .map(|_| "it has a warm pool, which may take a retired instance back".to_owned()),
        group.traffic_sources().iter().find(|source| is_unread(source)).map(|source| {
            let kind = source.r#type().unwrap_or("unknown");
            format!("it has a traffic source of type {kind}, whose health is not read here")
        }),
        (!group.load_balancer_names().is_empty())
            .then(|| "it uses a Classic Load Balancer, whose health is not read here".to_owned()),
        reserved(group),
        segments
            .is_some_and(|segments| !segments.is_empty())
            .then(|| "its policy spreads it over reserved capacity (DistributionSegments)".to_owned()),
        (maintenance == Some(100)).then(|| {
            "its maintenance policy allows no more than it has (MaxHealthyPercentage 100), and a swap needs one more"
                .to_owned()
        }),
    ];
    found.into_iter().flatten().collect()
}

fn is_unread(source: &asg::TrafficSourceIdentifier) -> bool {
    match source.r#type() {
        Some("elb" | "elbv2") => false,
        Some(_) => true,
        // Only a Classic Load Balancer must be named with its type.
        None => !is_target_group(source),
    }
}

fn reserved(group: &asg::AutoScalingGroup) -> Option<String> {
    let reservation = group.capacity_reservation_specification()?;
    let only = reservation.capacity_reservation_preference().map(|p| p.as_str());
    let is_bound =
        only == Some("capacity-reservations-only") || reservation.capacity_reservation_target().is_some();
    is_bound.then(|| "it launches into a capacity reservation only".to_owned())
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn described() -> asg::builders::AutoScalingGroupBuilder {
        asg::AutoScalingGroup::builder()
            .auto_scaling_group_name("web")
            .auto_scaling_group_arn(
                "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:u:autoScalingGroupName/web",
            )
            .min_size(0)
            .max_size(2)
            .desired_capacity(1)
            .vpc_zone_identifier("subnet-1, subnet-2,")
    }

    fn read(group: asg::builders::AutoScalingGroupBuilder) -> Group {
        parse(&"web".parse().unwrap(), &group.build()).unwrap()
    }

    fn mixed(
        distribution: asg::InstancesDistribution,
        overrides: Vec<asg::LaunchTemplateOverrides>,
    ) -> asg::builders::AutoScalingGroupBuilder {
        let template = asg::LaunchTemplate::builder()
            .launch_template_specification(specification("lt-base", "$Latest"))
            .set_overrides(Some(overrides));
        let policy = asg::MixedInstancesPolicy::builder()
            .launch_template(template.build())
            .instances_distribution(distribution);
        described().mixed_instances_policy(policy.build())
    }

    fn specification(id: &str, version: &str) -> asg::LaunchTemplateSpecification {
        asg::LaunchTemplateSpecification::builder().launch_template_id(id).version(version).build()
    }

    fn priced(text: &str) -> Group {
        read(mixed(asg::InstancesDistribution::builder().spot_max_price(text).build(), vec![]))
    }

    #[test]
    fn subnets_placement_group_and_warm_up_are_read() {
        let group = read(described().placement_group("hpc").health_check_grace_period(300));
        assert_eq!(group.subnet_ids, ["subnet-1", "subnet-2"]);
        assert_eq!(group.placement_group.as_deref(), Some("hpc"));
        assert_eq!(group.warm_up_seconds, 300);
        assert_eq!(
            read(described().health_check_grace_period(300).default_instance_warmup(60)).warm_up_seconds,
            60
        );
        assert_eq!(
            read(described().default_instance_warmup(-1).health_check_grace_period(9)).warm_up_seconds,
            9
        );
    }

    #[test]
    fn a_group_that_acts_on_recommendations_by_itself_says_so() {
        assert!(read(described().capacity_rebalance(true)).capacity_rebalance);
        assert!(!read(described().capacity_rebalance(false)).capacity_rebalance);
        assert!(!read(described()).capacity_rebalance, "the API's default");
    }

    #[test]
    fn an_override_has_its_own_template_and_image() {
        let own = asg::LaunchTemplateOverrides::builder()
            .instance_type("m6g.large")
            .launch_template_specification(specification("lt-arm", "4"))
            .build();
        let image =
            asg::LaunchTemplateOverrides::builder().instance_type("c5.large").image_id("ami-c5").build();
        let group = read(mixed(asg::InstancesDistribution::builder().build(), vec![own, image]));
        let arm = group.launch_of(&"m6g.large".parse().unwrap()).unwrap();
        assert_eq!(arm.source, LaunchSource::Template { id: "lt-arm".into(), version: "4".into() });
        assert_eq!(
            group.launch_of(&"c5.large".parse().unwrap()).unwrap().image_id.as_deref(),
            Some("ami-c5")
        );
        assert!(group.requirement_launches.is_empty());
    }

    #[test]
    fn a_maximum_price_is_a_price_or_an_obstacle() {
        assert_eq!(priced("0.05").spot_max_price.unwrap().to_string(), "0.05");
        assert_eq!((priced("").spot_max_price, priced("").obstacles.len()), (None, 0), "taken away");
        for bad in ["abc", "-1", "0", "0,05", "1e400"] {
            let obstacles = priced(bad).obstacles;
            assert!(
                obstacles.iter().any(|o| o.contains("SpotMaxPrice") && o.contains(bad)),
                "{bad}: {obstacles:?}"
            );
        }
    }

    #[test]
    fn what_a_swap_could_not_keep_is_an_obstacle() {
        let policy = asg::InstanceMaintenancePolicy::builder().max_healthy_percentage(100).build();
        let reservation = asg::CapacityReservationSpecification::builder()
            .capacity_reservation_preference(asg::CapacityReservationPreference::CapacityReservationsOnly)
            .build();
        let lattice = asg::TrafficSourceIdentifier::builder()
            .identifier("arn:aws:vpc-lattice:us-east-1:123456789012:targetgroup/tg-1")
            .build();
        let cases = [
            (described().instance_maintenance_policy(policy), "MaxHealthyPercentage"),
            (described().capacity_reservation_specification(reservation), "capacity reservation"),
            (described().traffic_sources(lattice), "traffic source"),
            (described().load_balancer_names("classic"), "Classic Load Balancer"),
            (described().desired_capacity_type("vcpu"), "vcpu"),
        ];
        for (group, expected) in cases {
            let obstacles = read(group).obstacles;
            assert!(obstacles.iter().any(|o| o.contains(expected)), "{expected}: {obstacles:?}");
        }
        assert!(read(described()).obstacles.is_empty());
    }

    #[test]
    fn a_tag_is_propagated_or_not() {
        let tag = |key: &str, propagated| {
            asg::TagDescription::builder().key(key).value("x").propagate_at_launch(propagated).build()
        };
        let group = read(described().tags(tag("team", true)).tags(tag("owner", false)));
        assert_eq!((group.tags.len(), group.propagated_tags.len()), (2, 1));
    }
}
