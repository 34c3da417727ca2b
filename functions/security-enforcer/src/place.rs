//! Where a run works: its input, and the accounts and regions that come of it.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spot_cloud::accounts::{self, Account, AccountError};
use spot_cloud::{Stack, settings};
use spot_domain::settings::Settings;
use spot_domain::{AccountId, Region};

use crate::error::EnforcerError;

/// The input. Unknown fields are refused: a misspelt `auto_terminate` must not terminate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRequest {
    /// Only this account; absent, every enabled one.
    pub account_id: Option<AccountId>,
    /// Only this region; absent, every region of the account.
    pub region: Option<Region>,
    /// `false` switches off what the account's row switches on. `true` switches nothing on.
    pub auto_terminate: Option<bool>,
    /// Set by the schedule: when it was due. The schedule delivers at least once, and the same audit
    /// delivered twice must not count as two.
    pub scheduled_for: Option<String>,
}

impl AuditRequest {
    /// Names the run: by its place in the schedule, else by the invocation.
    #[must_use]
    pub fn run_name(&self, invocation: &str) -> String {
        let scheduled = self.scheduled_for.as_deref().filter(|time| time.parse::<Timestamp>().is_ok());
        scheduled.map_or_else(|| invocation.to_owned(), |time| format!("scheduled for {time}"))
    }
}

/// One account and region.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The account.
    pub account_id: AccountId,
    /// The region.
    pub region: Region,
}

impl Place {
    /// The table's partition.
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

/// A place to be audited, and the rules there.
#[derive(Debug, Clone)]
pub struct Beat {
    /// Where.
    pub place: Place,
    /// How to get in.
    pub access: accounts::Access,
    /// The settings there.
    pub settings: Settings,
    /// Whether what is due may be terminated there.
    pub enforce: bool,
}

/// All places of a run, with their settings; and the accounts whose rows can't be read.
///
/// # Errors
/// The account that the input names can't be worked in, or any setting anywhere can't be applied.
pub async fn beats(stack: &Stack, request: &AuditRequest) -> Result<(Vec<Beat>, Vec<String>), EnforcerError> {
    let accounts = match &request.account_id {
        Some(id) => vec![Ok(accounts::find(stack, id).await?)],
        None => accounts::enabled(stack).await?,
    };
    let (mut beats, mut unreadable) = (Vec::new(), Vec::new());
    for account in accounts {
        match account {
            Ok(account) => beats.extend(beats_of(stack, request, &account).await?),
            Err(AccountError::Call(error)) => return Err(error.into()),
            Err(error) => unreadable.push(error.to_string()),
        }
    }
    Ok((beats, unreadable))
}

async fn beats_of(
    stack: &Stack,
    request: &AuditRequest,
    account: &Account,
) -> Result<Vec<Beat>, EnforcerError> {
    let mut beats = Vec::new();
    for region in regions(request, account) {
        let settings = settings::load(stack, &account.id, &region).await?;
        beats.push(Beat {
            place: Place { account_id: account.id.clone(), region },
            access: account.access.clone(),
            settings,
            enforce: account.auto_terminate && request.auto_terminate != Some(false),
        });
    }
    Ok(beats)
}

/// A region that the input names counts for a named account in any case, else only where listed.
fn regions(request: &AuditRequest, account: &Account) -> Vec<Region> {
    match &request.region {
        None => account.regions.clone(),
        Some(only) if request.account_id.is_some() || account.regions.contains(only) => vec![only.clone()],
        Some(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_events_are_read() {
        let sample = |name: &str| -> AuditRequest {
            let path = format!("{}/../../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
        };
        assert_eq!(sample("security-audit").auto_terminate, Some(false));
        assert!(sample("security-audit-schedule").run_name("x").contains("2026-11-20T10:00:00Z"));
        assert_eq!(serde_json::from_str::<AuditRequest>("{}").unwrap(), AuditRequest::default());
    }

    #[test]
    fn one_audit_delivered_twice_has_one_name() {
        let request =
            |time: &str| AuditRequest { scheduled_for: Some(time.to_owned()), ..AuditRequest::default() };
        let hour = request("2026-11-20T10:00:00Z");
        assert_eq!(hour.run_name("first"), hour.run_name("second"));
        assert_ne!(hour.run_name("first"), request("2026-11-20T11:00:00Z").run_name("first"));
        assert_eq!(request("<aws.scheduler.scheduled-time>").run_name("first"), "first");
        assert_eq!(AuditRequest::default().run_name("first"), "first");
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (input, expected) in [
            (r#"{"auto_terminat":false}"#, "unknown field `auto_terminat`"),
            (r#"{"auto_terminate":"no"}"#, "expected a boolean"),
            (r#"{"account_id":"12"}"#, "account id \"12\" is malformed"),
            (r#"{"region":"Narnia"}"#, "region \"Narnia\" is malformed"),
            ("[1]", "invalid type"),
        ] {
            let error = serde_json::from_str::<AuditRequest>(input).unwrap_err().to_string();
            assert!(error.contains(expected), "{input}: {error}");
        }
    }

    #[test]
    fn a_region_alone_is_looked_at_where_an_account_lists_it() {
        let account = |regions: &[&str]| Account {
            id: "123456789012".parse().unwrap(),
            access: accounts::Access { environment_type: spot_domain::EnvironmentType::Prod, role: None },
            regions: regions.iter().map(|r| r.parse().unwrap()).collect(),
            auto_terminate: false,
        };
        let here = account(&["us-east-1", "us-west-2"]);
        let mut request = AuditRequest::default();
        assert_eq!(regions(&request, &here).len(), 2);
        request.region = Some("us-west-2".parse().unwrap());
        assert_eq!(regions(&request, &here).len(), 1);
        assert_eq!(regions(&request, &account(&["us-east-1"])).len(), 0);
        request.account_id = Some("123456789012".parse().unwrap());
        assert_eq!(regions(&request, &account(&["us-east-1"])).len(), 1);
    }
}
