//! The outcome of a swap that a recovery has ended: all that its end has to tell. A Lambda may die between the last write and
//! the message, and a look after that write shows something else. So the last write keeps the outcome in the row.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spot_domain::clock;
use spot_domain::swap::journal::Journal;
use spot_domain::swap::recovery::Ended;

use super::{Closed, Lease, Owner, Row, json};

/// The row's attribute.
pub(super) const OUTCOME: &str = "closed_outcome";

/// A swap that a recovery has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The journal at the end, without the swaps ahead: the row tells of these.
    pub journal: Journal,
    /// How the swap ended, and what a person has to know of it.
    pub ended: Ended,
    /// The holder of the lease at the end.
    pub by: Owner,
    /// The time of the end.
    pub at: Timestamp,
}

impl Outcome {
    pub(super) fn new(lease: &Lease, journal: &Journal, ended: &Ended) -> Self {
        Self {
            journal: Journal { ahead: Vec::new(), ..journal.clone() },
            ended: ended.clone(),
            by: lease.owner.clone(),
            at: clock::now(),
        }
    }
}

/// Returns the outcome of the swap that was closed last. One that can't be read, or that another run or an older release has
/// left, locks no row.
pub(super) fn outcome(row: &Row, lease: &Lease, closed: &Closed) -> Option<Outcome> {
    let outcome: Outcome = match json(row, OUTCOME) {
        Ok(outcome) => outcome?,
        Err(problem) => {
            tracing::warn!(on = %lease.on, "what its last swap has to tell is lost: {problem}");
            return None;
        }
    };
    let is_ours = outcome.by.execution() == lease.owner.execution()
        && outcome.journal.swap_id == closed.swap_id
        && outcome.ended.end == closed.end
        && lease.contradicts(&outcome.journal).is_none();
    is_ours.then_some(outcome)
}
