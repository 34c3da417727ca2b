//! Restore: resumes AZRebalance if we suspended it. Sets MaxSize as its owner had it, once the group fits below
//! it. Then closes the journal.

use jiff::Timestamp;
use spot_cloud::auto_scaling::groups;
use spot_cloud::tables::swaps::{Release, SwapsError};
use spot_domain::swap::recovery::group::{Action, Observed, next};

use crate::Context;
use crate::error::StepError;
use crate::work::{Current, Next, Work};

/// Restores the owner's settings and closes the swap.
///
/// # Errors
/// A call fails, or the group does not fit below its MaxSize by the deadline ([`StepError::Stuck`]).
pub async fn run(context: &Context, work: &mut Work, current: &Current) -> Result<Next, StepError> {
    let clients = context.clients(work).await?;
    let name = work.group()?.1.clone();
    if current.journal.original.as_ref().is_some_and(|original| !original.az_rebalance_suspended) {
        groups::resume_az_rebalance(&clients.autoscaling, &name).await?;
    }
    if current.journal.max_raised_to.is_some()
        && let Some(mut group) = context.group(&clients, work).await?
    {
        group.suspended.clear(); // resumed right above
        let observed = Observed {
            group: Some(group),
            old_alive: false,
            old_has_group_tag: false,
            newcomer: None,
            launch_may_be_invisible: false,
            calls_may_land: false,
            draining: vec![],
        };
        match next(&current.journal, &observed) {
            Action::Wait(_) if Timestamp::now() < current.deadline => return Ok(Next::Wait),
            Action::Wait(why) => return Err(StepError::Stuck(format!("group {name}: {why}"))),
            Action::RestoreMaxSize(max) => groups::set_max(&clients.autoscaling, &name, max).await?,
            _ => {}
        }
    }
    work.done(current.swapped());
    let next = work.next_candidate();
    let summary = work.summary();
    work.lease_released = next == Next::Report;
    let release = if work.lease_released { Release::LetGo { summary: &summary } } else { Release::Keep };
    match context.swaps.close(&work.lease, release).await {
        // An earlier run of this step released the lease already.
        Ok(()) | Err(SwapsError::LeaseLost { .. }) => Ok(next),
        Err(error) => Err(error.into()),
    }
}
