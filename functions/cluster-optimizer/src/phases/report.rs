//! Report: releases the lease and says what came of the run.

use std::collections::BTreeSet;

use spot_domain::swap::{Planned, SwapReport};

use spot_cloud::{CallError, prices};

use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::work::Work;

/// Ends the run.
///
/// # Errors
/// The lease can't be released; the reconciler will.
pub async fn run(context: &Context, mut work: Work) -> Result<SwapReport, StepError> {
    let planned = work.dry_run.then(|| {
        let first = |c: &spot_domain::selection::Candidate| {
            Some(Planned { instance_id: c.instance_id.clone(), pool: c.pools.first()?.clone() })
        };
        work.queue.iter().take(work.max_swaps as usize).filter_map(first).collect()
    });
    if !work.dry_run {
        // The last swap's Restore may have done so.
        if !work.lease_released {
            context.swaps.let_go(&work.lease, &work.summary()).await?;
        }
        tracing::info!(on = %work.lease.on, "{}", work.summary());
        price(context, &mut work).await.unwrap_or_else(|error| {
            tracing::warn!("the swaps are done, their saving is not known: {error}");
        });
    }
    Ok(SwapReport {
        asg_name: work.group()?.1.clone(),
        account_id: work.lease.account_id,
        region: work.lease.region,
        swapped: work.swapped,
        skipped: work.skipped,
        rolled_back: work.rolled_back,
        remaining: work.queue.len() + work.deferred,
        planned,
    })
}

/// On-Demand price of the old minus Spot price of the new, a month.
async fn price(context: &Context, work: &mut Work) -> Result<(), CallError> {
    if work.to_price.is_empty() {
        return Ok(());
    }
    let target = context.target(work).await;
    let types: BTreeSet<_> = work.swapped.iter().map(|s| s.pool.instance_type.clone()).collect();
    let spot = prices::spot(&target.ec2, &types).await?;
    for swap in &work.to_price {
        let Some(done) = work.swapped.iter_mut().find(|s| s.new_instance_id == swap.new_instance_id) else {
            continue;
        };
        let before = prices::on_demand(&context.stack, &work.lease.region, &swap.old_type).await?;
        let after = spot.get(&(done.pool.instance_type.clone(), swap.availability_zone.clone())).copied();
        done.monthly_saving_usd = before.zip(after).map(|(before, after)| (before - after).per_month());
    }
    Ok(())
}
