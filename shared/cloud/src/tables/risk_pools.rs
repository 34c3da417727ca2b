//! The SpotPoolRisk table: its attributes, and the parser of a row.

use spot_domain::risk::poison::Poison;

use crate::tables::row::{Row, time_in};

/// The key: the pool as `region#az-id#instance-type` (S).
pub const POOL: &str = "pool";
/// The attribute that says if the pool is poisoned (BOOL).
pub const IS_POISONED: &str = "is_poisoned";
/// The time of the interruption from which the expiry counts (N, epoch seconds).
pub const POISONED_AT: &str = "poisoned_at";
/// The time when the poison ends (N, epoch seconds): the table's TTL attribute.
pub const POISON_EXPIRES_AT: &str = "poison_expires_at";
/// The cause of the poison (S).
pub const CAUSE: &str = "cause";
/// The number of times that the poison was set or extended (N).
pub const INTERRUPTIONS: &str = "interruptions";

/// A row that can't be read. A caller that meets one must act as if the pool were poisoned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row of pool {pool}: attribute {attribute:?} is missing or malformed")]
pub struct MalformedRow {
    /// The row's key.
    pub pool: String,
    /// The attribute.
    pub attribute: &'static str,
}

/// Reads a row.
///
/// # Errors
/// An attribute is missing or of the wrong type.
pub fn parse(pool: &str, row: &Row) -> Result<Poison, MalformedRow> {
    let malformed = |attribute| MalformedRow { pool: pool.to_owned(), attribute };
    let is_poisoned =
        row.get(IS_POISONED).and_then(|v| v.as_bool().ok()).ok_or_else(|| malformed(IS_POISONED))?;
    let expires_at = time_in(row, POISON_EXPIRES_AT).ok_or_else(|| malformed(POISON_EXPIRES_AT))?;
    Ok(Poison { is_poisoned: *is_poisoned, expires_at })
}
