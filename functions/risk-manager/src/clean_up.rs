//! The daily clean-up: clears `is_poisoned` where the poison is over and TTL has not yet removed
//! the row (it deletes late, by days), and counts what is still poisoned.

use jiff::Timestamp;
use serde::Serialize;

use crate::error::RiskError;
use crate::metrics;
use crate::poison::RiskTable;

/// What the clean-up found.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Pools whose poison was over, and that say so now.
    pub cleared: usize,
    /// Pools still poisoned.
    pub poisoned: usize,
    /// Rows that can't be read; the gate treats them as poisoned.
    pub unreadable: Vec<String>,
}

/// Cleans up.
///
/// # Errors
/// The table does not answer.
pub async fn run(table: &RiskTable) -> Result<Summary, RiskError> {
    let now = Timestamp::now();
    let mut summary = Summary::default();
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
    metrics::emit(&[("PoisonedPools", "Count", poisoned.into())], None);
    Ok(summary)
}
