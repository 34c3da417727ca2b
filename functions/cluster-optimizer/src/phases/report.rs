//! Report: releases the lease, keeps the newcomers' pools, reports the result of the run, and shows it in two tags of the
//! group.

use jiff::Timestamp;
use spot_cloud::auto_scaling::groups;
use spot_cloud::{CallError, RegionClients};
use spot_domain::swap::report::{Planned, SwapReport};
use spot_domain::swap::run_tags::{LAST_ERROR_TAG, LAST_RUN_TAG, RunTags};
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
    let may_tag = !work.dry_run && work.settings.write_group_tags;
    let clients = if may_tag { Some(context.clients(&work).await) } else { None };
    let report = SwapReport {
        asg_name: work.group()?.1.clone(),
        remaining: work.queue.len() + work.deferred,
        executions_needed: work.executions_needed(),
        ended_by: work.ending(),
        skipped_more: work.skipped_more.clone(),
        gate: context.gate_view(&work.lease),
        planned: work.dry_run.then(|| planned(&work)),
        account_id: work.lease.account_id,
        region: work.lease.region,
        swapped: work.swapped,
        skipped: work.skipped,
        rolled_back: work.rolled_back,
        remarks: work.remarks,
    };
    if let Some(clients) = clients {
        show(clients, &report).await;
    }
    Ok(report)
}

/// Shows the result in two tags of the group. A failure is a warning: no run fails for it.
async fn show(clients: Result<RegionClients, StepError>, report: &SwapReport) {
    let written = match clients {
        Ok(clients) => tag(&clients, report).await.map_err(StepError::from),
        Err(error) => Err(error),
    };
    if let Err(error) = written {
        tracing::warn!(asg_name = %report.asg_name, "its tags are not written: {error}");
    }
}

async fn tag(clients: &RegionClients, report: &SwapReport) -> Result<(), CallError> {
    let (autoscaling, name) = (&clients.autoscaling, &report.asg_name);
    let RunTags { last_run, last_error } = RunTags::of(report, Timestamp::now());
    let Some(error) = last_error else {
        groups::set_tags(autoscaling, name, &[(LAST_RUN_TAG, last_run)]).await?;
        return groups::remove_tag(autoscaling, name, LAST_ERROR_TAG).await;
    };
    groups::set_tags(autoscaling, name, &[(LAST_RUN_TAG, last_run), (LAST_ERROR_TAG, error)]).await
}

fn planned(work: &Work) -> Vec<Planned> {
    let plan = |candidate: &Candidate| {
        let pool = candidate.pools.first()?.clone();
        let monthly_saving_usd = candidate.prices.monthly_saving(&pool.instance_type);
        Some(Planned { instance_id: candidate.instance_id.clone(), pool, monthly_saving_usd })
    };
    work.queue.iter().take(work.max_swaps as usize).filter_map(plan).collect()
}
