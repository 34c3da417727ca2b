//! The place of a launch's journal: the row's own, or among those that the swap in progress carries ahead.

use spot_cloud::tables::swaps::{Lease, Swaps, SwapsError};
use spot_domain::swap::journal::Journal;

/// A journal, and how it is written.
#[derive(Debug)]
pub enum Entry<'a> {
    /// The row's own journal.
    Own(&'a mut Journal),
    /// The last journal that this one carries ahead.
    Ahead(&'a mut Journal),
}

impl Entry<'_> {
    /// Returns the journal of the launch.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        match self {
            Self::Own(journal) => journal,
            Self::Ahead(carrier) => carrier.ahead.last().unwrap_or(carrier),
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
            Self::Ahead(carrier) => {
                if let Some(journal) = carrier.ahead.last_mut() {
                    change(journal);
                }
                swaps.revise(lease, carrier).await
            }
        }
    }
}
