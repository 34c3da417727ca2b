//! The swaps whose end a run has recorded.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spot_domain::swap::journal::{Journal, SwapId};

/// A swap whose end a run has recorded. A second launch for a node has the id of the first, and begins later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    swap_id: SwapId,
    launching_since: Timestamp,
}

impl Recorded {
    /// Returns what tells the swap of this journal from all others.
    #[must_use]
    pub fn of(journal: &Journal) -> Self {
        Self { swap_id: journal.swap_id.clone(), launching_since: journal.launching_since }
    }
}
