//! Auto Scaling groups: the calls that describe them, and one function for each call that changes them.

use std::time::Duration;

use aws_sdk_autoscaling::config::http::HttpResponse;
use aws_sdk_autoscaling::config::retry::RetryConfig;
use aws_sdk_autoscaling::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_autoscaling::types::builders::TagBuilder;
use aws_sdk_autoscaling::types::{Activity, Filter, Tag};
use aws_smithy_types::DateTime;
use jiff::Timestamp;
use spot_domain::ids::{GroupArn, GroupName, InstanceId, MalformedText};
use spot_domain::swap::decrement::Decremented;
use spot_domain::swap::fitness::{Hook, Transition};
use spot_domain::swap::group::{AZ_REBALANCE, Group};
use spot_domain::swap::scaling::ScheduledAction;

use crate::auto_scaling::described_group::{DESCRIBE, parse};
use crate::error::{CallError, Kind, failed, unreadable};
use crate::retry::patiently;

const UPDATE: &str = "autoscaling:UpdateAutoScalingGroup";
/// The pauses before a call is repeated that AWS has refused for now.
const IF_REFUSED: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(1)];

/// Describes one group; `None` if there is none of this name.
///
/// # Errors
/// The call fails, or its answer can't be read.
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

/// Describes the group with this ARN; `None` if it was deleted, also where another bears its name by now.
///
/// # Errors
/// As for [`describe`].
pub async fn describe_same(
    client: &aws_sdk_autoscaling::Client,
    arn: &GroupArn,
    name: &GroupName,
) -> Result<Option<Group>, CallError> {
    Ok(describe(client, name).await?.filter(|group| &group.arn == arn))
}

/// The most groups in one answer.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DescribeAutoScalingGroups.html>
const GROUPS_PER_PAGE: i32 = 100;

/// A group of a listing, or its name and the reason why it can't be read.
pub type Listed = Result<Group, (String, CallError)>;

/// Describes every group of the account and region, or those that bear a tag of this key. A group that can't be read
/// hides no other.
///
/// # Errors
/// The call fails.
pub async fn list(
    client: &aws_sdk_autoscaling::Client,
    tag_key: Option<&str>,
) -> Result<Vec<Listed>, CallError> {
    let filter = tag_key.map(|key| Filter::builder().name("tag-key").values(key).build());
    let request = client.describe_auto_scaling_groups().set_filters(filter.map(|filter| vec![filter]));
    let mut pages = request.max_records(GROUPS_PER_PAGE).into_paginator().send();
    let mut listed = Vec::new();
    while let Some(page) = pages.next().await {
        for group in page.map_err(failed(DESCRIBE))?.auto_scaling_groups() {
            let told = group.auto_scaling_group_name().unwrap_or_default();
            let name = told.parse().map_err(unreadable::<MalformedText>(DESCRIBE));
            let read = name.and_then(|name| parse(&name, group));
            listed.push(read.map_err(|error| (told.to_owned(), error)));
        }
    }
    Ok(listed)
}

/// Returns the instance refresh that is under way, in words, with its status.
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

const SCHEDULED: &str = "autoscaling:DescribeScheduledActions";

/// Returns the scheduled actions of a group until the given time. A recurring action has its next time.
///
/// # Errors
/// The call fails.
pub async fn scheduled_actions(
    client: &aws_sdk_autoscaling::Client,
    name: &GroupName,
    until: Timestamp,
) -> Result<Vec<ScheduledAction>, CallError> {
    let mut pages = client
        .describe_scheduled_actions()
        .auto_scaling_group_name(name.as_str())
        .end_time(DateTime::from_secs(until.as_second()))
        .into_paginator()
        .items()
        .send();
    let mut actions = Vec::new();
    while let Some(action) = pages.next().await {
        actions.push(scheduled_action(&action.map_err(failed(SCHEDULED))?)?);
    }
    Ok(actions)
}

fn scheduled_action(
    action: &aws_sdk_autoscaling::types::ScheduledUpdateGroupAction,
) -> Result<ScheduledAction, CallError> {
    let name = action.scheduled_action_name().unwrap_or("without a name").to_owned();
    let at = action.start_time().and_then(|at| Timestamp::from_second(at.secs()).ok());
    let at = at.ok_or_else(|| {
        CallError::malformed(SCHEDULED, format!("scheduled action {name} has no StartTime"))
    })?;
    Ok(ScheduledAction { name, at })
}

/// AWS's limits of a hook: 100 heartbeats, 48 hours.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_LifecycleHook.html>
const HEARTBEATS: u32 = 100;
const MOST_HOOK_SECONDS: u32 = 172_800;
const DEFAULT_HEARTBEAT_SECONDS: u32 = 3_600;

/// Returns the lifecycle hooks of a group.
///
/// # Errors
/// The call fails.
pub async fn hooks(client: &aws_sdk_autoscaling::Client, name: &GroupName) -> Result<Vec<Hook>, CallError> {
    let answer = client
        .describe_lifecycle_hooks()
        .auto_scaling_group_name(name.as_str())
        .send()
        .await
        .map_err(failed("autoscaling:DescribeLifecycleHooks"))?;
    let seconds = |value: Option<i32>| value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0);
    let hook = |hook: &aws_sdk_autoscaling::types::LifecycleHook| {
        let heartbeat = seconds(hook.heartbeat_timeout()).unwrap_or(DEFAULT_HEARTBEAT_SECONDS);
        let most = heartbeat.saturating_mul(HEARTBEATS).min(MOST_HOOK_SECONDS);
        Hook {
            name: hook.lifecycle_hook_name().unwrap_or("without a name").to_owned(),
            transition: Transition::parse(hook.lifecycle_transition().unwrap_or_default()),
            global_timeout_seconds: seconds(hook.global_timeout()).unwrap_or(most),
        }
    };
    Ok(answer.lifecycle_hooks().iter().map(hook).collect())
}

/// Sets MaxSize. MaxSize must never be below desired: the group would choose victims.
///
/// A call that AWS refuses for now is repeated. One without an answer is not: it may land after the setting was given back,
/// and the caller has to know of it.
///
/// # Errors
/// The call fails.
pub async fn set_max(
    client: &aws_sdk_autoscaling::Client,
    name: &GroupName,
    max: u32,
) -> Result<(), CallError> {
    let set = || {
        client
            .update_auto_scaling_group()
            .auto_scaling_group_name(name.as_str())
            .max_size(i32::try_from(max).unwrap_or(i32::MAX))
            .customize()
            .config_override(asked_once())
            .send()
    };
    once(UPDATE, set).await.map(drop)
}

/// Makes a call that must not land twice. Repeats it only where AWS has refused it for now: a refusal proves that nothing was done.
async fn once<T, E, F>(call: &'static str, send: impl Fn() -> F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let is_refused_for_now = |error: &CallError| error.kind == Kind::Retry && error.is_refusal();
    patiently(&IF_REFUSED, is_refused_for_now, async || send().await.map_err(failed(call))).await
}

/// Sets desired. The group launches what it then lacks.
///
/// The SDK does not repeat the call, which says how many and not how many more: a late repetition would undo what a scaling
/// policy has decided meanwhile. So a refusal proves that this call has changed nothing, too.
///
/// # Errors
/// The call fails.
pub async fn set_desired(
    client: &aws_sdk_autoscaling::Client,
    name: &GroupName,
    desired: u32,
) -> Result<(), CallError> {
    client
        .set_desired_capacity()
        .auto_scaling_group_name(name.as_str())
        .desired_capacity(i32::try_from(desired).unwrap_or(i32::MAX))
        .honor_cooldown(false)
        .customize()
        .config_override(asked_once())
        .send()
        .await
        .map_err(failed("autoscaling:SetDesiredCapacity"))
        .map(drop)
}

/// Suspends AZRebalance. Repeats a call that AWS refuses for now, and no other, as [`set_max`] does.
///
/// # Errors
/// The call fails.
pub async fn suspend_az_rebalance(
    client: &aws_sdk_autoscaling::Client,
    name: &GroupName,
) -> Result<(), CallError> {
    let suspend = || {
        client
            .suspend_processes()
            .auto_scaling_group_name(name.as_str())
            .scaling_processes(AZ_REBALANCE)
            .customize()
            .config_override(asked_once())
            .send()
    };
    once("autoscaling:SuspendProcesses", suspend).await.map(drop)
}

/// Resumes AZRebalance alone. Repeats a call that AWS refuses for now, and no other, as [`set_max`] does.
///
/// # Errors
/// The call fails.
pub async fn resume_az_rebalance(
    client: &aws_sdk_autoscaling::Client,
    name: &GroupName,
) -> Result<(), CallError> {
    let resume = || {
        client
            .resume_processes()
            .auto_scaling_group_name(name.as_str())
            .scaling_processes(AZ_REBALANCE)
            .customize()
            .config_override(asked_once())
            .send()
    };
    once("autoscaling:ResumeProcesses", resume).await.map(drop)
}

/// Attaches an instance. AWS raises desired by one. The call is asynchronous.
///
/// # Errors
/// The call fails. Most refusals are `ValidationError`, so that only the text tells them apart.
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

/// Detaches an instance, which stays alive, and lowers desired by one. The call is asynchronous: the group
/// waits for the drain. The call is repeated only where AWS has refused it for now: so a refusal proves that nothing was lowered.
/// Returns the change of desired if AWS names it.
///
/// # Errors
/// The call fails.
pub async fn detach(
    client: &aws_sdk_autoscaling::Client,
    name: &GroupName,
    id: &InstanceId,
) -> Result<Option<Decremented>, CallError> {
    let detach = || {
        client
            .detach_instances()
            .auto_scaling_group_name(name.as_str())
            .instance_ids(id.as_str())
            .should_decrement_desired_capacity(true)
            .customize()
            .config_override(asked_once())
            .send()
    };
    let answer = once("autoscaling:DetachInstances", detach).await?;
    Ok(decremented(id, answer.activities()))
}

/// Returns the change of desired that the answer names, and writes it to the log.
fn decremented(id: &InstanceId, activities: &[Activity]) -> Option<Decremented> {
    let desired = activities.iter().find_map(|activity| Decremented::parse(activity.cause()?));
    match desired {
        Some(Decremented { from, to }) => {
            tracing::info!(instance_id = %id, from, to, "desired was lowered");
        }
        None => {
            tracing::info!(instance_id = %id, ?activities, "the answer does not tell how desired was changed");
        }
    }
    desired
}

fn asked_once() -> aws_sdk_autoscaling::config::Builder {
    aws_sdk_autoscaling::config::Builder::new().retry_config(RetryConfig::disabled())
}

/// The change of desired when a member is terminated through its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desired {
    /// Desired falls by one.
    Decrement,
    /// Desired stays: the group launches another instance.
    Keep,
}

/// Terminates a member through its group, so that the owner's terminating hooks run.
///
/// This call is repeated only where AWS has refused it for now: Auto Scaling may count a member that is Terminating already out of
/// desired a second time (kubernetes/autoscaler#5411). Returns the change of desired if AWS names it.
///
/// # Errors
/// The call fails. If the member has left the group, [`CallError::is_no_member`] is true of the error.
pub async fn terminate(
    client: &aws_sdk_autoscaling::Client,
    id: &InstanceId,
    desired: Desired,
) -> Result<Option<Decremented>, CallError> {
    let terminate = || {
        client
            .terminate_instance_in_auto_scaling_group()
            .instance_id(id.as_str())
            .should_decrement_desired_capacity(desired == Desired::Decrement)
            .customize()
            .config_override(asked_once())
            .send()
    };
    let answer = once("autoscaling:TerminateInstanceInAutoScalingGroup", terminate).await?;
    if desired == Desired::Keep {
        return Ok(None);
    }
    Ok(decremented(id, answer.activity.as_slice()))
}

const AUTO_SCALING_GROUP: &str = "auto-scaling-group";

/// Sets tags on the group itself, never on its instances.
///
/// # Errors
/// The call fails.
pub async fn set_tags(
    client: &aws_sdk_autoscaling::Client,
    name: &GroupName,
    tags: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<(), CallError> {
    let tags = tags.into_iter().map(|(key, value)| tag(name, key).value(value).build()).collect();
    let answer = client.create_or_update_tags().set_tags(Some(tags)).send().await;
    answer.map_err(failed("autoscaling:CreateOrUpdateTags")).map(drop)
}

/// Removes a tag of the group, if it has it.
///
/// # Errors
/// The call fails.
pub async fn remove_tag(
    client: &aws_sdk_autoscaling::Client,
    name: &GroupName,
    key: &str,
) -> Result<(), CallError> {
    let answer = client.delete_tags().tags(tag(name, key).build()).send().await;
    answer.map_err(failed("autoscaling:DeleteTags")).map(drop)
}

fn tag(name: &GroupName, key: &str) -> TagBuilder {
    Tag::builder()
        .resource_id(name.as_str())
        .resource_type(AUTO_SCALING_GROUP)
        .key(key)
        .propagate_at_launch(false)
}
