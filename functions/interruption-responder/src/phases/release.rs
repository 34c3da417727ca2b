//! Release: the doomed instance leaves its group, N+1 to N. Its terminating hooks run, and its targets deregister.
//!
//! Records, before the call: which member takes our one out of desired; after it, that AWS has answered.
//! Undone by: nothing. What became of desired, Restore looks up.

use spot_cloud::tables::swaps::Claim;
use spot_swap::error::StepError;
use spot_swap::recovery::answer::recover_answer;
use spot_swap::work::Next;

use crate::context::Responder;
use crate::work::Answering;

/// Makes the call once.
///
/// # Errors
/// A call fails.
pub async fn run(responder: &Responder, work: &mut Answering) -> Result<Next, StepError> {
    let clients = responder.clients(work).await?;
    let mut journal =
        work.journal.clone().ok_or_else(|| StepError::Protocol("no answer in progress".into()))?;
    if responder.swaps.claim(&work.lease, &mut journal).await? == Claim::Granted {
        recover_answer(responder.visit(&clients, work), &mut journal).await?;
    }
    work.journal = Some(journal);
    Ok(Next::Proceed)
}
