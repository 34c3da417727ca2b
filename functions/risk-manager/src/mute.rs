//! What happens when an account poisons more than it may: a figure that an alarm watches, and once
//! an hour a message that names the account.

use serde_json::json;
use spot_cloud::CallError;
use spot_cloud::announcements::Announcements;
use spot_domain::{AccountId, Pool};

use crate::event::Notice;
use crate::metrics;

/// Counts a report that was not believed, and tells a person unless one was `told` already.
///
/// # Errors
/// The message could not be sent.
pub async fn announce(
    announcements: &Announcements,
    account: &AccountId,
    (pool, notice): (&Pool, Notice),
    limit: u32,
    told: bool,
) -> Result<(), CallError> {
    tracing::warn!(account_id = %account, %pool, limit, "muted: it has poisoned enough this hour");
    metrics::emit(&[("MutedReports", "Count", json!(1))], None);
    if told {
        return Ok(());
    }
    let what = match notice {
        Notice::InterruptionWarning => "interruptions",
        Notice::RebalanceRecommendation => "rebalance recommendations",
    };
    let message = format!(
        "Account {account} has reported {what} in more than {limit} pools within this hour (setting \
         max_poisons_per_account_per_hour). Its {what} are muted until the hour ends: the first {limit} \
         pools stay poisoned, {pool} and what follows is not.\n\n\
         If that is a real shortage, raise the setting for account#{account}. If not, set enabled = \
         false in its row of the Accounts table, and delete what it poisoned from the risk table; the \
         Sightings table says which pools those are."
    );
    announcements.alert(&format!("Spot Optimizer: account {account} is muted"), &message).await
}
