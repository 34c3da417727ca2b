//! The first look at a notice: a few reads say if the instance is in our care. Changes nothing but the count of members
//! at risk, and starts at most one execution.

use jiff::Timestamp;
use spot_cloud::auto_scaling::groups;
use spot_cloud::ec2::instances;
use spot_cloud::tables::{accounts, settings};
use spot_cloud::{CallError, RegionClients};
use spot_domain::InstanceId;
use spot_domain::response::verdict::{end_of, interrupted, not_in_the_loop, rescued};
use spot_domain::response::{AnswerReason, Because};
use spot_domain::settings::Settings;
use spot_domain::swap::group::{Group, Instance};
use spot_domain::tags::GROUP_NAME_TAG;
use spot_swap::error::StepError;

use crate::announce::announce;
use crate::context::Responder;
use crate::event::{Announced, Heard};
use crate::executions::Begun;
use crate::work::Answer;

/// What a look at the instance of a notice found.
pub(crate) struct Found {
    /// The group that is tagged as the instance's own, if there is one.
    pub(crate) group: Option<Group>,
    /// Why nothing is done for the instance.
    pub(crate) refused: Option<Because>,
}

/// Hears one notice.
///
/// # Errors
/// Its account is not registered, or a call fails.
pub async fn run(responder: &Responder, heard: Heard) -> Result<Answer, StepError> {
    let (stack, now) = (&responder.stack, Timestamp::now());
    let access = accounts::access(stack, &heard.account_id).await?;
    let settings = settings::load_or_defaults(stack, &heard.account_id, &heard.region).await?;
    let clients = stack.clients(&access, &heard.region, None).await;
    let found = look(&clients, &heard.instance_id, &settings).await?;
    let answer = Answer::about(&heard.account_id, &heard.region, &heard.instance_id);
    let answer = Answer { asg_name: found.group.as_ref().map(|group| group.name.clone()), ..answer };
    let refused = match (found.refused, &found.group, heard.announced) {
        (Some(why), ..) => Some(why),
        (None, Some(_), Announced::Interruption) => end_of(heard.occurred, now).err(),
        (None, Some(group), Announced::Rebalance) => {
            at_risk(responder, &heard, group, &settings, now).await?
        }
        (None, None, _) => None,
    };
    match (refused, found.group) {
        (None, Some(group)) => {
            let Begun { execution, is_new } = responder.executions.start(&heard, &group.name).await?;
            let started = Answer { execution_arn: Some(execution), ..answer };
            if heard.announced == Announced::Rebalance && is_new {
                announce(responder, &started).await;
            }
            Ok(started)
        }
        (refused, _) => {
            let because =
                refused.unwrap_or_else(|| Because::of(AnswerReason::NotInGroup, "it is in no group"));
            let is_ours = !because.reason.is_none_of_ours();
            let ignored = answer.ignored(because);
            if is_ours {
                announce(responder, &ignored).await;
            }
            Ok(ignored)
        }
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
        Err(why) => return Ok(Found { group: None, refused: Some(why) }),
    };
    let group = match group_of(instance) {
        Some(name) => groups::describe(&clients.autoscaling, &name).await?,
        None => None,
    };
    let refused = rescued(instance, group.as_ref(), settings).err();
    Ok(Found { group, refused })
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
        return Ok(Some(Because::of(AnswerReason::LoopIsOff, "the stack's parameter Continuous is false")));
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
