//! The errors that end a whole run. A listing that fails is part of the report instead.

use lambda_runtime::Diagnostic;
use spot_cloud::CallError;
use spot_cloud::environment::BadEnvironment;
use spot_cloud::input::BadInput;
use spot_cloud::scopes::PlanError;
use spot_domain::words::{LONGEST_CAUSE, cut};

/// A run that could not be carried out. Running again is safe: the rows already written are true, and no
/// finding was resolved by an incomplete listing.
#[derive(Debug, thiserror::Error)]
pub enum WasteError {
    /// The input is malformed.
    #[error("input: {0}")]
    InvalidInput(#[from] BadInput),
    /// The accounts, regions and settings of the input can't be read.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The scan was continued this many times without coming to an end.
    #[error("the scan has been continued {0} times without coming to its end")]
    Endless(u32),
    #[error(transparent)]
    Call(#[from] CallError),
    /// An environment variable of the stack is missing or malformed.
    #[error(transparent)]
    Environment(#[from] BadEnvironment),
}

impl WasteError {
    /// Returns the name of the error in logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::InvalidInput(_) => "InvalidInput",
            Self::Plan(error) => error.name(),
            Self::Endless(_) => "ScanEndless",
            Self::Call(_) => "CallFailed",
            Self::Environment(_) => "BadEnvironment",
        }
    }
}

impl From<WasteError> for Diagnostic {
    fn from(error: WasteError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: cut(&error.to_string(), LONGEST_CAUSE) }
    }
}
