//! The daily clean-up: clears `is_poisoned` on the rows whose poison is over and which TTL has not removed yet
//! (TTL deletes late, by days). Counts the pools that are still poisoned.

use serde::Serialize;
use spot_cloud::metrics;
use spot_domain::clock;
use spot_domain::metrics::Metric;

use crate::error::RiskError;
use crate::poison::RiskTable;

/// The result of the clean-up.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct CleanUpSummary {
    /// The number of pools whose poison was over and whose rows now say so.
    pub cleared: usize,
    /// The number of pools that are still poisoned.
    pub poisoned: usize,
    /// The rows that can't be read; the gate treats them as poisoned.
    pub unreadable: Vec<String>,
}

/// Clears the rows of pools whose poison is over, and counts the others.
///
/// # Errors
/// The table does not answer.
pub async fn run(table: &RiskTable) -> Result<CleanUpSummary, RiskError> {
    let now = clock::now();
    let mut summary = CleanUpSummary::default();
    for (pool, expires_at) in table.poisoned().await? {
        match expires_at {
            None => summary.unreadable.push(pool),
            Some(expired_at) if expired_at <= now && table.clear(&pool, expired_at).await? => {
                summary.cleared += 1;
            }
            Some(_) => summary.poisoned += 1,
        }
    }
    let poisoned = summary.poisoned + summary.unreadable.len();
    metrics::emit(&[(Metric::PoisonedPools, poisoned.into())]);
    Ok(summary)
}
