//! Finishes or undoes the swap of a dead execution, from the journal.
//!
//! `Catch` does not run when an execution is stopped, times out as a whole, or its Lambda is killed. The
//! reconciler therefore runs every five minutes, and when the status of an execution changes.
//!
//! The reconciler reads every lease. If the lease's execution has ended, and its last Lambda can't be running
//! any more, the reconciler runs the rollback's recovery. It tells of the end, and then releases the lease. Two
//! runs, one after another or at once, have the effect of one.

mod error;
pub mod executions;
mod news;

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use spot_cloud::Stack;
use spot_cloud::announcements::Announcements;
use spot_cloud::environment::BadEnvironment;
use spot_cloud::launch::gatekeeper::Gatekeeper;
use spot_cloud::tables::swaps::{
    Held, Lease, Leased, OF_A_LEASE, OF_A_SWAP, Outcome, Owner, Swaps, SwapsError,
};
use spot_cloud::tables::{accounts, settings};
use spot_domain::clock;
use spot_domain::settings::Settings;
use spot_domain::swap::journal::{Journal, Stage, SwapKind, Undo};
use spot_domain::swap::recovery::{End, Ended};
use spot_domain::{ExecutionArn, Reason};
use spot_nodes::recover_node;
use spot_swap::newcomer::unproven;
use spot_swap::recovery::answer::recover_answer;
use spot_swap::recovery::group::recover_group;
use spot_swap::recovery::lab::recover_lab;
use spot_swap::recovery::{Progress, Visit};
use spot_swap::spans;
use tokio::time::Instant;
use tracing::Instrument;

pub use error::ReconcileError;
use error::ReconcileFailure;
use executions::{Execution, ExecutionState, describe};
use news::{BY_RECONCILER, News, in_words, is_being_told};

/// The longest time for one lease.
const PER_LEASE: Duration = Duration::from_secs(25);
/// The time within which a lease's next swap is begun with.
const NEXT_WITHIN: Duration = Duration::from_secs(15);
/// Leases that are worked on side by side. The function's timeout has room for eighty leases that hang.
const AT_ONCE: usize = 8;

/// The reconciler.
#[derive(Debug)]
pub struct Reconciler {
    stack: Stack,
    swaps: Swaps,
    gatekeeper: Gatekeeper,
    sfn: aws_sdk_sfn::Client,
    announcements: Announcements,
}

/// The result of one run: names of the leased groups, instances and slots.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct SweepSummary {
    /// Leases whose executions run.
    pub running: Vec<String>,
    /// Swaps that were finished.
    pub finished: Vec<String>,
    /// Swaps that were undone, and leases without a swap that were released.
    pub undone: Vec<String>,
    /// Swaps that wait for AWS; the next run continues them.
    pub waiting: Vec<String>,
    /// Leases whose executions died too recently: a last Lambda may still be at work.
    pub too_early: Vec<String>,
    /// Resources that bear a swap's tag without proof that they are the swap's, or that outlive the swap, in
    /// words.
    pub left_alone: Vec<String>,
}

/// Swaps that have not ended.
struct OpenSwaps {
    /// A row could not be read: there may be more swaps.
    unreadable: bool,
    /// The executions of those swaps.
    executions: Vec<ExecutionArn>,
}

/// How the swaps of one row ended.
#[derive(Default)]
struct EndsOfRow {
    of_swaps: BTreeSet<End>,
    /// For the row.
    summaries: Vec<String>,
    /// For the answer.
    remarks: Vec<String>,
    /// People were told of one of them.
    has_alerted: bool,
}

impl EndsOfRow {
    fn note(&mut self, end: End, summary: &str) {
        self.of_swaps.insert(end);
        self.summaries.push(summary.to_owned());
    }

    fn summary(&self) -> String {
        self.summaries.join("; ")
    }
}

enum LeaseState {
    Running,
    TooEarly,
    Waiting,
    Ended(EndsOfRow),
}

impl Reconciler {
    /// Reads the environment that the template sets.
    ///
    /// # Errors
    /// A variable is missing or malformed.
    pub async fn new(stack: Stack) -> Result<Self, BadEnvironment> {
        Ok(Self {
            gatekeeper: Gatekeeper::new(&stack).await?,
            swaps: Swaps::new(&stack)?,
            sfn: aws_sdk_sfn::Client::new(stack.config()),
            announcements: Announcements::new(&stack)?,
            stack,
        })
    }

    /// Runs once over all leases. The event only says *when*: a status change, or the schedule.
    ///
    /// # Errors
    /// Some lease could not be reconciled, or the execution in the event died too recently.
    pub async fn handle(&self, event: &Value) -> Result<SweepSummary, ReconcileError> {
        let about = executions::ended(event);
        let mut summary = SweepSummary::default();
        let mut failures = Vec::new();
        let mut event_too_early: Option<String> = None;
        let all = self.swaps.all_held().await?;
        let unfinished = OpenSwaps {
            unreadable: all.iter().any(Result::is_err),
            executions: all
                .iter()
                .filter_map(|held| held.as_ref().ok().filter(|held| held.journal.is_some()))
                .map(|held| held.lease.owner.execution().clone())
                .collect(),
        };
        let (held, unreadable): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
        failures.extend(unreadable.into_iter().filter_map(Result::err).map(|error| error.to_string()));
        let visits = held.into_iter().flatten().map(|held| self.visit(held, &unfinished));
        // Leases that hang (their cluster is down, say) must not starve the others.
        let mut visits = futures_util::stream::iter(visits).buffer_unordered(AT_ONCE);
        while let Some((lease, outcome)) = visits.next().await {
            let name = lease.on.to_string();
            match outcome {
                Ok(LeaseState::Running) => summary.running.push(name),
                Ok(LeaseState::TooEarly) => {
                    if about.as_ref() == Some(lease.owner.execution()) {
                        event_too_early = Some(name.clone());
                    }
                    summary.too_early.push(name);
                }
                // Another run works on it.
                Ok(LeaseState::Waiting)
                | Err(ReconcileFailure::Swaps(SwapsError::LeaseLost { .. } | SwapsError::Overtaken { .. })) =>
                {
                    summary.waiting.push(name);
                }
                Ok(LeaseState::Ended(EndsOfRow { of_swaps, remarks, .. })) => {
                    summary.left_alone.extend(remarks);
                    for end in of_swaps {
                        match end {
                            End::Finished => summary.finished.push(name.clone()),
                            End::Undone => summary.undone.push(name.clone()),
                        }
                    }
                }
                Err(error) => failures.push(format!("{name}: {error}")),
            }
        }
        tracing::info!(?summary, failures = failures.len(), "reconciled");
        if !failures.is_empty() {
            return Err(ReconcileError::Failed(failures));
        }
        event_too_early.map_or(Ok(summary), |which| Err(ReconcileError::TooEarly(which)))
    }

    async fn visit(
        &self,
        held: Held,
        unfinished: &OpenSwaps,
    ) -> (Lease, Result<LeaseState, ReconcileFailure>) {
        let visit = async {
            let outcome = tokio::time::timeout(PER_LEASE, self.reconcile(&held, unfinished)).await;
            let outcome = outcome.unwrap_or(Err(ReconcileFailure::TookTooLong(PER_LEASE.as_secs())));
            if let Err(error) = &outcome {
                tracing::warn!("not reconciled: {error}");
            }
            outcome
        };
        let outcome = visit.instrument(spans::visit(&held)).await;
        (held.lease, outcome)
    }

    /// Does what can be done for one lease.
    async fn reconcile(&self, held: &Held, unfinished: &OpenSwaps) -> Result<LeaseState, ReconcileFailure> {
        let execution = describe(&self.sfn, held.lease.owner.execution()).await?;
        let life = execution.life;
        if life == ExecutionState::Running {
            return Ok(LeaseState::Running);
        }
        // A typing error in the Settings table must not keep a group in the middle of a swap.
        let settings =
            settings::load_what_holds(&self.stack, &held.lease.account_id, &held.lease.region).await?;
        let now = clock::now();
        if is_too_early(life, &settings, now) {
            return Ok(LeaseState::TooEarly);
        }
        // A cluster's slot is free once its execution's swap has ended. While a row can't be read, that is
        // unknown.
        let is_slot = matches!(held.lease.on, Leased::ClusterSlot { .. });
        if is_slot && (unfinished.unreadable || unfinished.executions.contains(held.lease.owner.execution()))
        {
            return Ok(LeaseState::Waiting);
        }
        if let Some(journal) = &held.journal {
            self.prove(&execution, held, journal).await?;
        }
        let lease = self.swaps.take_over(&held.lease).await?;
        let (began, mut all) = (Instant::now(), EndsOfRow::default());
        // The swaps behind the first one were launched ahead, and have touched nothing.
        while began.elapsed() < NEXT_WITHIN {
            match self.end_one(&execution, held, &lease, &settings, &mut all).await? {
                None => return Ok(LeaseState::Waiting),
                Some(true) => return Ok(LeaseState::Ended(all)),
                Some(false) => {}
            }
        }
        Ok(LeaseState::Waiting)
    }

    /// Ends the swap that the row tells of and tells of it, or tells of the one that has ended last, or releases the lease if
    /// the row tells of none. Says if it was the last one; `None` if the swap waits for AWS.
    async fn end_one(
        &self,
        execution: &Execution,
        held: &Held,
        lease: &Lease,
        settings: &Settings,
        all: &mut EndsOfRow,
    ) -> Result<Option<bool>, ReconcileFailure> {
        // Another run may have continued since all rows were read.
        let gone_on = || SwapsError::LeaseLost { on: lease.on.clone() };
        let row = self.swaps.read(lease).await?.ok_or_else(gone_on)?;
        let own = (&self.stack.account_id, &self.stack.region);
        let may_have_left = |journal: &Journal| execution.vouches_for(lease, journal, own);
        let untold = row.outcome.filter(|outcome| may_have_left(&outcome.journal));
        let (outcome, is_last) = match (untold, row.journal) {
            (Some(outcome), _) if is_being_told(&outcome, clock::now()) => return Ok(None),
            (Some(outcome), next) => (outcome, next.is_none()),
            (None, None) => {
                all.note(End::Undone, &format!("{} {BY_RECONCILER}", End::Undone));
                self.swaps.let_go(lease, &all.summary()).await?;
                return Ok(Some(true));
            }
            // The recovery carries out the journal that was just read.
            (None, Some(journal)) if !may_have_left(&journal) => return Err(gone_on().into()),
            (None, Some(journal)) => match self.end_swap(execution, held, lease, settings, journal).await? {
                None => return Ok(None),
                Some(ended) => ended,
            },
        };
        self.tell(lease, &outcome, is_last, all).await?;
        Ok(Some(is_last))
    }

    /// Ends a swap in its row. Returns its outcome, and whether none was launched ahead behind it; `None` if it waits for AWS.
    async fn end_swap(
        &self,
        execution: &Execution,
        held: &Held,
        lease: &Lease,
        settings: &Settings,
        mut journal: Journal,
    ) -> Result<Option<(Outcome, bool)>, ReconcileFailure> {
        spans::note_swap(&journal.swap_id);
        match self.recover(lease, settings, &mut journal).await? {
            // The next run ends the swap. This run's error alerts an operator.
            Progress::Waiting(why)
                if held.journal.as_ref().is_some_and(|was| was.kind.kept() != journal.kind.kept()) =>
            {
                Err(ReconcileFailure::Kept(why))
            }
            Progress::Waiting(why) if is_overdue(execution.life, &journal, settings, clock::now()) => {
                Err(ReconcileFailure::Overdue(why))
            }
            Progress::Waiting(why) => {
                tracing::warn!("waiting: {why}");
                Ok(None)
            }
            Progress::Ended(ended) => {
                let outcome = self.swaps.close_with_outcome(lease, &journal, &ended).await?;
                Ok(Some((outcome, journal.ahead.is_empty())))
            }
        }
    }

    /// Tells of a swap that has ended. Only then the row forgets it, and the lease ends with the last one: if this run dies
    /// before, the next one tells.
    async fn tell(
        &self,
        lease: &Lease,
        outcome: &Outcome,
        is_last: bool,
        all: &mut EndsOfRow,
    ) -> Result<(), ReconcileFailure> {
        let Ended { end, newcomer, pool, remarks, doubt } = &outcome.ended;
        let summary = in_words(outcome);
        all.note(*end, &summary);
        all.remarks.extend(remarks.iter().cloned());
        let news = News::of(lease, outcome, &summary, all.has_alerted);
        all.has_alerted |= news.is_alert() && matches!(outcome.by, Owner::ReconcilerFor(_));
        // Boxed: the futures of two SDK clients in one are too deep for the compiler.
        Box::pin(news.tell(&self.announcements)).await;
        let pool = newcomer.clone().zip(pool.clone());
        if let Err(error) = self.swaps.keep_pools(lease, &pool.into_iter().collect()).await {
            tracing::warn!("the pool of its newcomer is not kept: {error}");
        }
        if is_last {
            self.swaps.let_go(lease, &all.summary()).await?;
        } else {
            self.swaps.told(lease, &outcome.journal.swap_id).await?;
        }
        // The swap has ended. This run's error alerts an operator, who alone knows whose the capacity is.
        doubt.as_ref().map_or(Ok(()), |doubt| Err(ReconcileFailure::InDoubt(doubt.clone())))
    }

    /// Proves by Step Functions' record that a swap of ours can have written the row. A caller who can write
    /// the table can't write that record.
    async fn prove(
        &self,
        execution: &Execution,
        held: &Held,
        journal: &Journal,
    ) -> Result<(), ReconcileFailure> {
        let lease = &held.lease;
        if execution.vouches_for(lease, journal, (&self.stack.account_id, &self.stack.region)) {
            return Ok(());
        }
        // The swap may have ended while the rows were read.
        if self.swaps.read(lease).await?.and_then(|held| held.journal).as_ref() != Some(journal) {
            return Err(SwapsError::LeaseLost { on: lease.on.clone() }.into());
        }
        let ahead = journal.ahead_in_words();
        let problem = format!(
            "it tells of swap {}, and execution {} has left no such swap; find out who wrote the row{ahead}; then delete its \
             attributes {OF_A_SWAP}, {OF_A_LEASE}",
            journal.swap_id,
            lease.owner.execution()
        );
        Err(unproven(lease, &problem).into())
    }

    /// Recovers a swap that no execution drives any more: unless the old instance has gone, the swap is
    /// undone.
    async fn recover(
        &self,
        lease: &Lease,
        settings: &Settings,
        journal: &mut Journal,
    ) -> Result<Progress, ReconcileFailure> {
        if journal.undo.is_none() {
            if journal.stage != Stage::Retiring {
                journal.stage = Stage::Undoing;
            }
            journal.undo = Some(Undo {
                reason: Reason::ExecutionDied,
                detail: format!("execution {} ended in the middle of a swap", lease.owner.execution()),
            });
            self.swaps.revise(lease, journal).await?;
        }
        let access = accounts::access_even_if_disabled(&self.stack, &lease.account_id).await?;
        let clients = self.stack.clients(&access, &lease.region, Some(lease.owner.execution())).await;
        let visit = Visit { clients: &clients, swaps: &self.swaps, lease, settings };
        Ok(match journal.kind {
            SwapKind::Group => recover_group(&self.gatekeeper, visit, journal).await,
            SwapKind::Node(_) => recover_node(&self.stack, &access, &self.gatekeeper, visit, journal).await,
            SwapKind::Lab(_) => recover_lab(&self.gatekeeper, visit, journal).await,
            SwapKind::Answer(_) => recover_answer(visit, journal).await,
        }?)
    }
}

/// Says if a recovery has taken so long that a person is told. A member that leaves through its group may wait for the
/// owner's hooks, which the setting does not know of. The recovery goes on in any case.
fn is_overdue(life: ExecutionState, journal: &Journal, settings: &Settings, now: Timestamp) -> bool {
    let seconds = settings.rollback_timeout_seconds.saturating_add(journal.hook_seconds);
    let patience = SignedDuration::from_secs(i64::from(seconds));
    matches!(life, ExecutionState::EndedAt(ended) if now.duration_since(ended) > patience)
}

fn is_too_early(life: ExecutionState, settings: &Settings, now: Timestamp) -> bool {
    let quiet = SignedDuration::from_secs(i64::from(settings.reconcile_after_seconds));
    matches!(life, ExecutionState::EndedAt(ended) if now.duration_since(ended) < quiet)
}

#[cfg(test)]
mod tests {
    use spot_domain::swap::journal::Retirement;

    use super::*;

    #[test]
    fn the_dead_are_left_alone_until_their_last_lambda_must_have_ended() {
        let settings = Settings::default();
        let ended = Timestamp::from_second(1_000).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let quiet = i64::from(settings.reconcile_after_seconds);
        assert!(is_too_early(ExecutionState::EndedAt(ended), &settings, at(1_000 + quiet - 1)));
        assert!(!is_too_early(ExecutionState::EndedAt(ended), &settings, at(1_000 + quiet)));
        assert!(!is_too_early(ExecutionState::Forgotten, &settings, at(0)));
    }

    #[test]
    fn a_recovery_that_waits_for_a_hook_is_not_overdue() {
        let settings = Settings::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let old = "i-0123456789abcdef0".parse().unwrap();
        let journal = Journal::new(&old, at(0), Retirement::TerminateInGroup, SwapKind::Group);
        let with_hook = Journal { hook_seconds: 7_200, ..journal.clone() };
        let patience = i64::from(settings.rollback_timeout_seconds);
        let overdue = |journal: &Journal, after| {
            is_overdue(ExecutionState::EndedAt(at(1_000)), journal, &settings, at(1_000 + after))
        };
        assert!(!overdue(&journal, patience) && overdue(&journal, patience + 1));
        assert!(!overdue(&with_hook, patience + 7_200), "the hook may take that long");
        assert!(overdue(&with_hook, patience + 7_201), "and no longer");
        assert!(!is_overdue(ExecutionState::Running, &journal, &settings, at(1_000_000)));
        let endless = Journal { hook_seconds: u32::MAX, ..journal };
        assert!(!overdue(&endless, 1_000_000), "the sum does not overflow");
    }
}
