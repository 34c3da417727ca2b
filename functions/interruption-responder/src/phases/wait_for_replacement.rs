//! WaitForReplacement: as many must serve without the doomed instance as served with it: InService, and healthy in every
//! target group. 40 s before the end, the wait is over. Changes nothing.

use spot_domain::response::verdict::has_surplus;
use spot_domain::response::{AnswerOutcome, AnswerReason, Because};
use spot_domain::swap::journal::Journal;
use spot_domain::swap::recovery::answer::{is_replaced, is_time_up};
use spot_swap::error::StepError;
use spot_swap::recovery::answer::look;
use spot_swap::work::Next;

use crate::context::Responder;
use crate::work::Answering;

/// Looks once.
///
/// # Errors
/// A call fails.
pub async fn run(responder: &Responder, work: &mut Answering, journal: Journal) -> Result<Next, StepError> {
    let clients = responder.clients(work).await?;
    let observed = look(responder.visit(&clients, work), &journal, work.group()?).await?;
    let Some(group) = &observed.group else { return Ok(Next::Proceed) };
    work.saw(group);
    if is_replaced(&journal, &observed) {
        work.decide(AnswerOutcome::Replaced, None);
        return Ok(Next::Proceed);
    }
    if journal.counts_on_own_replacement() && !has_surplus(group) {
        let detail = "the replacement that its group had launched is gone";
        work.decide(AnswerOutcome::Released, Some(Because::of(AnswerReason::GroupBusy, detail)));
        return Ok(Next::Proceed);
    }
    if is_time_up(work.ends_at, observed.now) {
        let detail = "its replacement did not serve 40 s before its end";
        work.decide(AnswerOutcome::Replaced, Some(Because::of(AnswerReason::NoTime, detail)));
        return Ok(Next::Proceed);
    }
    Ok(Next::Wait)
}
