//! A client for a cluster's API server: of EKS, or by a kubeconfig kept in Secrets Manager.
//!
//! The client retries nothing by itself and gives up on a silent server after 10 s: its caller
//! decides.

use aws_types::SdkConfig;
use kube::Client;
use spot_domain::ids::ClusterName;

use crate::eks_token::TokenError;

/// No client, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// AWS did not answer, or throttled: try again.
    #[error("{of}: {call}: {message}")]
    Retry {
        /// The cluster or the secret.
        of: String,
        /// The API action, as IAM spells it.
        call: &'static str,
        /// What AWS or the SDK said.
        message: String,
    },
    /// A permission is missing: a person must grant `call` on `of`.
    #[error("{of}: permission {call} is missing: {message}")]
    Denied {
        /// The cluster or the secret.
        of: String,
        /// The API action, as IAM spells it.
        call: &'static str,
        /// What AWS said.
        message: String,
    },
    /// There is no such cluster or secret in this account and region.
    #[error("{of} does not exist in this account and region")]
    NotFound {
        /// The cluster or the secret.
        of: String,
    },
    /// AWS refuses the call for another reason: a person must look.
    #[error("{of}: {call}: {message}")]
    Rejected {
        /// The cluster or the secret.
        of: String,
        /// The API action, as IAM spells it.
        call: &'static str,
        /// What AWS said.
        message: String,
    },
    /// The cluster is being created, updated, deleted, or has failed.
    #[error("cluster {cluster} is {status}, not ACTIVE")]
    NotActive {
        /// The cluster.
        cluster: ClusterName,
        /// EKS's word for its state.
        status: String,
    },
    /// The secret holds no kubeconfig that works without files and programs.
    #[error("secret {secret}: {problem}")]
    Kubeconfig {
        /// The secret's ARN.
        secret: String,
        /// What to change in it.
        problem: String,
    },
    /// The client could not be built from what AWS said.
    #[error("{of}: {problem}")]
    Client {
        /// The cluster or the secret.
        of: String,
        /// What is wrong.
        problem: String,
    },
    /// The token could not be signed.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl AccessError {
    /// Whether the same call may go through later (also a cluster that is being updated).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        todo!()
    }
}

/// A client for an EKS cluster, with a token minted now (valid for 15 minutes): make a new client
/// for each invocation.
///
/// # Errors
/// See [`AccessError`]. The client is not tried: a missing access entry shows at the first call,
/// as [`Kind::Unauthorized`](crate::Kind::Unauthorized).
pub async fn eks(config: &SdkConfig, cluster: &ClusterName) -> Result<Client, AccessError> {
    todo!("{config:?} {cluster}")
}

/// A client by the kubeconfig that the secret holds as text. It must be self-contained: data
/// instead of paths, a token or a client certificate instead of an `exec` plugin, since a Lambda
/// has neither files nor programs.
pub async fn kubeconfig(config: &SdkConfig, secret_arn: &str) -> Result<Client, AccessError> {
    todo!("{config:?} {secret_arn}")
}
