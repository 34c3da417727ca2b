//! AwaitReady: the newcomer must run, pass both status checks and join the cluster. It must be Ready there without
//! taints that the old node lacks, and must be able to hold the old node's pods. All that must happen within the
//! setting `node_ready_timeout_seconds` of its launch. Then the newcomer is attached to the group (N → N+1) and
//! must be InService. The old node is not touched.
//!
//! The phase keeps Cluster Autoscaler from the newcomer as soon as the newcomer's node appears: that node is empty
//! for a while. Undone by: removing that annotation if it bears the swap's id as our mark. Otherwise the phase
//! records and undoes as `spot_swap`'s Attach does.

use std::fmt::{self, Display, Formatter};

use jiff::{SignedDuration, Timestamp};
use spot_cluster::node::{self, Node};
use spot_cluster::room;
use spot_domain::Reason;
use spot_domain::clock;
use spot_nodes::failed;
use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::phases::{attach, wait_for_health, wait_for_in_service};
use spot_swap::work::{Current, Next, TooSmall};

use crate::work::{Joining, NodeRun, NodeWork};

/// Checks once, and attaches the newcomer if it is time.
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
    match waiting_for(context, run, current).await? {
        // Software that labels nodes as they start has done so by the time that EC2 has checked the instance.
        Some(obstacle) if obstacle.is_final && healthy == Next::Proceed => {
            note_type(run, current, &obstacle);
            return Ok(run
                .swap
                .undo(Reason::NodeNotReady, format!("newcomer {}: {obstacle}", current.newcomer)));
        }
        Some(_) if clock::now() < ready_until(run, current) => return Ok(Next::Wait),
        Some(obstacle) => {
            let seconds = run.swap.settings.node_ready_timeout_seconds;
            let detail = format!("newcomer {}, {seconds} s after launch: {obstacle}", current.newcomer);
            note_type(run, current, &obstacle);
            return Ok(run.swap.undo(Reason::NodeNotReady, detail));
        }
        None => {}
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
    let original = current.original()?;
    let serves = wait_for_in_service::run(context, &mut run.swap, current, &original).await?;
    if serves != Next::Proceed {
        return Ok(serves);
    }
    match waiting_for(context, run, current).await? {
        None => Ok(Next::Proceed),
        Some(obstacle) if !obstacle.is_final && clock::now() < current.deadline => Ok(Next::Wait),
        Some(obstacle) => {
            note_type(run, current, &obstacle);
            Ok(run.swap.undo(Reason::NodeNotReady, format!("newcomer {}: {obstacle}", current.newcomer)))
        }
    }
}

/// Notes a type that is too small, for the next launch.
pub(crate) fn note_type(run: &mut NodeRun, current: &Current, obstacle: &Obstacle) {
    let instance_type = &current.pool.instance_type;
    if obstacle.is_of_the_type && !run.swap.is_too_small(instance_type) {
        let (instance_type, why) = (instance_type.clone(), obstacle.to_string());
        run.swap.too_small.push(TooSmall { instance_type, why });
    }
}

/// Returns the time until which the phase waits for the newcomer's node.
pub(crate) fn ready_until(run: &NodeRun, current: &Current) -> Timestamp {
    let patience = SignedDuration::from_secs(i64::from(run.swap.settings.node_ready_timeout_seconds));
    current.journal.launching_since.saturating_add(patience).unwrap_or(Timestamp::MAX)
}

/// The obstacle that keeps the old node's pods off the newcomer, in words.
pub(crate) struct Obstacle {
    why: String,
    /// Waiting does not help.
    is_final: bool,
    /// Another node of the same instance type would be no better.
    is_of_the_type: bool,
}

impl From<String> for Obstacle {
    fn from(why: String) -> Self {
        Self { why, is_final: false, is_of_the_type: false }
    }
}

impl Display for Obstacle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Returns the same as [`obstacle`], and waits for a cluster that does not answer. While an API server starts, it
/// forbids what it grants a moment later, when it has read the roles.
async fn waiting_for(
    context: &Context,
    run: &NodeRun,
    current: &Current,
) -> Result<Option<Obstacle>, StepError> {
    let looked = match spot_nodes::connect_for(context, &run.swap, &run.node).await {
        Ok(client) => obstacle(&client, run, current).await,
        Err(error) => Err(error),
    };
    match looked {
        Err(StepError::ClusterSilent(why) | StepError::NotAuthorized(why)) => {
            Ok(Some(why.to_string().into()))
        }
        answer => answer,
    }
}

/// Returns the obstacle to the old node's pods on the newcomer; `None` if the newcomer is Ready and could hold all
/// pods that must move. Called before the cordon. Keeps Cluster Autoscaler from the newcomer.
///
/// # Errors
/// The cluster does not answer.
pub(crate) async fn obstacle(
    client: &kube::Client,
    run: &NodeRun,
    current: &Current,
) -> Result<Option<Obstacle>, StepError> {
    let Some(newcomer) = run.newcomer_node(client, &current.newcomer).await.map_err(failed)? else {
        return Ok(Some(not_joined(run).into()));
    };
    if !newcomer.is_kept {
        node::keep(client, &newcomer.name, current.journal.swap_id.as_str()).await.map_err(failed)?;
    }
    let old = old(client, run).await?;
    if let Some(why) = unfit(&newcomer, &old) {
        return Ok(Some(why.into()));
    }
    let name = newcomer.name.clone();
    let lacks = room::lacks(client, &old, newcomer, spot_nodes::policy(&run.node)).await.map_err(failed)?;
    Ok((!lacks.is_empty()).then(|| Obstacle {
        why: format!("node {name}: {}", room::in_words(&lacks)),
        is_final: lacks.iter().any(|lack| lack.need.is_final()),
        is_of_the_type: lacks.iter().any(|lack| lack.need.is_of_the_type()),
    }))
}

/// Says what the newcomer lacks to run pods; `None` if nothing.
///
/// # Errors
/// The cluster does not answer.
pub(crate) async fn not_ready(
    client: &kube::Client,
    run: &NodeRun,
    current: &Current,
) -> Result<Option<String>, StepError> {
    match run.newcomer_node(client, &current.newcomer).await.map_err(failed)? {
        Some(newcomer) => Ok(unfit(&newcomer, &old(client, run).await?)),
        None => Ok(Some(not_joined(run))),
    }
}

fn not_joined(run: &NodeRun) -> String {
    format!("it has not joined cluster {}", run.node.cluster)
}

async fn old(client: &kube::Client, run: &NodeRun) -> Result<Node, StepError> {
    let old = node::get(client, &run.node.old).await.map_err(failed)?;
    old.ok_or_else(|| StepError::Rejected(format!("node {} is gone", run.node.old).into()))
}

fn unfit(newcomer: &Node, old: &Node) -> Option<String> {
    let name = &newcomer.name;
    if !newcomer.is_ready {
        return Some(format!("its node {name} is not Ready"));
    }
    if newcomer.is_unschedulable {
        return Some(format!("its node {name} is cordoned"));
    }
    let beyond = newcomer.taints_beyond(old);
    beyond.first().map(|taint| format!("its node {name} still has the taint {taint}"))
}
