//! Rollback: by the journal, back to the old node: schedulable again if it was we who cordoned it; the
//! newcomer's pods evicted under their budgets before it leaves; the group as its owner had it. Where the
//! old instance is gone already, forward to the end of the swap. A newcomer whose pods can't leave it stays; the report
//! says so.

use std::sync::Mutex;

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
    let (lease, access) = (run.swap.lease.clone(), run.swap.access.clone());
    let kept = Mutex::new(None);
    let next = rollback::run(context, &mut run.swap, failure, async |journal, observed, action| {
        let permission = nodes::permit(&context.stack, &lease, &access, journal, observed, action).await;
        if let Ok(mut kept) = kept.lock() {
            *kept = journal.kept.as_ref().map(|kept| kept.instance_id.clone());
        }
        permission
    })
    .await?;
    run.seen.kept = kept.into_inner().unwrap_or_default();
    Ok(if next == Next::NextTarget { Next::Report } else { next })
}
