//! Report: alerts people if the swap was rolled back or failed. Releases the leases, keeps the newcomer's pool and returns
//! the result of the run.

use spot_domain::swap::alert::Alert;
use spot_domain::swap::node::{NodeOutcome, NodeSwapReport};
use spot_swap::Context;
use spot_swap::error::StepError;

use crate::work::{NodeRun, NodeWork};

/// Ends the run.
///
/// # Errors
/// A lease can't be released; the reconciler will release it.
pub async fn run(context: &Context, work: NodeWork) -> Result<NodeSwapReport, StepError> {
    let mut report = report(&work);
    report.gate = work.gate;
    let summary = serde_json::to_string(&report.outcome).unwrap_or_default();
    if let Some(run) = &work.run {
        // Before the leases end, the row is what tells if this Lambda dies.
        if !run.swap.dry_run {
            let ended_by = run.swap.ending();
            context.alert(Alert::of_node(&report, ended_by.as_ref(), run.swap.lease.owner.execution())).await;
        }
        // The end of the swap may have released the group's lease already.
        context.swaps.let_go(&run.swap.lease, &summary).await?;
        context.swaps.let_go(&run.slot, &summary).await?;
        context.keep_pools(&run.swap.lease, &run.newcomers()).await;
    }
    tracing::info!(instance_id = %report.instance_id, outcome = %summary, evicted = report.evicted, "ended");
    Ok(report)
}

fn report(work: &NodeWork) -> NodeSwapReport {
    let swap = work.run.as_ref().map(|run| &run.swap);
    let swapped = swap.and_then(|swap| swap.swapped.first());
    let rolled_back = swap.and_then(|swap| swap.rolled_back.last());
    let skipped = work.refused.as_ref().or_else(|| swap.and_then(|swap| swap.skipped.first()));
    let (outcome, left) = match (swapped, rolled_back, skipped) {
        (Some(_), _, _) => (NodeOutcome::Swapped, None),
        (_, Some(left), _) => (NodeOutcome::RolledBack, Some(left)),
        (_, _, Some(left)) => (NodeOutcome::Refused, Some(left)),
        (None, None, None) => (NodeOutcome::Planned, None),
    };
    NodeSwapReport {
        instance_id: work.instance_id.clone(),
        cluster_name: work.cluster.clone(),
        outcome,
        reason: left.map(|left| left.reason),
        detail: left.map(|left| left.detail.clone()),
        new_instance_id: swapped.map(|swapped| swapped.new_instance_id.clone()),
        kept_instance_id: work.run.as_ref().and_then(|run| run.seen.kept.clone()),
        evicted: work.run.as_ref().map_or(0, |run| run.drain.evicted),
        blocked: if outcome == NodeOutcome::Swapped { Vec::new() } else { work.blocked.clone() },
        warnings: work.run.as_ref().map(warnings).unwrap_or_default(),
        plan: work.plan.clone(),
        gate: None,
    }
}

fn warnings(run: &NodeRun) -> Vec<String> {
    let last_ready = run.drain.last_ready_evicted.iter().map(|controller| {
        format!(
            "the last Ready pod of {controller} was evicted near the deadline, before another one was Ready"
        )
    });
    let too_small = run.swap.too_small.iter().map(|known| {
        format!("a newcomer of type {} was launched and undone: {}", known.instance_type, known.why)
    });
    let told = run.seen.warnings.iter().chain(&run.swap.remarks);
    too_small.chain(last_ready).chain(told.cloned()).collect()
}
