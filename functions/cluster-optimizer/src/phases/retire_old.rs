//! RetireOld: N+1 → N. Reads the group again; if the world is not as it was, back. Without a
//! terminating lifecycle hook the old instance is detached alive; with one the group terminates it,
//! so that the owner's hook runs.
//!
//! Records, before the call: that the old instance may be leaving. From there the way is forward.

use spot_cloud::{CallError, Kind, groups};
use spot_domain::Reason;
use spot_domain::journal::{Retirement, Stage};
use spot_domain::selection::{Change, changed_before_retirement};

use crate::Optimizer;
use crate::error::StepError;
use crate::phases::wait_for_health::{LastLook, last_look};
use crate::work::{Current, Next, Work, deadline};

/// Lets the old instance go.
///
/// # Errors
/// A call fails in a way that may pass: the step is repeated.
pub async fn run(optimizer: &Optimizer, work: &mut Work, current: &mut Current) -> Result<Next, StepError> {
    let target = optimizer.target(work).await;
    let old = &current.candidate.instance_id;
    // Young Spot instances die often: the newcomer's pool is looked at once more.
    if let LastLook::AtRisk(why) = last_look(optimizer, current).await {
        return Ok(work.undo(Reason::NewcomerAtRisk, why));
    }
    let group = groups::describe(&target.autoscaling, &work.lease.asg_name).await?;
    let change = match group.filter(|g| g.arn == work.lease.target) {
        None => Some(Change::deleted()),
        Some(group) => {
            let desired = current.journal.original.desired;
            changed_before_retirement(&group, old, &current.newcomer, desired)
        }
    };
    if let Some(change) = change {
        return Ok(work.undo_for(change));
    }
    current.journal.stage = Stage::Retiring;
    optimizer.swaps.write(&work.lease, &current.journal).await?;
    current.deadline = deadline(work.settings.retire_timeout_seconds);
    let retired = match current.journal.retirement {
        Retirement::Detach => groups::detach(&target.autoscaling, &work.lease.asg_name, old).await,
        Retirement::TerminateInGroup => groups::terminate(&target.autoscaling, old).await,
    };
    retired.map_or_else(|error| rejected(work, error), |()| Ok(Next::Proceed))
}

fn rejected(work: &mut Work, error: CallError) -> Result<Next, StepError> {
    if error.kind == Kind::Rejected {
        return Ok(work.undo(Reason::RetireRejected, error.to_string()));
    }
    Err(error.into())
}
