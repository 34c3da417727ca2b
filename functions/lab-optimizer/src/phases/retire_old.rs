//! RetireOld: deregisters the old instance, waits until it has drained, and stops it (or terminates it, as
//! the setting says). Then deletes the captured image and its snapshots, which nothing needs any more.
//!
//! Records, before each call: that the old instance may be leaving, that it may be stopping. Undone by:
//! starting it again, registering it again, moving the address back. Once it is terminated, nothing is
//! undone.

use spot_cloud::tables::swaps::Entered;
use spot_domain::Reason;
use spot_domain::clock;
use spot_domain::swap::journal::Stage;
use spot_domain::swap::recovery::{End, Ended};
use spot_domain::swap::report::Swapped;
use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::recovery::lab::recover_lab;
use spot_swap::recovery::{Progress, Visit};
use spot_swap::work::{Current, Next, Work};

/// Takes the steps that are possible now.
///
/// # Errors
/// A call fails, or the old instance has not left by the deadline ([`StepError::Stuck`]).
pub async fn run(context: &Context, work: &mut Work, current: &mut Current) -> Result<Next, StepError> {
    let clients = context.clients(work).await?;
    if current.journal.stage == Stage::Attaching {
        current.journal.stage = Stage::Retiring;
        current.deadline = work.wait_at_most(work.settings.retire_timeout_seconds);
    }
    if let Entered::Again(earlier) = context.swaps.enter(&work.lease, &mut current.journal).await? {
        current.journal = earlier;
    }
    let settings = work.settings.clone();
    let visit = Visit { clients: &clients, swaps: &context.swaps, lease: &work.lease, settings: &settings };
    match recover_lab(&context.gatekeeper, visit, &mut current.journal).await {
        _ if current.journal.stage == Stage::Undoing => Ok(turned_round(work, current)),
        Err(error) => Err(error.into()),
        Ok(Progress::Ended(Ended { end: End::Finished, remarks, .. })) => {
            work.remarks = remarks;
            work.swapped.push(Swapped {
                old_instance_id: current.candidate.instance_id.clone(),
                new_instance_id: current.newcomer.clone(),
                from: current.candidate.from,
                to: current.candidate.to,
                pool: current.pool.clone(),
                monthly_saving_usd: None,
            });
            Ok(Next::Proceed)
        }
        Ok(Progress::Waiting(_)) if clock::now() < current.deadline => Ok(Next::Wait),
        Ok(progress) => Err(StepError::Stuck(
            format!(
                "instance {} is not retired after {} s: {progress:?}",
                current.candidate.instance_id, settings.retire_timeout_seconds
            )
            .into(),
        )),
    }
}

/// Turns to the rollback: the newcomer failed while the old instance was on its way out, or the owner wants
/// the old instance back.
fn turned_round(work: &mut Work, current: &Current) -> Next {
    match &current.journal.undo {
        Some(undo) => work.undo(undo.reason, undo.detail.clone()),
        None => work.undo(Reason::NewcomerNotServing, "the newcomer failed"),
    }
}
