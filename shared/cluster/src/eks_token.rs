//! The token that EKS takes: a presigned `sts:GetCallerIdentity`, in base64
//! (<https://github.com/kubernetes-sigs/aws-iam-authenticator#api-authorization-from-outside-a-cluster>).

use aws_credential_types::Credentials;
use jiff::Timestamp;
use secrecy::SecretString;
use spot_domain::Region;
use spot_domain::ids::ClusterName;

/// The signer refused.
#[derive(Debug, thiserror::Error)]
#[error("token for cluster {cluster}: {problem}")]
pub struct TokenError {
    /// The cluster.
    pub cluster: ClusterName,
    /// What the signer said; holds no secret.
    pub problem: String,
}

/// A bearer token for `cluster`, valid for 15 minutes from `now`. Pure.
pub fn token(
    credentials: &Credentials,
    region: &Region,
    cluster: &ClusterName,
    now: Timestamp,
) -> Result<SecretString, TokenError> {
    todo!("{credentials:?} {region} {cluster} {now}")
}
