//! How a step fails. The names are a contract with `swap.asl.yaml`: its Retry and Catch match on
//! them, and an execution that fails bears one of them.

use lambda_runtime::Diagnostic;
use spot_cloud::environment::BadEnvironment;
use spot_cloud::tables::accounts::AccountError;
use spot_cloud::tables::settings::SettingsError;
use spot_cloud::tables::swaps::{Leased, SwapsError};
use spot_cloud::{CallError, Kind};
use spot_domain::words::{Cause, LONGEST_CAUSE, cut};

/// A step that failed: by its name, and with the error behind it.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The execution's input can't be meant. Nothing was changed.
    #[error(transparent)]
    InvalidInput(Cause),
    /// There is no such group. Nothing was changed.
    #[error(transparent)]
    GroupNotFound(Cause),
    /// Somebody else works on the group. Nothing was changed.
    #[error(transparent)]
    GroupBusy(Cause),
    /// As many nodes of the cluster are being swapped as may be at a time. Nothing was changed.
    #[error(transparent)]
    ClusterBusy(Cause),
    /// Another execution swaps the instance. Nothing was changed.
    #[error(transparent)]
    InstanceBusy(Cause),
    /// A group that we don't touch. Nothing was changed.
    #[error(transparent)]
    GroupNotSupported(Cause),
    /// The Settings table holds what can't be applied. Nothing was changed.
    #[error(transparent)]
    InvalidSettings(Cause),
    /// The same step may go through later.
    #[error(transparent)]
    Transient(Cause),
    /// The cluster's API server does not answer, or does not know us: the same step may go through later.
    #[error(transparent)]
    ClusterSilent(Cause),
    /// A permission is missing.
    #[error(transparent)]
    NotAuthorized(Cause),
    /// The lease is gone: the reconciler has put the group right, or is about to.
    #[error(transparent)]
    LeaseLost(Cause),
    /// The old instance does not leave, or the rollback does not end: a person is told, and the
    /// reconciler goes on trying.
    #[error(transparent)]
    Stuck(Cause),
    /// AWS refuses a call for ever.
    #[error(transparent)]
    Rejected(Cause),
    /// The state machine sent what no phase understands.
    #[error("the state machine and this function disagree: {0}")]
    Protocol(#[source] Cause),
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
        let of = match error.kind {
            // EC2 is eventually consistent: what is not found yet may be found soon.
            Kind::Retry | Kind::NextPool | Kind::NextSubnet | Kind::NotFound => Self::Transient,
            Kind::Denied => Self::NotAuthorized,
            Kind::Quota | Kind::Rejected | Kind::ConditionFailed => Self::Rejected,
        };
        of(Cause::of(error))
    }
}

impl From<SwapsError> for StepError {
    fn from(error: SwapsError) -> Self {
        let of = match error {
            SwapsError::Busy { on: Leased::Instance(_), .. } => Self::InstanceBusy,
            SwapsError::Busy { .. } => Self::GroupBusy,
            SwapsError::LeaseLost { .. } => Self::LeaseLost,
            SwapsError::Overtaken { .. } => Self::Transient,
            SwapsError::Malformed { .. } | SwapsError::Unproven { .. } | SwapsError::Unfinished { .. } => {
                Self::Stuck
            }
            SwapsError::Call(error) => return error.into(),
        };
        of(Cause::of(error))
    }
}

impl From<AccountError> for StepError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Unknown(_) | AccountError::Disabled(_) => {
                Self::InvalidInput(Cause::in_words(format!("account_id: {error}"), error))
            }
            AccountError::Malformed { .. } | AccountError::Key { .. } => {
                Self::InvalidSettings(Cause::of(error))
            }
            AccountError::Call(error) => error.into(),
            AccountError::Environment(error) => error.into(),
        }
    }
}

impl From<SettingsError> for StepError {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::Override(error) => Self::InvalidSettings(Cause::of(error)),
            SettingsError::Call(error) => error.into(),
            SettingsError::Environment(error) => error.into(),
        }
    }
}

impl From<BadEnvironment> for StepError {
    fn from(error: BadEnvironment) -> Self {
        Self::Rejected(Cause::of(error))
    }
}

#[cfg(test)]
mod tests {
    use spot_domain::words::chain;

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
    fn every_error_of_a_layer_below_is_kept_and_said_once() {
        let call = || CallError::malformed("ec2:RunInstances", "no instance");
        let on = Leased::Instance("i-0123456789abcdef0".parse().unwrap());
        let unknown = AccountError::Unknown("111111111111".parse().unwrap());
        let is_call = |cause: &Cause| cause.downcast_ref::<CallError>().is_some();
        for (error, is_kept) in [
            (StepError::from(call()), is_call as fn(&Cause) -> bool),
            (StepError::from(SwapsError::Call(call())), is_call),
            (StepError::from(SwapsError::LeaseLost { on }), |cause| {
                cause.downcast_ref::<SwapsError>().is_some()
            }),
            (StepError::from(unknown), |cause| {
                let field = cause.source().and_then(|source| source.downcast_ref::<AccountError>());
                field.is_some()
                    && cause.to_string().starts_with("account_id: account 111111111111 is not registered")
            }),
        ] {
            let (StepError::Rejected(cause) | StepError::LeaseLost(cause) | StepError::InvalidInput(cause)) =
                &error
            else {
                panic!("{error}")
            };
            assert!(is_kept(cause), "{error:?}");
            assert_eq!(chain(&error), error.to_string(), "said once");
        }
    }

    #[test]
    fn a_diagnostic_bears_the_stable_name() {
        let diagnostic = Diagnostic::from(StepError::GroupBusy("group web: in use".into()));
        assert_eq!(diagnostic.error_type, "GroupBusy");
        assert_eq!(diagnostic.error_message, "group web: in use");
    }
}
