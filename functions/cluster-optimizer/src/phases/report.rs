//! Report: releases the lease and says what came of the run.

use spot_cloud::swaps::{Release, SwapsError};
use spot_domain::swap::{Planned, SwapReport};

use crate::Optimizer;
use crate::error::StepError;
use crate::work::Work;

/// Ends the run.
///
/// # Errors
/// The lease can't be released; the reconciler will.
pub async fn run(optimizer: &Optimizer, work: Work) -> Result<SwapReport, StepError> {
    let planned = work.dry_run.then(|| {
        let first = |c: &spot_domain::selection::Candidate| {
            Some(Planned { instance_id: c.instance_id.clone(), pool: c.pools.first()?.clone() })
        };
        work.queue.iter().take(work.max_swaps as usize).filter_map(first).collect()
    });
    if !work.dry_run {
        let summary = format!(
            "{} swapped, {} skipped, {} rolled back",
            work.swapped.len(),
            work.skipped.len(),
            work.rolled_back.len()
        );
        match optimizer.swaps.close(&work.lease, Release::LetGo { summary: &summary }).await {
            Ok(()) | Err(SwapsError::LeaseLost { .. }) => {} // let go already, by an earlier run of this step
            Err(error) => return Err(error.into()),
        }
        tracing::info!(asg_name = %work.lease.asg_name, "{summary}");
    }
    Ok(SwapReport {
        asg_name: work.lease.asg_name,
        account_id: work.lease.account_id,
        region: work.lease.region,
        swapped: work.swapped,
        skipped: work.skipped,
        rolled_back: work.rolled_back,
        remaining: work.queue.len() + work.deferred,
        planned,
    })
}
