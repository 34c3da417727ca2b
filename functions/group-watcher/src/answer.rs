//! The answer of the group watcher.

use serde::Serialize;
use spot_cloud::scopes::AccountRegion;
use spot_domain::watch::Deferred;
use spot_domain::{AccountId, ExecutionArn, GroupName, InstanceId, Region};

/// The result of one invocation.
#[derive(Debug, Default, Serialize)]
pub struct Answer {
    /// The enrolled groups that were looked at.
    pub looked_at: usize,
    /// The executions that were started.
    pub started: Vec<Started>,
    /// The groups that have something to swap, and are not swapped now.
    pub deferred: Vec<NotNow>,
    /// Lambda's time was up before every group was looked at. The next sweep begins at another place.
    pub partial: bool,
    /// What could not be looked at or written down.
    pub failed: Vec<Failure>,
}

/// A group, by its name and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Named {
    pub asg_name: GroupName,
    #[serde(flatten)]
    pub place: AccountRegion,
}

/// An execution that was started.
#[derive(Debug, Clone, Serialize)]
pub struct Started {
    #[serde(flatten)]
    pub group: Named,
    pub execution_arn: ExecutionArn,
    /// The instance of the node that is swapped; absent for a swap of the whole group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<InstanceId>,
}

/// A group that is not swapped now.
#[derive(Debug, Clone, Serialize)]
pub struct NotNow {
    #[serde(flatten)]
    pub group: Named,
    #[serde(flatten)]
    pub deferred: Deferred,
}

/// Something that failed. The run went on with the rest.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The account; absent if the stack's own tables or bus failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asg_name: Option<String>,
    /// The problem in words.
    pub error: String,
}

impl Failure {
    /// Returns a failure of the stack itself.
    pub fn own(error: &impl ToString) -> Self {
        Self { account_id: None, region: None, asg_name: None, error: error.to_string() }
    }

    /// Returns the failure of a place.
    pub fn at(place: &AccountRegion, error: &impl ToString) -> Self {
        Self {
            account_id: Some(place.account_id.clone()),
            region: Some(place.region.clone()),
            ..Self::own(error)
        }
    }

    /// Returns the failure of a group.
    pub fn of(place: &AccountRegion, asg_name: &str, error: &impl ToString) -> Self {
        Self { asg_name: Some(asg_name.to_owned()), ..Self::at(place, error) }
    }
}
