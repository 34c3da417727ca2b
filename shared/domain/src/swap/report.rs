//! The input and the output of a swap's execution.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, GroupName, InstanceId, Region};
use crate::money::Usd;
use crate::reason::Reason;
use crate::risk::pool::Pool;

/// The input of an execution. Unknown fields are refused: a misspelt `dry_run` must not swap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwapRequest {
    /// The group to move to Spot.
    pub asg_name: GroupName,
    /// The account of the group; absent, the stack's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    /// The region of the group; absent, the stack's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// The most swaps (1 or more); absent, the setting `max_swaps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_swaps: Option<std::num::NonZeroU32>,
    /// The execution observes and reports, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// A swap that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swapped {
    /// The On-Demand instance that is gone.
    pub old_instance_id: InstanceId,
    /// The Spot instance that serves instead.
    pub new_instance_id: InstanceId,
    /// The pool of the Spot instance.
    pub pool: Pool,
    /// On-Demand price of the old minus Spot price of the new, a month; `null` if a price could not be had.
    pub monthly_saving_usd: Option<Usd>,
}

/// An instance that stays, and the reason: it was skipped before anything was done, or swapped back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotSwapped {
    /// The instance.
    pub instance_id: InstanceId,
    /// The code.
    pub reason: Reason,
    /// The reason in words.
    pub detail: String,
}

impl NotSwapped {
    /// Returns the entry of an instance that stays.
    #[must_use]
    pub fn new(instance_id: &InstanceId, reason: Reason, detail: impl Into<String>) -> Self {
        Self { instance_id: instance_id.clone(), reason, detail: detail.into() }
    }
}

/// A swap that a dry run would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The instance that would be replaced.
    pub instance_id: InstanceId,
    /// The pool that would be tried first.
    pub pool: Pool,
    /// On-Demand price of the old minus Spot price of that pool, a month; `null` if a price could not be had.
    #[serde(default)]
    pub monthly_saving_usd: Option<Usd>,
}

/// The gate's view of the account and region of a swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateView {
    /// No rule hands the interruptions of that account and region to the stack: its pools look clear.
    Blind,
}

/// The reason that ended a run before it had tried all that it might.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedBy {
    /// The code.
    pub reason: Reason,
    /// The reason in words.
    pub detail: String,
}

/// The output of an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapReport {
    /// The group.
    pub asg_name: GroupName,
    /// The group's account.
    pub account_id: AccountId,
    /// The group's region.
    pub region: Region,
    /// Swaps that were done.
    pub swapped: Vec<Swapped>,
    /// Members left alone.
    pub skipped: Vec<NotSwapped>,
    /// Swaps that were tried and undone.
    pub rolled_back: Vec<NotSwapped>,
    /// Remarks for a person on swaps that were done: resources that were left alone, or a desired capacity that may be one
    /// too high.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Candidates that the run did not reach: it met its limit, or ended early.
    pub remaining: usize,
    /// Executions that are needed to try the remaining candidates; absent if none remain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executions_needed: Option<usize>,
    /// Members left alone beyond those that `skipped` lists, counted by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped_more: BTreeMap<Reason, usize>,
    /// Absent if the gate hears of interruptions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateView>,
    /// The reason that ended the run early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<EndedBy>,
    /// The swaps that a dry run would have done; absent in any other run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<Vec<Planned>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_request_is_a_name() {
        let request: SwapRequest = serde_json::from_str(r#"{"asg_name":"my group"}"#).unwrap();
        assert!(!request.dry_run && request.max_swaps.is_none() && request.account_id.is_none());
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let cases = [
            ("{}", "missing field `asg_name`"),
            (r#"{"asg_name":""}"#, "Auto Scaling group name"),
            (r#"{"asg_name":"g","dryrun":true}"#, "unknown field `dryrun`"),
            (r#"{"asg_name":"g","max_swaps":0}"#, "nonzero"),
            (r#"{"asg_name":"g","max_swaps":-1}"#, "-1"),
            (r#"{"asg_name":"g","account_id":"12"}"#, "account id \"12\" is malformed: expected 12 digits"),
            (r#"{"asg_name":"g","region":"us-east-1a"}"#, "region \"us-east-1a\" is malformed"),
            (r#"{"asg_name":"g","dry_run":"yes"}"#, "expected a boolean"),
        ];
        for (input, expected) in cases {
            let error = serde_json::from_str::<SwapRequest>(input).unwrap_err().to_string();
            assert!(error.contains(expected), "{input}: {error}");
        }
    }
}
