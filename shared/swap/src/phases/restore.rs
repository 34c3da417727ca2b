//! Restore: resumes AZRebalance if we suspended it, and notes that in the journal. Sets MaxSize as its owner had it, once the
//! group fits below it. Then closes the journal. If a step was repeated, Restore first waits until no call of the earlier try
//! can land.
//! If the swap has launched a second newcomer, the rollback ends it instead.
//!
//! Claims the swap first: the execution may have been redriven after a recovery has ended its swap.

use spot_cloud::auto_scaling::groups;
use spot_cloud::tables::swaps::{Claim, Release};
use spot_cloud::{CallError, RegionClients};
use spot_domain::Reason;
use spot_domain::clock;
use spot_domain::ids::GroupName;
use spot_domain::swap::journal::Original;
use spot_domain::swap::recovery::group::{Action, Observed, next};
use spot_domain::swap::recovery::{Decision, End};
use spot_domain::words::Cause;

use crate::Context;
use crate::error::StepError;
use crate::newcomer::strays;
use crate::recovery::{earlier_calls_may_land, is_max_refused};
use crate::work::{Current, Next, Work};

/// Restores the owner's settings and closes the swap.
///
/// # Errors
/// A call fails, or the group does not fit below its MaxSize by the deadline ([`StepError::Stuck`]).
pub async fn run(
    context: &Context,
    work: &mut Work,
    current: &mut Current,
    original: &Original,
) -> Result<Next, StepError> {
    let repeated_at = current.journal.repeated_at;
    let claim = context.swaps.claim(&work.lease, &mut current.journal).await?;
    // A late call of this very step would set what the owner had. A step that fails each time must not wait each time.
    current.journal.repeated_at = repeated_at;
    if claim == Claim::Granted {
        // What they set would stay for ever.
        let may_wait = clock::now() < current.deadline;
        if may_wait && earlier_calls_may_land(&current.journal, &work.settings) {
            return Ok(Next::Wait);
        }
        let restored = restore(context, work, current, original).await?;
        if restored != Next::Proceed {
            return Ok(restored);
        }
    }
    work.complete(current);
    work.note_ahead(&current.journal.ahead);
    let next = work.next_candidate();
    if claim == Claim::Finished {
        return Ok(next);
    }
    let summary = work.summary();
    work.lease_released = next == Next::Report;
    let release = if work.lease_released { Release::LetGo { summary: &summary } } else { Release::Keep };
    context.swaps.close(&work.lease, &current.journal, End::Finished, release).await?;
    Ok(next)
}

async fn restore(
    context: &Context,
    work: &mut Work,
    current: &mut Current,
    original: &Original,
) -> Result<Next, StepError> {
    let clients = context.clients(work).await?;
    // A launch whose answer was lost may have come to light since. The rollback drains what is a node.
    if let Some(stray) = strays(&clients, &current.journal).await?.first() {
        return Ok(work.undo(Reason::StepFailed, format!("instance {stray}, a second newcomer, goes first")));
    }
    let name = work.group()?.1;
    // Once: who suspends it while MaxSize is waited for is its owner.
    if !original.az_rebalance_suspended && !current.journal.az_rebalance_resumed {
        groups::resume_az_rebalance(&clients.autoscaling, name).await?;
        current.journal.az_rebalance_resumed = true;
        // If a later call fails, the repeated step reads the row, and must not resume it again.
        context.swaps.revise(&work.lease, &mut current.journal).await?;
    }
    if current.journal.max_raised_to.is_some()
        && let Some(group) = context.group(&clients, work).await?
    {
        let observed = Observed { group: Some(group), ..Observed::default() };
        match next(&current.journal, &observed) {
            Decision::Wait(_) if clock::now() < current.deadline => return Ok(Next::Wait),
            Decision::Wait(why) => return Err(StepError::Stuck(format!("group {name}: {why}").into())),
            Decision::Do(Action::RestoreMaxSize(max)) => match max_given_back(&clients, name, max).await? {
                Ok(()) => {}
                Err(_) if clock::now() < current.deadline => return Ok(Next::Wait),
                Err(refused) => return Err(StepError::Stuck(Cause::of(refused))),
            },
            _ => {}
        }
    }
    Ok(Next::Proceed)
}

/// Sets MaxSize as its owner had it. The inner error is AWS's refusal: it may count members that are leaving.
///
/// # Errors
/// The call fails in another way.
pub(super) async fn max_given_back(
    clients: &RegionClients,
    name: &GroupName,
    max: u32,
) -> Result<Result<(), CallError>, CallError> {
    match groups::set_max(&clients.autoscaling, name, max).await {
        Err(refused) if is_max_refused(&refused) => {
            tracing::info!(%name, max, "MaxSize can't go back yet: {refused}");
            Ok(Err(refused))
        }
        answer => answer.map(Ok),
    }
}
