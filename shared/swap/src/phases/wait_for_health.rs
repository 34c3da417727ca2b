//! WaitForHealth: the newcomer must run and pass both status checks, its pool must still be clear, and its group
//! must still launch the same and not be scaling: an attach in the middle of that would be taken for the group's
//! own. Changes nothing in AWS.
//!
//! Records, in a lab swap: the volumes of the newcomer, once EC2 shows them.

use jiff::Timestamp;
use spot_cloud::gatekeeper::Verdict;
use spot_cloud::swaps::Leased;
use spot_cloud::{CallError, Target, instances};
use spot_domain::group::{Instance, InstanceState};
use spot_domain::scaling::scaling;
use spot_domain::selection::Change;
use spot_domain::{InstanceId, Reason};

use crate::Context;
use crate::error::StepError;
use crate::group::launches_otherwise;
use crate::lab_recovery::launched_with;
use crate::work::{Current, Next, Work};

/// Looks once.
///
/// # Errors
/// A call fails.
pub async fn run(context: &Context, work: &mut Work, current: &mut Current) -> Result<Next, StepError> {
    let target = context.target(work).await?;
    let described = instances::describe(&target.ec2, std::slice::from_ref(&current.newcomer)).await?;
    note_volumes(context, work, current, described.get(&current.newcomer)).await?;
    let current = &*current;
    let newcomer = &current.newcomer;
    let unhealthy = |why: &str| Ok((Reason::NewcomerUnhealthy, why.to_owned()));
    let waiting_for: Result<(Reason, String), Next> = match described.get(newcomer) {
        // EC2 is eventually consistent: unknown right after the launch is not gone.
        None => unhealthy("EC2 does not describe it"),
        Some(i) => match i.state {
            InstanceState::Dead | InstanceState::Stopped => {
                let why = i.why_it_stopped();
                let interrupted = why.contains("SpotInstance");
                let reason = if interrupted { Reason::NewcomerAtRisk } else { Reason::NewcomerUnhealthy };
                Err(work.undo(reason, format!("newcomer {newcomer} died while starting: {why}")))
            }
            InstanceState::Pending => unhealthy("it is still pending"),
            InstanceState::Running if !instances::passes_status_checks(&target.ec2, newcomer).await? => {
                unhealthy("its status checks have not both passed")
            }
            InstanceState::Running => healthy(context, &target, work, current).await?,
        },
    };
    let (reason, why) = match waiting_for {
        Ok(waiting_for) => waiting_for,
        Err(next) => return Ok(next),
    };
    if Timestamp::now() < current.deadline {
        return Ok(Next::Wait);
    }
    let seconds = work.settings.health_timeout_seconds;
    Ok(work.undo(reason, format!("newcomer {newcomer}, {seconds} s after launch: {why}")))
}

/// Notes the volumes that a lab swap's newcomer was launched with: EC2 no longer tells once it has died.
async fn note_volumes(
    context: &Context,
    work: &Work,
    current: &mut Current,
    newcomer: Option<&Instance>,
) -> Result<(), StepError> {
    let (Some(lab), Some(newcomer)) = (&mut current.journal.lab, newcomer) else { return Ok(()) };
    let volumes = launched_with(newcomer);
    if volumes.is_subset(&lab.volumes) {
        return Ok(());
    }
    lab.volumes.extend(volumes);
    Ok(context.swaps.note(&work.lease, &current.journal).await?)
}

/// The newcomer is well: where to go, or what it waits for all the same.
async fn healthy(
    context: &Context,
    target: &Target,
    work: &mut Work,
    current: &Current,
) -> Result<Result<(Reason, String), Next>, StepError> {
    Ok(match last_look(context, target, current).await? {
        LastLook::AtRisk(why) => Err(work.undo(Reason::NewcomerAtRisk, why)),
        LastLook::Unknown(why) => Ok((Reason::NewcomerUnhealthy, why)),
        LastLook::Clear => match group_is_ready(context, target, work, current).await? {
            Ready::Yes => Err(Next::Proceed),
            Ready::Changed(change) => Err(work.undo_for(change)),
            Ready::NotYet(why) => Ok((Reason::GroupChanged, why)),
        },
    })
}

/// The group's answer to an attach.
enum Ready {
    Yes,
    /// Later: in words.
    NotYet(String),
    /// Never.
    Changed(Change),
}

/// Asks the group. The attach itself asks for the rest of what may have changed.
async fn group_is_ready(
    context: &Context,
    target: &Target,
    work: &mut Work,
    current: &Current,
) -> Result<Ready, StepError> {
    let Leased::Group { .. } = work.lease.on else { return Ok(Ready::Yes) };
    let Some(group) = context.group(target, work).await? else {
        return Ok(Ready::Changed(Change::deleted()));
    };
    if let Some(change) = launches_otherwise(target, &group, current).await? {
        return Ok(Ready::Changed(change));
    }
    Ok(scaling(&group, &mut work.short_since, Timestamp::now()).map_or(Ready::Yes, Ready::NotYet))
}

/// The last look before the old instance goes: `Some` leads to the rollback, and a gate that does not
/// say lets nothing go.
///
/// # Errors
/// The gate does not say, or a call fails.
pub async fn undo_if_at_risk(
    context: &Context,
    target: &Target,
    work: &mut Work,
    current: &Current,
) -> Result<Option<Next>, StepError> {
    match last_look(context, target, current).await? {
        LastLook::Clear => Ok(None),
        LastLook::AtRisk(why) => Ok(Some(work.undo(Reason::NewcomerAtRisk, why))),
        LastLook::Unknown(why) => Err(StepError::Transient(why)),
    }
}

/// Says that the newcomer's pool is poisoned or EC2 takes it back; a gate that does not answer says nothing.
///
/// # Errors
/// A call fails.
pub async fn at_risk(
    context: &Context,
    target: &Target,
    current: &Current,
) -> Result<Option<String>, StepError> {
    match last_look(context, target, current).await? {
        LastLook::AtRisk(why) => Ok(Some(why)),
        LastLook::Clear | LastLook::Unknown(_) => Ok(None),
    }
}

/// Says that EC2 takes the newcomer back, by its Spot request.
///
/// # Errors
/// The call fails.
pub async fn taken_back(target: &Target, newcomer: &InstanceId) -> Result<Option<String>, CallError> {
    let code = instances::is_taken_back(&target.ec2, newcomer).await?;
    Ok(code.map(|code| format!("newcomer {newcomer}: its Spot request is {code}")))
}

/// The gate's word on the newcomer's pool, and EC2's on the newcomer.
enum LastLook {
    /// Go on.
    Clear,
    /// Poisoned, or to be interrupted.
    AtRisk(String),
    /// The gate does not say.
    Unknown(String),
}

/// The newcomer's pool may have been poisoned while it started; and where its own interruption poisons
/// nothing (a LAB account, a threshold of several accounts), its Spot request tells.
async fn last_look(context: &Context, target: &Target, current: &Current) -> Result<LastLook, StepError> {
    let (pool, newcomer) = (&current.pool, &current.newcomer);
    if let Some(why) = taken_back(target, newcomer).await? {
        return Ok(LastLook::AtRisk(why));
    }
    Ok(match context.gatekeeper.ask_one(pool).await {
        Ok(Verdict::Cleared(_)) => LastLook::Clear,
        Ok(Verdict::PoisonedUntil(until)) => {
            LastLook::AtRisk(format!("pool {pool} was poisoned meanwhile, until {until}"))
        }
        Ok(Verdict::Unreadable(row)) => LastLook::Unknown(row.to_string()),
        Err(closed) => LastLook::Unknown(closed.to_string()),
    })
}
