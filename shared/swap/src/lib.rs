//! The phases that every swap is made of, N → N+1 → N, whoever asks for it: gate, launch, health,
//! attach, retirement, restoration, and the way back. Each is one short step, safe to repeat.
//!
//! What one step hands to the next is a [`work::Work`]; what must survive any death is the journal in
//! the Swaps table, from which [`recovery`] finishes or undoes a swap. [`machine`] runs the step that a state
//! machine asks for. Inputs and outputs of executions are the functions'. Nothing here talks to a Kubernetes
//! cluster: that is `spot-nodes`.

pub mod announce;
pub mod attempts;
pub mod before_launch;
mod ended;
pub mod error;
pub mod group;
pub mod last_look;
pub mod launch_journal;
pub mod machine;
pub mod newcomer;
pub mod order;
pub mod owner;
pub mod phases;
pub mod pricing;
pub mod recovery;
pub mod request;
pub mod spans;
pub mod work;

use std::collections::BTreeMap;

use serde::Deserialize;
use spot_cloud::access::Access;
use spot_cloud::announcements::Announcements;
use spot_cloud::auto_scaling::groups;
use spot_cloud::environment::BadEnvironment;
use spot_cloud::launch::gatekeeper::Gatekeeper;
use spot_cloud::price_list::PriceList;
use spot_cloud::tables::accounts::{self, AccountError};
use spot_cloud::tables::swaps::{Lease, Swaps};
use spot_cloud::{RegionClients, Stack};
use spot_domain::swap::group::Group;
use spot_domain::words::Cause;
use spot_domain::{InstanceId, Pool};

use error::StepError;
use work::Work;

/// What every phase needs.
#[derive(Debug)]
pub struct Context {
    /// The stack that the function belongs to.
    pub stack: Stack,
    /// The leases and journals.
    pub swaps: Swaps,
    /// The gate.
    pub gatekeeper: Gatekeeper,
    /// The default bus and the alerts topic.
    pub announcements: Announcements,
    /// The On-Demand prices.
    pub price_list: PriceList,
}

/// What Step Functions hands to a Catch.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StepFailure {
    /// The error's name.
    #[serde(default)]
    pub error: String,
    /// Its cause: the Lambda's error as JSON, or a text of Step Functions.
    #[serde(default)]
    pub cause: String,
}

impl StepFailure {
    /// Returns the message of a Lambda's error, which is JSON, or else the cause as it is.
    #[must_use]
    pub fn message(&self) -> String {
        let parsed = serde_json::from_str::<serde_json::Value>(&self.cause).ok();
        let message = parsed.as_ref().and_then(|cause| cause.get("errorMessage")?.as_str());
        message.unwrap_or(&self.cause).to_owned()
    }
}

impl Context {
    /// Reads the environment that the template sets.
    ///
    /// # Errors
    /// A variable is missing or malformed.
    pub async fn new(stack: Stack) -> Result<Self, BadEnvironment> {
        let announcements = Announcements::new(&stack)?;
        let gatekeeper = Gatekeeper::new(&stack).await?;
        let price_list = PriceList::over(stack.config());
        Ok(Self { swaps: Swaps::new(&stack)?, gatekeeper, announcements, price_list, stack })
    }

    /// Keeps the pools of a run's newcomers, for news of their interruption that comes when EC2 has forgotten them. A
    /// failure is a warning: no run fails for it.
    pub async fn keep_pools(&self, lease: &Lease, newcomers: &BTreeMap<InstanceId, Pool>) {
        if let Err(error) = self.swaps.keep_pools(lease, newcomers).await {
            tracing::warn!(on = %lease.on, ?newcomers, "their pools are not kept: {error}");
        }
    }

    /// Returns how to get into the account that the run works in, as the registry says it now: what a step is handed
    /// names no role. An account that was switched off meanwhile is entered, since what was begun is finished or undone.
    ///
    /// # Errors
    /// Its row is gone or can't be read, which is a way in that was taken away; or the table does not answer.
    pub async fn access(&self, work: &Work) -> Result<Access, StepError> {
        let access = accounts::access_even_if_disabled(&self.stack, &work.lease.account_id).await;
        access.map_err(|error| match error {
            AccountError::Call(error) => error.into(),
            error => StepError::NotAuthorized(Cause::of(error)),
        })
    }

    /// Clients where the run works.
    ///
    /// # Errors
    /// As for [`Context::access`].
    pub async fn clients(&self, work: &Work) -> Result<RegionClients, StepError> {
        let access = self.access(work).await?;
        Ok(self.stack.clients(&access, &work.lease.region, Some(work.lease.owner.execution())).await)
    }

    /// The group as it is now; `None` if it was deleted, also where another bears its name by now.
    ///
    /// # Errors
    /// The call fails, or the run is not over a group.
    pub async fn group(&self, clients: &RegionClients, work: &Work) -> Result<Option<Group>, StepError> {
        let (arn, name) = work.group()?;
        Ok(groups::describe_same(&clients.autoscaling, arn, name).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_read_for_its_message() {
        let message = |cause: &str| StepFailure { error: String::new(), cause: cause.to_owned() }.message();
        assert_eq!(message(r#"{"errorType":"GroupBusy","errorMessage":"a refresh"}"#), "a refresh");
        for cause in ["", "plain", "{}", r#"{"errorMessage":1}"#] {
            assert_eq!(message(cause), cause);
        }
    }
}
