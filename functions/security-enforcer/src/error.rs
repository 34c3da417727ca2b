//! How a run fails as a whole: before it has acted. What fails in one account or region is in the
//! summary instead.

use lambda_runtime::Diagnostic;
use spot_cloud::CallError;
use spot_cloud::clients::BadEnvironment;
use spot_cloud::places::PlanError;
use spot_domain::words::{LONGEST_CAUSE, cut};

/// A run that did not begin. Nothing was written, nobody was told, nothing was terminated.
#[derive(Debug, thiserror::Error)]
pub enum EnforcerError {
    /// The input is malformed.
    #[error("input: {0}")]
    InvalidInput(#[from] serde_json::Error),
    /// The accounts, regions and settings that the input means can't be had.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The stack is set up wrong.
    #[error(transparent)]
    Environment(#[from] BadEnvironment),
}

impl EnforcerError {
    /// The name that logs and metrics know it by.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::InvalidInput(_) => "InvalidInput",
            Self::Plan(error) => error.name(),
            Self::Call(_) => "CallFailed",
            Self::Environment(_) => "BadEnvironment",
        }
    }
}

impl From<EnforcerError> for Diagnostic {
    fn from(error: EnforcerError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: cut(&error.to_string(), LONGEST_CAUSE) }
    }
}
