//! The Swaps table: one row for each target. A row holds the lease of the execution that works on the target
//! and the journal of the swap in progress. Every write to such a row is conditional on holding the lease.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use spot_domain::GroupArn;
use spot_domain::clock;
use spot_domain::swap::journal::{Journal, Stage};
use spot_domain::swap::recovery::End;
use spot_domain::words::Cause;

use crate::clients::Stack;
use crate::environment::{BadEnvironment, variable};
use crate::error::{CallError, Kind, failed};
pub use crate::tables::leases::{Lease, Leased, Owner, key_of_instance, slot_key};
use crate::tables::row::{Row, number, seconds, text};

mod at_risk;
mod closing;
mod entering;
mod error;
mod held;
mod newcomers;
mod outcome;
mod owners;
mod replacements;

pub use closing::Release;
use closing::is_closed;
pub use entering::Entered;
pub use error::SwapsError;
use error::{lost, malformed};
pub use held::{Closed, Held, parse};
use held::{field, json};
pub use outcome::Outcome;

const UPDATE: &str = "dynamodb:UpdateItem";
/// The row tells of this swap. An older release wrote no `swap_id`.
const SAME_SWAP: &str = "(attribute_not_exists(swap_id) OR swap_id = :swap)";
/// Nobody has written a later revision than the one that is being written.
const LATEST: &str = "(attribute_not_exists(revision) OR revision <= :revision)";
/// The update that writes a journal.
const PUT_JOURNAL: &str =
    "SET journal = :journal, stage = :stage, revision = :revision, swap_id = :swap, updated_at = :now";
/// The attributes of a swap in progress. A row without them tells of no swap.
pub const OF_A_SWAP: &str = "journal, stage, revision, swap_id";
/// The attributes of a lease that is held. A row without them is free.
pub const OF_A_LEASE: &str = "lease_owner, lease_since";

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The swap is in progress, and this invocation is the last that has claimed it.
    Granted,
    /// The swap was finished: an earlier try of the step, or a recovery, has closed it.
    Finished,
}

/// The table.
#[derive(Debug, Clone)]
pub struct Swaps {
    dynamodb: aws_sdk_dynamodb::Client,
    table: String,
}

impl Swaps {
    /// Returns the table of this stack.
    ///
    /// # Errors
    /// The table's name is missing from the environment.
    pub fn new(stack: &Stack) -> Result<Self, BadEnvironment> {
        Ok(Self::over(stack.dynamodb.clone(), variable::<String>("SWAPS_TABLE")?))
    }

    /// The table of this name.
    #[must_use]
    pub fn over(dynamodb: aws_sdk_dynamodb::Client, table: impl Into<String>) -> Self {
        Self { dynamodb, table: table.into() }
    }

    /// Acquires the lease. The same execution may acquire it again.
    ///
    /// # Errors
    /// [`SwapsError::Busy`] if another execution holds it, dead or alive: the reconciler handles the dead.
    pub async fn take(&self, lease: &Lease) -> Result<(), SwapsError> {
        let set = "SET lease_owner = :me, lease_since = if_not_exists(lease_since, :since), \
                   leased = :leased, account_id = :account, #region = :region, updated_at = :now";
        let leased = serde_json::to_string(&lease.on).map_err(|e| malformed(lease, Cause::of(e)))?;
        let answer = self
            .update(lease, set)
            .condition_expression("attribute_not_exists(lease_owner) OR lease_owner = :me")
            .expression_attribute_names("#region", "region")
            .expression_attribute_values(":me", text(&lease.owner))
            .expression_attribute_values(":since", number(&lease.since.as_millisecond()))
            .expression_attribute_values(":leased", AttributeValue::S(leased))
            .expression_attribute_values(":account", text(&lease.account_id))
            .expression_attribute_values(":region", text(&lease.region))
            .expression_attribute_values(":now", seconds(clock::now()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = answer else { return Ok(()) };
        let holder = error.as_service_error().and_then(|e| match e {
            UpdateItemError::ConditionalCheckFailedException(e) => {
                e.item().and_then(|row| row.get("lease_owner")?.as_s().ok().cloned())
            }
            _ => None,
        });
        let error = CallError::new(UPDATE, error);
        if error.kind == Kind::ConditionFailed {
            let owner = holder.unwrap_or_else(|| "another".to_owned());
            return Err(SwapsError::Busy { on: lease.on.clone(), owner });
        }
        Err(error.into())
    }

    /// Writes the journal of a swap in progress, whatever stage is stored. A successful write also proves that the lease
    /// is held, and that nobody has gone on from the journal.
    ///
    /// # Errors
    /// [`SwapsError::LeaseLost`] or [`SwapsError::Overtaken`]: the call that the journal announces must not be made then.
    pub async fn write(&self, lease: &Lease, journal: &Journal) -> Result<(), SwapsError> {
        let condition =
            format!("lease_owner = :me AND attribute_exists(journal) AND {SAME_SWAP} AND {LATEST}");
        let request = self.put_journal(lease, journal)?.condition_expression(condition);
        fenced(request, lease, Some(journal)).await
    }

    /// Writes the next revision of a journal that was read. Of two that have read the same, one goes on: the
    /// other's picture of the swap is old. A write that is repeated because its answer was lost finds its own words
    /// stored, and counts as written.
    ///
    /// # Errors
    /// [`SwapsError::LeaseLost`] or [`SwapsError::Overtaken`]: then the call that it speaks of must not be made.
    pub async fn revise(&self, lease: &Lease, journal: &mut Journal) -> Result<(), SwapsError> {
        let request = self.put_next_revision(lease, journal)?;
        fenced(request, lease, Some(journal)).await
    }

    /// Writes the next revision of a journal, as [`revise`](Self::revise) does, while the stored stage is still the journal's.
    ///
    /// # Errors
    /// [`SwapsError::LeaseLost`] or [`SwapsError::Overtaken`]: then the call that it speaks of must not be made.
    pub async fn revise_in_stage(&self, lease: &Lease, journal: &mut Journal) -> Result<(), SwapsError> {
        let request = self.put_next_revision(lease, journal)?;
        let condition = request.get_condition_expression().clone().unwrap_or_default();
        let request = request.condition_expression(format!("{condition} AND stage = :stage"));
        fenced(request, lease, Some(journal)).await
    }

    fn put_next_revision(
        &self,
        lease: &Lease,
        journal: &mut Journal,
    ) -> Result<UpdateItemFluentBuilder, SwapsError> {
        let read = journal.revision;
        journal.revision = read.saturating_add(1);
        let request = self
            .put_journal(lease, journal)?
            .condition_expression(format!(
                "lease_owner = :me AND attribute_exists(journal) AND {SAME_SWAP} \
                 AND (attribute_not_exists(revision) OR revision = :read)"
            ))
            .expression_attribute_values(":read", number(&read));
        Ok(request)
    }

    /// Claims a swap for a step that changes something without entering a stage. The last to claim goes on: an earlier
    /// invocation of the same step can't write any more.
    ///
    /// # Errors
    /// [`SwapsError::LeaseLost`] or [`SwapsError::Overtaken`]: nothing must be changed then.
    pub async fn claim(&self, lease: &Lease, journal: &mut Journal) -> Result<Claim, SwapsError> {
        let known = journal.revision;
        let request = showing_the_row(self.put_next_revision(lease, journal)?);
        let Err(error) = request.send().await else { return Ok(Claim::Granted) };
        journal.revision = known;
        let row = refused_by(error)?;
        if is_closed(&row, lease, journal, End::Finished)? {
            return Ok(Claim::Finished);
        }
        let Some(held) = ours(&row, lease)? else {
            return Err(SwapsError::LeaseLost { on: lease.on.clone() });
        };
        let is_this_step =
            |stored: &Journal| stored.swap_id == journal.swap_id && stored.stage == journal.stage;
        let Some(stored) = held.journal.filter(is_this_step) else {
            return Err(SwapsError::Overtaken { on: lease.on.clone() });
        };
        // An earlier try of this step has claimed it, and this one goes on from there.
        *journal = stored;
        journal.repeated_at = Some(clock::now());
        self.claim_once(lease, journal).await.map(|()| Claim::Granted)
    }

    /// A claim changes nothing but the revision, and another's looks the same: no refused claim counts as written.
    async fn claim_once(&self, lease: &Lease, journal: &mut Journal) -> Result<(), SwapsError> {
        let request = self.put_next_revision(lease, journal)?;
        fenced(request, lease, None).await
    }

    /// Writes an observation into the journal of a swap that is still in the same stage. The write changes no
    /// decision: if a rollback has begun meanwhile, nothing is written.
    ///
    /// # Errors
    /// [`SwapsError::LeaseLost`] or [`SwapsError::Overtaken`] if the swap has gone on without this step.
    pub async fn note(&self, lease: &Lease, journal: &Journal) -> Result<(), SwapsError> {
        let condition = format!("lease_owner = :me AND stage = :stage AND {SAME_SWAP} AND {LATEST}");
        let request = self.put_journal(lease, journal)?.condition_expression(condition);
        fenced(request, lease, Some(journal)).await
    }

    /// Takes the lease of a dead execution over, for the reconciler. The reconciler may take over a lease
    /// that it holds already.
    ///
    /// # Errors
    /// [`SwapsError::LeaseLost`] if the lease has changed hands since it was read.
    pub async fn take_over(&self, lease: &Lease) -> Result<Lease, SwapsError> {
        let taken = Lease { owner: Owner::ReconcilerFor(lease.owner.execution().clone()), ..lease.clone() };
        self.update(lease, "SET lease_owner = :me, updated_at = :now")
            .condition_expression("lease_owner = :before")
            .expression_attribute_values(":before", text(&lease.owner))
            .expression_attribute_values(":me", text(&taken.owner))
            .expression_attribute_values(":now", seconds(clock::now()))
            .send()
            .await
            .map_err(failed(UPDATE))
            .map_err(|e| lost(e, lease))
            .map(|_| taken)
    }

    /// Returns the row of this lease; `None` once the lease is released or another's.
    ///
    /// # Errors
    /// The table does not answer, or the row can't be read.
    pub async fn read(&self, lease: &Lease) -> Result<Option<Held>, SwapsError> {
        let row = self.row(lease.key()).await?.unwrap_or_default();
        ours(&row, lease)
    }

    /// Returns who works on a group, and what the journal says; `None` if nobody does.
    ///
    /// # Errors
    /// The table does not answer, or the row can't be read.
    pub async fn holder(&self, group: &GroupArn) -> Result<Option<Held>, SwapsError> {
        let row = self.row(group.to_string()).await?;
        row.as_ref().map(parse).transpose().map(Option::flatten)
    }

    /// Returns every lease in the table. A row that can't be read is returned as its error, beside the
    /// others.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn all_held(&self) -> Result<Vec<Result<Held, SwapsError>>, CallError> {
        let mut pages = self
            .dynamodb
            .scan()
            .table_name(&self.table)
            .filter_expression("attribute_exists(lease_owner)")
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let mut held = Vec::new();
        while let Some(row) = pages.next().await {
            held.extend(parse(&row.map_err(failed("dynamodb:Scan"))?).transpose());
        }
        Ok(held)
    }

    async fn row(&self, target: String) -> Result<Option<Row>, CallError> {
        let request =
            self.dynamodb.get_item().table_name(&self.table).key("target", AttributeValue::S(target));
        let answer = request.consistent_read(true).send().await.map_err(failed("dynamodb:GetItem"))?;
        Ok(answer.item)
    }

    fn put_journal(&self, lease: &Lease, journal: &Journal) -> Result<UpdateItemFluentBuilder, SwapsError> {
        let row = serde_json::to_string(journal).map_err(|e| malformed(lease, Cause::of(e)))?;
        Ok(self
            .update(lease, PUT_JOURNAL)
            .expression_attribute_values(":swap", text(&journal.swap_id))
            .expression_attribute_values(":revision", number(&journal.revision))
            .expression_attribute_values(":me", text(&lease.owner))
            .expression_attribute_values(":journal", AttributeValue::S(row))
            .expression_attribute_values(":stage", stage(journal.stage))
            .expression_attribute_values(":now", seconds(clock::now())))
    }

    fn update(&self, lease: &Lease, expression: &str) -> UpdateItemFluentBuilder {
        self.dynamodb
            .update_item()
            .table_name(&self.table)
            .key("target", AttributeValue::S(lease.key()))
            .update_expression(expression)
    }
}

fn stage(stage: Stage) -> AttributeValue {
    AttributeValue::S(stage.name().to_owned())
}

/// Sends a write that must not be made once another has gone on with the swap. If it is refused and the row holds
/// `written`, the answer to this very write was lost: it counts as written.
async fn fenced(
    request: UpdateItemFluentBuilder,
    lease: &Lease,
    written: Option<&Journal>,
) -> Result<(), SwapsError> {
    let Err(error) = showing_the_row(request).send().await else { return Ok(()) };
    match still_ours(error, lease)?.map(|held| held.journal) {
        // The revision is part of the journal.
        Some(Some(stored)) if written == Some(&stored) => Ok(()),
        Some(_) => Err(SwapsError::Overtaken { on: lease.on.clone() }),
        None => Err(SwapsError::LeaseLost { on: lease.on.clone() }),
    }
}

/// Returns the row that refused a write; `None` if the lease is another's.
fn still_ours(error: SdkError<UpdateItemError>, lease: &Lease) -> Result<Option<Held>, SwapsError> {
    ours(&refused_by(error)?, lease)
}

/// Returns the row as this lease holds it; `None` if the lease is another's, or let go.
fn ours(row: &Row, lease: &Lease) -> Result<Option<Held>, SwapsError> {
    Ok(parse(row)?.filter(|held| held.lease.owner == lease.owner))
}

/// Asks a refused write to answer with the row.
fn showing_the_row(request: UpdateItemFluentBuilder) -> UpdateItemFluentBuilder {
    request.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
}

/// Returns the row whose condition did not hold; an empty one if there is none.
///
/// # Errors
/// The write failed in another way.
fn refused_by(error: SdkError<UpdateItemError>) -> Result<Row, CallError> {
    match error.as_service_error() {
        Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
            Ok(refused.item().cloned().unwrap_or_default())
        }
        _ => Err(CallError::new(UPDATE, error)),
    }
}
