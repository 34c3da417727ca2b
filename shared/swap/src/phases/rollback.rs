//! Rollback: restores the owner's group from any state, by the journal. If the old instance is gone already, the
//! swap goes forward to its end. Each visit observes, does what can be done now, and comes again.
//!
//! The rollback reads the journal in the Swaps table, not the payload of this execution. The step that failed may
//! have done more than the payload shows.
//!
//! What the end of the swap tells lies in the row, too: a repeated last visit finds no journal, and tells the same.

use crate::newcomer::unproven;
use crate::recovery::{Progress, Visit};
use jiff::Timestamp;
use spot_cloud::launch::gatekeeper::Gatekeeper;
use spot_cloud::tables::swaps::{Closed, Leased, Outcome, SwapsError};
use spot_domain::clock;
use spot_domain::swap::journal::{Journal, Stage, SwapId, Undo};
use spot_domain::swap::recovery::{End, Ended};
use spot_domain::swap::selection::Candidate;
use spot_domain::{InstanceId, Reason};

use crate::error::StepError;
use crate::work::{Current, Next, Recorded, Work};
use crate::{Context, StepFailure};

/// What came of a visit.
#[derive(Debug)]
pub struct Visited {
    /// Where the state machine goes next.
    pub next: Next,
    /// The instance that the way back leaves in service, for its pods' sake.
    pub kept: Option<InstanceId>,
}

/// Makes one visit. `recover` does what can be done now for a swap of the run's kind.
///
/// # Errors
/// A call fails, or the rollback does not end by its deadline ([`StepError::Stuck`]). The reconciler then resumes
/// it.
pub async fn run(
    context: &Context,
    work: &mut Work,
    failure: Option<&StepFailure>,
    recover: impl AsyncFnOnce(&Gatekeeper, Visit<'_>, &mut Journal) -> Result<Progress, SwapsError>,
) -> Result<Visited, StepError> {
    let undo = work
        .undo
        .clone()
        .or_else(|| failure.map(undo_for))
        .unwrap_or_else(|| Undo { reason: Reason::StepFailed, detail: "no reason was recorded".to_owned() });
    work.undo = Some(undo.clone());
    if work.dry_run {
        return Err(StepError::Rejected(undo.detail.into())); // it holds no lease and has changed nothing
    }
    let Some(held) = context.swaps.read(&work.lease).await? else {
        return Err(StepError::LeaseLost(
            format!("the lease on {} is gone ({})", work.lease.on, undo.detail).into(),
        ));
    };
    let mut journal = match held.journal {
        Some(journal) if !is_successor(work, held.closed.as_ref(), &journal) => journal,
        next => {
            work.note_ahead(next.iter().flat_map(|next| [next].into_iter().chain(&next.ahead)));
            let outcome = held.outcome.filter(|outcome| is_news(work, outcome));
            let kept = outcome.as_ref().and_then(|outcome| kept_by(&outcome.journal));
            match outcome {
                // An earlier try of this visit has closed it, and has told nobody.
                Some(Outcome { journal, ended, .. }) => note_end(work, &journal, ended, undo),
                None => nothing_in_progress(work, &undo, held.closed.as_ref()),
            }
            return Ok(Visited { next: work.next_candidate(), kept });
        }
    };
    let is_another = |current: &Current| current.journal.swap_id != journal.swap_id;
    if !is_of_this_run(work, &journal) || work.current.as_ref().is_some_and(is_another) {
        let problem = format!("it tells of swap {}, which is none of this execution", journal.swap_id);
        return Err(unproven(&work.lease, &problem).into());
    }
    let next = go_back(context, work, &mut journal, undo, recover).await?;
    Ok(Visited { next, kept: kept_by(&journal) })
}

/// Makes one visit to the swap in progress.
async fn go_back(
    context: &Context,
    work: &mut Work,
    journal: &mut Journal,
    undo: Undo,
    recover: impl AsyncFnOnce(&Gatekeeper, Visit<'_>, &mut Journal) -> Result<Progress, SwapsError>,
) -> Result<Next, StepError> {
    decide(context, work, journal, &undo).await?;
    let give_up = match work.rollback_deadline {
        Some(deadline) => deadline,
        None => deadline(work, journal),
    };
    work.rollback_deadline = Some(give_up);
    let clients = context.clients(work).await?;
    let visit =
        Visit { clients: &clients, swaps: &context.swaps, lease: &work.lease, settings: &work.settings };
    match recover(&context.gatekeeper, visit, journal).await? {
        Progress::Waiting(why) if clock::now() >= give_up => Err(StepError::Stuck(
            format!("{}: the rollback of {} waits: {why}", work.lease.on, journal.old).into(),
        )),
        Progress::Waiting(_) => Ok(Next::Wait),
        Progress::Ended(ended) => {
            context.swaps.close_with_outcome(&work.lease, journal, &ended).await?;
            work.note_ahead(&journal.ahead);
            note_end(work, journal, ended, undo);
            Ok(work.next_candidate())
        }
    }
}

/// Says if the outcome in the row is that of the swap which this rollback is about, and is not recorded yet.
fn is_news(work: &Work, outcome: &Outcome) -> bool {
    let journal = &outcome.journal;
    let is_about_it = work.swap_id().is_none_or(|ours| ours == journal.swap_id);
    is_about_it && is_of_this_run(work, journal) && work.recorded != Some(Recorded::of(journal))
}

fn kept_by(journal: &Journal) -> Option<InstanceId> {
    journal.kind.kept().map(|kept| kept.instance_id.clone())
}

/// Records how the swap has ended, all from what the row keeps.
fn note_end(work: &mut Work, journal: &Journal, ended: Ended, undo: Undo) {
    let Ended { end, newcomer, remarks, doubt, .. } = ended;
    work.recorded = Some(Recorded::of(journal));
    // The recovery may have added to the detail what it left behind.
    let undo = journal.undo.clone().unwrap_or(undo);
    // The next swap would take what is too much for the owner's.
    if let Some(doubt) = &doubt {
        work.end_in_doubt(doubt.clone());
    }
    record(work, journal, end, newcomer, undo, remarks.into_iter().chain(doubt).collect());
}

/// Begins to wait, and says until when. A member that leaves through its group is drained, and then waits for the owner's
/// hooks.
fn deadline(work: &mut Work, journal: &Journal) -> Timestamp {
    let hooks = work.hook_seconds.max(journal.hook_seconds);
    work.wait_at_most(work.settings.rollback_timeout_seconds.saturating_add(hooks))
}

/// Returns true if the row tells of the next swap already: the one that this rollback is about is closed.
fn is_successor(work: &Work, closed: Option<&Closed>, journal: &Journal) -> bool {
    let ours = work.swap_id().filter(|swap_id| *swap_id != journal.swap_id);
    ours.is_some() && ours.as_ref() == closed.map(|closed| &closed.swap_id)
}

/// Returns true if the journal's swap began in this run. A row is no order: the execution knows when its own swaps
/// began, and a swap that is brought back began in another run.
fn is_of_this_run(work: &Work, journal: &Journal) -> bool {
    let is_over = journal.kind.lab().is_some_and(|lab| lab.is_over);
    let turn = |began: Timestamp| journal.swap_id == SwapId::new(&journal.old, began);
    is_over || turn(work.lease.since) || turn(work.swap_began(&journal.old))
}

/// Writes the decision to go back, so that every later visit goes the same way. If a retirement was under way, the
/// state of the old instance decides instead.
async fn decide(context: &Context, work: &Work, journal: &mut Journal, undo: &Undo) -> Result<(), StepError> {
    if journal.undo.is_some() {
        return Ok(());
    }
    if journal.stage != Stage::Retiring {
        journal.stage = Stage::Undoing;
    }
    journal.undo = Some(undo.clone());
    journal.retired |= has_retired(work, journal);
    // The step that failed may have called a moment ago, however long before that it entered its stage.
    journal.changed_at = Some(clock::now());
    tracing::warn!(reason = %undo.reason, old = %journal.old, "rolling back: {}", undo.detail);
    context.swaps.revise(&work.lease, journal).await?;
    Ok(())
}

/// Says if AWS has answered the retirement of this swap. RetireOld notes the answer in the payload alone.
fn has_retired(work: &Work, journal: &Journal) -> bool {
    let current = work.current.as_ref().filter(|current| current.journal.swap_id == journal.swap_id);
    current.is_some_and(|current| current.journal.retired)
}

/// Ends a rollback without a swap in progress. The step failed before it changed anything, and its candidate stays; or
/// it failed after the swap was closed, and the row says how the swap ended.
fn nothing_in_progress(work: &mut Work, undo: &Undo, closed: Option<&Closed>) {
    let end_of = |current: &Current| {
        let this = closed.filter(|closed| closed.swap_id == current.journal.swap_id);
        this.map(|closed| closed.end)
    };
    let instance_id = match work.current.take() {
        Some(current) if end_of(&current) == Some(End::Finished) => {
            work.complete(&current);
            return finished(work);
        }
        Some(current) => current.candidate.instance_id,
        None if let Some(old) = brought_back(work, closed) => old,
        None if work.queue.is_empty() => {
            work.end(undo.reason, undo.detail.clone());
            return finished(work);
        }
        None => work.queue.remove(0).instance_id,
    };
    work.put_back(&instance_id, undo);
    finished(work);
}

/// Returns the instance that this run was to bring back, once its swap is undone.
fn brought_back(work: &Work, closed: Option<&Closed>) -> Option<InstanceId> {
    let Leased::Instance(old) = &work.lease.on else { return None };
    let is_over = work.kind.lab().is_some_and(|lab| lab.is_over);
    let is_undone = closed.is_some_and(|closed| closed.swap_id.is_of(old) && closed.end == End::Undone);
    (is_over && is_undone).then(|| old.clone())
}

fn record(
    work: &mut Work,
    journal: &Journal,
    end: End,
    newcomer: Option<spot_domain::InstanceId>,
    undo: Undo,
    remarks: Vec<String>,
) {
    let current = work.current.take();
    // The candidate is still in the queue if the Launch's answer was lost.
    let is_old = |candidate: &Candidate| candidate.instance_id == journal.old;
    let queued = work.queue.iter().position(is_old).map(|position| work.queue.remove(position));
    let candidate = current.as_ref().map(|current| current.candidate.clone()).or(queued);
    if end == End::Undone
        && work.has_second_turn(journal, undo.reason)
        && let Some(candidate) = candidate
    {
        tracing::warn!(old = %journal.old, reason = %undo.reason, "launched ahead in vain: {}", undo.detail);
        work.queue_again(candidate);
        return finished(work);
    }
    match (end, newcomer, current) {
        (End::Finished, Some(newcomer), Some(current)) => {
            work.complete(&Current { newcomer, ..current });
            work.remark(&journal.old, remarks);
        }
        (End::Finished, _, None) if journal.kind.lab().is_some_and(|lab| lab.is_over) => {
            let detail = "it was terminated meanwhile: what replaced it stays".to_owned();
            work.put_back(&journal.old, &Undo { reason: Reason::InstanceGone, detail });
            work.remark(&journal.old, remarks);
        }
        _ => {
            // An instance that was brought back is no failure: only what is left of its swap is told to people.
            if journal.kind.lab().is_some_and(|lab| lab.is_over) {
                work.remark(&journal.old, remarks.clone());
            }
            let detail = [undo.detail].into_iter().chain(remarks).collect::<Vec<_>>().join("; ");
            work.put_back(&journal.old, &Undo { detail, ..undo });
        }
    }
    finished(work);
}

fn finished(work: &mut Work) {
    work.undo = None;
    work.others_may_launch = false;
    work.rollback_deadline = None;
}

/// Returns the undo for a step that failed outright.
fn undo_for(failure: &StepFailure) -> Undo {
    let reason = match failure.error.as_str() {
        "NotAuthorized" => Reason::NotAuthorized,
        _ => Reason::StepFailed,
    };
    Undo { reason, detail: format!("{}: {}", failure.error, failure.message()) }
}

#[cfg(test)]
mod tests;
