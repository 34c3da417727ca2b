//! Report: releases the lease, keeps the newcomers' pools and reports the result of the run.

use spot_domain::swap::report::{Planned, SwapReport};
use spot_domain::swap::selection::Candidate;

use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::work::Work;

/// Ends the run.
///
/// # Errors
/// The lease can't be released; the reconciler will release it.
pub async fn run(context: &Context, work: Work) -> Result<SwapReport, StepError> {
    if !work.dry_run {
        // The last swap's Restore may have released the lease.
        if !work.lease_released {
            context.swaps.let_go(&work.lease, &work.summary()).await?;
        }
        context.keep_pools(&work.lease, &work.newcomers()).await;
        tracing::info!(on = %work.lease.on, "{}", work.summary());
    }
    Ok(SwapReport {
        asg_name: work.group()?.1.clone(),
        remaining: work.queue.len() + work.deferred,
        executions_needed: work.executions_needed(),
        continuation: work.continuation(),
        ended_by: work.ending(),
        skipped_more: work.skipped_more.clone(),
        gate: work.gate_view(),
        planned: work.dry_run.then(|| planned(&work)),
        account_id: work.lease.account_id,
        region: work.lease.region,
        swapped: work.swapped,
        skipped: work.skipped,
        rolled_back: work.rolled_back,
        remarks: work.remarks,
    })
}

fn planned(work: &Work) -> Vec<Planned> {
    let plan = |candidate: &Candidate| {
        let pool = candidate.pools.first()?.clone();
        Some(Planned {
            instance_id: candidate.instance_id.clone(),
            from: candidate.from,
            to: candidate.to,
            monthly_saving_usd: candidate.monthly_saving(&pool.instance_type),
            pool,
        })
    };
    work.queue.iter().take(work.max_swaps as usize).filter_map(plan).collect()
}
