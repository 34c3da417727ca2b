//! TakeOver: registers the newcomer in every target group of the old instance, and moves the Elastic IP once
//! the newcomer is healthy in all of them. Until then the old instance serves as before.
//!
//! Records, before the first call: the newcomer, and with the plan of the run, the address and the
//! registrations. Undone by: moving the address back, deregistering and terminating the newcomer.

use spot_cloud::ec2::addresses;
use spot_cloud::load_balancing::targets;
use spot_cloud::tables::swaps::Entered;
use spot_cloud::{CallError, Kind, RegionClients};
use spot_domain::Reason;
use spot_domain::clock;
use spot_domain::swap::journal::Stage;
use spot_domain::swap::lab::LabSwap;
use spot_domain::swap::recovery::lab::{TakeOver, take_over};
use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::owner;
use spot_swap::phases::wait_for_health::undo_if_at_risk;
use spot_swap::recovery::lab::observe;
use spot_swap::work::{Current, Next, Work};

/// Takes the steps that are possible now.
///
/// # Errors
/// A call fails in a way that may pass: the step is repeated.
pub async fn run(context: &Context, work: &mut Work, current: &mut Current) -> Result<Next, StepError> {
    let clients = context.clients(work).await?;
    let Some(lab) = work.kind.lab().cloned() else {
        return Err(StepError::Protocol(
            "work.lab: the run does not name what the newcomer takes over".into(),
        ));
    };
    if current.journal.stage == Stage::Launching {
        if let Some(undo) = undo_if_changed(&clients, work, current, &lab).await? {
            return Ok(undo);
        }
        current.journal.stage = Stage::Attaching;
        current.journal.newcomer = Some(current.newcomer.clone());
        current.deadline = work.wait_at_most(work.settings.in_service_timeout_seconds);
    }
    if let Entered::Again(earlier) = context.swaps.enter(&work.lease, &mut current.journal).await? {
        current.journal = earlier;
    }
    // Each round makes one registration, the last one moves the address. More rounds mean that calls have no
    // effect.
    for _ in 0..lab.registrations.len() + 2 {
        let observed = observe(&clients, &work.lease, &work.settings, &current.journal, &lab).await?;
        let step = take_over(&lab, &observed);
        tracing::info!(newcomer = %current.newcomer, ?step, "taking over");
        match &step {
            TakeOver::Done => return Ok(Next::Proceed),
            TakeOver::Undo(reason, why) => return Ok(work.undo(*reason, why.clone())),
            TakeOver::Wait(why) => return Ok(wait(work, current, why)),
            TakeOver::MoveAddress => {
                if let Some(undo) = undo_if_changed(&clients, work, current, &lab).await? {
                    return Ok(undo);
                }
                if let Some(undo) = undo_if_at_risk(context, &clients, work, current).await? {
                    return Ok(undo);
                }
            }
            TakeOver::Register(_) => {}
        }
        match perform(&clients, &lab, current, &step).await {
            Err(error) if matches!(error.kind, Kind::Rejected | Kind::Quota) => {
                return Ok(work.undo(Reason::AttachRejected, error.to_string()));
            }
            done => done?,
        }
    }
    Ok(wait(work, current, "AWS does not show yet what was done"))
}

async fn undo_if_changed(
    clients: &RegionClients,
    work: &mut Work,
    current: &Current,
    lab: &LabSwap,
) -> Result<Option<Next>, StepError> {
    let change = owner::change(clients, &work.settings, &current.candidate.instance_id, lab).await?;
    Ok(change.map(|why| work.undo(Reason::InstanceChanged, why)))
}

fn wait(work: &mut Work, current: &Current, why: &str) -> Next {
    if clock::now() < current.deadline {
        return Next::Wait;
    }
    let seconds = work.settings.in_service_timeout_seconds;
    work.undo(Reason::NewcomerNotServing, format!("after {seconds} s: {why}"))
}

async fn perform(
    clients: &RegionClients,
    lab: &LabSwap,
    current: &Current,
    step: &TakeOver,
) -> Result<(), CallError> {
    match step {
        TakeOver::Register(n) => match lab.registrations.get(*n) {
            Some(registration) => targets::register(&clients.elbv2, registration, &current.newcomer).await,
            None => Ok(()),
        },
        TakeOver::MoveAddress => match &lab.address {
            Some(address) => addresses::give(&clients.ec2, address, &current.newcomer).await,
            None => Ok(()),
        },
        TakeOver::Wait(_) | TakeOver::Done | TakeOver::Undo(..) => Ok(()),
    }
}
