//! Terminate: N+1 → N. One more look at the newcomer and at the old node, then the old instance leaves
//! its group with decrement, so that nothing relaunches it, is drained by its target groups, and is
//! terminated; the owner's settings are restored. Records and undoes as `spot_swap`'s RetireOld,
//! WaitForRetirement and Restore do.

use jiff::Timestamp;
use spot_cluster::drain;
use spot_cluster::node::{self, Cordon};
use spot_domain::Reason;
use spot_domain::node_swap::BlockedPod;
use spot_swap::error::StepError;
use spot_swap::phases::{restore, retire_old, wait_for_retirement};
use spot_swap::work::{Current, Next};
use spot_swap::{Context, nodes};

use crate::phases::drain::{Left, look_and_evict};
use crate::work::{Leaving, NodeRun, NodeWork};

/// Goes as far as it can now.
///
/// # Errors
/// A call fails, or the old instance does not leave by its deadline ([`StepError::Stuck`]).
pub async fn run(context: &Context, work: &mut NodeWork) -> Result<Next, StepError> {
    let (run, blocked) = work.run()?;
    if run.leaving != Leaving::LetGo {
        run.swap.waiting_since = None; // the drain lies behind, or nothing is waited for
    }
    let mut current = run.take_current()?;
    let next = match run.leaving {
        Leaving::NotYet => let_go(context, run, blocked, &mut current).await?,
        Leaving::LetGo => retire(context, run, &current).await?,
        Leaving::Gone => match release(context, run, &current).await? {
            Next::Proceed => restore::run(context, &mut run.swap, &current).await?,
            wait => wait,
        },
    };
    let is_done = matches!(next, Next::NextTarget | Next::Report);
    run.swap.current = (!is_done).then_some(current);
    // Each stage is a step of its own: a step whose answer is lost finds at its repetition what it left.
    match (next, run.leaving) {
        (Next::Proceed, Leaving::NotYet) => run.leaving = Leaving::LetGo,
        (Next::Proceed, _) => run.leaving = Leaving::Gone,
        _ => {}
    }
    Ok(match next {
        Next::Proceed => Next::Wait,
        Next::NextTarget => Next::Report,
        next => next,
    })
}

/// Up to here the way back is open; a pod that came back to the old node is given the rest of the drain's
/// time.
async fn let_go(
    context: &Context,
    run: &mut NodeRun,
    blocked: &mut Vec<BlockedPod>,
    current: &mut Current,
) -> Result<Next, StepError> {
    let why = match look_and_evict(context, run, blocked, current).await {
        Ok(Left::Nothing) => return retire_old::run(context, &mut run.swap, current).await,
        Ok(Left::Undo(reason, detail)) => return Ok(run.swap.undo(reason, detail)),
        Ok(Left::Waiting(why)) | Err(StepError::ClusterSilent(why) | StepError::NotAuthorized(why)) => why,
        Err(error) => return Err(error),
    };
    if Timestamp::now() < run.drain_until() {
        return Ok(Next::Wait);
    }
    Ok(run.swap.undo(Reason::DrainTimedOut, why))
}

/// The instance has been let go, and may run for as long as its target groups drain it: it is terminated
/// only while its node has no pod that must move.
async fn retire(context: &Context, run: &mut NodeRun, current: &Current) -> Result<Next, StepError> {
    let old = match left_on_old(context, run, current).await {
        Err(StepError::ClusterSilent(why) | StepError::NotAuthorized(why)) => Some(why),
        answer => answer?,
    };
    match old {
        None => wait_for_retirement::run(context, &mut run.swap, current).await,
        Some(_) if Timestamp::now() < current.deadline => Ok(Next::Wait),
        Some(why) => Err(StepError::Stuck(format!("node {}: {why}", run.node.old))),
    }
}

async fn left_on_old(
    context: &Context,
    run: &mut NodeRun,
    current: &Current,
) -> Result<Option<String>, StepError> {
    let client = nodes::connect_for(context, &run.swap, &run.node).await?;
    if node::get(&client, &run.node.old).await?.is_none() {
        return Ok(None);
    }
    if node::cordon(&client, &run.node.old, current.journal.swap_id.as_str()).await? == Cordon::ByOther {
        tracing::warn!(node = %run.node.old, "somebody else has cordoned it meanwhile");
    }
    let pass = drain::pass(&client, &run.node.old, nodes::policy(&run.node), run.drain.clone()).await?;
    run.drain = pass.state;
    Ok((!pass.is_done).then(|| format!("{} pods came back to it", pass.remaining.len())))
}

/// The newcomer is a node like any other now: Cluster Autoscaler may have a say in it again.
async fn release(context: &Context, run: &NodeRun, current: &Current) -> Result<Next, StepError> {
    let released = async {
        let client = nodes::connect_for(context, &run.swap, &run.node).await?;
        if let Some(newcomer) = node::find(&client, &current.newcomer).await? {
            node::uncordon(&client, &newcomer.name, current.journal.swap_id.as_str()).await?;
        }
        Ok(Next::Proceed)
    };
    match released.await {
        Err(StepError::ClusterSilent(_) | StepError::NotAuthorized(_))
            if Timestamp::now() < current.deadline =>
        {
            Ok(Next::Wait)
        }
        Err(StepError::ClusterSilent(why) | StepError::NotAuthorized(why)) => {
            Err(StepError::Stuck(format!("the node of newcomer {}: {why}", current.newcomer)))
        }
        answer => answer,
    }
}
