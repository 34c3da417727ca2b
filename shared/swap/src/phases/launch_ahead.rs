//! LaunchAhead: launches for the next candidates, while the swap in progress is attached and retired, so that they boot
//! meanwhile. Touches no group. Each passes the gate by itself.
//!
//! Fails the swap in progress only if another has gone on with it. A candidate that gets no newcomer now has its turn later,
//! in Launch.
//!
//! Records, before each call: the next swap's journal, in the journal of the swap in progress. Undone by: Rollback and the
//! reconciler, which end the swaps of a row one after another.

use jiff::SignedDuration;
use spot_cloud::RegionClients;
use spot_cloud::tables::swaps::Claim;
use spot_domain::clock;
use spot_domain::swap::group::Group;
use spot_domain::swap::journal::Journal;
use spot_domain::swap::selection::Candidate;

use crate::Context;
use crate::before_launch::{LaunchLook, look_before_launch};
use crate::error::StepError;
use crate::launch_journal::LaunchJournal;
use crate::phases::launch::{Plan, launch};
use crate::work::ahead::Ahead;
use crate::work::{Current, Next, Work};

/// The time after which no further launch begins: the step has sixty seconds.
const BEGIN_WITHIN: SignedDuration = SignedDuration::from_secs(15);

/// Launches as many as there is room for.
///
/// # Errors
/// The swap in progress is another's by now.
pub async fn run(context: &Context, work: &mut Work, current: &mut Current) -> Result<Next, StepError> {
    if work.room_ahead() > 0 {
        match launch_all(context, work, current).await {
            Err(lost @ StepError::LeaseLost(_)) => return Err(lost),
            Err(error) => tracing::warn!("nothing more is launched ahead: {error}"),
            Ok(()) => {}
        }
        // The newcomer in the group has as long as ever.
        current.deadline = work.wait_at_most(work.settings.in_service_timeout_seconds);
    }
    Ok(Next::Proceed)
}

async fn launch_all(context: &Context, work: &mut Work, current: &mut Current) -> Result<(), StepError> {
    let began = clock::now();
    let clients = context.clients(work).await?;
    if context.swaps.claim(&work.lease, &mut current.journal).await? == Claim::Finished {
        return Ok(()); // the next phase finds out
    }
    // An earlier try of this step may have launched more than it could answer.
    work.note_ahead(&current.journal.ahead);
    let Some(group) = context.group(&clients, work).await? else { return Ok(()) };
    while work.room_ahead() > 0 && clock::now().duration_since(began) < BEGIN_WITHIN {
        let next = work.queue.get(work.ahead.len());
        // A second turn comes in its turn.
        let next = next.filter(|next| !work.second_turns.contains(&next.instance_id)).cloned();
        let Some(candidate) = next else { break };
        let Some(ahead) = launch_for(context, &clients, work, current, &group, candidate).await? else {
            break;
        };
        let is_in_doubt = ahead.newcomer.is_none();
        work.ahead.push(ahead);
        if is_in_doubt {
            break;
        }
    }
    Ok(())
}

/// Launches for one candidate; `None` if nothing was launched, and the candidate waits for its turn.
async fn launch_for(
    context: &Context,
    clients: &RegionClients,
    work: &mut Work,
    current: &mut Current,
    group: &Group,
    candidate: Candidate,
) -> Result<Option<Ahead>, StepError> {
    let old = candidate.instance_id.clone();
    let numbered = candidate.pools.clone();
    let look = look_before_launch(context, work, clients, Some(group.clone()), candidate.clone()).await?;
    let plan = match look {
        LaunchLook::Fit(now, from) => Plan { candidate: *now, from, numbered: &numbered },
        LaunchLook::Refused(refusal) => {
            tracing::info!(%old, reason = %refusal.reason, "not launched ahead: {}", refusal.detail);
            return Ok(None);
        }
    };
    let mut journal = Journal::new(&old, work.lease.since, work.retirement, work.kind.clone());
    (journal.to, journal.is_ahead) = (candidate.to, true);
    work.note_retirement(&mut journal);
    let swap_id = journal.swap_id.clone();
    let carrier = &mut current.journal;
    let journal = LaunchJournal::Ahead { carrier, journal: Box::new(journal) };
    let launched = launch(context, work, clients, plan, journal, false).await;
    let carrier = &mut current.journal;
    let is_recorded = carrier.ahead.last().is_some_and(|last| last.swap_id == swap_id);
    match launched {
        Ok(Ok((newcomer, _))) => {
            tracing::info!(newcomer = %newcomer.id, pool = %newcomer.pool, replaces = %old, "launched ahead");
            Ok(Some(Ahead { old, newcomer: Some(newcomer) }))
        }
        Ok(Err(refusal)) => {
            tracing::info!(%old, reason = %refusal.reason, "not launched ahead: {}", refusal.detail);
            // EC2 has refused each attempt: there is nothing to find.
            if is_recorded {
                carrier.ahead.pop();
                context.swaps.revise_in_stage(&work.lease, carrier).await?;
            }
            Ok(None)
        }
        Err(lost @ StepError::LeaseLost(_)) => Err(lost),
        // It may have launched: Launch looks in its turn.
        Err(error) => {
            tracing::warn!(%old, "launched ahead without an answer: {error}");
            Ok(is_recorded.then_some(Ahead { old, newcomer: None }))
        }
    }
}
