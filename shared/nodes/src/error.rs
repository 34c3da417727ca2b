//! The conversion of a failed call to a cluster into a step's error, by the names that the state machine knows.

use spot_cluster::access::AccessError;
use spot_cluster::error::{ClusterError, Kind};
use spot_domain::words::Cause;
use spot_swap::error::StepError;

/// Converts a failed call to an API server into the step's error, for `map_err`.
#[must_use]
pub fn failed(error: ClusterError) -> StepError {
    let of = match error.kind {
        Kind::NotFound | Kind::Conflict => StepError::Transient,
        // A token may have expired during the step: the next step mints a new one.
        Kind::Retry | Kind::Unauthorized => StepError::ClusterSilent,
        Kind::Denied => {
            let words = format!(
                "{error}; functions/kubernetes-optimizer/access.yaml grants what is needed: kubectl apply -f it"
            );
            return StepError::NotAuthorized(Cause::in_words(words, error));
        }
        Kind::Rejected => StepError::Rejected,
    };
    of(Cause::of(error))
}

/// Converts a failure to reach a cluster into the step's error, for `map_err`.
#[must_use]
pub fn no_access(error: AccessError) -> StepError {
    match error {
        AccessError::NotFound { .. }
        | AccessError::Unreachable { .. }
        | AccessError::Silent { secret: None, .. } => {
            StepError::InvalidInput(Cause::in_words(format!("cluster_name: {error}"), error))
        }
        AccessError::Denied { .. } | AccessError::NotLetIn { .. } => {
            StepError::NotAuthorized(Cause::of(error))
        }
        AccessError::Kubeconfig { .. } | AccessError::Silent { secret: Some(_), .. } => {
            StepError::InvalidSettings(Cause::in_words(format!("kubeconfig_secrets: {error}"), error))
        }
        error if error.is_retryable() => StepError::ClusterSilent(Cause::of(error)),
        error => StepError::Rejected(Cause::of(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_ends_a_step_by_what_may_be_done_about_it() {
        for (kind, name) in [
            (Kind::Retry, "Transient"),
            (Kind::Unauthorized, "Transient"),
            (Kind::NotFound, "Transient"),
            (Kind::Conflict, "Transient"),
            (Kind::Denied, "NotAuthorized"),
            (Kind::Rejected, "Rejected"),
        ] {
            let (object, reason, message) = ("node-1".to_owned(), "Because".to_owned(), "no".to_owned());
            let error =
                failed(ClusterError { call: "patch nodes", object, kind, reason, message, source: None });
            assert_eq!(error.name(), name, "{kind:?}");
            assert!(error.to_string().starts_with("patch nodes node-1: Because: no"), "{error}");
            let tells_the_way_out = error.to_string().contains("kubectl apply");
            assert_eq!(tells_the_way_out, kind == Kind::Denied, "{error}");
            let is_silence = matches!(error, StepError::ClusterSilent(_));
            assert_eq!(is_silence, matches!(kind, Kind::Retry | Kind::Unauthorized), "{kind:?}");
        }
    }

    #[test]
    fn a_cluster_that_cannot_be_entered_names_what_to_mend() {
        let of = || "cluster shop".to_owned();
        let (call, message) = ("eks:DescribeCluster", || Cause::from(""));
        let silent = |secret: Option<&str>| AccessError::Silent {
            of: of(),
            secret: secret.map(str::to_owned),
            problem: message(),
        };
        let status = "UPDATING".to_owned();
        for (error, name, begins) in [
            (AccessError::NotFound { of: of() }, "InvalidInput", "cluster_name: "),
            (AccessError::Unreachable { of: of(), problem: message() }, "InvalidInput", "cluster_name: "),
            (silent(None), "InvalidInput", "cluster_name: "),
            (silent(Some("kubeconfig")), "InvalidSettings", "kubeconfig_secrets: "),
            (
                AccessError::Kubeconfig { secret: "kubeconfig".to_owned(), problem: message() },
                "InvalidSettings",
                "kubeconfig_secrets: ",
            ),
            (AccessError::Denied { of: of(), call, message: message() }, "NotAuthorized", "cluster shop: "),
            (AccessError::NotLetIn { of: of(), problem: message() }, "NotAuthorized", "cluster shop: "),
            (AccessError::Retry { of: of(), call, message: message() }, "Transient", "cluster shop: "),
            (
                AccessError::NotActive { cluster: "shop".parse().unwrap(), status },
                "Transient",
                "cluster shop ",
            ),
            (AccessError::Rejected { of: of(), call, message: message() }, "Rejected", "cluster shop: "),
            (AccessError::Client { of: of(), problem: message() }, "Rejected", "cluster shop: "),
        ] {
            let error = no_access(error);
            assert_eq!(error.name(), name, "{error}");
            assert!(error.to_string().starts_with(begins), "{error}");
        }
    }
}
