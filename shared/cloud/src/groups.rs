//! Auto Scaling groups: described, and changed one call at a time.

use aws_sdk_autoscaling::types as asg;
use spot_domain::group::{AZ_REBALANCE, Group, LaunchSource, Member, MemberState};
use spot_domain::ids::{GroupName, InstanceId};
use spot_domain::journal::Retirement;

use crate::error::{CallError, Kind, failed};

const DESCRIBE: &str = "autoscaling:DescribeAutoScalingGroups";

/// Describes one group; `None` if there is none of this name.
///
/// # Errors
/// The call fails, or answers what can't be read.
pub async fn describe(
    client: &aws_sdk_autoscaling::Client,
    name: &GroupName,
) -> Result<Option<Group>, CallError> {
    let answer = client
        .describe_auto_scaling_groups()
        .auto_scaling_group_names(name.as_str())
        .send()
        .await
        .map_err(failed(DESCRIBE))?;
    answer.auto_scaling_groups().first().map(|group| parse(name, group)).transpose()
}

fn parse(name: &GroupName, group: &asg::AutoScalingGroup) -> Result<Group, CallError> {
    let malformed = |what: &str| CallError::malformed(DESCRIBE, format!("group {name}: {what}"));
    let size =
        |value: Option<i32>, what| value.and_then(|v| u32::try_from(v).ok()).ok_or_else(|| malformed(what));
    let policy = group.mixed_instances_policy();
    let distribution = policy.and_then(|p| p.instances_distribution());
    let share = |value: Option<i32>| value.and_then(|v| u32::try_from(v).ok());
    Ok(Group {
        name: name.clone(),
        arn: group
            .auto_scaling_group_arn()
            .and_then(|a| a.parse().ok())
            .ok_or_else(|| malformed("no usable ARN"))?,
        min: size(group.min_size(), "no MinSize")?,
        max: size(group.max_size(), "no MaxSize")?,
        desired: size(group.desired_capacity(), "no DesiredCapacity")?,
        members: group
            .instances()
            .iter()
            .map(member)
            .collect::<Option<_>>()
            .ok_or_else(|| malformed("an instance without id"))?,
        suspended: group
            .suspended_processes()
            .iter()
            .filter_map(|p| p.process_name().map(str::to_owned))
            .collect(),
        target_group_arns: group.target_group_arns().to_vec(),
        launch_source: launch_source(group),
        override_types: override_types(policy),
        on_demand_base: share(distribution.and_then(|d| d.on_demand_base_capacity())).unwrap_or(0),
        on_demand_percentage: share(distribution.and_then(|d| d.on_demand_percentage_above_base_capacity())),
        tags: group
            .tags()
            .iter()
            .filter_map(|t| Some((t.key()?.to_owned(), t.value().unwrap_or_default().to_owned())))
            .collect(),
        obstacles: obstacles(group),
        busy_with: group.status().map(|status| format!("it is being deleted ({status})")),
    })
}

fn member(instance: &asg::Instance) -> Option<Member> {
    Some(Member {
        id: instance.instance_id()?.parse().ok()?,
        state: MemberState::parse(instance.lifecycle_state().map_or("", |s| s.as_str())),
        healthy: instance.health_status().is_some_and(|h| h.eq_ignore_ascii_case("healthy")),
        protected: instance.protected_from_scale_in().unwrap_or(true),
    })
}

fn launch_source(group: &asg::AutoScalingGroup) -> Option<LaunchSource> {
    let of_policy = || group.mixed_instances_policy()?.launch_template()?.launch_template_specification();
    let template = group.launch_template().or_else(of_policy);
    if let Some(id) = template.and_then(|t| t.launch_template_id()) {
        let version = template.and_then(|t| t.version()).unwrap_or("$Default").to_owned();
        return Some(LaunchSource::Template { id: id.to_owned(), version });
    }
    group.launch_configuration_name().map(|name| LaunchSource::Configuration(name.to_owned()))
}

/// Types of overrides that launch from the group's own template. One with a template of its own
/// (another architecture, say) is no replacement for the others.
fn override_types(policy: Option<&asg::MixedInstancesPolicy>) -> Vec<spot_domain::InstanceType> {
    let overrides = policy.and_then(|p| p.launch_template()).map(|t| t.overrides()).unwrap_or_default();
    overrides
        .iter()
        .filter(|o| o.launch_template_specification().is_none())
        .filter_map(|o| o.instance_type()?.parse().ok())
        .collect()
}

fn obstacles(group: &asg::AutoScalingGroup) -> Vec<String> {
    let mut obstacles = Vec::new();
    if let Some(operator) = group.operator() {
        obstacles.push(format!("{} operates it", operator.principal().unwrap_or("another AWS service")));
    }
    let overrides = group
        .mixed_instances_policy()
        .and_then(|p| p.launch_template())
        .map(|t| t.overrides())
        .unwrap_or_default();
    if overrides.iter().any(|o| o.weighted_capacity().is_some_and(|w| w != "1")) {
        obstacles
            .push("its overrides carry weights: one instance is not one unit of its capacity".to_owned());
    }
    if let Some(unit) = group.desired_capacity_type().filter(|t| *t != "units") {
        obstacles.push(format!("it counts its capacity in {unit}, not in instances"));
    }
    if group.warm_pool_configuration().is_some() {
        obstacles.push("it has a warm pool, which may take a retired instance back".to_owned());
    }
    let unread =
        |source: &&asg::TrafficSourceIdentifier| !matches!(source.r#type(), None | Some("elb" | "elbv2"));
    if let Some(source) = group.traffic_sources().iter().find(unread) {
        let kind = source.r#type().unwrap_or("unknown");
        obstacles.push(format!("it has a traffic source of type {kind}, whose health is not read here"));
    }
    if !group.load_balancer_names().is_empty() {
        obstacles.push("it uses a Classic Load Balancer, whose health is not read here".to_owned());
    }
    obstacles
}

/// Whether an instance refresh is under way: in words, with its status.
///
/// # Errors
/// The call fails.
pub async fn active_refresh(
    client: &aws_sdk_autoscaling::Client,
    name: &GroupName,
) -> Result<Option<String>, CallError> {
    let answer = client
        .describe_instance_refreshes()
        .auto_scaling_group_name(name.as_str())
        .max_records(10)
        .send()
        .await
        .map_err(failed("autoscaling:DescribeInstanceRefreshes"))?;
    let over = ["Successful", "Failed", "Cancelled", "RollbackFailed", "RollbackSuccessful"];
    Ok(answer
        .instance_refreshes()
        .iter()
        .filter_map(|r| r.status().map(|s| s.as_str()))
        .find(|status| !over.contains(status))
        .map(|status| format!("an instance refresh is under way ({status})")))
}

/// How instances of this group must be retired.
///
/// # Errors
/// The call fails.
pub async fn retirement(
    client: &aws_sdk_autoscaling::Client,
    name: &GroupName,
) -> Result<Retirement, CallError> {
    let answer = client
        .describe_lifecycle_hooks()
        .auto_scaling_group_name(name.as_str())
        .send()
        .await
        .map_err(failed("autoscaling:DescribeLifecycleHooks"))?;
    let terminating = answer
        .lifecycle_hooks()
        .iter()
        .any(|h| h.lifecycle_transition() == Some("autoscaling:EC2_INSTANCE_TERMINATING"));
    Ok(if terminating { Retirement::TerminateInGroup } else { Retirement::Detach })
}

/// Sets MaxSize. Never below the group's size: the group would pick victims.
///
/// # Errors
/// The call fails.
pub async fn set_max(
    client: &aws_sdk_autoscaling::Client,
    name: &GroupName,
    max: u32,
) -> Result<(), CallError> {
    client
        .update_auto_scaling_group()
        .auto_scaling_group_name(name.as_str())
        .max_size(i32::try_from(max).unwrap_or(i32::MAX))
        .send()
        .await
        .map_err(failed("autoscaling:UpdateAutoScalingGroup"))
        .map(drop)
}

/// Suspends AZRebalance.
///
/// # Errors
/// The call fails.
pub async fn suspend_az_rebalance(
    client: &aws_sdk_autoscaling::Client,
    name: &GroupName,
) -> Result<(), CallError> {
    client
        .suspend_processes()
        .auto_scaling_group_name(name.as_str())
        .scaling_processes(AZ_REBALANCE)
        .send()
        .await
        .map_err(failed("autoscaling:SuspendProcesses"))
        .map(drop)
}

/// Resumes AZRebalance, and nothing else.
///
/// # Errors
/// The call fails.
pub async fn resume_az_rebalance(
    client: &aws_sdk_autoscaling::Client,
    name: &GroupName,
) -> Result<(), CallError> {
    client
        .resume_processes()
        .auto_scaling_group_name(name.as_str())
        .scaling_processes(AZ_REBALANCE)
        .send()
        .await
        .map_err(failed("autoscaling:ResumeProcesses"))
        .map(drop)
}

/// Takes an instance in: desired rises by one, by itself. Asynchronous.
///
/// # Errors
/// The call fails; most refusals are `ValidationError`, told apart by their text only.
pub async fn attach(
    client: &aws_sdk_autoscaling::Client,
    name: &GroupName,
    id: &InstanceId,
) -> Result<(), CallError> {
    client
        .attach_instances()
        .auto_scaling_group_name(name.as_str())
        .instance_ids(id.as_str())
        .send()
        .await
        .map_err(failed("autoscaling:AttachInstances"))
        .map(drop)
}

/// Lets an instance go alive, desired minus one. Asynchronous: the group waits for the drain.
///
/// # Errors
/// The call fails.
pub async fn detach(
    client: &aws_sdk_autoscaling::Client,
    name: &GroupName,
    id: &InstanceId,
) -> Result<(), CallError> {
    client
        .detach_instances()
        .auto_scaling_group_name(name.as_str())
        .instance_ids(id.as_str())
        .should_decrement_desired_capacity(true)
        .send()
        .await
        .map_err(failed("autoscaling:DetachInstances"))
        .map(drop)
}

/// What becomes of desired when a member is terminated through its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desired {
    /// One less.
    Decrement,
    /// As it is: the group launches another instance.
    Keep,
}

/// Terminates a member through its group: the owner's terminating hooks run. One that is no member
/// any more is as good as terminated.
///
/// # Errors
/// The call fails.
pub async fn terminate(
    client: &aws_sdk_autoscaling::Client,
    id: &InstanceId,
    desired: Desired,
) -> Result<(), CallError> {
    let answer = client
        .terminate_instance_in_auto_scaling_group()
        .instance_id(id.as_str())
        .should_decrement_desired_capacity(desired == Desired::Decrement)
        .send()
        .await
        .map_err(failed("autoscaling:TerminateInstanceInAutoScalingGroup"));
    match answer {
        // A ValidationError, told apart by its text only: "Instance Id not found - No managed instance found …"
        Err(error) if error.kind == Kind::Rejected && error.message.contains("not found") => Ok(()),
        answer => answer.map(drop),
    }
}
