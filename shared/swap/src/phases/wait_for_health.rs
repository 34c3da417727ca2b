//! WaitForHealth: the newcomer must run and pass both status checks. If it is Spot, its pool must still be clear, and it must
//! be billed for the operating system whose prices were compared. Its group must still launch the same. The group must not be scaling: it would take an attach at that moment for its own.
//! Changes nothing in AWS.
//!
//! Records, in a lab swap: the volumes of the newcomer, once EC2 shows them.

use spot_cloud::ec2::instances;
use spot_cloud::tables::swaps::{Leased, SwapsError};
use spot_cloud::{CallError, RegionClients};
use spot_domain::Reason;
use spot_domain::clock;
use spot_domain::swap::group::{Instance, InstanceState};
use spot_domain::swap::scaling::scaling;
use spot_domain::swap::selection::Change;

use crate::Context;
use crate::error::StepError;
use crate::group::launches_otherwise;
use crate::last_look::{self, LastLook, last_look};
use crate::recovery::lab::launched_with;
use crate::work::{Current, Next, Work};

/// Checks once.
///
/// # Errors
/// A call fails.
pub async fn run(context: &Context, work: &mut Work, current: &mut Current) -> Result<Next, StepError> {
    let clients = context.clients(work).await?;
    let described = instances::describe(&clients.ec2, std::slice::from_ref(&current.newcomer)).await?;
    note_volumes(context, work, current, described.get(&current.newcomer)).await?;
    let current = &*current;
    let newcomer = &current.newcomer;
    let unhealthy = |why: &str| Ok((Reason::NewcomerUnhealthy, why.to_owned()));
    let waiting_for: Result<(Reason, String), Next> = match described.get(newcomer) {
        // EC2 is eventually consistent: an instance unknown right after its launch is not gone.
        None => unhealthy("EC2 does not describe it"),
        Some(i) => match i.state {
            InstanceState::Dead | InstanceState::Stopped => {
                let why = i.why_it_stopped();
                let interrupted = current.journal.to.is_spot() && why.contains("SpotInstance");
                let reason = if interrupted { Reason::NewcomerAtRisk } else { Reason::NewcomerUnhealthy };
                Err(work.undo(reason, format!("newcomer {newcomer} died while starting: {why}")))
            }
            InstanceState::Pending => unhealthy("it is still pending"),
            InstanceState::Running => match current.candidate.billed_otherwise(i) {
                Some(why) => Err(work.undo(Reason::NotCheaper, why)),
                None if !instances::passes_status_checks(&clients.ec2, newcomer).await? => {
                    unhealthy("its status checks have not both passed")
                }
                None => healthy(context, &clients, work, current).await?,
            },
        },
    };
    let (reason, why) = match waiting_for {
        Ok(waiting_for) => waiting_for,
        Err(next) => return Ok(next),
    };
    if clock::now() < current.deadline {
        return Ok(Next::Wait);
    }
    let seconds = work.settings.health_timeout_seconds;
    Ok(work.undo(reason, format!("newcomer {newcomer}, {seconds} s after launch: {why}")))
}

/// Notes the volumes that a lab swap's newcomer was launched with: EC2 no longer shows them once the newcomer has
/// died.
async fn note_volumes(
    context: &Context,
    work: &Work,
    current: &mut Current,
    newcomer: Option<&Instance>,
) -> Result<(), StepError> {
    let (Some(lab), Some(newcomer)) = (current.journal.kind.lab_mut(), newcomer) else { return Ok(()) };
    let volumes = launched_with(newcomer);
    if volumes.is_subset(&lab.volumes) {
        return Ok(());
    }
    lab.volumes.extend(volumes.clone());
    match context.swaps.note(&work.lease, &current.journal).await {
        // An earlier launch step that ran on has claimed the swap since.
        Err(SwapsError::Overtaken { .. }) => {}
        noted => return Ok(noted?),
    }
    context.swaps.claim(&work.lease, &mut current.journal).await?;
    if let Some(lab) = current.journal.kind.lab_mut() {
        lab.volumes.extend(volumes);
    }
    Ok(context.swaps.note(&work.lease, &current.journal).await?)
}

/// Returns the next state for a newcomer that is well, or notes what it still waits for.
async fn healthy(
    context: &Context,
    clients: &RegionClients,
    work: &mut Work,
    current: &Current,
) -> Result<Result<(Reason, String), Next>, StepError> {
    Ok(match look(context, clients, current).await? {
        LastLook::AtRisk(why) => Err(work.undo(Reason::NewcomerAtRisk, why)),
        LastLook::Unknown(why) => Ok((Reason::NewcomerUnhealthy, why)),
        LastLook::Clear => match group_is_ready(context, clients, work, current).await? {
            Ready::Yes => Err(Next::Proceed),
            Ready::Changed(change) => Err(work.undo_for(change)),
            Ready::NotYet(why) => Ok((Reason::GroupChanged, why)),
        },
    })
}

/// The group's readiness for an attach.
enum Ready {
    Yes,
    /// The group is not ready yet, with the reason in words.
    NotYet(String),
    /// The group has changed, and the swap goes back.
    Changed(Change),
}

/// Checks the group. The attach itself checks all other changes.
async fn group_is_ready(
    context: &Context,
    clients: &RegionClients,
    work: &mut Work,
    current: &Current,
) -> Result<Ready, StepError> {
    let Leased::Group { .. } = work.lease.on else { return Ok(Ready::Yes) };
    let Some(group) = context.group(clients, work).await? else {
        return Ok(Ready::Changed(Change::deleted()));
    };
    if let Some(change) = launches_otherwise(clients, &group, current).await? {
        return Ok(Ready::Changed(change));
    }
    Ok(scaling(&group, &mut work.short_since, clock::now()).map_or(Ready::Yes, Ready::NotYet))
}

/// Makes the last check before the old instance leaves. `Some` leads to the rollback. If the gate does not answer,
/// the old instance stays.
///
/// # Errors
/// The gate does not answer, or a call fails.
pub async fn undo_if_at_risk(
    context: &Context,
    clients: &RegionClients,
    work: &mut Work,
    current: &Current,
) -> Result<Option<Next>, StepError> {
    match look(context, clients, current).await? {
        LastLook::Clear => Ok(None),
        LastLook::AtRisk(why) => Ok(Some(work.undo(Reason::NewcomerAtRisk, why))),
        LastLook::Unknown(why) => Err(StepError::Transient(why.into())),
    }
}

/// Says that the newcomer's pool is poisoned, or that EC2 reclaims the newcomer. A gate that does not answer
/// counts as clear.
///
/// # Errors
/// A call fails.
pub async fn at_risk(
    context: &Context,
    clients: &RegionClients,
    current: &Current,
) -> Result<Option<String>, StepError> {
    match look(context, clients, current).await? {
        LastLook::AtRisk(why) => Ok(Some(why)),
        LastLook::Clear | LastLook::Unknown(_) => Ok(None),
    }
}

/// Says that EC2 reclaims the newcomer, by its Spot request. An On-Demand newcomer has none.
///
/// # Errors
/// The call fails.
pub async fn taken_back(clients: &RegionClients, current: &Current) -> Result<Option<String>, CallError> {
    if current.journal.to.is_on_demand() {
        return Ok(None);
    }
    last_look::taken_back(clients, &current.newcomer).await
}

/// Returns the reason for a newcomer that no longer runs, and that nobody has explained. A Spot one was interrupted,
/// most likely.
#[must_use]
pub fn why_it_died(current: &Current) -> Reason {
    if current.journal.to.is_spot() { Reason::NewcomerAtRisk } else { Reason::NewcomerUnhealthy }
}

/// Looks at the newcomer and its pool. EC2 takes no On-Demand newcomer back.
async fn look(context: &Context, clients: &RegionClients, current: &Current) -> Result<LastLook, CallError> {
    if current.journal.to.is_on_demand() {
        return Ok(LastLook::Clear);
    }
    last_look(&context.gatekeeper, clients, &current.newcomer, &current.pool).await
}
