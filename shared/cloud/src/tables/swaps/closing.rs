//! The end of a swap in its row, and the end of a lease.

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use spot_domain::clock;
use spot_domain::swap::journal::{Journal, SwapId};
use spot_domain::swap::recovery::{End, Ended};
use spot_domain::words::Cause;

use super::error::{lost, malformed};
use super::held::closed;
use super::outcome::{OUTCOME, Outcome};
use super::{Lease, OF_A_LEASE, OF_A_SWAP, SAME_SWAP, Swaps, SwapsError, UPDATE, fenced, stage};
use crate::error::{CallError, Kind, failed};
use crate::tables::row::{Row, number, seconds, text};

/// The effect of closing a swap on the lease.
#[derive(Debug, Clone, Copy)]
pub enum Release<'a> {
    /// The lease is kept: more swaps follow.
    Keep,
    /// The lease is released: the run is over.
    LetGo {
        /// The result of the run, for readers of the row.
        summary: &'a str,
    },
}

/// What an update notes of the swap that is over, and what it forgets.
#[derive(Clone, Copy)]
struct Noted {
    set: &'static str,
    remove: &'static [&'static str],
}

/// The lease ends, and with it what its swaps have to tell.
const NO_SWAP: Noted = Noted { set: "updated_at = :now", remove: &[OUTCOME] };
/// The swap went forward: its run knows what there is to tell.
const CLOSED: Noted =
    Noted { set: "updated_at = :now, closed_swap = :swap, closed_as = :end", remove: &[OUTCOME] };
const CLOSED_WITH_OUTCOME: Noted = Noted {
    set: "updated_at = :now, closed_swap = :swap, closed_as = :end, closed_outcome = :outcome",
    remove: &[],
};

impl Swaps {
    /// Closes the swap of this journal: the journal is removed, and its end stays in the row. With [`Release::LetGo`],
    /// the lease is released, too; its `summary` stays in the row as history. A swap that was closed already stays closed.
    ///
    /// If newcomers were launched ahead, the first one's journal takes the place of this one, and the lease is kept whatever
    /// `release` says.
    ///
    /// # Errors
    /// [`SwapsError::LeaseLost`] if the lease is another's, [`SwapsError::Overtaken`] if another invocation has gone on with
    /// the swap, or the row tells of the next one.
    pub async fn close(
        &self,
        lease: &Lease,
        journal: &Journal,
        end: End,
        release: Release<'_>,
    ) -> Result<(), SwapsError> {
        self.close_as((lease, journal), end, release, None).await
    }

    /// Closes the swap as a recovery has ended it, as [`close`](Self::close) does. The lease is kept, and the row keeps what
    /// is to be told.
    ///
    /// # Errors
    /// As those of [`close`](Self::close).
    pub async fn close_with_outcome(
        &self,
        lease: &Lease,
        journal: &Journal,
        ended: &Ended,
    ) -> Result<Outcome, SwapsError> {
        let outcome = Outcome::new(lease, journal, ended);
        self.close_as((lease, journal), ended.end, Release::Keep, Some(&outcome)).await?;
        Ok(outcome)
    }

    async fn close_as(
        &self,
        (lease, journal): (&Lease, &Journal),
        end: End,
        release: Release<'_>,
        outcome: Option<&Outcome>,
    ) -> Result<(), SwapsError> {
        let noted = if outcome.is_some() { CLOSED_WITH_OUTCOME } else { CLOSED };
        let in_progress = format!("{SAME_SWAP} AND (attribute_not_exists(revision) OR revision = :revision)");
        let (request, condition) = match journal.successor() {
            // A close that comes late must not bring the next swap back.
            Some(next) => {
                (self.hand_over(lease, &next, noted)?, format!("attribute_exists(journal) AND {in_progress}"))
            }
            None => (
                self.release(lease, release, noted),
                format!("(attribute_not_exists(journal) OR ({in_progress}))"),
            ),
        };
        let mut request = request
            .condition_expression(format!("lease_owner = :me AND {condition}"))
            .expression_attribute_values(":end", text(&end))
            .expression_attribute_values(":swap", text(&journal.swap_id))
            .expression_attribute_values(":revision", number(&journal.revision));
        if let Some(outcome) = outcome {
            let written = serde_json::to_string(outcome).map_err(|e| malformed(lease, Cause::of(e)))?;
            request = request.expression_attribute_values(":outcome", AttributeValue::S(written));
        }
        match fenced(request, lease, None).await {
            // A call whose answer was lost may have closed it.
            Err(refused @ (SwapsError::LeaseLost { .. } | SwapsError::Overtaken { .. })) => {
                let row = self.row(lease.key()).await?.unwrap_or_default();
                if is_closed(&row, lease, journal, end)? { Ok(()) } else { Err(refused) }
            }
            answer => answer,
        }
    }

    /// Puts the next swap's journal in the place of the one that is over.
    fn hand_over(
        &self,
        lease: &Lease,
        next: &Journal,
        noted: Noted,
    ) -> Result<UpdateItemFluentBuilder, SwapsError> {
        let row = serde_json::to_string(next).map_err(|e| malformed(lease, Cause::of(e)))?;
        let set = "journal = :next, stage = :stage, revision = :next_revision, swap_id = :next_swap";
        Ok(self
            .update(lease, &expression(&[set, noted.set], noted.remove))
            .expression_attribute_values(":next", AttributeValue::S(row))
            .expression_attribute_values(":stage", stage(next.stage))
            .expression_attribute_values(":next_revision", number(&next.revision))
            .expression_attribute_values(":next_swap", text(&next.swap_id))
            .expression_attribute_values(":me", text(&lease.owner))
            .expression_attribute_values(":now", seconds(clock::now())))
    }

    /// Forgets what the end of this swap has to tell: it was told.
    ///
    /// # Errors
    /// [`SwapsError::LeaseLost`] if the lease is another's, or another swap was closed since.
    pub async fn told(&self, lease: &Lease, swap_id: &SwapId) -> Result<(), SwapsError> {
        self.update(lease, &expression(&[NO_SWAP.set], NO_SWAP.remove))
            .condition_expression("lease_owner = :me AND closed_swap = :swap")
            .expression_attribute_values(":me", text(&lease.owner))
            .expression_attribute_values(":swap", text(swap_id))
            .expression_attribute_values(":now", seconds(clock::now()))
            .send()
            .await
            .map_err(failed(UPDATE))
            .map_err(|error| lost(error, lease))
            .map(drop)
    }

    /// Releases the lease at the end of a run, with a summary of the run; what the row tells of a swap goes with it. A lease
    /// that an earlier try of the same step released counts as released.
    ///
    /// # Errors
    /// The table does not answer; the reconciler will release the lease.
    pub async fn let_go(&self, lease: &Lease, summary: &str) -> Result<(), SwapsError> {
        Ok(self.let_go_if(lease, summary, "lease_owner = :me").await.map(drop)?)
    }

    /// Releases the lease as [`let_go`](Self::let_go) does, at the end of a run that has closed each of its swaps.
    ///
    /// # Errors
    /// [`SwapsError::Unfinished`] if the row still tells of a swap of this run, or the table does not answer. In both cases
    /// the reconciler releases the lease.
    pub async fn let_go_once_ended(&self, lease: &Lease, summary: &str) -> Result<(), SwapsError> {
        if self.let_go_if(lease, summary, "lease_owner = :me AND attribute_not_exists(journal)").await? {
            return Ok(());
        }
        match self.read(lease).await?.and_then(|held| held.journal) {
            Some(journal) => Err(SwapsError::Unfinished { on: lease.on.clone(), swap_id: journal.swap_id }),
            None => Ok(()),
        }
    }

    /// Returns false if the row does not hold the condition.
    async fn let_go_if(&self, lease: &Lease, summary: &str, condition: &str) -> Result<bool, CallError> {
        let request = self.release(lease, Release::LetGo { summary }, NO_SWAP);
        match request.condition_expression(condition).send().await.map_err(failed(UPDATE)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind == Kind::ConditionFailed => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn release(&self, lease: &Lease, release: Release<'_>, noted: Noted) -> UpdateItemFluentBuilder {
        let request = match release {
            Release::Keep => {
                self.update(lease, &expression(&[noted.set], &[&[OF_A_SWAP][..], noted.remove].concat()))
            }
            Release::LetGo { summary } => {
                let set = [noted.set, "last_execution = :me, last_summary = :summary"];
                let remove = [&[OF_A_SWAP, OF_A_LEASE][..], noted.remove].concat();
                self.update(lease, &expression(&set, &remove))
                    .expression_attribute_values(":summary", AttributeValue::S(summary.to_owned()))
            }
        };
        request
            .expression_attribute_values(":me", text(&lease.owner))
            .expression_attribute_values(":now", seconds(clock::now()))
    }
}

fn expression(set: &[&str], remove: &[&str]) -> String {
    let sections = [("SET", set), ("REMOVE", remove)].into_iter().filter(|(_, parts)| !parts.is_empty());
    sections.map(|(name, parts)| format!("{name} {}", parts.join(", "))).collect::<Vec<_>>().join(" ")
}

/// Returns true if the row says that this swap is over, and ended so.
pub(super) fn is_closed(row: &Row, lease: &Lease, journal: &Journal, end: End) -> Result<bool, SwapsError> {
    let closed = closed(row).map_err(|problem| malformed(lease, problem))?;
    Ok(closed.is_some_and(|closed| closed.swap_id == journal.swap_id && closed.end == end))
}
