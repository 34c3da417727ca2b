//! Restore: gives back what the answer has raised, by the journal in the Swaps table: whatever a failed step has done more
//! than the payload shows. Report releases the lease once the end is told; until then the row keeps what there is to tell.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use spot_domain::clock;
use spot_domain::swap::recovery::Ended;
use spot_swap::StepFailure;
use spot_swap::error::StepError;
use spot_swap::recovery::Progress;
use spot_swap::recovery::answer::{look, recover_answer};
use spot_swap::work::Next;

use crate::context::Responder;
use crate::phases::leave;
use crate::work::Answering;

/// The event of the step.
#[derive(Debug, Deserialize)]
pub struct RestoreEvent {
    work: Answering,
    error: Option<StepFailure>,
}

/// Makes one visit.
///
/// # Errors
/// A call fails, or the way back does not end in time ([`StepError::Stuck`]): the reconciler goes on with it.
pub async fn run(responder: &Responder, event: RestoreEvent) -> Result<(Next, Answering), StepError> {
    let RestoreEvent { mut work, error } = event;
    if let Some(failure) = error {
        work.failed(format!("{}: {}", failure.error, failure.cause));
    }
    let next = visit(responder, &mut work).await?;
    Ok((next, work))
}

async fn visit(responder: &Responder, work: &mut Answering) -> Result<Next, StepError> {
    let Some(held) = responder.swaps.read(&work.lease).await? else { return Ok(Next::Report) };
    let Some(mut journal) = held.journal else {
        if let Some(outcome) = held.outcome {
            note_end(work, outcome.ended); // an earlier try of this step has closed the answer
        } else {
            responder.swaps.let_go(&work.lease, &work.summary()).await?;
        }
        return Ok(Next::Report);
    };
    let clients = responder.clients(work).await?;
    let patience = SignedDuration::from_secs(i64::from(work.settings.rollback_timeout_seconds));
    let now = clock::now();
    let give_up_at =
        *work.give_up_at.get_or_insert_with(|| now.saturating_add(patience).unwrap_or(Timestamp::MAX));
    match recover_answer(responder.visit(&clients, work), &mut journal).await? {
        Progress::Waiting(why) if now >= give_up_at => Err(StepError::Stuck(
            format!("{}: the answer for {} waits: {why}", work.lease.on, work.instance_id).into(),
        )),
        Progress::Waiting(_) => {
            let observed = look(responder.visit(&clients, work), &journal, work.group()?).await?;
            observed.group.iter().for_each(|group| work.saw(group));
            Ok(Next::Wait)
        }
        Progress::Ended(ended) => {
            // A step that failed has not told the instance to leave.
            if journal.counts_on_own_replacement() {
                leave::run(responder, work).await?;
            }
            responder.swaps.close_with_outcome(&work.lease, &journal, &ended).await?;
            note_end(work, ended);
            Ok(Next::Report)
        }
    }
}

/// Notes the end of an answer whose lease is kept until it is told.
fn note_end(work: &mut Answering, Ended { doubt, .. }: Ended) {
    work.keeps_lease = true;
    if let Some(doubt) = doubt {
        work.failed(doubt);
    }
}
