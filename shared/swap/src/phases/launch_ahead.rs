//! LaunchAhead: launches for the next candidates, while the swap in progress is attached and retired, so that they boot
//! meanwhile. Touches no group. Each passes the gate by itself.
//!
//! Nothing here fails the swap in progress: a candidate that gets no newcomer now has its turn later, in Launch.
//!
//! Records, before each call: the next swap's journal, in the journal of the swap in progress. Undone by: Rollback and the
//! reconciler, which end the swaps of a row one after another.

use std::time::{Duration, Instant};

use spot_cloud::RegionClients;
use spot_cloud::tables::swaps::Claim;
use spot_domain::swap::group::Group;
use spot_domain::swap::journal::Journal;
use spot_domain::swap::selection::Candidate;

use crate::Context;
use crate::before_launch::{LaunchLook, look_before_launch};
use crate::entry::Entry;
use crate::error::StepError;
use crate::phases::launch::{Plan, launch};
use crate::work::ahead::{Ahead, Launched};
use crate::work::{Current, Next, Work};

/// The time after which no further launch begins: the step has sixty seconds.
const BEGIN_WITHIN: Duration = Duration::from_secs(15);

/// Launches as many as there is room for.
///
/// # Errors
/// A launch fails in a way that may pass, or the swap in progress is another's by now.
pub async fn run(context: &Context, work: &mut Work, current: &mut Current) -> Result<Next, StepError> {
    let began = Instant::now();
    if work.room_ahead() == 0 {
        return Ok(Next::Proceed);
    }
    let clients = context.clients(work).await?;
    if context.swaps.claim(&work.lease, &mut current.journal).await? == Claim::Finished {
        return Ok(Next::Proceed); // the next phase finds out
    }
    // An earlier try of this step may have launched more than it could answer.
    work.note_ahead(&current.journal.ahead);
    let Some(group) = context.group(&clients, work).await? else { return Ok(Next::Proceed) };
    while work.room_ahead() > 0 && began.elapsed() < BEGIN_WITHIN {
        let Some(candidate) = work.queue.get(work.ahead.len()).cloned() else { break };
        let old = candidate.instance_id.clone();
        let Some(launched) = launch_for(context, &clients, work, current, &group, candidate).await? else {
            break;
        };
        tracing::info!(newcomer = %launched.newcomer, pool = %launched.pool, replaces = %old, "launched ahead");
        work.ahead.push(Ahead { old, launched: Some(launched) });
    }
    Ok(Next::Proceed)
}

/// Launches for one candidate; `None` if it has to wait for its turn.
async fn launch_for(
    context: &Context,
    clients: &RegionClients,
    work: &mut Work,
    current: &mut Current,
    group: &Group,
    candidate: Candidate,
) -> Result<Option<Launched>, StepError> {
    let old = candidate.instance_id.clone();
    let numbered = candidate.pools.clone();
    let look = look_before_launch(context, work, clients, Some(group.clone()), candidate.clone()).await;
    let plan = match look {
        Ok(LaunchLook::Fit(now, look)) => {
            Plan { candidate: *now, look: look.map(|look| *look), numbered: &numbered }
        }
        Ok(LaunchLook::Refused(refusal)) => {
            tracing::info!(%old, reason = %refusal.reason, "not launched ahead: {}", refusal.detail);
            return Ok(None);
        }
        // It has only read.
        Err(error) => {
            tracing::warn!(%old, "not launched ahead: {error}");
            return Ok(None);
        }
    };
    let mut journal = Journal::new(&old, work.lease.since, work.retirement, work.kind.clone());
    journal.to = candidate.to;
    let carrier = &mut current.journal;
    carrier.ahead.push(journal);
    match launch(context, work, clients, plan, Entry::Ahead(carrier), false).await? {
        Ok((launched, _)) => Ok(Some(launched)),
        Err(refusal) => {
            tracing::info!(%old, reason = %refusal.reason, "not launched ahead: {}", refusal.detail);
            // EC2 has refused each attempt: there is nothing to find.
            if carrier.ahead.pop().is_some_and(|journal| !journal.is_unattempted) {
                context.swaps.revise(&work.lease, carrier).await?;
            }
            Ok(None)
        }
    }
}
