//! Rollback: by the journal, back to the old node: schedulable again if it was we who cordoned it; the
//! newcomer's pods evicted under their budgets before it leaves; the group as its owner had it. Where the
//! old instance is gone already, forward to the end of the swap.

use spot_swap::error::StepError;
use spot_swap::phases::rollback;
use spot_swap::work::Next;
use spot_swap::{Context, StepFailure, nodes};

use crate::work::NodeWork;

/// One visit.
///
/// # Errors
/// A call fails, or the rollback does not end by its deadline ([`StepError::Stuck`]): the
/// reconciler goes on.
pub async fn run(
    context: &Context,
    work: &mut NodeWork,
    failure: Option<&StepFailure>,
) -> Result<Next, StepError> {
    let (run, _) = work.run()?;
    let (lease, access) = (run.swap.lease.clone(), context.access(&run.swap).await?);
    let next = rollback::run(context, &mut run.swap, failure, async |journal, observed, action| {
        nodes::permit(&context.stack, &lease, &access, journal, observed, action).await
    })
    .await?;
    Ok(if next == Next::NextTarget { Next::Report } else { next })
}
