//! The failures of the Swaps table.

use spot_domain::swap::journal::SwapId;
use spot_domain::words::Cause;

use crate::error::{CallError, Kind};
use crate::tables::leases::{Lease, Leased};

/// The reason for which the table was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum SwapsError {
    /// Another execution works on the target.
    #[error("{on}: execution {owner} is working on it; wait for it to end")]
    Busy {
        /// The subject of its lease.
        on: Leased,
        /// The holder.
        owner: String,
    },
    /// We no longer hold the lease: another holder has put the target right without us.
    #[error("the lease on {on} is no longer held by this execution")]
    LeaseLost {
        /// The subject of the lease.
        on: Leased,
    },
    /// The lease is ours, and another invocation has written the journal of this swap since this one read it: look again.
    #[error("another invocation has gone on with the swap on {on} since this one looked")]
    Overtaken {
        /// The subject of the lease.
        on: Leased,
    },
    /// The run ends, and its row tells of a swap that has not ended: the reconciler ends it.
    #[error("the run on {on} ends, and its swap {swap_id} does not; the reconciler ends it")]
    Unfinished {
        /// The subject of the lease.
        on: Leased,
        /// The swap in the row.
        swap_id: SwapId,
    },
    /// A row that can't be read: an operator has to correct it.
    #[error("row {target:?} of the Swaps table: {problem}")]
    Malformed {
        /// The row's key.
        target: String,
        /// The fault of the row.
        #[source]
        problem: Cause,
    },
    /// A row that orders changes to something that nothing proves to be ours. Nothing is done; an operator
    /// has to inspect it.
    #[error("row {target:?} of the Swaps table: {problem}")]
    Unproven {
        /// The row's key.
        target: String,
        /// The claim that is not proven.
        #[source]
        problem: Cause,
    },
    /// The table did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
}

pub(super) fn lost(error: CallError, lease: &Lease) -> SwapsError {
    if error.kind == Kind::ConditionFailed {
        return SwapsError::LeaseLost { on: lease.on.clone() };
    }
    error.into()
}

pub(super) fn malformed(lease: &Lease, problem: Cause) -> SwapsError {
    SwapsError::Malformed { target: lease.key(), problem }
}
