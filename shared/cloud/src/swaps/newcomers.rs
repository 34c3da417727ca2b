//! Newcomers: the pool that each was launched into, under its own id. EC2 forgets an instance about an hour after its
//! end and its Spot request some hours later, and the news of its interruption may come after that.
//!
//! Such a row is no lease and orders nothing. It has a key of its own, so that its end by TTL never takes a lease along.

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::{SignedDuration, Timestamp};
use spot_domain::{AccountId, InstanceId, Pool, Region};

use super::{Lease, Swaps, SwapsError, UPDATE, field, number, text};
use crate::error::failed;
use crate::leases::key_of_instance;

/// How long a pool is kept. An instance may live longer than that; but the reconciler reads this table every few minutes,
/// and 10,000 such rows are 1.5 MB of it.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Epoch seconds: the table's TTL attribute. No other row has it.
const EXPIRES_AT: &str = "expires_at";
/// The pool, as the risk table spells it. An expression can't name an attribute `pool`: DynamoDB reserves the word.
const POOL: &str = "launched_into";

impl Swaps {
    /// Keeps the pool that a swap's newcomer was launched into. Safe to repeat.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn keep_pool(
        &self,
        lease: &Lease,
        newcomer: &InstanceId,
        pool: &Pool,
    ) -> Result<(), SwapsError> {
        let expires_at = Timestamp::now().saturating_add(KEPT_FOR).map_or(i64::MAX, |at| at.as_second());
        self.dynamodb
            .update_item()
            .table_name(&self.table)
            .key("target", AttributeValue::S(key(&lease.account_id, &lease.region, newcomer)))
            .update_expression(format!("SET {POOL} = :pool, {EXPIRES_AT} = :expires"))
            .expression_attribute_values(":pool", text(pool))
            .expression_attribute_values(":expires", number(expires_at))
            .send()
            .await
            .map(drop)
            .map_err(failed(UPDATE))
            .map_err(SwapsError::from)
    }

    /// Returns the pool that a swap launched this instance into; `None` if no swap of the last 90 days did.
    ///
    /// The word of this table is not proof. Whoever may write it can name another pool, of the same region, for an
    /// instance that EC2 no longer knows: ask EC2 first.
    ///
    /// # Errors
    /// The table does not answer, or the row can't be read.
    pub async fn pool_of(
        &self,
        account_id: &AccountId,
        region: &Region,
        newcomer: &InstanceId,
    ) -> Result<Option<Pool>, SwapsError> {
        let target = key(account_id, region, newcomer);
        let Some(row) = self.row(target.clone()).await? else { return Ok(None) };
        let malformed = |problem| SwapsError::Malformed { target: target.clone(), problem };
        let pool: Pool = field(&row, POOL).map_err(malformed)?;
        if &pool.region != region {
            return Err(malformed(format!("{POOL}: {pool} does not lie in region {region}")));
        }
        Ok(Some(pool))
    }
}

fn key(account_id: &AccountId, region: &Region, newcomer: &InstanceId) -> String {
    format!("newcomer#{}", key_of_instance(account_id, region, newcomer))
}
