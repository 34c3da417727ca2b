//! Which accounts and regions a run looks at. All settings are read before anything is scanned: one
//! that can't be applied stops the run.

use futures_util::{StreamExt, TryStreamExt, stream};
use spot_cloud::accounts::{Access, Account, AccountError};
use spot_cloud::settings::SettingsError;
use spot_cloud::{Stack, accounts, settings};
use spot_domain::settings::Settings;
use spot_domain::waste_report::Failed;
use spot_domain::{AccountId, Region};

use crate::error::WasteError;
use crate::input::Request;

/// Settings read at a time.
const SIDE_BY_SIDE: usize = 8;

/// One account and region.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The account.
    pub account_id: AccountId,
    /// The region.
    pub region: Region,
    /// How to get in.
    pub access: Access,
    /// What holds there.
    pub settings: Settings,
}

impl Scope {
    /// Its key in the WasteResource table.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}#{}", self.account_id, self.region)
    }
}

/// What a run looks at.
#[derive(Debug)]
pub struct Plan {
    /// Every account and region.
    pub scopes: Vec<Scope>,
    /// Accounts whose row can't be read: the others are scanned all the same.
    pub failed: Vec<Failed>,
    /// How many scopes are scanned side by side.
    pub parallelism: usize,
}

/// Finds out what the request means.
///
/// # Errors
/// The account that it names can't be entered, a setting can't be applied, or a table does not answer.
pub async fn plan(stack: &Stack, request: &Request) -> Result<Plan, WasteError> {
    let (mut accounts, mut failed) = (Vec::new(), Vec::new());
    match (&request.account_id, &request.region) {
        (Some(id), _) => accounts.push(accounts::find(stack, id).await?),
        (None, Some(_)) => accounts.push(accounts::find(stack, &stack.account_id).await?),
        (None, None) => {
            for account in accounts::enabled(stack).await? {
                match account {
                    Ok(account) => accounts.push(account),
                    Err(error) => failed.push(unreadable(stack, &error)),
                }
            }
        }
    }
    let places = accounts.into_iter().flat_map(|account| places(account, request.region.as_ref()));
    let scopes = stream::iter(places)
        .map(|(account_id, region, access)| async move {
            let settings = settings::load(stack, &account_id, &region).await?;
            Ok::<_, SettingsError>(Scope { account_id, region, access, settings })
        })
        .buffered(SIDE_BY_SIDE)
        .try_collect()
        .await?;
    let own = settings::load(stack, &stack.account_id, &stack.region).await?;
    Ok(Plan { scopes, failed, parallelism: own.scan_parallelism as usize })
}

fn places(account: Account, only: Option<&Region>) -> Vec<(AccountId, Region, Access)> {
    let regions = only.map_or(account.regions, |region| vec![region.clone()]);
    regions.into_iter().map(|region| (account.id.clone(), region, account.access.clone())).collect()
}

fn unreadable(stack: &Stack, error: &AccountError) -> Failed {
    let account_id = match error {
        AccountError::Malformed { account_id, .. } => account_id,
        _ => &stack.account_id, // a key that is no account id lies in the stack's own table
    };
    Failed {
        account_id: account_id.clone(),
        region: None,
        listing: "account".to_owned(),
        error: error.to_string(),
    }
}
