//! The registry of accounts: the kind of each account, and the role that opens it.

use spot_domain::words::Cause;
use spot_domain::{AccountId, EnvironmentType, Region};

use crate::access::Access;
use crate::clients::Stack;
use crate::environment::{BadEnvironment, variable};
use crate::error::{CallError, failed};
use crate::tables::row::{Row, key, text_in};
use account_row::AccountRow;

mod account_row;

/// The key of a row (S).
const ACCOUNT_ID: &str = "account_id";

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
        field: String,
        /// The fault of the attribute or its value, and what is expected.
        #[source]
        problem: Cause,
    },
    /// A row whose key is no account id.
    #[error("row {key:?} of the Accounts table: {error}")]
    Key {
        /// The key.
        key: String,
        /// The fault of the key.
        #[source]
        error: spot_domain::ids::MalformedText,
    },
    /// The table did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The stack's environment is incomplete or malformed.
    #[error(transparent)]
    Environment(#[from] BadEnvironment),
}

/// Returns the registry's entry of an account. The stack's own account needs no row: the stack's parameter
/// `EnvironmentType` stands for it.
///
/// # Errors
/// The account is unknown or disabled, its row is malformed, or the table does not answer.
pub async fn access(stack: &Stack, account_id: &AccountId) -> Result<Access, AccountError> {
    if account_id == &stack.account_id {
        return Ok(stack.own_access());
    }
    let row = registered(stack, account_id).await?;
    row.require_enabled()?.require_spelled()?.require_no_member()?.access()
}

/// Returns an account's entry, also if an attribute of its row is misspelt: an interruption there poisons its pool for all
/// others.
///
/// # Errors
/// The account is unknown or disabled, a field of its row is malformed, or the table does not answer.
pub async fn access_to_learn(stack: &Stack, account_id: &AccountId) -> Result<Access, AccountError> {
    if account_id == &stack.account_id {
        return Ok(stack.own_access());
    }
    registered(stack, account_id).await?.require_enabled()?.require_no_member()?.access()
}

/// Returns an account's entry, also if the account is switched off: a swap that began there must still be
/// undone.
///
/// # Errors
/// The account is unknown, its row is malformed, or the table does not answer.
pub async fn access_even_if_disabled(stack: &Stack, account_id: &AccountId) -> Result<Access, AccountError> {
    if account_id == &stack.account_id {
        return Ok(stack.own_access());
    }
    registered(stack, account_id).await?.access()
}

/// Returns the kind of an account, without a role to open it: a hub believes its members without one. The
/// registry decides, whatever an event claims. A misspelt attribute counts for nothing here, as in
/// [`access_to_learn`].
///
/// # Errors
/// The account is unknown or disabled, a field of its row is malformed, or the table does not answer.
pub async fn environment(stack: &Stack, account_id: &AccountId) -> Result<EnvironmentType, AccountError> {
    if account_id == &stack.account_id {
        return Ok(stack.environment_type);
    }
    registered(stack, account_id).await?.require_enabled()?.environment_type()
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
        let key = text_in(&row, ACCOUNT_ID).cloned().unwrap_or_default();
        own_has_row |= key == stack.account_id.as_str();
        let id = key.parse().map_err(|error| AccountError::Key { key: key.clone(), error });
        match id.and_then(|id| visited_unless_member(stack, &AccountRow::parse(id, &row))) {
            Ok(None) | Err(AccountError::Disabled(_)) => {}
            Ok(Some(account)) => accounts.push(Ok(account)),
            Err(error) => accounts.push(Err(error)),
        }
    }
    if !own_has_row {
        accounts.push(Ok(own_account(stack)));
    }
    Ok(accounts)
}

/// Returns one account, as [`enabled`] lists it.
///
/// # Errors
/// The account is unknown or disabled, its row is malformed, or the table does not answer.
pub async fn find(stack: &Stack, id: &AccountId) -> Result<Account, AccountError> {
    match row_of(stack, id).await? {
        Some(row) => visited(stack, &row),
        None if id == &stack.account_id => Ok(own_account(stack)),
        None => Err(AccountError::Unknown(id.clone())),
    }
}

fn visited_unless_member(stack: &Stack, row: &AccountRow) -> Result<Option<Account>, AccountError> {
    if row.is_member()? {
        return row.require_enabled()?.require_spelled().map(|_| None);
    }
    visited(stack, row).map(Some)
}

fn visited(stack: &Stack, row: &AccountRow) -> Result<Account, AccountError> {
    let own = (row.id == stack.account_id).then(|| stack.own_access());
    row.account(own, &stack.region)
}

/// Reads the row of an enabled account in another account than the stack's. `home` is the region that is visited unless
/// the row lists others.
///
/// # Errors
/// The account is disabled, or its row is malformed.
pub fn read(id: &AccountId, row: &Row, home: &Region) -> Result<Account, AccountError> {
    AccountRow::parse(id.clone(), row).account(None, home)
}

/// Returns the stack's own account, as it is visited without a row.
fn own_account(stack: &Stack) -> Account {
    let regions = Regions::Listed(vec![stack.region.clone()]);
    Account { id: stack.account_id.clone(), access: stack.own_access(), regions, auto_terminate: false }
}

async fn registered(stack: &Stack, id: &AccountId) -> Result<AccountRow, AccountError> {
    row_of(stack, id).await?.ok_or_else(|| AccountError::Unknown(id.clone()))
}

async fn row_of(stack: &Stack, id: &AccountId) -> Result<Option<AccountRow>, AccountError> {
    let answer = stack
        .dynamodb
        .get_item()
        .table_name(variable::<String>("ACCOUNTS_TABLE")?)
        .set_key(Some(key([(ACCOUNT_ID, id.as_str())])))
        .consistent_read(true)
        .send()
        .await
        .map_err(failed("dynamodb:GetItem"))?;
    Ok(answer.item.map(|row| AccountRow::parse(id.clone(), &row)))
}
