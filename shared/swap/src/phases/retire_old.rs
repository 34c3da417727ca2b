//! RetireOld: N+1 → N. Looks at the group again; if the world is not as it was, back.
//! Without a terminating lifecycle hook the old instance is detached alive; with one the group
//! terminates it, so that the owner's hook runs.
//!
//! Records, before the call: that the old instance may be leaving. From there the way is forward,
//! unless the newcomer fails before the old instance is terminated.

use spot_cloud::groups::{self, Desired};
use spot_cloud::swaps::Entered;
use spot_cloud::{CallError, Kind, Target, instances};
use spot_domain::Reason;
use spot_domain::group::MemberState;
use spot_domain::journal::{Retirement, Stage};
use spot_domain::selection::{Change, changed_before_retirement};

use crate::Context;
use crate::error::StepError;
use crate::phases::wait_for_health::undo_if_at_risk;
use crate::work::{Current, Next, Work};

/// Lets the old instance go.
///
/// # Errors
/// A call fails in a way that may pass: the step is repeated.
pub async fn run(context: &Context, work: &mut Work, current: &mut Current) -> Result<Next, StepError> {
    let target = context.target(work).await;
    // From here there is no way back; a detached instance is looked at once more before it goes.
    if current.journal.retirement == Retirement::TerminateInGroup
        && let Some(undo) = undo_if_at_risk(context, &target, work, current).await?
    {
        return Ok(undo);
    }
    // Its group may not have noticed yet that the newcomer is dying.
    if !instances::is_running(&target.ec2, &current.newcomer).await? {
        let why = format!("newcomer {} no longer runs", current.newcomer);
        return Ok(work.undo(Reason::NewcomerAtRisk, why));
    }
    let Some(group) = context.group(&target, work).await? else {
        return Ok(work.undo_for(Change::deleted()));
    };
    let old = &current.candidate.instance_id;
    let Some(original) = &current.journal.original else {
        return Err(StepError::Protocol("the journal does not tell how the group was".into()));
    };
    let change = changed_before_retirement(&group, old, &current.newcomer, original);
    if let Some(change) = change {
        return Ok(work.undo_for(change));
    }
    current.journal.stage = Stage::Retiring;
    if let Entered::Again(earlier) = context.swaps.enter(&work.lease, &current.journal).await? {
        current.journal = earlier;
    }
    current.deadline = work.wait_at_most(work.settings.retire_timeout_seconds);
    let retired = match current.journal.retirement {
        Retirement::Detach => groups::detach(&target.autoscaling, work.group()?.1, old).await,
        Retirement::TerminateInGroup => groups::terminate(&target.autoscaling, old, Desired::Decrement).await,
    };
    match retired {
        Ok(()) => Ok(Next::Proceed),
        Err(error) if error.kind == Kind::Rejected => refused(context, &target, work, current, &error).await,
        Err(error) => Err(error.into()),
    }
}

/// The SDK repeats a call whose answer it lost, and the second is refused because of the first: the
/// group tells whether the old instance is leaving on our behalf.
async fn refused(
    context: &Context,
    target: &Target,
    work: &mut Work,
    current: &Current,
    error: &CallError,
) -> Result<Next, StepError> {
    let group = context.group(target, work).await?;
    let old = &current.candidate.instance_id;
    let original = current.journal.original.as_ref();
    let is_leaving = group.is_some_and(|group| {
        let left = group.member(old).is_none_or(|m| m.state == MemberState::Leaving);
        left && original.is_some_and(|original| group.desired == original.desired)
    });
    Ok(if is_leaving { Next::Proceed } else { work.undo(Reason::RetireRejected, error.to_string()) })
}
