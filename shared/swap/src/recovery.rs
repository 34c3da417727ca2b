//! Finishes or undoes a swap from its journal: looks at AWS, asks `spot_domain::swap::recovery::group` for the
//! one thing to do, does it, looks again. Undoing reads what was recorded, never what was asked for.

use jiff::{SignedDuration, Timestamp};
use spot_domain::ids::InstanceId;
use spot_domain::settings::Settings;
use spot_domain::swap::group::{Instance, InstanceState};
use spot_domain::swap::journal::Journal;
use spot_domain::swap::proof::Evidence;
use spot_domain::swap::recovery::End;
use spot_domain::swap::recovery::group::{Action, Newcomer, Observed, doubt, recover, settings_only};
use spot_domain::tags::{GROUP_NAME_TAG, Tags};
use spot_domain::{Pool, Region};

use spot_cloud::auto_scaling::groups;
use spot_cloud::auto_scaling::groups::Desired;
use spot_cloud::clients::RegionClients;
use spot_cloud::ec2::instances;
use spot_cloud::error::{CallError, Kind};
use spot_cloud::load_balancing::target_groups::TargetHealth;
use spot_cloud::load_balancing::{target_groups, targets};
use spot_cloud::tables::swaps::{Lease, Leased, OF_A_SWAP, Swaps, SwapsError};

use crate::lab_recovery;
use crate::newcomer::{SwapInstances, look, unproven};

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
        /// The pool of the newcomer that is left in service, in a group, if EC2 gives its zone's id.
        pool: Option<Pool>,
        /// Remarks for a person: the resources that were left alone, and why.
        remarks: Vec<String>,
        /// What may be left in desired, for a person: nothing proves whose it is.
        doubt: Option<String>,
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
/// A call fails, or the journal orders what nothing proves to be its swap's ([`SwapsError::Unproven`]). Whatever was
/// done is done; the next visit goes on from there.
pub async fn advance(
    clients: &RegionClients,
    swaps: &Swaps,
    lease: &Lease,
    settings: &Settings,
    journal: &mut Journal,
    permit: impl AsyncFn(&mut Journal, &Observed, &Action) -> Permission,
) -> Result<Progress, SwapsError> {
    if journal.lab.is_some() {
        return lab_recovery::advance(clients, swaps, lease, settings, journal).await;
    }
    for _ in 0..ACTIONS_PER_VISIT {
        let look = look(clients, lease, journal).await?;
        let observed = observe(clients, lease, settings, journal, &look).await?;
        let mut action = recover(journal, &observed);
        if action.needs_proof() && look.newcomer.instance().is_none() {
            let why = without_proof(journal, &action);
            action = settings_only(journal, &observed).ok_or_else(|| unproven(lease, &why))?;
        }
        tracing::info!(on = %lease.on, swap_id = %journal.swap_id, ?action, "recovering");
        let known = journal.clone();
        if let Permission::NotYet(why) = permit(journal, &observed, &action).await {
            if *journal != known {
                swaps.revise(lease, journal).await?;
            }
            return Ok(Progress::Waiting(why));
        }
        match action {
            Action::Done(end) => {
                // Another recovery may be about to call.
                swaps.revise(lease, journal).await?;
                let doubt = doubt(journal, &observed);
                let newcomer = observed.newcomer.filter(|n| n.alive).map(|n| n.id);
                let pool = look.newcomer.instance().and_then(|instance| pool(instance, &lease.region));
                return Ok(Progress::Ended { end, newcomer, pool, remarks: look.left_alone, doubt });
            }
            Action::Wait(why) => return Ok(Progress::Waiting(why.to_owned())),
            _ => {}
        }
        let before = journal.clone();
        journal.foresee(&action, &observed, Timestamp::now());
        swaps.revise(lease, journal).await?;
        if let Err(error) = perform(clients, lease, journal, &action).await {
            if has_changed_nothing(&action, &error) {
                journal.retract(&action, &before);
                swaps.revise(lease, journal).await?;
            }
            // Its group, or its owner, was faster than our call: what became of desired, the next look shows. And one that
            // can't come back is asked about again, or let go.
            let is_told = action.settles_desired() && error.is_no_member() || is_final(&action, &error);
            if is_told {
                return Ok(Progress::Waiting(error.to_string()));
            }
            return Err(error.into());
        }
        journal.acknowledge(&action, &before);
        if action.settles_desired() {
            // The next visit looks at a group that has taken the change in.
            swaps.revise(lease, journal).await?;
            return Ok(Progress::Waiting("desired capacity was lowered by one".to_owned()));
        }
    }
    Ok(Progress::Waiting("more than one visit's actions were needed".to_owned()))
}

fn pool(instance: &Instance, region: &Region) -> Option<Pool> {
    let (az_id, instance_type) = (instance.az_id.clone()?, instance.instance_type.clone());
    Some(Pool { region: region.clone(), az_id, instance_type })
}

/// Says if the failure proves that the action, which the journal has foreseen, has changed nothing. The calls that lower
/// desired are sent once.
fn has_changed_nothing(action: &Action, error: &CallError) -> bool {
    (action.settles_desired() && error.is_refusal()) || is_final(action, error)
}

/// Says if AWS refuses to take the old instance back, as it is and as its group is: its image may be gone, or it is
/// stopped.
fn is_final(action: &Action, error: &CallError) -> bool {
    *action == Action::ReattachOld && error.is_refusal() && error.kind == Kind::Rejected
}

/// EC2 forgets a terminated instance after about an hour, and with it the proof.
fn without_proof(journal: &Journal, action: &Action) -> String {
    let newcomer = journal.newcomer.as_ref().map_or_else(|| "no newcomer".to_owned(), ToString::to_string);
    format!(
        "{action:?} is the next step of swap {}, and EC2 shows no instance that the swap launched ({newcomer}); do it by hand, then delete the row's attributes {OF_A_SWAP}",
        journal.swap_id
    )
}

async fn perform(
    clients: &RegionClients,
    lease: &Lease,
    journal: &Journal,
    action: &Action,
) -> Result<(), CallError> {
    let Leased::Group { name, .. } = &lease.on else { return perform_alone(clients, journal, action).await };
    let (ec2, autoscaling) = (&clients.ec2, &clients.autoscaling);
    match action {
        Action::DetachNewcomer(id) => groups::detach(autoscaling, name, id).await.map(drop),
        Action::RemoveIdleNewcomer(id) | Action::TerminateExtra(id) => {
            groups::terminate(autoscaling, id, Desired::Decrement).await.map(drop)
        }
        Action::ReplaceNewcomer(id) => groups::terminate(autoscaling, id, Desired::Keep).await.map(drop),
        Action::TerminateNewcomer(id) | Action::TerminateStray(id) => instances::terminate(ec2, id).await,
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
async fn perform_alone(clients: &RegionClients, journal: &Journal, action: &Action) -> Result<(), CallError> {
    match action {
        Action::TerminateNewcomer(id) | Action::TerminateStray(id) => {
            instances::terminate(&clients.ec2, id).await
        }
        Action::TerminateOld => instances::terminate(&clients.ec2, &journal.old).await,
        Action::Done(_) | Action::Wait(_) => Ok(()),
        needs_group => {
            Err(CallError::malformed("recovery", format!("{needs_group:?} outside of an Auto Scaling group")))
        }
    }
}

async fn observe(
    clients: &RegionClients,
    lease: &Lease,
    settings: &Settings,
    journal: &Journal,
    look: &SwapInstances,
) -> Result<Observed, CallError> {
    let group = match &lease.on {
        // A group deleted and created again under the same name is not the one we worked on.
        Leased::Group { arn, name } => {
            groups::describe(&clients.autoscaling, name).await?.filter(|group| &group.arn == arn)
        }
        Leased::Instance(_) | Leased::ClusterSlot { .. } => None,
    };
    let is_member = |id: &InstanceId| group.as_ref().is_some_and(|g| g.member(id).is_some());
    let old = look.old.as_ref();
    // Its owner has put it into another group: it is not ours to take back or to terminate.
    let old = old.filter(|old| old.state != InstanceState::Dead && !is_in_another_group(&old.tags, lease));
    let living = look.newcomer.instance().filter(|newcomer| newcomer.is_alive());
    let mut draining = Vec::new();
    if let Some(group) = &group {
        for leaver in living.into_iter().chain(old).filter(|leaver| !is_member(&leaver.id)) {
            if is_drained_by_any(clients, &group.target_group_arns, leaver).await? {
                draining.push(leaver.id.clone());
            }
        }
    }
    Ok(Observed {
        group,
        old_alive: old.is_some(),
        old_has_group_tag: look.old.as_ref().is_some_and(|old| has_group_tag(old, lease)),
        newcomer: newcomer(&look.newcomer, lease),
        strays: look.strays.clone(),
        launch_may_be_invisible: is_recent(journal.launching_since, settings),
        calls_may_land: calls_may_land(journal, settings),
        draining,
    })
}

/// Says if the last changing call of the swap is so recent that it may still land, or not show yet.
#[must_use]
pub fn calls_may_land(journal: &Journal, settings: &Settings) -> bool {
    journal.changed_at.is_some_and(|at| is_recent(at, settings))
}

/// Says if a call of that moment may still land, or not show yet.
pub(crate) fn is_recent(at: Timestamp, settings: &Settings) -> bool {
    let visible_after = SignedDuration::from_secs(i64::from(settings.launch_visible_after_seconds));
    Timestamp::now().duration_since(at) < visible_after
}

/// Says if a target group drains the instance, one of its group's or one in which others have registered it.
async fn is_drained_by_any(
    clients: &RegionClients,
    own: &[String],
    instance: &Instance,
) -> Result<bool, CallError> {
    let id = &instance.id;
    if target_groups::health(&clients.elbv2, own, id).await? == TargetHealth::Draining {
        return Ok(true);
    }
    let Some(vpc) = instance.belongings.vpc_id.as_deref() else { return Ok(false) };
    Ok(!targets::elsewhere(&clients.elbv2, vpc, id, own).await?.draining.is_empty())
}

/// A newcomer that the journal names but EC2 has forgotten died in the group.
fn newcomer(found: &Evidence, lease: &Lease) -> Option<Newcomer> {
    found.id().map(|id| Newcomer {
        id: id.clone(),
        alive: found.is_alive(),
        has_group_tag: found.instance().is_none_or(|instance| has_group_tag(instance, lease)),
    })
}

fn is_in_another_group(tags: &Tags, lease: &Lease) -> bool {
    match &lease.on {
        Leased::Group { name, .. } => tags.get(GROUP_NAME_TAG).is_some_and(|group| group != name.as_str()),
        Leased::Instance(_) | Leased::ClusterSlot { .. } => false,
    }
}

fn has_group_tag(instance: &Instance, lease: &Lease) -> bool {
    match &lease.on {
        Leased::Group { name, .. } => {
            instance.tags.get(GROUP_NAME_TAG).map(String::as_str) == Some(name.as_str())
        }
        Leased::Instance(_) | Leased::ClusterSlot { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Work;

    #[test]
    fn an_old_instance_that_its_owner_has_put_into_another_group_is_not_ours() {
        let payload = include_str!("../tests/payloads/3fb1158-group-after-launch.json");
        let lease = serde_json::from_str::<Work>(payload).unwrap().lease;
        let Leased::Group { name, .. } = &lease.on else { panic!("{lease:?}") };
        let tagged = |group: &str| Tags::from([(GROUP_NAME_TAG.to_owned(), group.to_owned())]);
        assert!(is_in_another_group(&tagged("another"), &lease));
        assert!(!is_in_another_group(&tagged(name.as_str()), &lease), "a member, or one on its way out");
        assert!(!is_in_another_group(&Tags::default(), &lease), "one that we have detached");
    }

    fn refused(code: &str, kind: Kind) -> CallError {
        CallError { kind, code: code.into(), ..CallError::malformed("autoscaling:DetachInstances", "") }
    }

    #[test]
    fn reader_2_whatever_aws_has_refused_to_lower_is_still_to_be_lowered() {
        let id: InstanceId = "i-0123456789abcdef0".parse().unwrap();
        let detach = Action::DetachNewcomer(id.clone());
        let (throttled, denied) = (refused("Throttling", Kind::Retry), refused("AccessDenied", Kind::Denied));
        assert!(has_changed_nothing(&detach, &throttled) && has_changed_nothing(&detach, &denied));
        assert!(!has_changed_nothing(&detach, &refused("NoAnswer", Kind::Retry)));
        assert!(!has_changed_nothing(&detach, &refused("InternalFailure", Kind::Retry)));
        assert!(!has_changed_nothing(&Action::TerminateNewcomer(id), &denied), "nothing was foreseen of it");
    }

    #[test]
    fn reader_3_an_attach_is_refused_for_good_only_by_what_it_asks_for() {
        let of = |code, kind| is_final(&Action::ReattachOld, &refused(code, kind));
        assert!(of("ValidationError", Kind::Rejected));
        assert!(!of("Throttling", Kind::Retry) && !of("AccessDenied", Kind::Denied));
        assert!(!of("NoAnswer", Kind::Rejected), "it may have come back");
    }
}
