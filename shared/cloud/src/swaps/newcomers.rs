//! Newcomers: the pool that each was launched into, under its own id. EC2 forgets an instance about an hour after its
//! end and its Spot request some hours later, and the news of its interruption may come after that.
//!
//! Such a row is no lease and orders nothing. It has a key of its own, so that its end by TTL never takes a lease along.
//! A run writes the rows of all its newcomers when it reports. The rows of a run that dies before are missing, but for
//! the newcomer of the swap that the reconciler ends. A newcomer that a swap has sent away again gets no row.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use jiff::{SignedDuration, Timestamp};
use spot_domain::{AccountId, InstanceId, Pool, Region};

use super::{Lease, Row, Swaps, SwapsError, field, number, text};
use crate::error::{CallError, Kind, failed};
use crate::leases::key_of_instance;

const WRITE: &str = "dynamodb:BatchWriteItem";
/// DynamoDB's limit for one `BatchWriteItem`.
const BATCH: usize = 25;
/// Attempts for the items that DynamoDB left unprocessed.
const ATTEMPTS: u32 = 4;
/// The pause after the first attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

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
        let expires_at = Timestamp::now().saturating_add(KEPT_FOR).map_or(i64::MAX, |at| at.as_second());
        let put = |(newcomer, pool): (&InstanceId, &Pool)| {
            let target = AttributeValue::S(key(&lease.account_id, &lease.region, newcomer));
            let row: Row = [("target", target), (POOL, text(pool)), (EXPIRES_AT, number(expires_at))]
                .map(|(name, value)| (name.to_owned(), value))
                .into();
            let put = PutRequest::builder().set_item(Some(row)).build();
            put.map(|put| WriteRequest::builder().put_request(put).build())
        };
        let puts = newcomers.iter().map(put).collect::<Result<Vec<_>, _>>();
        for batch in puts.map_err(|e| CallError::malformed(WRITE, e.to_string()))?.chunks(BATCH) {
            self.write_batch(batch.to_vec()).await?;
        }
        Ok(())
    }

    async fn write_batch(&self, mut rows: Vec<WriteRequest>) -> Result<(), CallError> {
        let mut pause = FIRST_PAUSE;
        for _ in 0..ATTEMPTS {
            let request = self.dynamodb.batch_write_item().request_items(&self.table, rows);
            let answer = request.send().await.map_err(failed(WRITE))?;
            rows = answer
                .unprocessed_items
                .and_then(|mut tables| tables.remove(&self.table))
                .unwrap_or_default();
            if rows.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        let message = format!("{} rows are still unprocessed after {ATTEMPTS} attempts", rows.len());
        Err(CallError {
            kind: Kind::Retry,
            code: "Throttled".to_owned(),
            ..CallError::malformed(WRITE, message)
        })
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
