//! Where a scheduled function works: every enabled account and region, or what its input names.
//!
//! All settings are read before anything is looked at: one that can't be applied stops the run.

use std::fmt;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use spot_domain::settings::Settings;
use spot_domain::{AccountId, Region};

use crate::accounts::{self, Access, Account, AccountError};
use crate::clients::Stack;
use crate::error::CallError;
use crate::settings::{self, SettingsError};

/// Settings read at a time.
const SIDE_BY_SIDE: usize = 8;

/// One account and region.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The account.
    pub account_id: AccountId,
    /// The region.
    pub region: Region,
}

impl Place {
    /// The partition that its rows have in the tables: `account#region`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}#{}", self.account_id, self.region)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "account {}, {}", self.account_id, self.region)
    }
}

/// A place to be looked at, and what holds there.
#[derive(Debug, Clone)]
pub struct Visit {
    /// Where.
    pub place: Place,
    /// How to get in.
    pub access: Access,
    /// The settings there.
    pub settings: Settings,
    /// Whether the security enforcer may terminate there.
    pub auto_terminate: bool,
}

/// What a run looks at.
#[derive(Debug)]
pub struct Plan {
    /// Every account and region.
    pub visits: Vec<Visit>,
    /// Accounts whose row can't be read: the others are visited all the same.
    pub unreadable: Vec<AccountError>,
}

/// Why a run can't begin.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The input names a region that nobody asked to have looked at.
    #[error("region {0}: no enabled account lists it; name an account_id, or add it to a row's regions")]
    Nowhere(Region),
    /// The account that the input names is unknown, disabled, or its row can't be read.
    #[error(transparent)]
    Account(AccountError),
    /// A setting can't be applied.
    #[error(transparent)]
    Settings(SettingsError),
    /// A table does not answer.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl PlanError {
    /// The name that logs and metrics know it by.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Nowhere(_) => "InvalidInput",
            Self::Account(_) => "AccountUnknown",
            Self::Settings(_) => "InvalidSettings",
            Self::Call(_) => "CallFailed",
        }
    }
}

impl From<AccountError> for PlanError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Call(error) => Self::Call(error),
            error => Self::Account(error),
        }
    }
}

impl From<SettingsError> for PlanError {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::Call(error) => Self::Call(error),
            error => Self::Settings(error),
        }
    }
}

/// The places that an input means; each of its fields narrows what is looked at. With neither: every
/// enabled account, in its regions. An account: that one, in its regions. A region: that one, in
/// every enabled account that lists it. Both: exactly that place, listed or not.
///
/// # Errors
/// Nothing has been looked at: the account can't be worked in, nobody lists the region, a setting
/// can't be applied, or a table does not answer.
pub async fn plan(
    stack: &Stack,
    account_id: Option<&AccountId>,
    region: Option<&Region>,
) -> Result<Plan, PlanError> {
    let found = match account_id {
        Some(id) => vec![Ok(accounts::find(stack, id).await?)],
        None => accounts::enabled(stack).await?,
    };
    let (mut visited, mut unreadable) = (Vec::new(), Vec::new());
    for account in found {
        match account {
            Ok(account) => visited.extend(places(&account, region, account_id.is_some())),
            Err(AccountError::Call(error)) => return Err(error.into()),
            Err(error) => unreadable.push(error),
        }
    }
    if let (true, Some(region)) = (visited.is_empty() && unreadable.is_empty(), region) {
        return Err(PlanError::Nowhere(region.clone()));
    }
    let visits = stream::iter(visited)
        .map(|(place, access, auto_terminate)| async move {
            let settings = settings::load(stack, &place.account_id, &place.region).await?;
            Ok::<_, SettingsError>(Visit { place, access, settings, auto_terminate })
        })
        .buffered(SIDE_BY_SIDE)
        .try_collect()
        .await?;
    Ok(Plan { visits, unreadable })
}

fn places(account: &Account, only: Option<&Region>, is_named: bool) -> Vec<(Place, Access, bool)> {
    let regions = match only {
        None => account.regions.clone(),
        Some(only) if is_named || account.regions.contains(only) => vec![only.clone()],
        Some(_) => Vec::new(),
    };
    let place = |region| Place { account_id: account.id.clone(), region };
    regions.into_iter().map(|r| (place(r), account.access.clone(), account.auto_terminate)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_alone_is_looked_at_where_an_account_lists_it() {
        let account = |regions: &[&str]| Account {
            id: "123456789012".parse().unwrap(),
            access: Access { environment_type: spot_domain::EnvironmentType::Prod, role: None },
            regions: regions.iter().map(|r| r.parse().unwrap()).collect(),
            auto_terminate: false,
        };
        let west: Region = "us-west-2".parse().unwrap();
        let count = |account: &Account, only, is_named| places(account, only, is_named).len();
        let both = account(&["us-east-1", "us-west-2"]);
        assert_eq!(count(&both, None, false), 2);
        assert_eq!(count(&both, Some(&west), false), 1);
        let east = account(&["us-east-1"]);
        assert_eq!(count(&east, Some(&west), false), 0, "not listed");
        assert_eq!(count(&east, Some(&west), true), 1, "named together with its account");
    }
}
