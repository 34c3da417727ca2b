//! What is told of swaps: an event for each that has ended, and an alert for a run that needs a person.
//!
//! The step that ends a swap tells of it, so that a run which dies later has told of what it did. Nothing depends on the
//! telling: a bus that takes no event changes no swap.

use serde_json::Value;
use spot_cloud::announcements::{Announcements, Event, event};
use spot_cloud::tables::swaps::{Lease, Leased};
use spot_domain::swap::alert::Alert;
use spot_domain::swap::ended::{EndedSwap, SwapEnd};
use spot_domain::swap::journal::{Journal, SwapKind};
use spot_domain::swap::recovery::End;
use spot_domain::swap::report::{NotSwapped, Swapped};
use spot_domain::words::{LONGEST, cut};
use spot_domain::{InstanceId, Pool};
use tracing::Instrument;

use crate::Context;
use crate::error::StepError;
use crate::machine::{Payload, Phases, StepAnswer};
use crate::recovery::Ended;
use crate::spans::{self, note_execution};
use crate::work::Work;

impl<W: Payload, R> Phases<W, R> {
    /// Runs one step, then tells of the swaps that it has ended.
    ///
    /// # Errors
    /// The step failed, as in [`Phases::run`].
    pub async fn run_and_tell(&self, context: &Context, event: Value) -> Result<StepAnswer<W, R>, StepError> {
        let before = Before::of_event::<W>(&event);
        let mut answer = self.run(context, event).await?;
        if let StepAnswer::Step { work, .. } = &mut answer
            && let Some(run) = work.run()
        {
            let told = async {
                note_execution(run.lease.owner.execution());
                tell(&context.announcements, &before.ended(run)).await;
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

/// A run before one of its steps: how many swaps have ended, and the one in progress.
#[derive(Debug, Default)]
struct Before {
    swapped: usize,
    rolled_back: usize,
    current: Option<(InstanceId, InstanceId, Pool)>,
}

impl Before {
    /// Reads the event of a step. The event of a first step, or one that can't be read, tells of no swap.
    fn of_event<W: Payload>(event: &Value) -> Self {
        let mut work = event.get("work").and_then(|work| W::deserialize(work).ok());
        work.as_mut().and_then(Payload::run).map(|run| Self::of(run)).unwrap_or_default()
    }

    fn of(work: &Work) -> Self {
        let current = work.current.as_ref().map(|current| {
            (current.candidate.instance_id.clone(), current.newcomer.clone(), current.pool.clone())
        });
        Self { swapped: work.swapped.len(), rolled_back: work.rolled_back.len(), current }
    }

    /// Returns the swaps that have ended since.
    fn ended(&self, now: &Work) -> Vec<EndedSwap> {
        let done = now.swapped.iter().skip(self.swapped).map(|swapped| completed(now, swapped));
        let undone = now.rolled_back.iter().skip(self.rolled_back).map(|left| self.rolled_back(now, left));
        if now.dry_run { Vec::new() } else { done.chain(undone).collect() }
    }

    fn rolled_back(&self, work: &Work, left: &NotSwapped) -> EndedSwap {
        let newcomer = self.current.as_ref().filter(|(old, ..)| *old == left.instance_id);
        EndedSwap {
            new_instance_id: newcomer.map(|(_, newcomer, _)| newcomer.clone()),
            pool: newcomer.map(|(.., pool)| pool.clone()),
            ..ended(
                &work.lease,
                &work.kind,
                &left.instance_id,
                SwapEnd::RolledBack { reason: left.reason, detail: cut(&left.detail, LONGEST) },
            )
        }
    }
}

fn completed(work: &Work, swapped: &Swapped) -> EndedSwap {
    let end =
        SwapEnd::Completed { to: swapped.to, monthly_saving_usd: swapped.monthly_saving_usd, detail: None };
    EndedSwap {
        new_instance_id: Some(swapped.new_instance_id.clone()),
        pool: Some(swapped.pool.clone()),
        ..ended(&work.lease, &work.kind, &swapped.old_instance_id, end)
    }
}

fn ended(lease: &Lease, kind: &SwapKind, old: &InstanceId, end: SwapEnd) -> EndedSwap {
    let asg_name = match &lease.on {
        Leased::Group { name, .. } => Some(name.clone()),
        Leased::Instance(_) | Leased::ClusterSlot { .. } => None,
    };
    EndedSwap {
        execution_arn: lease.owner.execution().clone(),
        account_id: lease.account_id.clone(),
        region: lease.region.clone(),
        asg_name,
        cluster_name: kind.node().map(|node| node.cluster.clone()),
        old_instance_id: old.clone(),
        new_instance_id: None,
        pool: None,
        end,
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
