//! The places of a scheduled function: every enabled account and region, or those that its input names.
//!
//! All settings are read before the first place. A setting of the scope `global` that can't be applied stops the run; one of
//! an account keeps the run from its places alone. An account
//! whose `regions` are `*` is asked at every run which regions it has enabled. A region that is enabled
//! tomorrow is visited tomorrow.

use std::fmt;

use futures_util::{StreamExt, stream};
use serde::Serialize;
use spot_domain::not_visited::NotVisitedReason;
use spot_domain::settings::{BadOverride, GLOBAL, Settings};
use spot_domain::{AccountId, Region};

use crate::access::Access;
use crate::clients::Stack;
use crate::ec2::regions;
use crate::error::CallError;
use crate::tables::accounts::{self, Account, AccountError, Regions};
use crate::tables::settings::{self, SettingsError};

/// Accounts that are asked for their regions, or settings that are read, at the same time.
const SIDE_BY_SIDE: usize = 8;

/// One account and region.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct AccountRegion {
    /// The account.
    pub account_id: AccountId,
    /// The region.
    pub region: Region,
}

impl AccountRegion {
    /// Returns the partition key of the place's rows in the tables: `account#region`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}#{}", self.account_id, self.region)
    }
}

impl fmt::Display for AccountRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "account {}, {}", self.account_id, self.region)
    }
}

/// A place to be visited, and the settings that hold there.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The place.
    pub place: AccountRegion,
    /// The role that opens the account.
    pub access: Access,
    /// The settings there.
    pub settings: Settings,
    /// The security enforcer may terminate there.
    pub auto_terminate: bool,
    /// The account's row or the input names the region. Otherwise it is one of all that the account has enabled,
    /// and a service control policy may deny it.
    pub is_named: bool,
}

impl Scope {
    /// Returns true if this error, by which the first call of a visit failed, leaves the region out: nobody names it,
    /// and a service control policy denies it. Any other error is a failure.
    #[must_use]
    pub fn is_left_out(&self, error: &CallError) -> bool {
        !self.is_named && error.is_denied_by_organization()
    }
}

/// The places of a run.
#[derive(Debug)]
pub struct Plan {
    /// Every account and region.
    pub visits: Vec<Scope>,
    /// Accounts that can't be visited as their rows ask for. The run visits the others all the same.
    pub unreadable: Vec<Unreadable>,
    /// The accounts of the visits, with the regions that their rows ask for.
    pub accounts: Vec<Account>,
}

/// Enabled regions of an account that no run visits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotVisited {
    /// The account.
    pub account_id: AccountId,
    /// The regions that it has enabled and no run visits.
    pub regions: Vec<Region>,
    /// The reason for it.
    pub reason: NotVisitedReason,
    /// Set if EC2 does not return the enabled regions: then `regions` is empty, and says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// The reason for which an account is not visited as its row asks for.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The account's row can't be read.
    #[error(transparent)]
    Row(AccountError),
    /// The account's row asks for all enabled regions, and EC2 does not return them.
    #[error("account {account_id}: its regions are \"*\", and only {visited} is looked at: {error}")]
    Regions {
        /// The account.
        account_id: AccountId,
        /// The stack's own region.
        visited: Region,
        /// EC2's error.
        #[source]
        error: CallError,
    },
    /// A setting of the account can't be applied: the place is not visited.
    #[error("account {account_id}, {region}: not looked at: {error}")]
    Settings {
        /// The account.
        account_id: AccountId,
        /// The region.
        region: Region,
        /// The setting.
        #[source]
        error: BadOverride,
    },
}

/// The reason for which a run can't begin.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The input names a region that no row asks for.
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
    /// Returns the error's name, as logs and metrics spell it.
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

/// Returns the places that an input means. Each field of the input narrows them:
///
/// - With neither field: every enabled account, in its regions.
/// - With an account: that one, in its regions.
/// - With a region: that one, in every enabled account that lists it.
/// - With both: exactly that place, listed or not.
///
/// # Errors
/// The run can't begin: a setting can't be applied, a table does not answer, the account can't be worked in,
/// or no account lists the region.
pub async fn plan(
    stack: &Stack,
    account_id: Option<&AccountId>,
    region: Option<&Region>,
) -> Result<Plan, PlanError> {
    let found = match account_id {
        Some(id) => vec![Ok(accounts::find(stack, id).await?)],
        None => accounts::enabled(stack).await?,
    };
    let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
    for account in found {
        match account {
            Ok(account) => readable.push(account),
            Err(AccountError::Call(error)) => return Err(error.into()),
            Err(error) => unreadable.push(Unreadable::Row(error)),
        }
    }
    let asked: Vec<_> = stream::iter(readable)
        .map(|account| async move {
            let (regions, failure) = match region {
                Some(only) => (named(&account.regions, only, account_id.is_some()), None),
                None => resolved(stack, &account).await,
            };
            (account, regions, failure)
        })
        .buffered(SIDE_BY_SIDE)
        .collect()
        .await;
    let (mut visited, mut accounts) = (Vec::new(), Vec::new());
    for (account, regions, failure) in asked {
        unreadable.extend(failure);
        let is_named = region.is_some() || account.regions != Regions::AllEnabled;
        let place = |region| AccountRegion { account_id: account.id.clone(), region };
        let visit = |r| (place(r), account.access.clone(), account.auto_terminate, is_named);
        visited.extend(regions.into_iter().map(visit));
        accounts.push(account);
    }
    if let (true, Some(region)) = (visited.is_empty() && unreadable.is_empty(), region) {
        return Err(PlanError::Nowhere(region.clone()));
    }
    let loaded: Vec<_> = stream::iter(visited)
        .map(|(place, access, auto_terminate, is_named)| async move {
            let settings = settings::load(stack, &place.account_id, &place.region).await;
            (place, access, auto_terminate, is_named, settings)
        })
        .buffered(SIDE_BY_SIDE)
        .collect()
        .await;
    let mut visits = Vec::new();
    for (place, access, auto_terminate, is_named, settings) in loaded {
        match settings {
            Ok(settings) => visits.push(Scope { place, access, settings, auto_terminate, is_named }),
            Err(SettingsError::Override(error)) if error.scope != GLOBAL && account_id.is_none() => {
                let AccountRegion { account_id, region } = place;
                unreadable.push(Unreadable::Settings { account_id, region, error });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Plan { visits, unreadable, accounts })
}

/// Returns the one region that the input names, if the input names the account, too, or the account asks for
/// the region.
fn named(asked: &Regions, only: &Region, account_is_named: bool) -> Vec<Region> {
    if account_is_named || asked.ask_for(only) { vec![only.clone()] } else { Vec::new() }
}

/// Returns the regions of an account. If EC2 does not return the enabled regions, the result is the stack's
/// own region, and the error beside it.
async fn resolved(stack: &Stack, account: &Account) -> (Vec<Region>, Option<Unreadable>) {
    let enabled = match &account.regions {
        Regions::Listed(regions) => Ok(regions.clone()),
        Regions::AllEnabled => enabled_in(stack, account).await,
    };
    match enabled {
        Ok(regions) => (regions, None),
        Err(error) => {
            let (account_id, visited) = (account.id.clone(), stack.region.clone());
            (vec![visited.clone()], Some(Unreadable::Regions { account_id, visited, error }))
        }
    }
}

async fn enabled_in(stack: &Stack, account: &Account) -> Result<Vec<Region>, CallError> {
    regions::enabled(&stack.clients(&account.access, &stack.region, None).await.ec2).await
}

impl Plan {
    /// Returns the enabled regions that no row asks for, by account. Accounts that leave out none are absent.
    pub async fn not_visited(&self, stack: &Stack) -> Vec<NotVisited> {
        let listing = self.accounts.iter().filter_map(|account| match &account.regions {
            Regions::Listed(listed) => Some((account, listed)),
            Regions::AllEnabled => None,
        });
        let asked = stream::iter(listing)
            .map(|(account, listed)| async move {
                left_out(&account.id, listed, enabled_in(stack, account).await)
            })
            .buffered(SIDE_BY_SIDE);
        asked.filter_map(|left_out| async { left_out }).collect().await
    }
}

fn left_out(
    account_id: &AccountId,
    listed: &[Region],
    enabled: Result<Vec<Region>, CallError>,
) -> Option<NotVisited> {
    let (regions, unknown) = match enabled {
        Ok(enabled) => (enabled.into_iter().filter(|region| !listed.contains(region)).collect(), None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let is_some = !regions.is_empty() || unknown.is_some();
    let reason = NotVisitedReason::NotListed;
    is_some.then(|| NotVisited { account_id: account_id.clone(), regions, reason, unknown })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> Region {
        name.parse().unwrap()
    }

    #[test]
    fn a_region_alone_is_looked_at_where_an_account_asks_for_it() {
        let west = region("us-west-2");
        let both = Regions::Listed(vec![region("us-east-1"), west.clone()]);
        let only_west = std::slice::from_ref(&west);
        assert_eq!(named(&both, &west, false), only_west);
        let east = Regions::Listed(vec![region("us-east-1")]);
        assert!(named(&east, &west, false).is_empty(), "not listed");
        assert_eq!(named(&east, &west, true), only_west, "named together with its account");
        assert_eq!(named(&Regions::AllEnabled, &west, false), only_west);
    }

    #[test]
    fn enabled_regions_that_no_row_lists_are_named() {
        let account = "123456789012".parse().unwrap();
        let enabled = || Ok(["eu-west-1", "us-east-1", "us-west-2"].map(region).to_vec());
        let listed = [region("us-east-1"), region("ap-south-2")];
        let left = left_out(&account, &listed, enabled()).unwrap();
        assert_eq!((left.regions, left.unknown), (["eu-west-1", "us-west-2"].map(region).to_vec(), None));
        assert_eq!(left_out(&account, &enabled().unwrap(), enabled()), None);
        let denied = CallError::malformed("ec2:DescribeRegions", "denied");
        let left = left_out(&account, &listed, Err(denied)).unwrap();
        assert!(left.regions.is_empty() && left.unknown.unwrap().contains("ec2:DescribeRegions"));
    }
}
