//! The reasons for which an invocation fails as a whole.

use lambda_runtime::Diagnostic;
use spot_cloud::CallError;
use spot_cloud::input::BadInput;
use spot_cloud::scopes::PlanError;
use spot_domain::words::{LONGEST_CAUSE, cut};

/// Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The input can't be read.
    #[error(transparent)]
    InvalidInput(#[from] BadInput),
    /// An account, a region or a setting can't be used.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A table of the stack does not answer.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl WatchError {
    /// Returns the error's name, as logs spell it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::InvalidInput(_) => "InvalidInput",
            Self::Plan(error) => error.name(),
            Self::Call(_) => "CallFailed",
        }
    }
}

impl From<WatchError> for Diagnostic {
    fn from(error: WatchError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: cut(&error.to_string(), LONGEST_CAUSE) }
    }
}
