//! Finishes or undoes a swap from its journal: looks at AWS, asks `spot_domain::recovery` for the
//! one thing to do, does it, looks again. Undoing reads what was recorded, never what was asked for.

use jiff::{SignedDuration, Timestamp};
use spot_domain::group::{Instance, InstanceState};
use spot_domain::ids::InstanceId;
use spot_domain::journal::Journal;
use spot_domain::recovery::{Action, End, Newcomer, Observed, next};
use spot_domain::settings::Settings;
use spot_domain::tags::GROUP_NAME_TAG;

use spot_cloud::clients::Target;
use spot_cloud::error::CallError;
use spot_cloud::groups::Desired;
use spot_cloud::swaps::{Lease, Leased, Swaps, SwapsError};
use spot_cloud::target_groups::TargetHealth;
use spot_cloud::{groups, instances, target_groups, targets};

use crate::lab_recovery;

/// A swap needs at most seven actions to end; more means that something fights us.
const ACTIONS_PER_VISIT: usize = 10;

/// How far a visit came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left to do.
    Ended {
        /// How.
        end: End,
        /// The newcomer that serves, after [`End::Finished`].
        newcomer: Option<InstanceId>,
    },
    /// AWS is at work; come again.
    Waiting(String),
}

/// Whether an action may be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// Now.
    Granted,
    /// Later: this has to happen first.
    NotYet(String),
}

/// Does all that can be done now for the swap that `journal` tells of. Before each action `permit`
/// is asked (it drains what is a Kubernetes node, and notes in the journal how far it came), then the journal is
/// written, which proves that the lease is still held.
///
/// # Errors
/// A call fails. Whatever was done is done; the next visit goes on from there.
pub async fn advance(
    target: &Target,
    swaps: &Swaps,
    lease: &Lease,
    settings: &Settings,
    journal: &mut Journal,
    permit: impl AsyncFn(&mut Journal, &Observed, &Action) -> Permission,
) -> Result<Progress, SwapsError> {
    if journal.lab.is_some() {
        return lab_recovery::advance(target, swaps, lease, settings, journal).await;
    }
    for _ in 0..ACTIONS_PER_VISIT {
        let observed = observe(target, lease, settings, journal).await?;
        let action = next(journal, &observed);
        tracing::info!(on = %lease.on, swap_id = %journal.swap_id, ?action, "recovering");
        let known = journal.clone();
        if let Permission::NotYet(why) = permit(journal, &observed, &action).await {
            if *journal != known {
                swaps.write(lease, journal).await?;
            }
            return Ok(Progress::Waiting(why));
        }
        match action {
            Action::Done(end) => {
                let newcomer = observed.newcomer.filter(|n| n.alive).map(|n| n.id);
                return Ok(Progress::Ended { end, newcomer });
            }
            Action::Wait(why) => return Ok(Progress::Waiting(why.to_owned())),
            _ => swaps.write(lease, journal).await?,
        }
        match perform(target, lease, journal, &action).await {
            // Its group, or its owner, was faster than our call: what became of desired, the next look shows.
            Err(error) if action.settles_desired() && error.is_no_member() => {
                return Ok(Progress::Waiting(error.to_string()));
            }
            done => done?,
        }
        if action.settles_desired() {
            // Once is enough. The next visit looks at a group that has taken the change in.
            journal.desired_settled = true;
            swaps.write(lease, journal).await?;
            return Ok(Progress::Waiting("desired capacity was lowered by one".to_owned()));
        }
    }
    Ok(Progress::Waiting("more than one visit's actions were needed".to_owned()))
}

async fn perform(
    target: &Target,
    lease: &Lease,
    journal: &Journal,
    action: &Action,
) -> Result<(), CallError> {
    let Leased::Group { name, .. } = &lease.on else { return perform_alone(target, journal, action).await };
    let (ec2, autoscaling) = (&target.ec2, &target.autoscaling);
    match action {
        Action::DetachNewcomer(id) => groups::detach(autoscaling, name, id).await,
        Action::RemoveIdleNewcomer(id) | Action::TerminateExtra(id) => {
            groups::terminate(autoscaling, id, Desired::Decrement).await
        }
        Action::ReplaceNewcomer(id) => groups::terminate(autoscaling, id, Desired::Keep).await,
        Action::TerminateNewcomer(id) => instances::terminate(ec2, id).await,
        Action::ReattachOld => groups::attach(autoscaling, name, &journal.old).await,
        Action::TerminateOld => instances::terminate(ec2, &journal.old).await,
        Action::RaiseMaxSize(to) | Action::RestoreMaxSize(to) => {
            groups::set_max(autoscaling, name, *to).await
        }
        Action::ResumeAzRebalance => groups::resume_az_rebalance(autoscaling, name).await,
        Action::Done(_) | Action::Wait(_) => Ok(()),
    }
}

/// What can be done outside of a group.
async fn perform_alone(target: &Target, journal: &Journal, action: &Action) -> Result<(), CallError> {
    match action {
        Action::TerminateNewcomer(id) => instances::terminate(&target.ec2, id).await,
        Action::TerminateOld => instances::terminate(&target.ec2, &journal.old).await,
        _ => Ok(()),
    }
}

async fn observe(
    target: &Target,
    lease: &Lease,
    settings: &Settings,
    journal: &Journal,
) -> Result<Observed, CallError> {
    let group = match &lease.on {
        // A group deleted and created again under the same name is not the one we worked on.
        Leased::Group { arn, name } => {
            groups::describe(&target.autoscaling, name).await?.filter(|group| &group.arn == arn)
        }
        Leased::Instance(_) | Leased::ClusterSlot { .. } => None,
    };
    let is_member = |id: &InstanceId| group.as_ref().is_some_and(|g| g.member(id).is_some());
    let known: Vec<InstanceId> = journal.newcomer.iter().chain([&journal.old]).cloned().collect();
    let described = instances::describe(&target.ec2, &known).await?;
    let old_alive = described.get(&journal.old).is_some_and(|i| i.state != InstanceState::Dead);
    let newcomer = if let Some(id) = &journal.newcomer {
        Some(newcomer(id, described.get(id), lease))
    } else {
        let launched = instances::launched_by(&target.ec2, journal.swap_id.as_str()).await?;
        launched.iter().max_by_key(|i| i.is_alive()).map(|i| newcomer(&i.id, Some(i), lease))
    };
    let leavers = [newcomer.as_ref().filter(|n| n.alive).map(|n| &n.id), old_alive.then_some(&journal.old)];
    let mut draining = Vec::new();
    if let Some(group) = &group {
        for id in leavers.into_iter().flatten().filter(|id| !is_member(id)) {
            if is_drained_by_any(target, &group.target_group_arns, id, described.get(id)).await? {
                draining.push(id.clone());
            }
        }
    }
    let visible_after = SignedDuration::from_secs(i64::from(settings.launch_visible_after_seconds));
    let launch_may_be_invisible = Timestamp::now().duration_since(journal.launching_since) < visible_after;
    Ok(Observed { group, old_alive, newcomer, launch_may_be_invisible, draining })
}

/// Says if a target group drains the instance, one of its group's or one in which others have registered it.
async fn is_drained_by_any(
    target: &Target,
    own: &[String],
    id: &InstanceId,
    instance: Option<&Instance>,
) -> Result<bool, CallError> {
    if target_groups::health(&target.elbv2, own, id).await? == TargetHealth::Draining {
        return Ok(true);
    }
    let Some(vpc) = instance.and_then(|instance| instance.belongings.vpc_id.as_deref()) else {
        return Ok(false);
    };
    Ok(!targets::elsewhere(&target.elbv2, vpc, id, own).await?.draining.is_empty())
}

/// A newcomer that the journal names but EC2 has forgotten died in the group.
fn newcomer(id: &InstanceId, instance: Option<&Instance>, lease: &Lease) -> Newcomer {
    let group_tag = |i: &Instance| match &lease.on {
        Leased::Group { name, .. } => i.tags.get(GROUP_NAME_TAG).map(String::as_str) == Some(name.as_str()),
        Leased::Instance(_) | Leased::ClusterSlot { .. } => false,
    };
    Newcomer {
        id: id.clone(),
        alive: instance.is_some_and(Instance::is_alive),
        has_group_tag: instance.is_none_or(group_tag),
    }
}
