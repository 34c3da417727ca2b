//! The errors of an event. After Lambda's retries the event lies in the dead-letter queue, and an alarm rings.

use lambda_runtime::Diagnostic;
use spot_cloud::CallError;
use spot_cloud::error::unreadable;
use spot_cloud::tables::accounts::AccountError;
use spot_cloud::tables::risk_pools::MalformedRow;
use spot_cloud::tables::settings::SettingsError;
use spot_cloud::tables::swaps::SwapsError;
use spot_domain::InstanceId;
use spot_domain::words::{Cause, LONGEST_CAUSE, cut};

/// The failure of an event. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum RiskError {
    /// The event is malformed or foreign.
    #[error("field {field:?}: {problem}")]
    InvalidEvent {
        /// The path of the field in the event.
        field: String,
        #[source]
        problem: Cause,
    },
    /// The account is unknown, disabled, or its row can't be read.
    #[error(transparent)]
    Account(AccountError),
    /// A setting can't be applied.
    #[error(transparent)]
    Settings(SettingsError),
    /// EC2 knows neither the instance nor its Spot request, and no swap of ours launched the instance. Either it
    /// ended more than four hours ago, or it never existed.
    #[error(
        "instance {0}: EC2 describes neither it nor its Spot request, which it keeps for four hours, and no swap of the \
         last 90 days launched it"
    )]
    InstanceUnknown(InstanceId),
    /// The zone's id is unknown.
    #[error("instance {0}: no zone id is known for {1:?}")]
    ZoneUnknown(InstanceId, String),
    /// The pool's row can't be read. The gate treats such a pool as poisoned.
    #[error(transparent)]
    Row(#[from] MalformedRow),
    /// No region could be measured.
    #[error("no region could be measured: {}", .0.join("; "))]
    Unmeasured(Vec<String>),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl RiskError {
    /// Returns the name of the error in logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::InvalidEvent { .. } => "InvalidEvent",
            Self::Account(_) => "AccountUnknown",
            Self::Settings(_) => "InvalidSettings",
            Self::InstanceUnknown(_) => "InstanceUnknown",
            Self::ZoneUnknown(..) => "ZoneUnknown",
            Self::Row(_) => "MalformedRow",
            Self::Unmeasured(_) => "Unmeasured",
            Self::Call(_) => "CallFailed",
        }
    }
}

impl From<AccountError> for RiskError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Call(error) => Self::Call(error),
            error => Self::Account(error),
        }
    }
}

impl From<SettingsError> for RiskError {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::Call(error) => Self::Call(error),
            error => Self::Settings(error),
        }
    }
}

impl From<SwapsError> for RiskError {
    fn from(error: SwapsError) -> Self {
        match error {
            SwapsError::Call(error) => Self::Call(error),
            error => Self::Call(unreadable("dynamodb:GetItem")(error)),
        }
    }
}

impl From<RiskError> for Diagnostic {
    fn from(error: RiskError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: cut(&error.to_string(), LONGEST_CAUSE) }
    }
}
