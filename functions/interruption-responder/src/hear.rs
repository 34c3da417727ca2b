//! The first look at a notice: a few reads say if the instance is in our care. Changes nothing but the count of members
//! at risk, and starts at most one execution.

use jiff::Timestamp;
use spot_cloud::auto_scaling::groups;
use spot_cloud::ec2::instances;
use spot_cloud::tables::{accounts, settings};
use spot_cloud::{CallError, RegionClients};
use spot_domain::InstanceId;
use spot_domain::clock;
use spot_domain::response::verdict::{
    Rescue, cluster_unknown, end_of, interrupted, node_at_risk, not_in_the_loop, rescued,
};
use spot_domain::response::{AnswerReason, Because};
use spot_domain::settings::Settings;
use spot_domain::swap::group::{Group, Instance};
use spot_domain::tags::GROUP_NAME_TAG;
use spot_swap::error::StepError;

use crate::announce::announce;
use crate::context::Responder;
use crate::event::{Announced, Heard};
use crate::executions::{AnswerBegun, Place};
use crate::work::Answer;

/// What a look at the instance of a notice found.
pub(crate) struct Found {
    /// The group that is tagged as the instance's own, if there is one.
    pub(crate) group: Option<Group>,
    /// The way in which the instance is rescued, or the reason why nothing is done for it.
    pub(crate) rescue: Result<Rescue, Because>,
}

/// Hears one notice.
///
/// # Errors
/// Its account is not registered, or a call fails.
pub async fn run(responder: &Responder, heard: Heard) -> Result<Answer, StepError> {
    let stack = &responder.stack;
    let access = accounts::access(stack, &heard.account_id).await?;
    let settings = settings::load_what_holds(stack, &heard.account_id, &heard.region).await?;
    let clients = stack.clients(&access, &heard.region, None).await;
    let Found { group, rescue } = look(&clients, &heard.instance_id, &settings).await?;
    let answer = Answer::about(&heard.account_id, &heard.region, &heard.instance_id);
    let answer = Answer { asg_name: group.as_ref().map(|group| group.name.clone()), ..answer };
    let (group, cluster) = match (rescue, group) {
        (Ok(rescue), Some(group)) => match admitted(responder, &heard, &rescue, &group, &settings).await? {
            None => (group, rescue.cluster().cloned()),
            Some(why) => return Ok(ignored(responder, answer, why).await),
        },
        (Err(why), _) => return Ok(ignored(responder, answer, why).await),
        (Ok(_), None) => return Ok(ignored(responder, answer, not_in_group()).await),
    };
    let place = Place { group: &group.name, cluster: cluster.as_ref() };
    let AnswerBegun { execution, is_new } = responder.executions.start(&heard, place).await?;
    let started = Answer { execution_arn: Some(execution), cluster_name: cluster, ..answer };
    if heard.announced == Announced::Rebalance && is_new {
        announce(responder, &started).await;
    }
    Ok(started)
}

fn not_in_group() -> Because {
    Because::of(AnswerReason::NotInGroup, "it is in no group")
}

/// Tells of a notice that is not answered, unless the instance is none of ours.
async fn ignored(responder: &Responder, answer: Answer, because: Because) -> Answer {
    let is_ours = !because.reason.is_none_of_ours();
    let ignored = answer.ignored(because);
    if is_ours {
        announce(responder, &ignored).await;
    }
    ignored
}

/// Returns the reason why an instance in our care is not rescued now.
async fn admitted(
    responder: &Responder,
    heard: &Heard,
    rescue: &Rescue,
    group: &Group,
    settings: &Settings,
) -> Result<Option<Because>, StepError> {
    let now = clock::now();
    match (heard.announced, rescue) {
        (Announced::Interruption, Rescue::Node(None)) => Ok(Some(cluster_unknown())),
        (Announced::Interruption, _) => Ok(end_of(heard.occurred, now).err()),
        (Announced::Rebalance, Rescue::Node(_)) => Ok(Some(node_at_risk())),
        (Announced::Rebalance, Rescue::Member) => at_risk(responder, heard, group, settings, now).await,
    }
}

/// Looks at an instance and the group that it is in.
pub(crate) async fn look(
    clients: &RegionClients,
    id: &InstanceId,
    settings: &Settings,
) -> Result<Found, CallError> {
    let described = instances::describe(&clients.ec2, std::slice::from_ref(id)).await?;
    let instance = match interrupted(described.get(id)) {
        Ok(instance) => instance,
        Err(why) => return Ok(Found { group: None, rescue: Err(why) }),
    };
    let group = match group_of(instance) {
        Some(name) => groups::describe(&clients.autoscaling, &name).await?,
        None => None,
    };
    let rescue = rescued(instance, group.as_ref(), settings);
    Ok(Found { group, rescue })
}

/// AWS alone writes the tag.
fn group_of(instance: &Instance) -> Option<spot_domain::GroupName> {
    instance.tags.get(GROUP_NAME_TAG)?.parse().ok()
}

/// Says why a member at risk is not replaced now. AWS's recommendation is no deadline: the notice may never come.
async fn at_risk(
    responder: &Responder,
    heard: &Heard,
    group: &Group,
    settings: &Settings,
    now: Timestamp,
) -> Result<Option<Because>, StepError> {
    if !responder.is_continuous {
        let why = "the stack's parameter Continuous or SchedulesEnabled is false";
        return Ok(Some(Because::of(AnswerReason::LoopIsOff, why)));
    }
    if let Some(why) = not_in_the_loop(group, settings, now) {
        return Ok(Some(why));
    }
    if let Some(held) = responder.swaps.holder(&group.arn).await? {
        let detail = format!("{}: execution {} is working on it", held.lease.on, held.lease.owner);
        return Ok(Some(Because::of(AnswerReason::GroupLeased, detail)));
    }
    let share = (group.members.len(), settings.max_at_risk_percent);
    let admitted = responder.swaps.admit_at_risk(&group.arn, &heard.instance_id, share, now).await?;
    Ok(admitted.err().map(|refused| Because::of(AnswerReason::ShareAtRisk, refused.to_string())))
}
