//! How a run fails as a whole: before it has acted. What fails in one account or region is in the
//! summary instead.

use lambda_runtime::Diagnostic;
use spot_cloud::CallError;
use spot_cloud::accounts::AccountError;
use spot_cloud::clients::BadEnvironment;
use spot_cloud::settings::SettingsError;

/// A run that did not begin. Nothing was written, nobody was told, nothing was terminated.
#[derive(Debug, thiserror::Error)]
pub enum EnforcerError {
    /// The input is malformed.
    #[error("input: {0}")]
    InvalidInput(#[from] serde_json::Error),
    /// The account that the input names is unknown, disabled, or its row can't be read.
    #[error(transparent)]
    Account(AccountError),
    /// A setting can't be applied.
    #[error(transparent)]
    Settings(SettingsError),
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
            Self::Account(_) => "AccountUnknown",
            Self::Settings(_) => "InvalidSettings",
            Self::Call(_) => "CallFailed",
            Self::Environment(_) => "BadEnvironment",
        }
    }
}

impl From<AccountError> for EnforcerError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Call(error) => Self::Call(error),
            error => Self::Account(error),
        }
    }
}

impl From<SettingsError> for EnforcerError {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::Call(error) => Self::Call(error),
            error => Self::Settings(error),
        }
    }
}

impl From<EnforcerError> for Diagnostic {
    fn from(error: EnforcerError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: error.to_string() }
    }
}
