//! Groups for a beginning: On-Demand, complete, and in service for an hour.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::fleet::Fleet;
use crate::fleet::catalog::{LaunchConfiguration, LaunchTemplate, TemplateVersion};
use crate::fleet::groups::{AutoScalingGroup, GroupLaunch, GroupMember, LifecycleHook, LifecycleState};
use crate::fleet::habits::AwsHabits;
use crate::fleet::instances::Ec2State;
use crate::fleet::load_balancing::{RegisteredTarget, TargetGroup, TargetPhase};

const IMAGE: &str = "ami-0a000001";
/// The API's default.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_InstancesDistribution.html>
const ALL_ON_DEMAND: u32 = 100;
/// The age of the members of a new scene.
const AGE: SignedDuration = SignedDuration::from_hours(1);

/// A group, as a scene asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpec {
    pub name: String,
    /// Desired, and the number of its members.
    pub size: u32,
    /// The number of its members that are Spot.
    pub spot: u32,
    pub min: u32,
    pub max: u32,
    /// The number of its zones, 1 to 3.
    pub zones: usize,
    pub instance_type: String,
    /// The group launches from a launch configuration, not from a launch template.
    pub uses_configuration: bool,
    /// The types of a mixed-instances policy; empty for a group without one.
    pub overrides: Vec<String>,
    pub has_target_group: bool,
    pub deregistration_delay: SignedDuration,
    pub hooks: Vec<LifecycleHook>,
    /// Tags of the group. All of them are put on its instances.
    pub tags: BTreeMap<String, String>,
}

impl Default for GroupSpec {
    /// Returns a group of one m5.large in three zones, with room for one more and without a target group.
    fn default() -> Self {
        Self {
            name: "web".to_owned(),
            size: 1,
            spot: 0,
            min: 1,
            max: 2,
            zones: 3,
            instance_type: "m5.large".to_owned(),
            uses_configuration: false,
            overrides: Vec::new(),
            has_target_group: false,
            deregistration_delay: SignedDuration::from_secs(60),
            hooks: Vec::new(),
            tags: BTreeMap::new(),
        }
    }
}

impl GroupSpec {
    /// Returns a group of one at its MaxSize, behind a load balancer: its swap raises MaxSize, and waits for targets.
    #[must_use]
    pub fn full_behind_load_balancer() -> Self {
        Self { max: 1, has_target_group: true, ..Self::default() }
    }
}

impl Fleet {
    /// Returns an account that has this group alone.
    #[must_use]
    pub fn with_group(spec: &GroupSpec, habits: AwsHabits, now: Timestamp) -> Self {
        let mut fleet = Self::new("123456789012", "us-east-1", habits);
        fleet.add_group(spec, now);
        fleet
    }

    /// Adds a group whose members have been in service, and healthy in its target group, for an hour.
    pub fn add_group(&mut self, spec: &GroupSpec, now: Timestamp) {
        let zones: Vec<_> = self.catalog.zones.iter().take(spec.zones).cloned().collect();
        let target_group = spec.has_target_group.then(|| self.add_target_group(spec));
        let launch = self.add_launch(spec);
        let arn = format!(
            "arn:aws:autoscaling:{}:{}:autoScalingGroup:00000000-0000-4000-8000-000000000000:autoScalingGroupName/{}",
            self.region, self.account, spec.name
        );
        let tag = |(key, value): (&String, &String)| (key.clone(), (value.clone(), true));
        let group = AutoScalingGroup {
            name: spec.name.clone(),
            arn,
            created_at: now - AGE,
            min: spec.min,
            max: spec.max,
            desired: spec.size,
            members: Vec::new(),
            suspended: [].into(),
            subnet_ids: zones.iter().map(|zone| zone.subnet_id.clone()).collect(),
            zones: zones.iter().map(|zone| zone.name.clone()).collect(),
            target_group_arns: target_group.into_iter().collect(),
            launch,
            overrides: spec.overrides.clone(),
            on_demand_percentage: ALL_ON_DEMAND,
            tags: spec.tags.iter().map(tag).collect(),
            hooks: spec.hooks.clone(),
            refresh: None,
            scheduled: Vec::new(),
            protects_new_members: false,
            grace_seconds: 0,
            warm_up_seconds: None,
            placement_group: None,
            is_being_deleted: false,
            shows_besides: String::new(),
            scaled_out_at: None,
        };
        self.groups.insert(spec.name.clone(), group);
        for (number, zone) in (0..spec.size).zip(zones.iter().cycle()) {
            let Some((mut launch, template)) = self.launch_of(&spec.name, zone.clone()) else { continue };
            launch.is_spot |= number < spec.spot;
            let id = self.launch(launch, now - AGE).id;
            self.has_served(&spec.name, &id, template);
        }
    }

    /// Makes a launched instance a member that has long been in service.
    fn has_served(&mut self, name: &str, id: &str, template: Option<(String, u32)>) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.state = Ec2State::Running;
        }
        let Some(group) = self.groups.get_mut(name) else { return };
        group.members.push(GroupMember {
            instance_id: id.to_owned(),
            state: LifecycleState::InService,
            is_protected: false,
            is_attached: false,
            template,
            is_extra: false,
            is_unhealthy: false,
            proceeds_at: None,
        });
        for arn in &group.target_group_arns {
            if let Some(target_group) = self.target_groups.get_mut(arn) {
                let target = RegisteredTarget { phase: TargetPhase::Healthy, proceeds_at: None };
                target_group.targets.insert(id.to_owned(), target);
            }
        }
    }

    fn add_target_group(&mut self, spec: &GroupSpec) -> String {
        let arn = format!(
            "arn:aws:elasticloadbalancing:{}:{}:targetgroup/{}/0a0000000000000a",
            self.region, self.account, spec.name
        );
        let group = TargetGroup {
            arn: arn.clone(),
            name: spec.name.clone(),
            targets: BTreeMap::new(),
            deregistration_delay: spec.deregistration_delay,
            is_in_use: true,
        };
        self.target_groups.insert(arn.clone(), group);
        arn
    }

    /// Adds the launch template or the launch configuration of a group.
    fn add_launch(&mut self, spec: &GroupSpec) -> GroupLaunch {
        let (name, instance_type) = (spec.name.clone(), spec.instance_type.clone());
        if spec.uses_configuration {
            let source = LaunchConfiguration { image_id: IMAGE.to_owned(), instance_type };
            self.catalog_mut().configurations.insert(name.clone(), source);
            return GroupLaunch::Configuration(name);
        }
        self.counter += 1;
        let id = format!("lt-{:017x}", self.counter);
        let version =
            TemplateVersion { image_id: IMAGE.to_owned(), instance_type, ..TemplateVersion::default() };
        let versions = BTreeMap::from([(1, version)]);
        let template = LaunchTemplate { id: id.clone(), name, versions, default_version: 1 };
        self.catalog_mut().templates.insert(id.clone(), template);
        GroupLaunch::Template { id, version: "$Default".to_owned() }
    }
}
