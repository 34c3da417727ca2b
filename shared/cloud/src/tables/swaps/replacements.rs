//! Replacements: each finished lab swap, kept beyond its end. The owner may want the old instance back. The
//! risk manager must know which instance an interrupted newcomer replaced.

use aws_sdk_dynamodb::types::AttributeValue;
use spot_domain::clock;
use spot_domain::swap::journal::Journal;
use spot_domain::words::Cause;
use spot_domain::{AccountId, InstanceId, Region};

use super::{Lease, Leased, Swaps, SwapsError, UPDATE, field, json, lost, malformed, seconds, text};
use crate::error::failed;
use crate::tables::leases::key_of_instance;

impl Swaps {
    /// Stores the journal of a finished lab swap under its old instance, and the old instance's id under the
    /// newcomer.
    ///
    /// # Errors
    /// [`SwapsError::LeaseLost`] if the lease is another's, or the table does not answer.
    pub async fn remember(&self, lease: &Lease, journal: &Journal) -> Result<(), SwapsError> {
        let row = serde_json::to_string(journal).map_err(|e| malformed(lease, Cause::of(e)))?;
        self.update(lease, "SET replaced = :journal")
            .condition_expression("lease_owner = :me")
            .expression_attribute_values(":me", text(&lease.owner))
            .expression_attribute_values(":journal", AttributeValue::S(row))
            .send()
            .await
            .map_err(failed(UPDATE))
            .map_err(|e| lost(e, lease))?;
        let Some(newcomer) = &journal.newcomer else { return Ok(()) };
        let of_newcomer = Lease { on: Leased::Instance(newcomer.clone()), ..lease.clone() };
        self.update(&of_newcomer, "SET replaces = :old, updated_at = :now")
            .expression_attribute_values(":old", text(&journal.old))
            .expression_attribute_values(":now", seconds(clock::now()))
            .send()
            .await
            .map(drop)
            .map_err(failed(UPDATE))
            .map_err(SwapsError::from)
    }

    /// Removes the entries of a swap that was undone. Safe to repeat.
    ///
    /// # Errors
    /// [`SwapsError::LeaseLost`] if the lease is another's, or the table does not answer.
    pub async fn forget(&self, lease: &Lease, newcomer: Option<&InstanceId>) -> Result<(), SwapsError> {
        self.update(lease, "REMOVE replaced")
            .condition_expression("lease_owner = :me")
            .expression_attribute_values(":me", text(&lease.owner))
            .send()
            .await
            .map_err(failed(UPDATE))
            .map_err(|e| lost(e, lease))?;
        let Some(newcomer) = newcomer else { return Ok(()) };
        let of_newcomer = Lease { on: Leased::Instance(newcomer.clone()), ..lease.clone() };
        let removed = self.update(&of_newcomer, "REMOVE replaces").send().await;
        removed.map(drop).map_err(failed(UPDATE)).map_err(SwapsError::from)
    }

    /// Returns the journal of the lab swap that replaced the instance of this lease; `None` if none did.
    ///
    /// # Errors
    /// The table does not answer, or the row can't be read.
    pub async fn replaced(&self, lease: &Lease) -> Result<Option<Journal>, SwapsError> {
        let row = self.row(lease.key()).await?.unwrap_or_default();
        let journal = json(&row, "replaced").map_err(|problem| malformed(lease, problem))?;
        match journal.as_ref().and_then(|journal| lease.contradicts(journal)) {
            Some(problem) => Err(malformed(lease, format!("replaced: {problem}").into())),
            None => Ok(journal),
        }
    }

    /// Returns the instance that a newcomer of a lab swap replaced.
    ///
    /// # Errors
    /// The table does not answer, or the row can't be read.
    pub async fn replaced_by(
        &self,
        account_id: &AccountId,
        region: &Region,
        newcomer: &InstanceId,
    ) -> Result<Option<InstanceId>, SwapsError> {
        let target = key_of_instance(account_id, region, newcomer);
        let row = self.row(target.clone()).await?.unwrap_or_default();
        let old = row.contains_key("replaces").then(|| field(&row, "replaces")).transpose();
        old.map_err(|problem| SwapsError::Malformed { target, problem })
    }
}
