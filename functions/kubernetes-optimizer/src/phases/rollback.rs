//! Rollback: restores the old node, by the journal. The node becomes schedulable again if we cordoned it. The
//! newcomer's pods are evicted under their budgets before the newcomer leaves, and the group gets its owner's
//! settings back. If the old instance is gone already, the swap goes forward to its end. If the newcomer's pods
//! can't leave it, the newcomer stays, and the report says so.

use spot_cloud::launch::gatekeeper::Gatekeeper;
use spot_domain::swap::journal::Journal;
use spot_domain::swap::selection::Candidate;
use spot_swap::error::StepError;
use spot_swap::phases::rollback::{self, Visited};
use spot_swap::recovery::Visit;
use spot_swap::work::Next;
use spot_swap::{Context, StepFailure};

use crate::work::{NodeRun, NodeWork};

/// Makes one visit.
///
/// # Errors
/// A call fails, or the rollback does not end by its deadline ([`StepError::Stuck`]). The reconciler then resumes
/// it.
pub async fn run(
    context: &Context,
    work: &mut NodeWork,
    failure: Option<&StepFailure>,
) -> Result<Next, StepError> {
    let (run, _) = work.run()?;
    let access = context.access(&run.swap).await?;
    let current = run.swap.current.clone();
    let recover = async |gatekeeper: &Gatekeeper, visit: Visit<'_>, journal: &mut Journal| {
        spot_nodes::recover_node(&context.stack, &access, gatekeeper, visit, journal).await
    };
    let Visited { next, kept } = rollback::run(context, &mut run.swap, failure, recover).await?;
    let launched = current.as_ref().filter(|current| kept.as_ref() == Some(&current.newcomer));
    run.note_kept(kept, launched.map(|current| current.pool.clone()));
    Ok(match next {
        Next::NextCandidate | Next::Report => again(run, current.map(|current| current.candidate)),
        next => next,
    })
}

/// Continues with the next type if the tried one is too small. Otherwise ends the run.
fn again(run: &mut NodeRun, tried: Option<Candidate>) -> Next {
    let Some(tried) = tried.filter(|_| run.may_try_another_type()) else { return Next::Report };
    if tried.pools.iter().all(|pool| run.swap.is_too_small(&pool.instance_type)) {
        return Next::Report;
    }
    run.begin_again();
    Next::NextCandidate
}
