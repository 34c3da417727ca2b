//! Auto Scaling's calls: descriptions of groups, and the dispatch of what changes them.

use jiff::Timestamp;

use crate::fleet::Fleet;
use crate::fleet::catalog::LaunchConfiguration;
use crate::fleet::groups::{AutoScalingGroup, GroupLaunch, GroupMember, LifecycleState};
use crate::fleet::parameters::{matches, page, required};
use crate::fleet::xml::{Answered, ApiError, Xml};
use crate::wire::ApiCall;

impl Fleet {
    /// Answers a description of Auto Scaling; `None` for any other call.
    pub(super) fn read_auto_scaling(&self, call: &ApiCall) -> Option<Answered> {
        Some(match call.action.as_str() {
            "DescribeAutoScalingGroups" => self.describe_groups(call),
            "DescribeLifecycleHooks" => self.group_of(call).map(describe_hooks),
            "DescribeInstanceRefreshes" => self.group_of(call).map(describe_refreshes),
            "DescribeScheduledActions" => self.group_of(call).and_then(|group| describe_actions(call, group)),
            "DescribeLaunchConfigurations" => Ok(self.describe_configurations(call)),
            _ => return None,
        })
    }

    pub(super) fn change_auto_scaling(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        match call.action.as_str() {
            "AttachInstances" => self.attach(call, now),
            "DetachInstances" => self.detach(call, now),
            "TerminateInstanceInAutoScalingGroup" => self.terminate_in_group(call, now),
            "UpdateAutoScalingGroup" => self.update_group(call),
            "SetDesiredCapacity" => self.set_desired_capacity(call, now),
            "SuspendProcesses" => self.suspend_processes(call),
            "ResumeProcesses" => self.resume_processes(call, now),
            "CreateOrUpdateTags" => self.create_or_update_tags(call),
            "DeleteTags" => self.delete_group_tags(call),
            other => Err(ApiError::not_played(other)),
        }
    }

    pub(super) fn group_of(&self, call: &ApiCall) -> Result<&AutoScalingGroup, ApiError> {
        let name = required(call, "AutoScalingGroupName")?;
        self.groups.get(name).ok_or_else(|| no_group(name))
    }

    fn describe_groups(&self, call: &ApiCall) -> Answered {
        let (names, filters) = (call.list("AutoScalingGroupNames"), call.filters());
        let mut shown = Vec::new();
        for group in self.groups.values() {
            let is_asked = names.is_empty() || names.contains(&group.name.as_str());
            if is_asked && passes(group, &filters)? {
                shown.push((group.name.clone(), group));
            }
        }
        let page = page(shown, call.parameter("NextToken"), self.page_size(call, "MaxRecords")?)?;
        let mut xml = Xml::default();
        xml.list("AutoScalingGroups", "member", page.items, |xml, group| self.write_group(xml, group));
        xml.optional("NextToken", page.next);
        Ok(xml)
    }

    fn write_group(&self, xml: &mut Xml, group: &AutoScalingGroup) {
        xml.text("AutoScalingGroupName", &group.name);
        xml.text("AutoScalingGroupARN", &group.arn);
        self.launch_source(xml, group);
        xml.text("MinSize", group.min);
        xml.text("MaxSize", group.max);
        xml.text("DesiredCapacity", group.desired);
        xml.text("DefaultCooldown", 300);
        xml.texts("AvailabilityZones", "member", &group.zones);
        xml.texts("TargetGroupARNs", "member", &group.target_group_arns);
        xml.text("HealthCheckType", "EC2");
        xml.text("HealthCheckGracePeriod", group.grace_seconds);
        xml.list("Instances", "member", &group.members, |xml, member| self.write_member(xml, group, member));
        xml.time("CreatedTime", group.created_at);
        xml.list("SuspendedProcesses", "member", &group.suspended, |xml, process| {
            xml.text("ProcessName", process);
            xml.text("SuspensionReason", "User suspended");
        });
        xml.optional("PlacementGroup", group.placement_group.as_ref());
        xml.text("VPCZoneIdentifier", group.subnet_ids.join(","));
        xml.optional("Status", group.is_being_deleted.then_some("Delete in progress"));
        xml.list("Tags", "member", &group.tags, |xml, (key, (value, propagates))| {
            xml.text("ResourceId", &group.name);
            xml.text("ResourceType", "auto-scaling-group");
            xml.text("Key", key);
            xml.text("Value", value);
            xml.text("PropagateAtLaunch", propagates);
        });
        xml.texts("TerminationPolicies", "member", ["Default"]);
        xml.text("NewInstancesProtectedFromScaleIn", group.protects_new_members);
        xml.optional("DefaultInstanceWarmup", group.warm_up_seconds);
        xml.elements(&group.shows_besides);
    }

    fn launch_source(&self, xml: &mut Xml, group: &AutoScalingGroup) {
        let (id, version) = match &group.launch {
            GroupLaunch::Configuration(name) => return xml.text("LaunchConfigurationName", name),
            GroupLaunch::Template { id, version } => (id, version),
        };
        if group.overrides.is_empty() {
            return xml.within("LaunchTemplate", |xml| self.specification(xml, id, version));
        }
        xml.within("MixedInstancesPolicy", |xml| {
            xml.within("LaunchTemplate", |xml| {
                xml.within("LaunchTemplateSpecification", |xml| self.specification(xml, id, version));
                xml.list("Overrides", "member", &group.overrides, |xml, kind| xml.text("InstanceType", kind));
            });
            xml.within("InstancesDistribution", |xml| {
                xml.text("OnDemandAllocationStrategy", "prioritized");
                xml.text("OnDemandBaseCapacity", 0);
                xml.text("OnDemandPercentageAboveBaseCapacity", group.on_demand_percentage);
                xml.text("SpotAllocationStrategy", "lowest-price");
            });
        });
    }

    fn specification(&self, xml: &mut Xml, id: &str, version: &str) {
        xml.text("LaunchTemplateId", id);
        xml.optional("LaunchTemplateName", self.catalog.templates.get(id).map(|template| &template.name));
        xml.text("Version", version);
    }

    /// Writes a member. A dead one is Healthy until the group's health check finds it, and one that leaves may still show as
    /// InService.
    fn write_member(&self, xml: &mut Xml, group: &AutoScalingGroup, member: &GroupMember) {
        xml.text("InstanceId", &member.instance_id);
        if let Some(instance) = self.instances.get(&member.instance_id) {
            xml.text("InstanceType", &instance.instance_type);
            xml.text("AvailabilityZone", &instance.zone);
        }
        let is_unseen = self.leaving_unseen.contains(&member.instance_id);
        let state = if is_unseen { LifecycleState::InService } else { member.state };
        xml.text("LifecycleState", state.name());
        xml.text("HealthStatus", if member.is_unhealthy { "Unhealthy" } else { "Healthy" });
        match (&member.template, &group.launch) {
            (Some((id, number)), _) => {
                xml.within("LaunchTemplate", |xml| self.specification(xml, id, &number.to_string()));
            }
            (None, GroupLaunch::Configuration(name)) => xml.text("LaunchConfigurationName", name),
            (None, GroupLaunch::Template { .. }) => {}
        }
        xml.text("ProtectedFromScaleIn", member.is_protected);
    }

    fn describe_configurations(&self, call: &ApiCall) -> Xml {
        let names = call.list("LaunchConfigurationNames");
        let shown = self.catalog.configurations.iter().filter(|(name, _)| names.contains(&name.as_str()));
        let mut xml = Xml::default();
        xml.list("LaunchConfigurations", "member", shown, |xml, (name, configuration)| {
            let LaunchConfiguration { image_id, instance_type } = configuration;
            xml.text("LaunchConfigurationName", name);
            xml.text("ImageId", image_id);
            xml.text("InstanceType", instance_type);
        });
        xml
    }
}

fn passes(group: &AutoScalingGroup, filters: &[(String, Vec<String>)]) -> Result<bool, ApiError> {
    for (name, wanted) in filters {
        let is_wanted = |text: &str| wanted.iter().any(|pattern| matches(pattern, text));
        let passes = match name.as_str() {
            "tag-key" => group.tags.keys().any(|key| is_wanted(key)),
            "tag-value" => group.tags.values().any(|(value, _)| is_wanted(value)),
            other => match other.strip_prefix("tag:") {
                Some(key) => group.tags.get(key).is_some_and(|(value, _)| is_wanted(value)),
                None => {
                    return Err(ApiError::validation(format!("Filter type {other} is not correct.")));
                }
            },
        };
        if !passes {
            return Ok(false);
        }
    }
    Ok(true)
}

fn describe_hooks(group: &AutoScalingGroup) -> Xml {
    let mut xml = Xml::default();
    xml.list("LifecycleHooks", "member", &group.hooks, |xml, hook| {
        let transition = if hook.is_launching { "LAUNCHING" } else { "TERMINATING" };
        xml.text("LifecycleHookName", &hook.name);
        xml.text("AutoScalingGroupName", &group.name);
        xml.text("LifecycleTransition", format!("autoscaling:EC2_INSTANCE_{transition}"));
        xml.text("HeartbeatTimeout", hook.heartbeat_seconds);
        xml.text("GlobalTimeout", hook.global_timeout_seconds());
        xml.text("DefaultResult", "ABANDON");
    });
    xml
}

fn describe_refreshes(group: &AutoScalingGroup) -> Xml {
    let mut xml = Xml::default();
    xml.list("InstanceRefreshes", "member", &group.refresh, |xml, status| {
        xml.text("InstanceRefreshId", "08b91cf7-8fa6-48af-b6a6-d227f40f1b9b");
        xml.text("AutoScalingGroupName", &group.name);
        xml.text("Status", status);
    });
    xml
}

/// `EndTime` is the latest start that is shown, as `endpoint/scheduled.py` of local AWS has it.
fn describe_actions(call: &ApiCall, group: &AutoScalingGroup) -> Answered {
    let until = call.parameter("EndTime").map(str::parse::<Timestamp>).transpose();
    let until = until.map_err(|error| ApiError::validation(format!("EndTime: {error}")))?;
    let shown = group.scheduled.iter().filter(|action| until.is_none_or(|until| action.at <= until));
    let mut xml = Xml::default();
    xml.list("ScheduledUpdateGroupActions", "member", shown, |xml, action| {
        xml.text("AutoScalingGroupName", &group.name);
        xml.text("ScheduledActionName", &action.name);
        xml.time("StartTime", action.at);
        xml.text("DesiredCapacity", action.desired);
    });
    Ok(xml)
}

pub(super) fn no_group(name: &str) -> ApiError {
    ApiError::validation(format!("AutoScalingGroup name not found - AutoScalingGroup '{name}' not found"))
}
