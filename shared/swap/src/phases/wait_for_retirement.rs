//! WaitForRetirement: the old instance must have left the group, and every target group must have drained it, also
//! those that others have registered it in. If it was detached, the phase then terminates it. The termination
//! requires that as many instances serve as are desired, and that the newcomer's pool is clear. If the newcomer
//! has failed meanwhile, the rollback attaches the old instance again.

use spot_cloud::RegionClients;
use spot_cloud::ec2::instances;
use spot_cloud::load_balancing::target_groups::{self, TargetHealth};
use spot_cloud::load_balancing::targets;
use spot_cloud::tables::swaps::Claim;
use spot_domain::Reason;
use spot_domain::clock;
use spot_domain::swap::group::Group;
use spot_domain::swap::journal::Retirement;
use spot_domain::swap::recovery::Decision::{self, Do};
use spot_domain::swap::recovery::End;
use spot_domain::swap::recovery::group::{Action, Newcomer, Observed, goes_forward, next};
use spot_domain::swap::selection::Change;

use crate::Context;
use crate::error::StepError;
use crate::group::unfit_by_now;
use crate::last_look::is_lost;
use crate::phases::restore::max_given_back;
use crate::phases::wait_for_health::undo_if_at_risk;
use crate::recovery::calls_may_land;
use crate::work::{Current, Next, Work};

/// Checks once, and terminates the old instance if it is time.
///
/// # Errors
/// A call fails, or the old instance has not left by the deadline ([`StepError::Stuck`]).
pub async fn run(context: &Context, work: &mut Work, current: &mut Current) -> Result<Next, StepError> {
    // The execution may have been redriven after a recovery has ended its swap.
    if context.swaps.claim(&work.lease, &mut current.journal).await? == Claim::Finished {
        return Ok(Next::Proceed);
    }
    look(context, work, current).await
}

/// Does the same for a swap that the caller has claimed.
///
/// # Errors
/// As for [`run`].
pub async fn look(context: &Context, work: &mut Work, current: &Current) -> Result<Next, StepError> {
    let clients = context.clients(work).await?;
    let Some(group) = context.group(&clients, work).await? else {
        return Ok(work.undo_for(Change::deleted()));
    };
    let observed = observe(&clients, work, group, current).await?;
    let waiting_for = match next(&current.journal, &observed) {
        Decision::Wait(why) => why.to_owned(),
        Do(Action::TerminateOld) => {
            let next = terminate_old(context, &clients, work, current).await?;
            if next == Next::Proceed {
                end_if_unfit(&clients, work, observed.group.as_ref()).await?;
            }
            return Ok(next);
        }
        Do(Action::RestoreMaxSize(max)) => match max_given_back(&clients, work.group()?.1, max).await? {
            Ok(()) => "MaxSize was given back".to_owned(),
            Err(refused) => format!("MaxSize {max} can't go back: {refused}"),
        },
        // The old instance is gone already; Restore does the rest.
        Do(Action::ResumeAzRebalance) | Decision::Done(End::Finished)
            if goes_forward(&current.journal, &observed) =>
        {
            end_if_unfit(&clients, work, observed.group.as_ref()).await?;
            return Ok(Next::Proceed);
        }
        action => {
            let old = &current.candidate.instance_id;
            // What brings the old instance back, or makes room for it, says that the newcomer does not serve.
            let reason = match action {
                Do(Action::ReattachOld | Action::RaiseMaxSize(_)) => Reason::NewcomerNotServing,
                _ => Reason::GroupChanged,
            };
            return Ok(work.undo(reason, format!("while {old} was leaving: {action:?}")));
        }
    };
    if clock::now() < current.deadline {
        return Ok(Next::Wait);
    }
    Err(StepError::Stuck(
        format!(
            "the retirement of instance {} has not ended after {} s: {waiting_for}",
            current.candidate.instance_id,
            work.retire_seconds()
        )
        .into(),
    ))
}

/// Ends the run with this swap if a refresh began or a hook was added meanwhile. Runs before the next candidate's
/// turn.
async fn end_if_unfit(
    clients: &RegionClients,
    work: &mut Work,
    group: Option<&Group>,
) -> Result<(), StepError> {
    if !work.queue.is_empty()
        && let Some(group) = group
        && let Some(why) = unfit_by_now(clients, work, group).await?
    {
        work.end(Reason::GroupChanged, why);
    }
    Ok(())
}

/// Terminates the old instance: the point of no return.
async fn terminate_old(
    context: &Context,
    clients: &RegionClients,
    work: &mut Work,
    current: &Current,
) -> Result<Next, StepError> {
    let old = &current.candidate.instance_id;
    if !is_lost(clients, old, current.candidate.from.is_spot()).await?
        && let Some(undo) = undo_if_at_risk(context, clients, work, current).await?
    {
        return Ok(undo);
    }
    context.swaps.write(&work.lease, &current.journal).await?;
    instances::terminate(&clients.ec2, old).await?;
    Ok(Next::Proceed)
}

/// Returns true while a target group is draining the old instance: the group's own at its port, one of others at
/// any port.
async fn is_drained(clients: &RegionClients, own: &[String], current: &Current) -> Result<bool, StepError> {
    let old = &current.candidate.instance_id;
    if target_groups::health(&clients.elbv2, own, old).await? == TargetHealth::Draining {
        return Ok(true);
    }
    Ok(!targets::in_those(&clients.elbv2, &current.also_in, old).await?.draining.is_empty())
}

/// Observes what the decision needs if the old instance may be terminated: less than the rollback observes.
async fn observe(
    clients: &RegionClients,
    work: &Work,
    group: Group,
    current: &Current,
) -> Result<Observed, StepError> {
    let old = &current.candidate.instance_id;
    let mut draining = Vec::new();
    let detached = current.journal.retirement == Retirement::Detach;
    if detached
        && group.member(old).is_none()
        && is_drained(clients, &group.target_group_arns, current).await?
    {
        draining.push(old.clone());
    }
    // The group may not have noticed yet that the newcomer is dying: EC2 shows its state before the termination.
    let is_member = group.member(&current.newcomer).is_some();
    let old_left = group.member(old).is_none();
    let alive = is_member && (!old_left || instances::is_running(&clients.ec2, &current.newcomer).await?);
    let newcomer = Newcomer { id: current.newcomer.clone(), alive, has_group_tag: is_member };
    Ok(Observed {
        group: Some(group),
        old_alive: detached,
        newcomer: Some(newcomer),
        calls_may_land: calls_may_land(&current.journal, &work.settings),
        draining,
        ..Observed::default()
    })
}
