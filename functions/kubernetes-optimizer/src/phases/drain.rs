//! Drain: one short pass of evictions; the state machine comes again until no pod is left that must move,
//! the replacements of those that moved are Ready, and their volumes are detached. Past the deadline the
//! way is back, and the output tells which pod and which budget stood against it.
//!
//! Records nothing: what was evicted can't be un-evicted, and what is left to do stands in the cluster.

use jiff::Timestamp;
use spot_cloud::instances;
use spot_cluster::pods::Blocked;
use spot_cluster::{drain, node, volumes};
use spot_domain::Reason;
use spot_domain::node_swap::BlockedPod;
use spot_swap::error::StepError;
use spot_swap::phases::wait_for_health::undo_if_at_risk;
use spot_swap::work::{Current, Next};
use spot_swap::{Context, nodes};

use crate::phases::await_ready::not_ready;
use crate::work::{NodeRun, NodeWork};

/// Seconds between two passes: no pod is asked more often while its budget blocks it.
const PAUSE_SECONDS: u32 = 5;
/// Passes at most. Step Functions ends an execution at 25,000 events of history; a pass makes about ten.
const PASSES: u32 = 1_000;
/// Blocked pods that travel with the work, whose payload is 256 KiB at most.
pub(crate) const BLOCKED_LISTED: usize = 100;

/// One pass.
///
/// # Errors
/// A call fails.
pub async fn run(context: &Context, work: &mut NodeWork) -> Result<Next, StepError> {
    let (run, blocked) = work.run()?;
    let current = run.take_current()?;
    let next = pass(context, run, blocked, &current).await?;
    run.swap.current = Some(current);
    Ok(next)
}

async fn pass(
    context: &Context,
    run: &mut NodeRun,
    blocked: &mut Vec<BlockedPod>,
    current: &Current,
) -> Result<Next, StepError> {
    if let Some(undo) = newcomer_at_risk(context, run, current).await? {
        return Ok(undo);
    }
    let why = match look_and_evict(context, run, blocked, current).await {
        Ok(Left::Nothing) => return Ok(Next::Proceed),
        Ok(Left::Undo(reason, detail)) => return Ok(run.swap.undo(reason, detail)),
        // An API server that starts forbids what it grants a moment later, when it has read the roles.
        Ok(Left::Waiting(why)) | Err(StepError::ClusterSilent(why) | StepError::NotAuthorized(why)) => why,
        Err(error) => return Err(error),
    };
    if Timestamp::now() < run.drain_until() {
        run.swap.pause_seconds = PAUSE_SECONDS.max(run.drain_timeout_seconds / PASSES);
        return Ok(Next::Wait);
    }
    let first =
        blocked.first().map(|b| format!("; {}/{}: {}", b.namespace, b.pod, b.why)).unwrap_or_default();
    let detail = format!("{} s after the drain began: {why}{first}", run.drain_timeout_seconds);
    Ok(run.swap.undo(Reason::DrainTimedOut, detail))
}

/// What a pass leaves.
pub(crate) enum Left {
    /// The pods run elsewhere.
    Nothing,
    /// Something is still in motion.
    Waiting(String),
    /// The world has changed: back.
    Undo(Reason, String),
}

/// One pass over the old node, if the world is as it was.
pub(crate) async fn look_and_evict(
    context: &Context,
    run: &mut NodeRun,
    blocked: &mut Vec<BlockedPod>,
    current: &Current,
) -> Result<Left, StepError> {
    let client = nodes::connect_for(context, &run.swap, &run.node).await?;
    if let Some(why) = not_ready(&client, run, current).await? {
        return Ok(Left::Undo(Reason::NodeNotReady, format!("newcomer {}: {why}", current.newcomer)));
    }
    let Some(old) = node::get(&client, &run.node.old).await? else {
        return Ok(Left::Undo(Reason::InstanceGone, format!("node {} is gone", run.node.old)));
    };
    if !old.is_unschedulable || old.cordoned_by.as_deref() != Some(current.journal.swap_id.as_str()) {
        let detail = format!("somebody else uncordoned or cordoned node {} meanwhile", run.node.old);
        return Ok(Left::Undo(Reason::CordonedByOthers, detail));
    }
    let pass = drain::pass(&client, &run.node.old, nodes::policy(&run.node), run.drain.clone()).await?;
    run.drain = pass.state;
    if let Some(trouble) = pass.trouble {
        tracing::warn!(node = %run.node.old, "a pass was cut short: {trouble}");
    }
    *blocked = pass.blocked.into_iter().take(BLOCKED_LISTED).map(blocked_pod).collect();
    if !pass.is_done {
        return Ok(Left::Waiting(format!("{} pods are left on node {}", pass.remaining.len(), run.node.old)));
    }
    Ok(unsettled(&client, run).await?.map_or(Left::Nothing, Left::Waiting))
}

/// As the output spells it.
pub(crate) fn blocked_pod(blocked: Blocked) -> BlockedPod {
    BlockedPod { pod: blocked.pod, namespace: blocked.namespace, budget: blocked.budget, why: blocked.why }
}

/// The pods must find a place to go to: a newcomer that is at risk is none.
async fn newcomer_at_risk(
    context: &Context,
    run: &mut NodeRun,
    current: &Current,
) -> Result<Option<Next>, StepError> {
    let target = context.target(&run.swap).await;
    if !instances::is_running(&target.ec2, &current.newcomer).await? {
        let detail = format!("newcomer {} no longer runs", current.newcomer);
        return Ok(Some(run.swap.undo(Reason::NewcomerAtRisk, detail)));
    }
    undo_if_at_risk(context, &target, &mut run.swap, current).await
}

/// What is still in motion once the pods are gone: a replacement that is not Ready, a volume that is not
/// detached.
async fn unsettled(client: &kube::Client, run: &NodeRun) -> Result<Option<String>, StepError> {
    if let Some(missing) = drain::migrated(client, &run.drain).await?.first() {
        let (controller, ready, wanted) = (&missing.controller, missing.ready, missing.wanted);
        let (kind, namespace, name) = (&controller.kind, &controller.namespace, &controller.name);
        return Ok(Some(format!("{ready} of {wanted} pods of {kind} {namespace}/{name} are Ready")));
    }
    let attached = volumes::attached(client, &run.node.old, nodes::policy(&run.node)).await?;
    Ok(attached.first().map(|volume| format!("volume {volume} is still attached to node {}", run.node.old)))
}
