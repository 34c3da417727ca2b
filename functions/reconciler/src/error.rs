//! The reasons for which a run, or the work on one lease, failed.

use lambda_runtime::Diagnostic;
use spot_cloud::CallError;
use spot_cloud::tables::accounts::AccountError;
use spot_cloud::tables::settings::SettingsError;
use spot_cloud::tables::swaps::SwapsError;
use spot_domain::words::{LONGEST_CAUSE, cut};

/// The reason for which a run failed. The run has processed all other leases.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The execution in the event died too recently. Lambda's retry comes in a minute.
    #[error("too early to reconcile {0}: a last Lambda of its execution may still be at work")]
    TooEarly(String),
    /// Some leases could not be reconciled.
    #[error("{}", .0.join("; "))]
    Failed(Vec<String>),
    /// The Swaps table does not answer.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl From<ReconcileError> for Diagnostic {
    fn from(error: ReconcileError) -> Self {
        let name = match error {
            ReconcileError::TooEarly(_) => "TooEarly",
            ReconcileError::Failed(_) => "ReconcileFailed",
            ReconcileError::Call(_) => "CallFailed",
        };
        Self { error_type: name.to_owned(), error_message: cut(&error.to_string(), LONGEST_CAUSE) }
    }
}

/// The reason for which a lease could not be reconciled now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileFailure {
    /// Carries the time that it had, seconds.
    #[error("it took longer than {0} s")]
    TookTooLong(u64),
    #[error("its recovery has taken too long: {0}")]
    Overdue(String),
    #[error("{0}")]
    Kept(String),
    #[error("its swap has ended; {0}")]
    InDoubt(String),
    #[error(transparent)]
    Swaps(#[from] SwapsError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Call(#[from] CallError),
}
