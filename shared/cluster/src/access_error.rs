//! The reasons why a cluster is not reached, each with the way out.

use spot_domain::ids::ClusterName;
use spot_domain::words::Cause;

use crate::eks_token::TokenError;

/// The reasons why there is no client, each with the way out.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// AWS did not answer, or throttled the call: try again.
    #[error("{of}: {call}: {message}")]
    Retry {
        /// The cluster or the secret.
        of: String,
        /// The API action, as IAM spells it.
        call: &'static str,
        /// The message of AWS or of the SDK.
        #[source]
        message: Cause,
    },
    /// The role lacks a permission: a person must grant `call` on `of`.
    #[error("{of}: permission {call} is missing: {message}")]
    Denied {
        /// The cluster or the secret.
        of: String,
        /// The API action, as IAM spells it.
        call: &'static str,
        /// The message of AWS.
        #[source]
        message: Cause,
    },
    /// The account and region have no such cluster or secret.
    #[error("{of} does not exist in this account and region")]
    NotFound {
        /// The cluster or the secret.
        of: String,
    },
    /// AWS refuses the call for another reason: a person must check.
    #[error("{of}: {call}: {message}")]
    Rejected {
        /// The cluster or the secret.
        of: String,
        /// The API action, as IAM spells it.
        call: &'static str,
        /// The message of AWS.
        #[source]
        message: Cause,
    },
    /// The cluster is being created or deleted, or has failed.
    #[error("cluster {cluster} is {status}, not ACTIVE")]
    NotActive {
        cluster: ClusterName,
        /// The status of the cluster, as EKS spells it.
        status: String,
    },
    /// The secret holds no kubeconfig that works without files and programs.
    #[error("secret {secret}: {problem}")]
    Kubeconfig {
        /// The ARN of the secret.
        secret: String,
        /// The problem of the kubeconfig, and the fix.
        #[source]
        problem: Cause,
    },
    /// The API server can't be reached from here, and waiting would not help.
    #[error("{of}: {problem}")]
    Unreachable {
        of: String,
        /// The problem and the way out.
        #[source]
        problem: Cause,
    },
    /// No server answers at the API server's address. If the silence passes, the same call succeeds later; if
    /// it stays, a person must act.
    #[error("{of}: {problem}")]
    Silent {
        /// The cluster or the secret.
        of: String,
        /// The secret that names the address; `None` for EKS.
        secret: Option<String>,
        /// The cause if the silence stays, and the way out.
        #[source]
        problem: Cause,
    },
    /// The API server does not know the caller.
    #[error("{of}: {problem}")]
    NotLetIn {
        /// The cluster or the secret.
        of: String,
        /// The problem and the way out.
        #[source]
        problem: Cause,
    },
    /// The client could not be built from the data of AWS.
    #[error("{of}: {problem}")]
    Client {
        /// The cluster or the secret.
        of: String,
        #[source]
        problem: Cause,
    },
    /// The token could not be signed.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl AccessError {
    /// Returns true if the same call may succeed later (also for a cluster that is being updated).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Retry { .. } | Self::NotActive { .. })
    }
}
