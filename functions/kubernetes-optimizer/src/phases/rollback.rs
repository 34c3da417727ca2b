//! Rollback: by the journal, back to the old node: schedulable again if it was we who cordoned it; the
//! newcomer's pods evicted under their budgets before it leaves; the group as its owner had it. Where the
//! old instance is gone already, forward to the end of the swap. A newcomer whose pods can't leave it stays; the report
//! says so.

use std::sync::Mutex;

use spot_domain::selection::Candidate;
use spot_swap::error::StepError;
use spot_swap::phases::rollback;
use spot_swap::work::Next;
use spot_swap::{Context, StepFailure};

use crate::work::{NodeRun, NodeWork};

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
    let current = run.swap.current.clone();
    let kept = Mutex::new(None);
    let next = rollback::run(context, &mut run.swap, failure, async |journal, observed, action| {
        let permission = spot_nodes::permit(&context.stack, &lease, &access, journal, observed, action).await;
        if let Ok(mut kept) = kept.lock() {
            *kept = journal.kept.as_ref().map(|kept| kept.instance_id.clone());
        }
        permission
    })
    .await?;
    let kept = kept.into_inner().unwrap_or_default();
    let launched = current.as_ref().filter(|current| kept.as_ref() == Some(&current.newcomer));
    run.note_kept(kept, launched.map(|current| current.pool.clone()));
    Ok(match next {
        Next::NextTarget | Next::Report => again(run, current.map(|current| current.candidate)),
        next => next,
    })
}

/// Goes on with the next type where the one that was tried is too small, else ends.
fn again(run: &mut NodeRun, tried: Option<Candidate>) -> Next {
    let Some(tried) = tried.filter(|_| run.may_try_another_type()) else { return Next::Report };
    if tried.pools.iter().all(|pool| run.swap.is_too_small(&pool.instance_type)) {
        return Next::Report;
    }
    run.begin_again();
    Next::NextTarget
}
