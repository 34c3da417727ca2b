//! The registry of accounts: what kind an account is, and how to reach it.

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};
use spot_domain::{AccountId, EnvironmentType};

use crate::clients::{Stack, variable};
use crate::error::{CallError, failed};

/// A role to assume in another account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// The external id that its trust policy asks for.
    pub external_id: Option<String>,
}

/// What the registry says of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// LAB or PROD.
    pub environment_type: EnvironmentType,
    /// How to get in; `None` for the stack's own account.
    pub role: Option<Role>,
}

/// Why an account can't be worked in.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// No row, and not the stack's own.
    #[error("account {0} is not registered: add a row for it to the Accounts table")]
    Unknown(AccountId),
    /// Switched off.
    #[error("account {0} is disabled in the Accounts table (enabled = false)")]
    Disabled(AccountId),
    /// A row that can't be read.
    #[error("account {account_id}: field {field:?} in the Accounts table: {problem}")]
    Malformed {
        /// The row.
        account_id: AccountId,
        /// The attribute.
        field: &'static str,
        /// What would be right.
        problem: String,
    },
    /// The table did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The stack is set up wrong.
    #[error(transparent)]
    Environment(#[from] crate::clients::BadEnvironment),
}

/// Looks an account up. The stack's own needs no row: its parameter `EnvironmentType` stands for it.
///
/// # Errors
/// Unknown, disabled, malformed, or the table does not answer.
pub async fn access(stack: &Stack, account_id: &AccountId) -> Result<Access, AccountError> {
    if account_id == &stack.account_id {
        return Ok(Access { environment_type: stack.environment_type, role: None });
    }
    match registered(stack, account_id).await? {
        Registered { enabled: true, access } => Ok(access),
        Registered { enabled: false, .. } => Err(AccountError::Disabled(account_id.clone())),
    }
}

/// An account's row, also where it is switched off: what was begun there must still be undone.
///
/// # Errors
/// Unknown, malformed, or the table does not answer.
pub async fn access_even_if_disabled(stack: &Stack, account_id: &AccountId) -> Result<Access, AccountError> {
    if account_id == &stack.account_id {
        return Ok(Access { environment_type: stack.environment_type, role: None });
    }
    registered(stack, account_id).await.map(|row| row.access)
}

async fn registered(stack: &Stack, account_id: &AccountId) -> Result<Registered, AccountError> {
    let row = stack
        .dynamodb
        .get_item()
        .table_name(variable::<String>("ACCOUNTS_TABLE")?)
        .key("account_id", AttributeValue::S(account_id.to_string()))
        .consistent_read(true)
        .send()
        .await
        .map_err(failed("dynamodb:GetItem"))?
        .item
        .ok_or_else(|| AccountError::Unknown(account_id.clone()))?;
    parse(account_id, &row)
}

type Row = std::collections::HashMap<String, AttributeValue>;

struct Registered {
    enabled: bool,
    access: Access,
}

fn parse(account_id: &AccountId, row: &Row) -> Result<Registered, AccountError> {
    let malformed =
        |field, problem: String| AccountError::Malformed { account_id: account_id.clone(), field, problem };
    let text = |field| row.get(field).and_then(|v| v.as_s().ok());
    let enabled = match row.get("enabled") {
        None => true,
        Some(AttributeValue::Bool(enabled)) => *enabled,
        Some(_) => return Err(malformed("enabled", "expected true or false (BOOL)".to_owned())),
    };
    let environment_type = text("environment_type")
        .ok_or_else(|| malformed("environment_type", "missing: expected LAB or PROD (S)".to_owned()))?
        .parse()
        .map_err(|e: spot_domain::ids::Malformed| malformed("environment_type", e.to_string()))?;
    let arn = text("role_arn").ok_or_else(|| {
        malformed("role_arn", "missing: expected the ARN of the role to assume (S)".to_owned())
    })?;
    let role = Role { arn: arn.clone(), external_id: text("external_id").cloned() };
    Ok(Registered { enabled, access: Access { environment_type, role: Some(role) } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: &[(&str, AttributeValue)]) -> Row {
        fields.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect()
    }

    #[test]
    fn a_row_without_an_environment_opens_nothing() {
        let account: AccountId = "111111111111".parse().unwrap();
        let s = |text: &str| AttributeValue::S(text.to_owned());
        let good =
            row(&[("environment_type", s("LAB")), ("role_arn", s("arn:aws:iam::111111111111:role/spot"))]);
        assert_eq!(parse(&account, &good).unwrap().access.environment_type, EnvironmentType::Lab);
        let bad = [
            (row(&[("role_arn", s("r"))]), "environment_type"),
            (row(&[("environment_type", s("prod")), ("role_arn", s("r"))]), "environment_type"),
            (row(&[("environment_type", s("PROD"))]), "role_arn"),
            (row(&[("enabled", s("no"))]), "enabled"),
        ];
        for (row, expected) in bad {
            let error = parse(&account, &row).err().unwrap().to_string();
            assert!(error.contains(expected) && error.contains("111111111111"), "{error}");
        }
    }
}
