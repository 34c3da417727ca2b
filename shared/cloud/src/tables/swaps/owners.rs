//! The holders of many leases at once, for a look that changes nothing.

use std::collections::BTreeMap;

use super::Swaps;
use crate::error::CallError;
use crate::tables::batches::{self, READ_BATCH, Repeat};
use crate::tables::row::{self, text_in};

/// Attempts for the rows that DynamoDB left unread.
const ATTEMPTS: u32 = 3;

impl Swaps {
    /// Returns the holders of these leases, by [`Lease::key`](super::Lease::key). A lease that nobody holds is absent.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn owners(&self, keys: &[String]) -> Result<BTreeMap<String, String>, CallError> {
        let mut owners = BTreeMap::new();
        for keys in keys.chunks(READ_BATCH) {
            let keys = keys.iter().map(|key| row::key([("target", key)])).collect();
            let attributes = ["target", "lease_owner"];
            let rows =
                batches::get(&self.dynamodb, &self.table, keys, attributes, Repeat::Attempts(ATTEMPTS))
                    .await?;
            let owner = |row: &row::Row| {
                Some((text_in(row, "target")?.clone(), text_in(row, "lease_owner")?.clone()))
            };
            owners.extend(rows.iter().filter_map(owner));
        }
        Ok(owners)
    }
}
