//! The journal of one launch, and how it is written: as the row's own, or among those that the swap in progress carries
//! ahead.

use spot_cloud::tables::swaps::{Lease, Swaps, SwapsError};
use spot_domain::swap::journal::Journal;

/// The journal of one launch.
#[derive(Debug)]
pub enum LaunchJournal<'a> {
    /// The row's own journal.
    Own(&'a mut Journal),
    /// A journal that another one carries from its first record on.
    Ahead {
        /// The journal of the swap in progress.
        carrier: &'a mut Journal,
        /// The journal of the launch.
        journal: Box<Journal>,
    },
}

impl LaunchJournal<'_> {
    /// Returns the journal of the launch.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        match self {
            Self::Own(journal) => journal,
            Self::Ahead { journal, .. } => journal,
        }
    }

    /// Changes the journal of the launch, and writes it.
    ///
    /// # Errors
    /// The launch must not be made: the table does not answer, or another has gone on with the swap.
    pub async fn record(
        &mut self,
        swaps: &Swaps,
        lease: &Lease,
        change: impl FnOnce(&mut Journal),
    ) -> Result<(), SwapsError> {
        match self {
            Self::Own(journal) => {
                change(journal);
                swaps.write(lease, journal).await
            }
            Self::Ahead { carrier, journal } => {
                change(journal);
                carrier.ahead.retain(|ahead| ahead.swap_id != journal.swap_id);
                carrier.ahead.push((**journal).clone());
                swaps.revise_in_stage(lease, carrier).await
            }
        }
    }
}
