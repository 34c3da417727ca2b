//! Report: reports the result of the run, and alerts people if something was rolled back, or the run failed. Releases the
//! lease, keeps the newcomers' pools, and shows the result in two tags of the group.

use spot_cloud::RegionClients;
use spot_cloud::auto_scaling::groups;
use spot_domain::clock;
use spot_domain::swap::alert::Alert;
use spot_domain::swap::group::Group;
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
    let (lease, summary, newcomers) = (work.lease.clone(), work.summary(), work.newcomers());
    let (dry_run, lease_released) = (work.dry_run, work.lease_released);
    let may_tag = !work.dry_run && work.settings.write_group_tags;
    let tagged = if may_tag { Some(tagged(context, &work).await) } else { None };
    let report = SwapReport {
        asg_name: work.group()?.1.clone(),
        remaining: work.queue.len().saturating_add(work.deferred),
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
    };
    // Before the lease ends, the row is what tells if this Lambda dies.
    context.alert(Alert::of_group(&report, lease.owner.execution())).await;
    if !dry_run {
        // The last swap's Restore may have released the lease.
        if !lease_released {
            context.swaps.let_go_once_ended(&lease, &summary).await?;
        }
        context.keep_pools(&lease, &newcomers).await;
        tracing::info!(on = %lease.on, "{summary}");
    }
    if let Some(tagged) = tagged
        && let Err(error) = show(tagged, &report).await
    {
        // No run fails for it.
        tracing::warn!(asg_name = %report.asg_name, "its tags are not written: {error}");
    }
    Ok(report)
}

/// Returns the group of the run as it is now, unless it was deleted.
async fn tagged(context: &Context, work: &Work) -> Result<Option<(RegionClients, Group)>, StepError> {
    let clients = context.clients(work).await?;
    Ok(context.group(&clients, work).await?.map(|group| (clients, group)))
}

/// Shows the result in two tags of the group.
async fn show(
    tagged: Result<Option<(RegionClients, Group)>, StepError>,
    report: &SwapReport,
) -> Result<(), StepError> {
    let Some((clients, group)) = tagged? else { return Ok(()) };
    let RunTags { last_run, last_error } = RunTags::of(report, clock::now());
    let has_no_error = last_error.is_none();
    let tags = [Some((LAST_RUN_TAG, last_run)), last_error.map(|error| (LAST_ERROR_TAG, error))];
    groups::set_tags(&clients.autoscaling, &group.name, tags.into_iter().flatten()).await?;
    if has_no_error && group.tags.contains_key(LAST_ERROR_TAG) {
        groups::remove_tag(&clients.autoscaling, &group.name, LAST_ERROR_TAG).await?;
    }
    Ok(())
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
