//! How a whole run fails. A listing that fails is none of these: it is part of the report.

use lambda_runtime::Diagnostic;
use spot_cloud::CallError;
use spot_cloud::clients::BadEnvironment;
use spot_cloud::places::PlanError;
use spot_domain::words::{LONGEST_CAUSE, cut};

/// A run that could not be carried out. Rows already written are true, and nothing was resolved that
/// was not listed to its end: running again is safe.
#[derive(Debug, thiserror::Error)]
pub enum WasteError {
    /// The input is malformed.
    #[error("input: {0}")]
    InvalidInput(String),
    /// The accounts, regions and settings that the input means can't be had.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// It went on in so many invocations without coming to an end.
    #[error("the scan has been continued {0} times without coming to its end")]
    Endless(u32),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The stack is set up wrong.
    #[error(transparent)]
    Environment(#[from] BadEnvironment),
}

impl WasteError {
    /// The name that logs and metrics know it by.
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
