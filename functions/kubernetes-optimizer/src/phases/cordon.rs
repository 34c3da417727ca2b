//! Cordon: nothing new is scheduled on the old node, and load balancers leave it out. The node bears the
//! swap's id as our mark. Undone by: uncordoning what bears that mark; the journal names the node since
//! before the launch.

use jiff::Timestamp;
use spot_cluster::drain;
use spot_cluster::node::{self, Cordon};
use spot_domain::Reason;
use spot_swap::error::StepError;
use spot_swap::phases::wait_for_health::undo_if_at_risk;
use spot_swap::work::{Current, Next};
use spot_swap::{Context, nodes};

use crate::phases::await_ready::not_ready;
use crate::work::{NodeRun, NodeWork};

/// Cordons the old node.
///
/// # Errors
/// A call fails in a way that may pass: the step is repeated.
pub async fn run(context: &Context, work: &mut NodeWork) -> Result<Next, StepError> {
    let (run, _) = work.run()?;
    let current = run.take_current()?;
    let next = cordon(context, run, &current).await?;
    run.swap.current = Some(current);
    Ok(next)
}

async fn cordon(context: &Context, run: &mut NodeRun, current: &Current) -> Result<Next, StepError> {
    let target = context.target(&run.swap).await;
    if let Some(undo) = undo_if_at_risk(context, &target, &mut run.swap, current).await? {
        return Ok(undo);
    }
    // The lease must still be ours before a node is touched.
    context.swaps.write(&run.swap.lease, &current.journal).await?;
    let deadline = run.drain_until();
    match mark_old(context, run, current).await {
        Ok(None) => Ok(Next::Proceed),
        Ok(Some((reason, detail))) => Ok(run.swap.undo(reason, detail)),
        Err(StepError::ClusterSilent(_) | StepError::NotAuthorized(_)) if Timestamp::now() < deadline => {
            Ok(Next::Wait)
        }
        Err(error) => Err(error),
    }
}

/// Cordons the old node, and notes what its controllers owe; or says why not.
async fn mark_old(
    context: &Context,
    run: &mut NodeRun,
    current: &Current,
) -> Result<Option<(Reason, String)>, StepError> {
    let client = nodes::connect_for(context, &run.swap, &run.node).await?;
    if let Some(why) = not_ready(&client, run, current).await? {
        return Ok(Some((Reason::NodeNotReady, format!("newcomer {}: {why}", current.newcomer))));
    }
    let cordoned = node::cordon(&client, &run.node.old, current.journal.swap_id.as_str()).await?;
    if cordoned == Cordon::ByOther {
        let detail = format!("somebody else cordoned node {} meanwhile", run.node.old);
        return Ok(Some((Reason::CordonedByOthers, detail)));
    }
    run.drain = drain::begin(&client, &run.node.old, nodes::policy(&run.node)).await?;
    Ok(None)
}
