//! AwaitReady: the newcomer must run and pass both status checks, join the cluster and be Ready there
//! without taints that the old node lacks, within the setting `node_ready_timeout_seconds` of its launch;
//! then it is attached to the group (N → N+1) and must be InService. The old node is not touched.
//!
//! Records and undoes as `spot_swap`'s Attach does.

use jiff::{SignedDuration, Timestamp};
use spot_cluster::node;
use spot_domain::Reason;
use spot_swap::error::StepError;
use spot_swap::phases::{attach, wait_for_health, wait_for_in_service};
use spot_swap::work::{Current, Next};
use spot_swap::{Context, nodes};

use crate::work::{Joining, NodeRun, NodeWork};

/// Looks once, and attaches the newcomer if it is time.
///
/// # Errors
/// A call fails.
pub async fn run(context: &Context, work: &mut NodeWork) -> Result<Next, StepError> {
    let (run, _) = work.run()?;
    let mut current = run.take_current()?;
    let next = match run.joining {
        Joining::Starting => starting(context, run, &mut current).await?,
        Joining::InGroup => in_group(context, run, &mut current).await?,
    };
    run.swap.current = Some(current);
    Ok(next)
}

async fn starting(context: &Context, run: &mut NodeRun, current: &mut Current) -> Result<Next, StepError> {
    let healthy = wait_for_health::run(context, &mut run.swap, current).await?;
    if healthy == Next::Undo {
        return Ok(Next::Undo);
    }
    if let Some(why) = waiting_for(context, run, current).await? {
        let seconds = run.swap.settings.node_ready_timeout_seconds;
        let patience = SignedDuration::from_secs(i64::from(seconds));
        if Timestamp::now().duration_since(current.journal.launching_since) < patience {
            return Ok(Next::Wait);
        }
        let detail = format!("newcomer {}, {seconds} s after launch: {why}", current.newcomer);
        return Ok(run.swap.undo(Reason::NodeNotReady, detail));
    }
    if healthy != Next::Proceed {
        return Ok(healthy);
    }
    let attached = attach::run(context, &mut run.swap, current).await?;
    if attached == Next::Proceed {
        run.joining = Joining::InGroup;
        return Ok(Next::Wait);
    }
    Ok(attached)
}

async fn in_group(context: &Context, run: &mut NodeRun, current: &mut Current) -> Result<Next, StepError> {
    let serves = wait_for_in_service::run(context, &mut run.swap, current).await?;
    if serves != Next::Proceed {
        return Ok(serves);
    }
    match waiting_for(context, run, current).await? {
        None => Ok(Next::Proceed),
        Some(_) if Timestamp::now() < current.deadline => Ok(Next::Wait),
        Some(why) => Ok(run.swap.undo(Reason::NodeNotReady, format!("newcomer {}: {why}", current.newcomer))),
    }
}

/// The same as [`not_ready`], with patience for a cluster that does not answer. An API server that starts
/// forbids what it grants a moment later, when it has read the roles.
async fn waiting_for(
    context: &Context,
    run: &NodeRun,
    current: &Current,
) -> Result<Option<String>, StepError> {
    let looked = match nodes::connect_for(context, &run.swap, &run.node).await {
        Ok(client) => not_ready(&client, run, current).await,
        Err(error) => Err(error),
    };
    match looked {
        Err(StepError::ClusterSilent(why) | StepError::NotAuthorized(why)) => Ok(Some(why)),
        answer => answer,
    }
}

/// What the newcomer lacks to take pods; `None` if nothing.
///
/// # Errors
/// The cluster does not answer.
pub(crate) async fn not_ready(
    client: &kube::Client,
    run: &NodeRun,
    current: &Current,
) -> Result<Option<String>, StepError> {
    let Some(newcomer) = run.newcomer_node(client, &current.newcomer).await? else {
        return Ok(Some(format!("it has not joined cluster {}", run.node.cluster)));
    };
    let name = &newcomer.name;
    if !newcomer.is_ready {
        return Ok(Some(format!("its node {name} is not Ready")));
    }
    if newcomer.is_unschedulable {
        return Ok(Some(format!("its node {name} is cordoned")));
    }
    let beyond = match node::get(client, &run.node.old).await? {
        Some(old) => newcomer.taints_beyond(&old),
        None => return Err(StepError::Rejected(format!("node {} is gone", run.node.old))),
    };
    Ok(beyond.first().map(|taint| format!("its node {name} still has the taint {taint}")))
}
