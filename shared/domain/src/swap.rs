//! What goes into an execution of a swap, and what comes out of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, GroupName, InstanceId, Region};
use crate::money::Usd;
use crate::pool::Pool;
use crate::reason::Reason;

/// The input of an execution. Unknown fields are refused: a misspelt `dry_run` must not swap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwapRequest {
    /// The group to move to Spot.
    pub asg_name: GroupName,
    /// The account it lies in; absent, the stack's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    /// The region it lies in; absent, the stack's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// Swaps at most (1 or more); absent, the setting `max_swaps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_swaps: Option<std::num::NonZeroU32>,
    /// Look and report, change nothing.
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
    /// The pool it came from.
    pub pool: Pool,
    /// On-Demand price of the old minus Spot price of the new, a month; `null` where a price could
    /// not be had.
    pub monthly_saving_usd: Option<Usd>,
}

/// An instance that stays, and why: skipped before anything was done, or swapped back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The instance.
    pub instance_id: InstanceId,
    /// The code.
    pub reason: Reason,
    /// The same for a person.
    pub detail: String,
}

impl Left {
    /// An instance that stays.
    #[must_use]
    pub fn new(instance_id: &InstanceId, reason: Reason, detail: impl Into<String>) -> Self {
        Self { instance_id: instance_id.clone(), reason, detail: detail.into() }
    }
}

/// What a dry run would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The instance that would be replaced.
    pub instance_id: InstanceId,
    /// The pool that would be tried first.
    pub pool: Pool,
    /// On-Demand price of the old minus Spot price of that pool, a month; `null` where a price could not
    /// be had.
    #[serde(default)]
    pub monthly_saving_usd: Option<Usd>,
}

/// What the gate can know of the place where a swap works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateView {
    /// Nobody forwards the interruptions of that account and region to the stack: its pools look clear.
    Blind,
}

/// What ended a run before it had tried all that it might.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedBy {
    /// The code.
    pub reason: Reason,
    /// The same for a person.
    pub detail: String,
}

/// The output of an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapReport {
    /// The group.
    pub asg_name: GroupName,
    /// Its account.
    pub account_id: AccountId,
    /// Its region.
    pub region: Region,
    /// Done.
    pub swapped: Vec<Swapped>,
    /// Left alone.
    pub skipped: Vec<Left>,
    /// Tried and put back.
    pub rolled_back: Vec<Left>,
    /// Candidates that were not reached: the limit, or the run ended early.
    pub remaining: usize,
    /// Executions that it takes to try the remaining ones; absent if none remain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executions_needed: Option<usize>,
    /// Members left alone beyond those that `skipped` lists, counted by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped_more: BTreeMap<Reason, usize>,
    /// Absent where the gate hears of interruptions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateView>,
    /// What ended the run before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<EndedBy>,
    /// Only of a dry run: what it would have swapped.
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
