//! The access to an account: its kind, and the role that opens it.

use spot_domain::EnvironmentType;

/// A role to assume in another account. A role is never serialized: an execution's history keeps everything
/// that steps hand on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// The role's ARN.
    pub arn: String,
    /// The external id that the role's trust policy asks for.
    pub external_id: Option<String>,
}

/// The registry's entry of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// LAB or PROD.
    pub environment_type: EnvironmentType,
    /// The role that opens the account; `None` for the stack's own.
    pub role: Option<Role>,
}
