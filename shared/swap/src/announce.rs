//! What is told of swaps: an event for each that has ended, and an alert for a run that needs a person.
//!
//! The step that ends a swap tells of it, so that a run which dies later has told of what it did. Nothing depends on the
//! telling: a bus that takes no event changes no swap.

use serde_json::Value;
use spot_cloud::announcements::{Announcements, Event, event};
use spot_cloud::tables::swaps::Lease;
use spot_domain::swap::alert::Alert;
use spot_domain::swap::ended::{EndedSwap, SwapEnd};
use spot_domain::swap::journal::{Journal, SwapKind};
use spot_domain::swap::recovery::{End, Ended};
use spot_domain::words::{LONGEST, cut};
use tracing::Instrument;

use crate::Context;
use crate::ended::ended;
use crate::error::StepError;
use crate::machine::{Payload, Phases, StepAnswer};
use crate::spans::{self, note_execution};

impl<W: Payload, R> Phases<W, R> {
    /// Runs one step, then tells of the swaps that it has ended.
    ///
    /// # Errors
    /// The step failed, as in [`Phases::run`].
    pub async fn run_and_tell(&self, context: &Context, event: Value) -> Result<StepAnswer<W, R>, StepError> {
        let mut answer = self.run(context, event).await?;
        if let StepAnswer::Step { work, ended, .. } = &mut answer
            && let Some(run) = work.run()
        {
            let told = async {
                note_execution(run.lease.owner.execution());
                tell(&context.announcements, ended).await;
            };
            // Boxed: the futures of two SDK clients in one are too deep for the compiler.
            Box::pin(told.instrument(spans::step())).await;
        }
        Ok(answer)
    }
}

impl Context {
    /// Tells people of a run that needs one.
    pub async fn alert(&self, alert: Option<Alert>) {
        if let Some(Alert { subject, message }) = alert {
            self.announcements.alert_or_warn(&subject, &message).await;
        }
    }
}

/// Puts an event for each swap. A failure is a warning.
pub async fn tell(announcements: &Announcements, ended: &[EndedSwap]) {
    if ended.is_empty() {
        return;
    }
    let events: Result<Vec<Event>, _> = ended.iter().map(|swap| event(swap.event(), swap)).collect();
    match events {
        Ok(events) => announcements.put_or_warn(events).await,
        Err(error) => tracing::warn!("the bus is not told: {error}"),
    }
}

/// Returns the end of a swap that the reconciler has finished or undone; `None` for the answer to a notice, which is no
/// swap.
#[must_use]
pub fn by_reconciler(lease: &Lease, journal: &Journal, how: &Ended, summary: &str) -> Option<EndedSwap> {
    let detail = cut(summary, LONGEST);
    let (end, newcomer) = match (&journal.kind, how.end, &journal.undo) {
        (SwapKind::Answer(_), ..) => return None,
        (_, End::Finished, _) => {
            let end = SwapEnd::Completed { to: journal.to, monthly_saving_usd: None, detail: Some(detail) };
            (end, how.newcomer.clone().or_else(|| journal.newcomer.clone()))
        }
        (_, End::Undone, undo) => {
            let reason = undo.as_ref().map_or(spot_domain::Reason::ExecutionDied, |undo| undo.reason);
            (SwapEnd::RolledBack { reason, detail }, journal.newcomer.clone())
        }
    };
    let ended = ended(lease, &journal.kind, &journal.old, end);
    Some(EndedSwap { new_instance_id: newcomer, pool: how.pool.clone(), ..ended })
}

#[cfg(test)]
mod tests;
