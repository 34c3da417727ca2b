//! The registry of accounts: the kind of each account, and the role that opens it.

use aws_sdk_dynamodb::types::AttributeValue;
use spot_domain::{AccountId, EnvironmentType, Region};

use crate::clients::{Stack, variable};
use crate::error::{CallError, failed};
use crate::tables::Row;

/// The value of `regions` that stands for all regions that the account has enabled.
const ALL_REGIONS: &str = "*";

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

/// The reason for which an account can't be worked in.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The account has no row and is not the stack's own.
    #[error("account {0} is not registered: add a row for it to the Accounts table")]
    Unknown(AccountId),
    /// The account is switched off.
    #[error("account {0} is disabled in the Accounts table (enabled = false)")]
    Disabled(AccountId),
    /// A row that can't be read.
    #[error("account {account_id}: field {field:?} in the Accounts table: {problem}")]
    Malformed {
        /// The row.
        account_id: AccountId,
        /// The attribute.
        field: &'static str,
        /// The fault of the value, and what is expected.
        problem: String,
    },
    /// A row whose key is no account id.
    #[error("row {key:?} of the Accounts table: {error}")]
    Key {
        /// The key.
        key: String,
        /// The fault of the key.
        error: spot_domain::ids::MalformedText,
    },
    /// The table did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The stack's environment is incomplete or malformed.
    #[error(transparent)]
    Environment(#[from] crate::clients::BadEnvironment),
}

/// Returns the registry's entry of an account. The stack's own account needs no row: the stack's parameter
/// `EnvironmentType` stands for it.
///
/// # Errors
/// The account is unknown or disabled, its row is malformed, or the table does not answer.
pub async fn access(stack: &Stack, account_id: &AccountId) -> Result<Access, AccountError> {
    if account_id == &stack.account_id {
        return Ok(Access { environment_type: stack.environment_type, role: None });
    }
    let row = row_of(stack, account_id).await?.ok_or_else(|| AccountError::Unknown(account_id.clone()))?;
    check_enabled(account_id, &row)?;
    check_not_member(account_id, &row)?;
    parse(account_id, &row)
}

/// Returns an account's entry, also if the account is switched off: a swap that began there must still be
/// undone.
///
/// # Errors
/// The account is unknown, its row is malformed, or the table does not answer.
pub async fn access_even_if_disabled(stack: &Stack, account_id: &AccountId) -> Result<Access, AccountError> {
    if account_id == &stack.account_id {
        return Ok(Access { environment_type: stack.environment_type, role: None });
    }
    let row = row_of(stack, account_id).await?.ok_or_else(|| AccountError::Unknown(account_id.clone()))?;
    parse(account_id, &row)
}

/// Returns the kind of an account, without a role to open it: a hub believes its members without one. The
/// registry decides, whatever an event claims.
///
/// # Errors
/// The account is unknown or disabled, its row is malformed, or the table does not answer.
pub async fn environment(stack: &Stack, account_id: &AccountId) -> Result<EnvironmentType, AccountError> {
    if account_id == &stack.account_id {
        return Ok(stack.environment_type);
    }
    let row = row_of(stack, account_id).await?.ok_or_else(|| AccountError::Unknown(account_id.clone()))?;
    check_enabled(account_id, &row)?;
    environment_type(account_id, &row)
}

/// An account that the scheduled functions visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The account's id.
    pub id: AccountId,
    /// The role that opens the account.
    pub access: Access,
    /// The regions to visit; by default the stack's own.
    pub regions: Regions,
    /// The security enforcer may terminate here. Off unless the row says otherwise.
    pub auto_terminate: bool,
}

/// The regions of an account that are visited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Regions {
    /// The regions that the row lists.
    Listed(Vec<Region>),
    /// All regions that the account has enabled: the row says `*`.
    AllEnabled,
}

impl Regions {
    /// Returns true if the row asks for the region, by name or by `*`.
    #[must_use]
    pub fn ask_for(&self, region: &Region) -> bool {
        match self {
            Self::Listed(regions) => regions.contains(region),
            Self::AllEnabled => true,
        }
    }
}

/// Returns every enabled account: the rows of the registry and, with or without a row, the stack's own.
///
/// A row that can't be read is returned as its error, beside the others. A hub's members (`member` = true)
/// run a stack of their own, and are not visited.
///
/// # Errors
/// The table does not answer.
pub async fn enabled(stack: &Stack) -> Result<Vec<Result<Account, AccountError>>, AccountError> {
    let mut rows = stack
        .dynamodb
        .scan()
        .table_name(variable::<String>("ACCOUNTS_TABLE")?)
        .consistent_read(true)
        .into_paginator()
        .items()
        .send();
    let (mut accounts, mut own_has_row) = (Vec::new(), false);
    while let Some(row) = rows.next().await {
        let row = row.map_err(failed("dynamodb:Scan"))?;
        let key = row.get("account_id").and_then(|v| v.as_s().ok()).cloned().unwrap_or_default();
        own_has_row |= key == stack.account_id.as_str();
        let id = key.parse().map_err(|error| AccountError::Key { key: key.clone(), error });
        match id.and_then(|id| visited_unless_member(stack, &id, &row)) {
            Ok(None) | Err(AccountError::Disabled(_)) => {}
            Ok(Some(account)) => accounts.push(Ok(account)),
            Err(error) => accounts.push(Err(error)),
        }
    }
    if !own_has_row {
        accounts.push(visited(stack, &stack.account_id, None));
    }
    Ok(accounts)
}

/// Returns one account, as [`enabled`] lists it.
///
/// # Errors
/// The account is unknown or disabled, its row is malformed, or the table does not answer.
pub async fn find(stack: &Stack, id: &AccountId) -> Result<Account, AccountError> {
    visited(stack, id, row_of(stack, id).await?.as_ref())
}

fn visited_unless_member(stack: &Stack, id: &AccountId, row: &Row) -> Result<Option<Account>, AccountError> {
    if is_member(id, row)? { Ok(None) } else { visited(stack, id, Some(row)).map(Some) }
}

fn visited(stack: &Stack, id: &AccountId, row: Option<&Row>) -> Result<Account, AccountError> {
    let own = Access { environment_type: stack.environment_type, role: None };
    let Some(row) = row else {
        if id != &stack.account_id {
            return Err(AccountError::Unknown(id.clone()));
        }
        let regions = Regions::Listed(vec![stack.region.clone()]);
        return Ok(Account { id: id.clone(), access: own, regions, auto_terminate: false });
    };
    read(id, row, (id == &stack.account_id).then_some(own), &stack.region)
}

/// Reads the row of an enabled account. `own` is the access to the stack's own account, which needs no role; `home` is
/// the region that is visited unless the row lists others.
///
/// # Errors
/// The account is disabled, or its row is malformed.
pub fn read(id: &AccountId, row: &Row, own: Option<Access>, home: &Region) -> Result<Account, AccountError> {
    check_enabled(id, row)?;
    let access = own.map_or_else(|| parse(id, row), Ok)?;
    let regions = regions(id, row)?.unwrap_or_else(|| Regions::Listed(vec![home.clone()]));
    Ok(Account { id: id.clone(), access, regions, auto_terminate: auto_terminate(id, row)? })
}

/// Parses `regions`: a set or a list of texts, or `*` alone for all that are enabled; `None` if absent.
fn regions(id: &AccountId, row: &Row) -> Result<Option<Regions>, AccountError> {
    let malformed =
        |problem: String| AccountError::Malformed { account_id: id.clone(), field: "regions", problem };
    let texts: Vec<&String> = match row.get("regions") {
        None => return Ok(None),
        Some(AttributeValue::Ss(set)) => set.iter().collect(),
        Some(AttributeValue::L(list)) => list
            .iter()
            .map(|v| v.as_s().map_err(|_| malformed("expected texts in the list".to_owned())))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(malformed("expected a set or list of regions (SS or L)".to_owned())),
    };
    if texts.iter().any(|text| *text == ALL_REGIONS) {
        let problem = || malformed(format!("{ALL_REGIONS:?} means all enabled regions, and stands alone"));
        return if texts.len() == 1 { Ok(Some(Regions::AllEnabled)) } else { Err(problem()) };
    }
    let mut regions: Vec<Region> = texts
        .into_iter()
        .map(|text| text.parse().map_err(|e: spot_domain::ids::MalformedText| malformed(e.to_string())))
        .collect::<Result<_, _>>()?;
    regions.sort();
    regions.dedup();
    if regions.is_empty() {
        return Err(malformed("empty: name at least one, or disable the account".to_owned()));
    }
    Ok(Some(Regions::Listed(regions)))
}

/// Parses `auto_terminate`: only a plain `true` switches it on, and any type but BOOL is an error.
fn auto_terminate(id: &AccountId, row: &Row) -> Result<bool, AccountError> {
    flag(id, row, "auto_terminate").map(Option::unwrap_or_default)
}

/// Parses `member`: true for a hub's member, which runs a stack of its own and needs no role here.
fn is_member(id: &AccountId, row: &Row) -> Result<bool, AccountError> {
    flag(id, row, "member").map(Option::unwrap_or_default)
}

fn check_not_member(id: &AccountId, row: &Row) -> Result<(), AccountError> {
    if is_member(id, row)? {
        let problem = "true: work in the account from its own stack".to_owned();
        return Err(AccountError::Malformed { account_id: id.clone(), field: "member", problem });
    }
    Ok(())
}

fn flag(id: &AccountId, row: &Row, field: &'static str) -> Result<Option<bool>, AccountError> {
    match row.get(field) {
        None => Ok(None),
        Some(AttributeValue::Bool(on)) => Ok(Some(*on)),
        Some(_) => Err(AccountError::Malformed {
            account_id: id.clone(),
            field,
            problem: "expected true or false (BOOL)".to_owned(),
        }),
    }
}

async fn row_of(stack: &Stack, account_id: &AccountId) -> Result<Option<Row>, AccountError> {
    let answer = stack
        .dynamodb
        .get_item()
        .table_name(variable::<String>("ACCOUNTS_TABLE")?)
        .key("account_id", AttributeValue::S(account_id.to_string()))
        .consistent_read(true)
        .send()
        .await
        .map_err(failed("dynamodb:GetItem"))?;
    Ok(answer.item)
}

fn check_enabled(account_id: &AccountId, row: &Row) -> Result<(), AccountError> {
    match flag(account_id, row, "enabled")? {
        None | Some(true) => Ok(()),
        Some(false) => Err(AccountError::Disabled(account_id.clone())),
    }
}

fn environment_type(account_id: &AccountId, row: &Row) -> Result<EnvironmentType, AccountError> {
    let field = "environment_type";
    let malformed = |problem| AccountError::Malformed { account_id: account_id.clone(), field, problem };
    row.get(field)
        .and_then(|v| v.as_s().ok())
        .ok_or_else(|| malformed("missing: expected LAB or PROD (S)".to_owned()))?
        .parse()
        .map_err(|e: spot_domain::ids::MalformedText| malformed(e.to_string()))
}

fn parse(account_id: &AccountId, row: &Row) -> Result<Access, AccountError> {
    let malformed =
        |field, problem: String| AccountError::Malformed { account_id: account_id.clone(), field, problem };
    let text = |field| row.get(field).and_then(|v| v.as_s().ok());
    let environment_type = environment_type(account_id, row)?;
    let arn = text("role_arn").ok_or_else(|| {
        malformed("role_arn", "missing: expected the ARN of the role to assume (S)".to_owned())
    })?;
    // Another account's role would open another account, under this one's environment.
    if arn.split(':').nth(4) != Some(account_id.as_str()) {
        return Err(malformed("role_arn", format!("{arn:?} is no role of this account")));
    }
    let role = Role { arn: arn.clone(), external_id: text("external_id").cloned() };
    Ok(Access { environment_type, role: Some(role) })
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
        assert_eq!(parse(&account, &good).unwrap().environment_type, EnvironmentType::Lab);
        let bad = [
            (row(&[("role_arn", s("r"))]), "environment_type"),
            (row(&[("environment_type", s("prod")), ("role_arn", s("r"))]), "environment_type"),
            (row(&[("environment_type", s("PROD"))]), "role_arn"),
            (
                row(&[
                    ("environment_type", s("LAB")),
                    ("role_arn", s("arn:aws:iam::222222222222:role/spot")),
                ]),
                "role_arn",
            ),
            (row(&[("enabled", AttributeValue::Bool(false))]), "disabled"),
            (row(&[("enabled", s("no"))]), "enabled"),
            (row(&[("environment_type", s("PROD")), ("member", AttributeValue::Bool(true))]), "own stack"),
            (row(&[("environment_type", s("PROD")), ("member", s("true"))]), "member"),
        ];
        for (row, expected) in bad {
            let error = check_enabled(&account, &row)
                .and_then(|()| check_not_member(&account, &row))
                .and_then(|()| parse(&account, &row))
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected) && error.contains("111111111111"), "{error}");
        }
    }

    #[test]
    fn regions_and_auto_terminate_are_read_strictly() {
        let account: AccountId = "111111111111".parse().unwrap();
        let s = |text: &str| AttributeValue::S(text.to_owned());
        let set = AttributeValue::Ss(vec!["us-west-2".into(), "us-east-1".into(), "us-west-2".into()]);
        let good = row(&[("regions", set), ("auto_terminate", AttributeValue::Bool(true))]);
        let listed = ["us-east-1", "us-west-2"].map(|region| region.parse().unwrap());
        assert_eq!(regions(&account, &good).unwrap(), Some(Regions::Listed(listed.to_vec())));
        assert!(auto_terminate(&account, &good).unwrap());
        assert!(!auto_terminate(&account, &row(&[])).unwrap());
        assert_eq!(regions(&account, &row(&[])).unwrap(), None);
        for all in [AttributeValue::Ss(vec!["*".into()]), AttributeValue::L(vec![s("*")])] {
            assert_eq!(regions(&account, &row(&[("regions", all)])).unwrap(), Some(Regions::AllEnabled));
        }
        for odd in [s("us-east-1"), s("*"), AttributeValue::L(vec![]), AttributeValue::L(vec![s("Narnia")])] {
            assert!(regions(&account, &row(&[("regions", odd)])).is_err());
        }
        for mixed in [vec!["*", "us-east-1"], vec!["us-*"]] {
            let set = AttributeValue::Ss(mixed.into_iter().map(str::to_owned).collect());
            let error = regions(&account, &row(&[("regions", set)])).unwrap_err().to_string();
            assert!(error.contains("\"regions\"") && error.contains('*'), "{error}");
        }
        for odd in [s("true"), AttributeValue::N("1".into())] {
            assert!(auto_terminate(&account, &row(&[("auto_terminate", odd)])).is_err());
        }
    }
}
