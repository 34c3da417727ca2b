//! Release: the doomed instance leaves its group, N+1 to N. Its terminating hooks run, and its targets deregister. If
//! somebody else has changed desired meanwhile, our one can't be told from theirs: then the instance leaves without decrement.
//! If another member has died meanwhile, the wait begins anew. Beside a replacement that the group has launched by itself, the
//! instance leaves without decrement, too: desired holds none of ours.
//!
//! Records, before the call: which member takes our one out of desired; after it, that AWS has answered.
//! Undone by: nothing. What became of desired, Restore looks up.

use spot_domain::response::{AnswerOutcome, AnswerReason, Because};
use spot_domain::swap::recovery::answer::{has_to_wait, is_time_up};
use spot_swap::error::StepError;
use spot_swap::recovery::answer::{look, recover_answer};
use spot_swap::work::Next;

use crate::context::Responder;
use crate::work::Answering;

/// Makes the call, unless an earlier try has.
///
/// # Errors
/// A call fails.
pub async fn run(responder: &Responder, work: &mut Answering) -> Result<Next, StepError> {
    let clients = responder.clients(work).await?;
    // The row, not the payload: an earlier try may have told the instance to leave.
    let stored = responder.swaps.read(&work.lease).await?.and_then(|held| held.journal);
    let Some(mut journal) = stored else { return Ok(Next::Proceed) };
    recover_answer(responder.visit(&clients, work), &mut journal).await?;
    let is_out = journal.desired_settled;
    work.journal = Some(journal.clone());
    if is_out {
        return Ok(Next::Proceed);
    }
    if journal.counts_on_own_replacement() {
        return Ok(Next::Undo);
    }
    let observed = look(responder.visit(&clients, work), &journal, work.group()?).await?;
    if has_to_wait(&journal, &observed) {
        return Ok(Next::Wait);
    }
    let why = if is_time_up(work.ends_at, observed.now) {
        Because::of(AnswerReason::NoTime, "it is not known yet if desired capacity was raised for it")
    } else {
        Because::of(AnswerReason::GroupBusy, "desired capacity was changed while it was being replaced")
    };
    work.decide(AnswerOutcome::Released, Some(why));
    Ok(Next::Undo)
}
