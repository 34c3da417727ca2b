//! The outcome of a swap that a recovery has ended: all that its end has to tell. A Lambda may die between the last write and
//! the message, and a look after that write shows something else. So the last write keeps the outcome in the row.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spot_domain::clock;
use spot_domain::swap::journal::{Journal, Original};
use spot_domain::swap::recovery::Ended;

use crate::tables::leases::{Lease, Owner};

pub(super) const OUTCOME: &str = "closed_outcome";

/// A swap that a recovery has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The journal at the end, without the swaps ahead, of which the row tells, and without the group's members.
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
        let original = journal.original.clone().map(|original| Original { members: Vec::new(), ..original });
        Self {
            journal: Journal { ahead: Vec::new(), original, ..journal.clone() },
            ended: ended.clone(),
            by: lease.owner.clone(),
            at: clock::now(),
        }
    }
}
