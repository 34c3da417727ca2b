//! Replace: asks the group for one more, N to N+1. Describes the group afresh, raises MaxSize by one if the group is full,
//! and sets desired. A group that has launched a replacement by itself, beyond desired, is asked for nothing.
//!
//! Records, before the first call: the group as its owner has it, and the MaxSize that we set; after it, whether AWS has
//! raised desired.
//! Undone by: a member that leaves with decrement, and MaxSize as recorded.

use spot_cloud::RegionClients;
use spot_cloud::auto_scaling::groups;
use spot_cloud::error::{CallError, Kind};
use spot_cloud::tables::swaps::Entered;
use spot_domain::clock;
use spot_domain::response::verdict::{launches_first, not_first, opted_out};
use spot_domain::response::{AnswerOutcome, AnswerReason, Because};
use spot_domain::swap::group::Group;
use spot_domain::swap::journal::{Journal, Raise};
use spot_swap::error::StepError;
use spot_swap::work::Next;

use crate::context::Responder;
use crate::work::Answering;

/// Asks for one more.
///
/// # Errors
/// A call fails in a way that may pass: the step is repeated.
pub async fn run(
    responder: &Responder,
    work: &mut Answering,
    mut journal: Journal,
) -> Result<Next, StepError> {
    let clients = responder.clients(work).await?;
    let (arn, name) = work.group().map(|(arn, name)| (arn.clone(), name.clone()))?;
    let group = groups::describe_same(&clients.autoscaling, &arn, &name).await?;
    let Some(group) = group else {
        work.decide(
            AnswerOutcome::Ignored,
            Some(Because::of(AnswerReason::NotInGroup, "the group was deleted")),
        );
        return Ok(Next::Report);
    };
    let is_first = is_first(responder, work).await?;
    if is_first {
        if let Some(why) = opted_out(&group, &work.settings) {
            work.decide(AnswerOutcome::Ignored, Some(why));
            return Ok(Next::Report);
        }
        if let Some(why) = not_first(&group, work.ends_at, clock::now()) {
            work.decide(AnswerOutcome::Released, Some(why));
            return Ok(Next::Undo);
        }
    }
    let mut original = if is_first && launches_first(&group) {
        journal.foresee_own_replacement(&group)
    } else {
        journal.foresee_raise(&group, clock::now())
    };
    let entered = responder.swaps.enter(&work.lease, &mut journal).await?;
    let is_again = match entered {
        Entered::First => false,
        Entered::Again(earlier) => {
            journal = earlier;
            let unknown = || StepError::Protocol("the journal does not say what the group was like".into());
            original = journal.original.clone().ok_or_else(unknown)?;
            raise_of(&journal) == Raise::Asked
        }
    };
    work.journal = Some(journal.clone());
    work.saw(&group);
    // Nothing is to be asked, or an earlier try has had its answer.
    match raise_of(&journal) {
        Raise::NotNeeded | Raise::Made | Raise::MadeAgain => return Ok(Next::Proceed),
        Raise::Refused => return Ok(Next::Undo),
        Raise::NotAsked | Raise::Asked => {}
    }
    // Its call may have landed, or somebody else has changed desired meanwhile: an absolute number must not undo that.
    if group.desired != original.desired {
        return Ok(Next::Proceed);
    }
    if raise_of(&journal) == Raise::NotAsked {
        journal.ask_raise(clock::now());
        responder.swaps.revise(&work.lease, &mut journal).await?;
    }
    let raised = raise(&clients, &group, journal.max_raised_to, original.desired + 1).await;
    let refused = match raised {
        Ok(()) => None,
        Err(error) if error.is_refusal() && error.kind != Kind::Retry => Some(error),
        Err(error) => {
            // One that was throttled can't land. The next try has as much time left as ever.
            if error.is_refusal() && !is_again {
                journal.withdraw_raise();
                responder.swaps.revise(&work.lease, &mut journal).await?;
            }
            return Err(error.into());
        }
    };
    journal.acknowledge_raise(refused.is_some(), is_again);
    responder.swaps.revise(&work.lease, &mut journal).await?;
    work.journal = Some(journal);
    match refused {
        None => Ok(Next::Proceed),
        Some(error) => {
            work.decide(AnswerOutcome::Released, Some(Because::of(AnswerReason::NoRoom, error.to_string())));
            Ok(Next::Undo)
        }
    }
}

fn raise_of(journal: &Journal) -> Raise {
    journal.kind.answer().map_or(Raise::NotAsked, |answer| answer.raise)
}

/// Says if no earlier try of this step has begun: the group would show ours by now, and look as if it were scaling.
async fn is_first(responder: &Responder, work: &Answering) -> Result<bool, StepError> {
    let stored = responder.swaps.read(&work.lease).await?.and_then(|held| held.journal);
    Ok(stored.is_none_or(|journal| journal.original.is_none()))
}

async fn raise(
    clients: &RegionClients,
    group: &Group,
    max: Option<u32>,
    desired: u32,
) -> Result<(), CallError> {
    if let Some(max) = max.filter(|max| *max > group.max) {
        groups::set_max(&clients.autoscaling, &group.name, max).await?;
    }
    groups::set_desired(&clients.autoscaling, &group.name, desired).await
}
