//! Newcomers: the pool that each was launched into, under its own id. EC2 forgets an instance about an hour after its
//! end and its Spot request some hours later, and the news of its interruption may come after that.
//!
//! Such a row is no lease and orders nothing. It has a key of its own, so that its end by TTL never takes a lease along.
//! A run writes the rows of all its newcomers when it reports. The rows of a run that dies before are missing, but for
//! the newcomer of the swap that the reconciler ends. A newcomer that a swap has sent away again gets no row.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::SignedDuration;
use spot_domain::clock;
use spot_domain::{AccountId, InstanceId, Pool, Region};

use super::{Lease, Row, Swaps, SwapsError, field, number, text};
use crate::error::CallError;
use crate::tables::batches::{self, WRITE_BATCH};
use crate::tables::leases::key_of_instance;

/// Attempts for the items that DynamoDB left unprocessed.
const ATTEMPTS: u32 = 4;

/// How long a pool is kept. An instance may live longer than that; but the reconciler reads this table every few minutes,
/// and 10,000 such rows are 1.5 MB of it.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Epoch seconds: the table's TTL attribute. No other row has it.
const EXPIRES_AT: &str = "expires_at";
/// The pool, as the risk table spells it. An expression can't name an attribute `pool`: DynamoDB reserves the word.
const POOL: &str = "launched_into";

impl Swaps {
    /// Keeps the pools that the newcomers of a lease's swaps were launched into, with one call for every 25. Safe to
    /// repeat.
    ///
    /// # Errors
    /// The table does not answer, or leaves rows unwritten when it is asked again. Some pools may be kept.
    pub async fn keep_pools(
        &self,
        lease: &Lease,
        newcomers: &BTreeMap<InstanceId, Pool>,
    ) -> Result<(), CallError> {
        let expires_at = clock::now().saturating_add(KEPT_FOR).map_or(i64::MAX, |at| at.as_second());
        let row = |(newcomer, pool): (&InstanceId, &Pool)| -> Row {
            let target = AttributeValue::S(key(&lease.account_id, &lease.region, newcomer));
            [("target", target), (POOL, text(pool)), (EXPIRES_AT, number(&expires_at))]
                .map(|(name, value)| (name.to_owned(), value))
                .into()
        };
        let rows: Vec<Row> = newcomers.iter().map(row).collect();
        for batch in rows.chunks(WRITE_BATCH) {
            batches::put(&self.dynamodb, &self.table, batch.iter().cloned(), ATTEMPTS).await?;
        }
        Ok(())
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
            return Err(malformed(format!("{POOL}: {pool} does not lie in region {region}").into()));
        }
        Ok(Some(pool))
    }
}

fn key(account_id: &AccountId, region: &Region, newcomer: &InstanceId) -> String {
    format!("newcomer#{}", key_of_instance(account_id, region, newcomer))
}
