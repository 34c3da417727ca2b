//! Cordon: no new pod is scheduled on the old node, and load balancers leave the node out. The node bears the
//! swap's id as our mark. Undone by: uncordoning the nodes that bear that mark. The journal has named the old node
//! since before the launch.
//!
//! Right before the cordon, the newcomer must still be able to hold the pods. Right after the cordon, and before
//! the first eviction, the preflight runs once more. If a pod that came to the node since the launch could never
//! be evicted, the swap goes back. If a pod ends by itself, the phase waits for it, for as long as a drain may
//! take. During that wait no new pod comes to the node, and none was evicted yet.

use spot_cluster::drain;
use spot_cluster::node::{self, Cordon};
use spot_cluster::preflight;
use spot_domain::Reason;
use spot_domain::clock;
use spot_domain::swap::node::BlockedPod;
use spot_nodes::failed;
use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::phases::wait_for_health::undo_if_at_risk;
use spot_swap::work::{Current, Next};

use crate::phases::await_ready::{Obstacle, note_type, obstacle, ready_until};
use crate::phases::drain::{BLOCKED_LISTED, blocked_pod};
use crate::phases::preflight::reason_of;
use crate::work::{NodeRun, NodeWork};

/// Cordons the old node.
///
/// # Errors
/// A call fails in a way that may pass: the step is repeated.
pub async fn run(context: &Context, work: &mut NodeWork) -> Result<Next, StepError> {
    let (run, blocked) = work.run()?;
    let mut current = run.take_current()?;
    let next = cordon(context, run, blocked, &mut current).await?;
    run.swap.current = Some(current);
    Ok(next)
}

async fn cordon(
    context: &Context,
    run: &mut NodeRun,
    blocked: &mut Vec<BlockedPod>,
    current: &mut Current,
) -> Result<Next, StepError> {
    let clients = context.clients(&run.swap).await?;
    if let Some(undo) = undo_if_at_risk(context, &clients, &mut run.swap, current).await? {
        return Ok(undo);
    }
    // The lease must still be ours before a node is touched.
    context.swaps.claim(&run.swap.lease, &mut current.journal).await?;
    let deadline = run.drain_until();
    match mark_old(context, run, blocked, current).await {
        Ok(CordonMark::Ready) => {
            run.drain_deadline = None; // The drain gets its full time.
            Ok(Next::Proceed)
        }
        Ok(CordonMark::Ending(_)) if clock::now() < deadline => {
            run.pace_drain();
            Ok(Next::Wait)
        }
        Ok(CordonMark::Ending(why)) => {
            let seconds = run.swap.drain_seconds();
            let detail = format!("{why}; it was given {seconds} s to end by itself");
            Ok(run.swap.undo(Reason::PodsNotEvictable, detail))
        }
        Ok(CordonMark::NotYet(_)) if clock::now() < ready_until(run, current) => Ok(Next::Wait),
        Ok(CordonMark::NotYet(obstacle)) => {
            note_type(run, current, &obstacle);
            Ok(run.swap.undo(Reason::NodeNotReady, format!("newcomer {}: {obstacle}", current.newcomer)))
        }
        Ok(CordonMark::Undo(reason, detail)) => Ok(run.swap.undo(reason, detail)),
        Err(StepError::ClusterSilent(_) | StepError::NotAuthorized(_)) if clock::now() < deadline => {
            Ok(Next::Wait)
        }
        Err(error) => Err(error),
    }
}

/// The progress of the cordon.
enum CordonMark {
    /// The drain may begin.
    Ready,
    /// The newcomer can't hold the pods now; nothing was changed.
    NotYet(Obstacle),
    /// Pods that came since the launch can't be evicted, and end by themselves.
    Ending(String),
    /// The state of the swap has changed, and the swap goes back.
    Undo(Reason, String),
}

/// Cordons the old node, checks its pods once more, and notes what their controllers owe. If the node can't be
/// cordoned, says why.
async fn mark_old(
    context: &Context,
    run: &mut NodeRun,
    blocked: &mut Vec<BlockedPod>,
    current: &Current,
) -> Result<CordonMark, StepError> {
    let client = spot_nodes::connect_for(context, &run.swap, &run.node).await?;
    if let Some(obstacle) = obstacle(&client, run, current).await? {
        return Ok(CordonMark::NotYet(obstacle));
    }
    let cordoned =
        node::cordon(&client, &run.node.old, current.journal.swap_id.as_str()).await.map_err(failed)?;
    if cordoned == Cordon::ByOther {
        let detail = format!("somebody else cordoned node {} meanwhile", run.node.old);
        return Ok(CordonMark::Undo(Reason::CordonedByOthers, detail));
    }
    if let Some(against) = stands_against(&client, run, blocked).await? {
        return Ok(against);
    }
    run.drain = drain::begin(&client, &run.node.old, spot_nodes::policy(&run.node)).await.map_err(failed)?;
    Ok(CordonMark::Ready)
}

/// Runs the preflight of the cordoned node.
async fn stands_against(
    client: &kube::Client,
    run: &NodeRun,
    blocked: &mut Vec<BlockedPod>,
) -> Result<Option<CordonMark>, StepError> {
    let Some(old) = node::get(client, &run.node.old).await.map_err(failed)? else {
        let detail = format!("node {} is gone", run.node.old);
        return Ok(Some(CordonMark::Undo(Reason::InstanceGone, detail)));
    };
    let terms = preflight::Terms {
        policy: spot_nodes::policy(&run.node),
        drain_timeout_seconds: run.swap.drain_seconds(),
    };
    let report = preflight::report(&preflight::look(client, old, terms).await.map_err(failed)?);
    if let Some(owner) = &report.owner {
        return Ok(Some(CordonMark::Undo(reason_of(owner), owner.way_out())));
    }
    let is_ending = report.blocked == report.ending;
    *blocked = report.blocked.into_iter().take(BLOCKED_LISTED).map(blocked_pod).collect();
    let Some(first) = blocked.first() else { return Ok(None) };
    let detail = format!(
        "{} pods of node {} could never be evicted, as a look after the cordon found; {}/{}: {}",
        blocked.len(),
        run.node.old,
        first.namespace,
        first.pod,
        first.why
    );
    Ok(Some(if is_ending {
        CordonMark::Ending(detail)
    } else {
        CordonMark::Undo(Reason::PodsNotEvictable, detail)
    }))
}
