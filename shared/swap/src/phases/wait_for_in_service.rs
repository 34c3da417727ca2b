//! WaitForInService: the newcomer must be InService, and healthy in every target group of the
//! group. Changes nothing.

use jiff::Timestamp;
use spot_cloud::Target;
use spot_cloud::target_groups::{self, TargetHealth};
use spot_domain::Reason;
use spot_domain::group::{Group, MemberState};
use spot_domain::selection::Change;

use crate::Context;
use crate::error::StepError;
use crate::work::{Current, Next, Work};

/// Looks once.
///
/// # Errors
/// A call fails.
pub async fn run(context: &Context, work: &mut Work, current: &Current) -> Result<Next, StepError> {
    let target = context.target(work).await;
    let newcomer = &current.newcomer;
    let Some(group) = context.group(&target, work).await? else {
        return Ok(work.undo_for(Change::deleted()));
    };
    let waiting_for = match group.member(newcomer) {
        Some(m) if m.serves() => match target_health(&target, &group, current).await? {
            None => return Ok(Next::Proceed),
            Some(why) => why,
        },
        Some(m) if m.state == MemberState::Leaving => {
            return Ok(
                work.undo(Reason::NewcomerNotServing, format!("the group is dismissing newcomer {newcomer}"))
            );
        }
        Some(m) => format!("it is {:?}, healthy: {}", m.state, m.healthy),
        None => "it is not in the group".to_owned(),
    };
    if Timestamp::now() < current.deadline {
        return Ok(Next::Wait);
    }
    let seconds = work.settings.in_service_timeout_seconds;
    Ok(work.undo(
        Reason::NewcomerNotServing,
        format!("newcomer {newcomer}, {seconds} s after attach: {waiting_for}"),
    ))
}

/// What the target groups still lack; `None` if nothing.
async fn target_health(
    target: &Target,
    group: &Group,
    current: &Current,
) -> Result<Option<String>, StepError> {
    if group.target_group_arns.is_empty() {
        return Ok(None);
    }
    let health = target_groups::health(&target.elbv2, &group.target_group_arns, &current.newcomer).await?;
    Ok((health != TargetHealth::Healthy).then(|| format!("its target groups say {health:?}")))
}
