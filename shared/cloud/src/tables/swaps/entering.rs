//! The stages of a swap in its row, each entered ahead of the calls that it announces.

use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use spot_domain::clock;
use spot_domain::swap::journal::{Journal, Stage, SwapKind};

use super::outcome::OUTCOME;
use super::{Lease, PUT_JOURNAL, SAME_SWAP, Swaps, SwapsError, fenced, stage, still_ours};
use crate::tables::row::number;

/// The condition that nothing was written since this journal was read.
const KNOWN: &str = "(attribute_not_exists(revision) OR revision <= :known)";

/// Returns the first revision of a stage. No stage has as many as the next one begins with.
const fn first_revision(stage: Stage) -> u64 {
    const EACH: u64 = 1 << 16;
    match stage {
        Stage::Capturing | Stage::Undoing => 0,
        Stage::Launching => EACH,
        Stage::Attaching => 2 * EACH,
        Stage::Retiring => 3 * EACH,
    }
}

/// Returns the write of a journal that enters a stage. The one that begins a swap forgets what the last swap had to tell: the
/// steps before have told it.
fn entering(stage: Stage) -> String {
    match stage {
        Stage::Attaching | Stage::Retiring => PUT_JOURNAL.to_owned(),
        Stage::Capturing | Stage::Launching | Stage::Undoing => format!("{PUT_JOURNAL} REMOVE {OUTCOME}"),
    }
}

impl Swaps {
    /// Enters the next stage of a swap, ahead of the calls that the journal announces: the stored stage must
    /// be the one `before`. A repeated step finds the stage entered, and gets the journal of its first try. It claims
    /// that journal: if the first try still runs, its next write fails. So does that of an invocation of an earlier stage,
    /// since each stage has higher revisions than those before it.
    ///
    /// # Errors
    /// [`SwapsError::LeaseLost`] if the lease is another's, or the swap is being undone. The calls must not
    /// be made then.
    pub async fn enter(&self, lease: &Lease, journal: &mut Journal) -> Result<Entered, SwapsError> {
        let known = journal.revision;
        journal.revision = known.max(first_revision(journal.stage));
        let before = match journal.stage {
            Stage::Launching => Some(Stage::Capturing),
            Stage::Attaching => Some(Stage::Launching),
            Stage::Retiring => Some(Stage::Attaching),
            Stage::Capturing | Stage::Undoing => None,
        };
        let condition = match journal.stage {
            Stage::Launching => format!("(attribute_not_exists(stage) OR (stage = :before AND {SAME_SWAP}))"),
            Stage::Retiring if journal.kind == SwapKind::Group => {
                format!("stage = :before AND {SAME_SWAP} AND {KNOWN}")
            }
            Stage::Attaching | Stage::Retiring => format!("stage = :before AND {SAME_SWAP}"),
            Stage::Capturing | Stage::Undoing => "attribute_not_exists(stage)".to_owned(),
        };
        let mut request = self
            .put_journal(lease, journal)?
            .update_expression(entering(journal.stage))
            .condition_expression(format!("lease_owner = :me AND {condition}"))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        if let Some(before) = before {
            request = request.expression_attribute_values(":before", stage(before));
        }
        if condition.contains(KNOWN) {
            request = request.expression_attribute_values(":known", number(&known));
        }
        let Err(error) = request.send().await else { return Ok(Entered::First) };
        let stored = still_ours(error, lease)?.and_then(|held| held.journal);
        match stored {
            Some(mut stored) if stored.swap_id == journal.swap_id && stored.stage == journal.stage => {
                // The repetition calls now: its call may land later than the first.
                stored.changed_at = journal.changed_at.or(stored.changed_at);
                if stored.stage != Stage::Launching {
                    stored.repeated_at = Some(clock::now()); // a launch leaves a stray, which is looked for
                }
                let request = self.put_next_revision(lease, &mut stored)?;
                fenced(request.update_expression(entering(stored.stage)), lease, None).await?;
                Ok(Entered::Again(stored))
            }
            _ => Err(SwapsError::LeaseLost { on: lease.on.clone() }),
        }
    }

    /// Enters Retiring, as [`enter`](Self::enter) does. An invocation of an earlier step may have run on and launched ahead:
    /// the journal takes that over, and no write of that invocation follows.
    ///
    /// # Errors
    /// As those of [`enter`](Self::enter).
    pub async fn enter_retiring(&self, lease: &Lease, journal: &mut Journal) -> Result<Entered, SwapsError> {
        match self.enter(lease, journal).await {
            Err(refused @ SwapsError::LeaseLost { .. }) => {
                let stored = self.read(lease).await?.and_then(|held| held.journal);
                let is_before =
                    |stored: &Journal| stored.swap_id == journal.swap_id && stored.stage == Stage::Attaching;
                let stored = stored.filter(is_before).ok_or(refused)?;
                (journal.ahead, journal.revision) = (stored.ahead, stored.revision);
                journal.repeated_at = journal.repeated_at.max(stored.repeated_at);
                self.enter(lease, journal).await
            }
            entered => entered,
        }
    }
}

/// The way in which a stage was entered.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entered {
    /// The stage was entered for the first time.
    First,
    /// An earlier try of this very step entered the stage, and wrote this journal.
    Again(Journal),
}
