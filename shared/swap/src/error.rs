//! How a step fails. The names are a contract with `swap.asl.yaml`: its Retry and Catch match on
//! them, and an execution that fails bears one of them.

use lambda_runtime::Diagnostic;
use spot_cloud::environment::BadEnvironment;
use spot_cloud::tables::accounts::AccountError;
use spot_cloud::tables::settings::SettingsError;
use spot_cloud::tables::swaps::{Leased, SwapsError};
use spot_cloud::{CallError, Kind};
use spot_domain::words::{LONGEST_CAUSE, cut};

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The execution's input can't be meant. Nothing was changed.
    #[error("{0}")]
    InvalidInput(String),
    /// There is no such group. Nothing was changed.
    #[error("{0}")]
    GroupNotFound(String),
    /// Somebody else works on the group. Nothing was changed.
    #[error("{0}")]
    GroupBusy(String),
    /// As many nodes of the cluster are being swapped as may be at a time. Nothing was changed.
    #[error("{0}")]
    ClusterBusy(String),
    /// Another execution swaps the instance. Nothing was changed.
    #[error("{0}")]
    InstanceBusy(String),
    /// A group that we don't touch. Nothing was changed.
    #[error("{0}")]
    GroupNotSupported(String),
    /// The Settings table holds what can't be applied. Nothing was changed.
    #[error("{0}")]
    InvalidSettings(String),
    /// The same step may go through later.
    #[error("{0}")]
    Transient(String),
    /// The cluster's API server does not answer, or does not know us: the same step may go through later.
    #[error("{0}")]
    ClusterSilent(String),
    /// A permission is missing.
    #[error("{0}")]
    NotAuthorized(String),
    /// The lease is gone: the reconciler has put the group right, or is about to.
    #[error("{0}")]
    LeaseLost(String),
    /// The old instance does not leave, or the rollback does not end: a person is told, and the
    /// reconciler goes on trying.
    #[error("{0}")]
    Stuck(String),
    /// AWS refuses a call for ever.
    #[error("{0}")]
    Rejected(String),
    /// The state machine sent what no phase understands.
    #[error("the state machine and this function disagree: {0}")]
    Protocol(String),
}

impl StepError {
    /// The name that the state machine sees.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::InvalidInput(_) => "InvalidInput",
            Self::GroupNotFound(_) => "GroupNotFound",
            Self::GroupBusy(_) => "GroupBusy",
            Self::ClusterBusy(_) => "ClusterBusy",
            Self::InstanceBusy(_) => "InstanceBusy",
            Self::GroupNotSupported(_) => "GroupNotSupported",
            Self::InvalidSettings(_) => "InvalidSettings",
            Self::Transient(_) | Self::ClusterSilent(_) => "Transient",
            Self::NotAuthorized(_) => "NotAuthorized",
            Self::LeaseLost(_) => "LeaseLost",
            Self::Stuck(_) => "Stuck",
            Self::Rejected(_) => "Rejected",
            Self::Protocol(_) => "Protocol",
        }
    }
}

impl From<StepError> for Diagnostic {
    fn from(error: StepError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: cut(&error.to_string(), LONGEST_CAUSE) }
    }
}

impl From<CallError> for StepError {
    fn from(error: CallError) -> Self {
        let text = error.to_string();
        match error.kind {
            // EC2 is eventually consistent: what is not found yet may be found soon.
            Kind::Retry | Kind::NextPool | Kind::NextSubnet | Kind::NotFound => Self::Transient(text),
            Kind::Denied => Self::NotAuthorized(text),
            Kind::Quota | Kind::Rejected | Kind::ConditionFailed => Self::Rejected(text),
        }
    }
}

impl From<SwapsError> for StepError {
    fn from(error: SwapsError) -> Self {
        match error {
            SwapsError::Busy { on: Leased::Instance(_), .. } => Self::InstanceBusy(error.to_string()),
            SwapsError::Busy { .. } => Self::GroupBusy(error.to_string()),
            SwapsError::LeaseLost { .. } => Self::LeaseLost(error.to_string()),
            SwapsError::Overtaken { .. } => Self::Transient(error.to_string()),
            SwapsError::Malformed { .. } | SwapsError::Unproven { .. } => Self::Stuck(error.to_string()),
            SwapsError::Call(error) => error.into(),
        }
    }
}

impl From<AccountError> for StepError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Unknown(_) | AccountError::Disabled(_) => {
                Self::InvalidInput(format!("account_id: {error}"))
            }
            AccountError::Malformed { .. } | AccountError::Key { .. } => {
                Self::InvalidSettings(error.to_string())
            }
            AccountError::Call(error) => error.into(),
            AccountError::Environment(error) => error.into(),
        }
    }
}

impl From<SettingsError> for StepError {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::Override(error) => Self::InvalidSettings(error.to_string()),
            SettingsError::Call(error) => error.into(),
            SettingsError::Environment(error) => error.into(),
        }
    }
}

impl From<BadEnvironment> for StepError {
    fn from(error: BadEnvironment) -> Self {
        Self::Rejected(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_docs_explain_every_error_that_an_execution_ends_with() {
        let page = include_str!("../../../docs/reference/reasons.md");
        for error in [
            "InvalidInput",
            "GroupNotFound",
            "GroupBusy",
            "ClusterBusy",
            "InstanceBusy",
            "GroupNotSupported",
            "InvalidSettings",
            "Stuck",
        ] {
            assert!(
                page.contains(&format!("`{error}`")),
                "docs/reference/reasons.md does not explain {error}"
            );
        }
    }

    /// `swap.asl.yaml` repeats what is transient; a lost lease ends the execution.
    #[test]
    fn a_recovery_that_another_has_overtaken_looks_again() {
        let on = Leased::Instance("i-0123456789abcdef0".parse().unwrap());
        assert_eq!(StepError::from(SwapsError::Overtaken { on: on.clone() }).name(), "Transient");
        assert_eq!(StepError::from(SwapsError::LeaseLost { on }).name(), "LeaseLost");
    }

    #[test]
    fn a_diagnostic_bears_the_stable_name() {
        let diagnostic = Diagnostic::from(StepError::GroupBusy("group web: in use".into()));
        assert_eq!(diagnostic.error_type, "GroupBusy");
        assert_eq!(diagnostic.error_message, "group web: in use");
    }
}
