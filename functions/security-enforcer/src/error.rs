//! The errors of a whole run, before it has acted. The failures of one account or region are in the summary
//! instead.

use lambda_runtime::Diagnostic;
use spot_cloud::CallError;
use spot_cloud::environment::BadEnvironment;
use spot_cloud::input::BadInput;
use spot_cloud::scopes::PlanError;
use spot_domain::words::{LONGEST_CAUSE, cut};

/// The error of a run that did not begin. Nothing was written, announced or terminated.
#[derive(Debug, thiserror::Error)]
pub enum EnforcerError {
    /// The input is malformed.
    #[error("input: {0}")]
    InvalidInput(#[from] BadInput),
    /// The accounts, regions and settings that the input names can't be read.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The stack's environment is set up wrong.
    #[error(transparent)]
    Environment(#[from] BadEnvironment),
}

impl EnforcerError {
    /// Returns the name of the error in logs and metrics.
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
