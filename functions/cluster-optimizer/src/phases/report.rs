//! Report: releases the lease and says what came of the run.

use std::collections::BTreeSet;

use spot_cloud::swaps::{Release, SwapsError};
use spot_domain::swap::{Planned, SwapReport};

use spot_cloud::{CallError, prices};

use crate::Optimizer;
use crate::error::StepError;
use crate::work::Work;

/// Ends the run.
///
/// # Errors
/// The lease can't be released; the reconciler will.
pub async fn run(optimizer: &Optimizer, mut work: Work) -> Result<SwapReport, StepError> {
    let planned = work.dry_run.then(|| {
        let first = |c: &spot_domain::selection::Candidate| {
            Some(Planned { instance_id: c.instance_id.clone(), pool: c.pools.first()?.clone() })
        };
        work.queue.iter().take(work.max_swaps as usize).filter_map(first).collect()
    });
    if !work.dry_run {
        release(optimizer, &work).await?;
        tracing::info!(asg_name = %work.lease.asg_name, "{}", work.summary());
        price(optimizer, &mut work).await.unwrap_or_else(|error| {
            tracing::warn!("the swaps are done, their saving is not known: {error}");
        });
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

/// Lets the lease go, unless the last swap's Restore did.
async fn release(optimizer: &Optimizer, work: &Work) -> Result<(), StepError> {
    if work.lease_released {
        return Ok(());
    }
    match optimizer.swaps.close(&work.lease, Release::LetGo { summary: &work.summary() }).await {
        // Let go already, by an earlier run of this step.
        Ok(()) | Err(SwapsError::LeaseLost { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// On-Demand price of the old minus Spot price of the new, a month.
async fn price(optimizer: &Optimizer, work: &mut Work) -> Result<(), CallError> {
    if work.to_price.is_empty() {
        return Ok(());
    }
    let target = optimizer.target(work).await;
    let types: BTreeSet<_> = work.swapped.iter().map(|s| s.pool.instance_type.clone()).collect();
    let spot = prices::spot(&target.ec2, &types).await?;
    for swap in &work.to_price {
        let Some(done) = work.swapped.iter_mut().find(|s| s.new_instance_id == swap.new_instance_id) else {
            continue;
        };
        let before = prices::on_demand(&optimizer.stack, &work.lease.region, &swap.old_type).await?;
        let after = spot.get(&(done.pool.instance_type.clone(), swap.availability_zone.clone())).copied();
        done.monthly_saving_usd = before.zip(after).map(|(before, after)| (before - after).per_month());
    }
    Ok(())
}
