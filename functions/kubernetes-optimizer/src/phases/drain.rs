//! Drain: one short pass of evictions. The state machine repeats the pass until no pod is left that must move. The
//! replacements of the moved pods must be Ready by then, and their volumes detached. After the deadline the swap
//! goes back, and the output names the pod and the budget that stood against it. If no pass can move a pod, the
//! swap goes back before the deadline: waiting does not help.
//!
//! Records nothing: an eviction can't be undone, and the cluster itself shows what is left to do.

use spot_cloud::ec2::instances;
use spot_cluster::drain::Pass;
use spot_cluster::pods::Blocked;
use spot_cluster::{drain, node, volumes};
use spot_domain::Reason;
use spot_domain::clock;
use spot_domain::swap::node::BlockedPod;
use spot_nodes::failed;
use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::phases::wait_for_health::undo_if_at_risk;
use spot_swap::work::{Current, Next};

use crate::phases::await_ready::not_ready;
use crate::work::{NodeRun, NodeWork};

/// The most blocked pods that travel with the work, whose payload is 256 KiB at most.
pub(crate) const BLOCKED_LISTED: usize = 100;
/// The most characters of an API server's message.
const TROUBLE_CHARS: usize = 250;

/// Makes one pass.
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
        Ok(PassOutcome::Nothing) => return Ok(Next::Proceed),
        Ok(PassOutcome::Undo(reason, detail)) => return Ok(run.swap.undo(reason, detail)),
        Ok(PassOutcome::Waiting(why)) => why,
        // While an API server starts, it forbids what it grants a moment later, when it has read the roles.
        Err(StepError::ClusterSilent(why) | StepError::NotAuthorized(why)) => why.to_string(),
        Err(error) => return Err(error),
    };
    if clock::now() < run.drain_until() {
        run.pace_drain();
        return Ok(Next::Wait);
    }
    Ok(timed_out(run, blocked, &why))
}

/// Ends the drain. The detail names the cause: the pods with what holds them, and the last trouble with the
/// cluster.
pub(crate) fn timed_out(run: &mut NodeRun, blocked: &[BlockedPod], why: &str) -> Next {
    let mut causes = vec![format!("{} s after the drain began: {why}", run.swap.drain_seconds())];
    // An API server that is silent at the end does not hide an earlier obstacle.
    let first = blocked.first().filter(|first| !why.contains(&first.pod));
    causes.extend(first.map(|b| format!("{}/{}: {}", b.namespace, b.pod, b.why)));
    let trouble = run.seen.trouble.take().filter(|trouble| !why.contains(trouble.as_str()));
    causes.extend(trouble.map(|trouble| format!("the last trouble was: {trouble}")));
    run.swap.undo(Reason::DrainTimedOut, causes.join("; "))
}

/// The result of a pass.
pub(crate) enum PassOutcome {
    /// No pod that must move is left: the pods run elsewhere.
    Nothing,
    /// Something is still in motion, in words.
    Waiting(String),
    /// The state of the swap has changed, and the swap goes back.
    Undo(Reason, String),
}

/// Makes one pass over the old node, if the swap's state is as expected.
pub(crate) async fn look_and_evict(
    context: &Context,
    run: &mut NodeRun,
    blocked: &mut Vec<BlockedPod>,
    current: &Current,
) -> Result<PassOutcome, StepError> {
    let client = spot_nodes::connect_for(context, &run.swap, &run.node).await?;
    if run.seen.newcomer_node.is_none() {
        let found = node::find(&client, &current.newcomer).await.map_err(failed)?;
        run.seen.newcomer_node = found.map(|newcomer| newcomer.name);
    }
    if let Some(why) = not_ready(&client, run, current).await? {
        return Ok(PassOutcome::Undo(Reason::NodeNotReady, format!("newcomer {}: {why}", current.newcomer)));
    }
    let Some(old) = node::get(&client, &run.node.old).await.map_err(failed)? else {
        return Ok(PassOutcome::Undo(Reason::InstanceGone, format!("node {} is gone", run.node.old)));
    };
    if !old.is_unschedulable || old.cordoned_by.as_deref() != Some(current.journal.swap_id.as_str()) {
        let detail = format!("somebody else uncordoned or cordoned node {} meanwhile", run.node.old);
        return Ok(PassOutcome::Undo(Reason::CordonedByOthers, detail));
    }
    let (policy, last_ready) = (spot_nodes::policy(&run.node), run.last_ready());
    let pass =
        drain::pass(&client, &run.node.old, policy, last_ready, run.drain.clone()).await.map_err(failed)?;
    let left = pass.left(&run.node.old);
    let stuck = (!pass.stuck.is_empty()).then(|| drain::in_words(&pass.stuck));
    take_in(run, blocked, pass);
    if let Some(stuck) = stuck {
        let detail = format!("pods can't leave node {}: {stuck}", run.node.old);
        return Ok(PassOutcome::Undo(Reason::PodsNotEvictable, detail));
    }
    if let Some(mut why) = left {
        if !old.is_ready {
            why = format!("node {} is not Ready, so that nobody ends its pods; {why}", run.node.old);
        }
        return Ok(PassOutcome::Waiting(why));
    }
    Ok(unsettled(&client, run).await?.map_or(PassOutcome::Nothing, PassOutcome::Waiting))
}

fn take_in(run: &mut NodeRun, blocked: &mut Vec<BlockedPod>, pass: Pass) {
    match &pass.trouble {
        Some(trouble) => {
            tracing::warn!(node = %run.node.old, "a pass was cut short: {trouble}");
            run.seen.trouble = Some(trouble.to_string().chars().take(TROUBLE_CHARS).collect());
        }
        None if pass.state.evicted > run.drain.evicted => run.seen.trouble = None,
        None => {}
    }
    run.drain = pass.state;
    *blocked = pass.blocked.into_iter().take(BLOCKED_LISTED).map(blocked_pod).collect();
}

/// Converts a blocked pod to the form of the output.
pub(crate) fn blocked_pod(blocked: Blocked) -> BlockedPod {
    BlockedPod { pod: blocked.pod, namespace: blocked.namespace, budget: blocked.budget, why: blocked.why }
}

/// Starts the undo if the newcomer is at risk: a node that AWS may reclaim is no place for the pods.
async fn newcomer_at_risk(
    context: &Context,
    run: &mut NodeRun,
    current: &Current,
) -> Result<Option<Next>, StepError> {
    let clients = context.clients(&run.swap).await?;
    if !instances::is_running(&clients.ec2, &current.newcomer).await? {
        let detail = format!("newcomer {} no longer runs", current.newcomer);
        return Ok(Some(run.swap.undo(Reason::NewcomerAtRisk, detail)));
    }
    undo_if_at_risk(context, &clients, &mut run.swap, current).await
}

/// Says what is still in motion once the pods are gone: a replacement that is not Ready, or a volume that is not
/// detached.
async fn unsettled(client: &kube::Client, run: &NodeRun) -> Result<Option<String>, StepError> {
    if let Some(missing) = drain::migrated(client, &run.drain).await.map_err(failed)?.first() {
        let (controller, ready, wanted) = (&missing.controller, missing.ready, missing.wanted);
        let (kind, namespace, name) = (&controller.kind, &controller.namespace, &controller.name);
        let problem = missing.problem.as_ref().map(|problem| format!("; {problem}")).unwrap_or_default();
        return Ok(Some(format!("{ready} of {wanted} pods of {kind} {namespace}/{name} are Ready{problem}")));
    }
    let attached = volumes::attached(client, &run.node.old, &run.drain.claims).await.map_err(failed)?;
    Ok(attached.first().map(|volume| format!("volume {volume} is still attached to node {}", run.node.old)))
}
