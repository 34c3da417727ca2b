//! The notices about an account that poisons more than it may, or that reports without being registered. An alarm
//! watches the metric, and a message names the account, once for each hour or day. Such a report is no failure:
//! one account's reports must not hide the failures of others.

use serde_json::json;
use spot_cloud::announcements::Announcements;
use spot_cloud::{CallError, metrics};
use spot_domain::metrics::Metric;
use spot_domain::{AccountId, Pool};

use crate::event::Notice;
use crate::sightings::Quota;

/// Counts a report that was not believed, and notifies a person unless a notice went out already (`told`).
///
/// # Errors
/// The message could not be sent.
pub async fn announce(
    announcements: &Announcements,
    account: &AccountId,
    (pool, notice): (&Pool, Notice),
    quota: Quota,
    told: bool,
) -> Result<(), CallError> {
    let (limit, span) = (quota.limit, quota.span.name());
    tracing::warn!(account_id = %account, %pool, limit, "muted: it has poisoned enough this {span}");
    metrics::emit(&[(Metric::MutedReports, json!(1))]);
    if told {
        return Ok(());
    }
    let what = match notice {
        Notice::InterruptionWarning => "interruptions",
        Notice::RebalanceRecommendation => "rebalance recommendations",
    };
    let message = format!(
        "Account {account} has reported {what} in more than {limit} pools within this {span} (setting \
         max_poisons_per_account_per_{span}). Its {what} are muted until the {span} ends: the first {limit} \
         pools stay poisoned, {pool} and what follows is not.\n\n\
         If that is a real shortage, raise the setting for account#{account}. If not, set enabled = \
         false in its row of the Accounts table, and delete what it poisoned from the risk table; the \
         Sightings table says which pools those are."
    );
    announcements.alert(&format!("Spot Optimizer: account {account} is muted"), &message).await
}

/// Counts a report of an account that is not registered, or is disabled. Notifies a person of the `first` report
/// of the day.
///
/// # Errors
/// The message could not be sent.
pub async fn announce_stranger(
    announcements: &Announcements,
    account: &AccountId,
    (pool, problem): (&Pool, &str),
    first: bool,
) -> Result<(), CallError> {
    tracing::warn!(account_id = %account, %pool, "not believed: {problem}");
    metrics::emit(&[(Metric::UnregisteredReports, json!(1))]);
    if !first {
        return Ok(());
    }
    let message = format!(
        "Account {account} reports Spot interruptions ({pool} and perhaps more), but {problem}. Nothing that it reports \
         is believed. The account itself is safe: its own stack has poisoned the pool.\n\n\
         If it is yours, register it: its next reports count. If not, take it out of the stack's parameter \
         MemberAccountIds, or look who may put events on the hub's bus."
    );
    announcements.alert(&format!("Spot Optimizer: account {account} is not registered"), &message).await
}
