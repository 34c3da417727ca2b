//! Terminate: N+1 → N. Checks the newcomer and the old node once more. Then the old instance leaves its group with
//! decrement, so that the group does not replace it. Its target groups drain it, it is terminated, and the owner's
//! settings are restored. Records and undoes as `spot_swap`'s RetireOld, WaitForRetirement and Restore do.

use jiff::SignedDuration;
use spot_cloud::RegionClients;
use spot_cloud::ec2::instances;
use spot_cloud::load_balancing::targets::{self, Elsewhere};
use spot_cloud::tables::swaps::Claim;
use spot_cluster::drain::{self, Manner, Others};
use spot_cluster::node::{self, Cordon};
use spot_domain::InstanceId;
use spot_domain::clock;
use spot_domain::swap::journal::Original;
use spot_domain::swap::node::BlockedPod;
use spot_nodes::failed;
use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::phases::{restore, retire_old, wait_for_retirement};
use spot_swap::work::{Current, Next};

use crate::phases::drain::{PassOutcome, look_and_evict, timed_out};
use crate::work::{Leaving, NodeRun, NodeWork};

/// The seconds in which a load-balancer controller that obeys the label begins to deregister the node. EKS allows
/// the same time.
const DEREGISTRATION_BEGINS_WITHIN: SignedDuration = SignedDuration::from_secs(60);
/// The most target groups that a report names.
const WARNINGS: usize = 10;

/// Makes all progress that is possible now.
///
/// # Errors
/// A call fails, or the old instance does not leave by its deadline ([`StepError::Stuck`]).
pub async fn run(context: &Context, work: &mut NodeWork) -> Result<Next, StepError> {
    let (run, blocked) = work.run()?;
    if run.leaving != Leaving::LetGo {
        run.swap.waiting_since = None; // the drain is over, or there is no wait
    }
    let mut current = run.take_current()?;
    let original = current.original()?;
    let next = match run.leaving {
        Leaving::NotYet => let_go(context, run, blocked, (&mut current, &original)).await?,
        Leaving::LetGo => retire(context, run, &mut current).await?,
        Leaving::Gone => match release(context, run, &current).await? {
            Next::Proceed => restore::run(context, &mut run.swap, &mut current, &original).await?,
            wait => wait,
        },
    };
    let is_done = matches!(next, Next::NextCandidate | Next::Report);
    run.swap.current = (!is_done).then_some(current);
    // Each stage is a step of its own: a repeated step finds what the run before it did, even if the answer was
    // lost.
    match (next, run.leaving) {
        (Next::Proceed, Leaving::NotYet) => run.leaving = Leaving::LetGo,
        (Next::Proceed, _) => run.leaving = Leaving::Gone,
        _ => {}
    }
    Ok(match next {
        Next::Proceed => Next::Wait,
        Next::NextCandidate => Next::Report,
        next => next,
    })
}

/// Lets the old instance leave its group. Until then the rollback is possible. A pod that came back to the old
/// node gets the rest of the drain's time.
async fn let_go(
    context: &Context,
    run: &mut NodeRun,
    blocked: &mut Vec<BlockedPod>,
    (current, original): (&mut Current, &Original),
) -> Result<Next, StepError> {
    let why = match look_and_evict(context, run, blocked, current).await {
        Ok(PassOutcome::Nothing) if is_balanced(context, run, current).await? => return Ok(Next::Wait),
        Ok(PassOutcome::Nothing) => return retire_old::run(context, &mut run.swap, current, original).await,
        Ok(PassOutcome::Undo(reason, detail)) => return Ok(run.swap.undo(reason, detail)),
        Ok(PassOutcome::Waiting(why)) => why,
        Err(StepError::ClusterSilent(why) | StepError::NotAuthorized(why)) => why.to_string(),
        Err(error) => return Err(error),
    };
    if clock::now() < run.drain_until() {
        return Ok(Next::Wait);
    }
    Ok(timed_out(run, blocked, &why))
}

/// Returns true if the drain must still wait for a target group that is not the Auto Scaling group's own. A
/// load-balancer controller has registered the node there, and deregisters it after the cordon has set the label.
async fn is_balanced(context: &Context, run: &mut NodeRun, current: &mut Current) -> Result<bool, StepError> {
    let clients = context.clients(&run.swap).await?;
    let old = current.candidate.instance_id.clone();
    let found = match run.seen.balanced_since {
        // A node that is out of its load balancers is not registered anew.
        Some(_) => targets::in_those(&clients.elbv2, &current.also_in, &old).await?,
        None => balancers(context, &clients, run, &old).await?,
    };
    let since = *run.seen.balanced_since.get_or_insert_with(clock::now);
    let Elsewhere { draining, serving } = found;
    current.also_in = [serving.as_slice(), &draining].concat();
    let waited = clock::now().duration_since(since);
    let drain_seconds = SignedDuration::from_secs(i64::from(run.swap.settings.retire_timeout_seconds));
    let has_time = |arns: &[String], at_most| !arns.is_empty() && waited < at_most;
    if has_time(&serving, DEREGISTRATION_BEGINS_WITHIN) || has_time(&draining, drain_seconds) {
        return Ok(true);
    }
    let late = |what: &'static str| {
        move |arn: &String| format!("target group {arn} still {what} {} s after the drain", waited.as_secs())
    };
    let late = serving.iter().map(late("sends it requests")).chain(draining.iter().map(late("drains it")));
    run.seen.warnings = late.take(WARNINGS).collect();
    current.also_in.clear(); // Their time is over.
    Ok(false)
}

async fn balancers(
    context: &Context,
    clients: &RegionClients,
    run: &NodeRun,
    old: &InstanceId,
) -> Result<Elsewhere, StepError> {
    let described = instances::describe(&clients.ec2, std::slice::from_ref(old)).await?;
    let vpc = described.get(old).and_then(|instance| instance.belongings.vpc_id.as_deref());
    match (context.group(clients, &run.swap).await?, vpc) {
        (Some(group), Some(vpc)) => {
            Ok(targets::elsewhere(&clients.elbv2, vpc, old, &group.target_group_arns).await?)
        }
        _ => Ok(Elsewhere::default()), // The retirement detects that itself.
    }
}

/// Terminates the instance that has left its group. It may run for as long as its target groups drain it, and is
/// terminated only while its node has no pod that must move.
async fn retire(context: &Context, run: &mut NodeRun, current: &mut Current) -> Result<Next, StepError> {
    // The execution may have been redriven after a recovery has ended its swap: then no node is touched.
    if context.swaps.claim(&run.swap.lease, &mut current.journal).await? == Claim::Finished {
        return Ok(Next::Proceed);
    }
    let old = match left_on_old(context, run, current).await {
        Err(StepError::ClusterSilent(why) | StepError::NotAuthorized(why)) => Some(why.to_string()),
        answer => answer?,
    };
    match old {
        None => wait_for_retirement::look(context, &mut run.swap, current).await,
        Some(_) if clock::now() < current.deadline => Ok(Next::Wait),
        Some(why) => Err(StepError::Stuck(format!("node {}: {why}", run.node.old).into())),
    }
}

async fn left_on_old(
    context: &Context,
    run: &mut NodeRun,
    current: &Current,
) -> Result<Option<String>, StepError> {
    let client = spot_nodes::connect_for(context, &run.swap, &run.node).await?;
    if node::get(&client, &run.node.old).await.map_err(failed)?.is_none() {
        return Ok(None);
    }
    if node::cordon(&client, &run.node.old, current.journal.swap_id.as_str()).await.map_err(failed)?
        == Cordon::ByOther
    {
        tracing::warn!(node = %run.node.old, "somebody else has cordoned it meanwhile");
    }
    // The instance has left its group and is about to be terminated: every pod that can leave should leave.
    let manner = Manner { last_ready: run.last_ready(), others: Others::Go };
    let pass = drain::pass(&client, &run.node.old, spot_nodes::policy(&run.node), manner, run.drain.clone())
        .await
        .map_err(failed)?;
    let left = pass.left(&run.node.old);
    run.drain = pass.state;
    Ok(left.map(|why| format!("pods came back to it: {why}")))
}

/// Removes our annotation: the newcomer is a node like any other now, which Cluster Autoscaler may scale in.
async fn release(context: &Context, run: &NodeRun, current: &Current) -> Result<Next, StepError> {
    let released = async {
        let client = spot_nodes::connect_for(context, &run.swap, &run.node).await?;
        if let Some(newcomer) = node::find(&client, &current.newcomer).await.map_err(failed)? {
            node::uncordon(&client, &newcomer.name, current.journal.swap_id.as_str())
                .await
                .map_err(failed)?;
        }
        Ok(Next::Proceed)
    };
    match released.await {
        Err(StepError::ClusterSilent(_) | StepError::NotAuthorized(_)) if clock::now() < current.deadline => {
            Ok(Next::Wait)
        }
        Err(StepError::ClusterSilent(why) | StepError::NotAuthorized(why)) => {
            Err(StepError::Stuck(format!("the node of newcomer {}: {why}", current.newcomer).into()))
        }
        answer => answer,
    }
}
