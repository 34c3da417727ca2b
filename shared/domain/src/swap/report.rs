//! The input and the output of a swap's execution.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, ExecutionArn, GroupName, InstanceId, Region};
use crate::money::Usd;
use crate::reason::Reason;
use crate::risk::pool::Pool;
use crate::swap::asked::{Asked, Named};
use crate::swap::market::Market;

/// The input of an execution. Unknown fields are refused: a misspelt `dry_run` must not swap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwapRequest {
    /// The group to swap.
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
    /// The members to replace, Spot ones too; absent, all that are not in the market `to` yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<Named>,
    /// The market of the replacements; absent, Spot.
    #[serde(default, skip_serializing_if = "Market::is_spot")]
    pub to: Market,
    /// The execution observes and reports, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

impl SwapRequest {
    /// Returns the wish of the request.
    #[must_use]
    pub fn asked(&self) -> Asked {
        Asked { to: self.to, replace: self.replace.clone() }
    }
}

/// A swap that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swapped {
    /// The instance that is gone.
    pub old_instance_id: InstanceId,
    /// The instance that serves instead.
    pub new_instance_id: InstanceId,
    /// The market of the old instance; absent for On-Demand.
    #[serde(default = "Market::on_demand", skip_serializing_if = "Market::is_on_demand")]
    pub from: Market,
    /// The market of the new instance; absent for Spot.
    #[serde(default, skip_serializing_if = "Market::is_spot")]
    pub to: Market,
    /// The pool of the new instance; if it is On-Demand, its type and zone in the same spelling.
    pub pool: Pool,
    /// The price of the old minus the price of the new, each in its market, a month. Negative if the new one costs
    /// more; `null` if a price could not be had.
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
    /// The market of the instance; absent for On-Demand.
    #[serde(default = "Market::on_demand", skip_serializing_if = "Market::is_on_demand")]
    pub from: Market,
    /// The market of its replacement; absent for Spot.
    #[serde(default, skip_serializing_if = "Market::is_spot")]
    pub to: Market,
    /// The pool that would be tried first; of an On-Demand replacement, its type and zone.
    pub pool: Pool,
    /// The price of the instance minus the price of that replacement, each in its market, a month. Negative if the
    /// replacement costs more; `null` if a price could not be had.
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

/// The execution that goes on where a long one ends: its name and its input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continuation {
    /// The name of the execution. A repeated start with this name starts no other.
    pub name: String,
    /// The input of the execution.
    pub input: SwapRequest,
}

impl Continuation {
    /// Returns the continuation of an execution: its name is that of the execution with the next number.
    #[must_use]
    pub fn of(execution: &ExecutionArn, input: SwapRequest) -> Self {
        let name = execution.name();
        let numbered = name.rsplit_once("-part").and_then(|(stem, n)| Some((stem, n.parse::<u32>().ok()?)));
        let (stem, number) = numbered.unwrap_or((name, 1));
        // A name has 80 characters at most.
        let stem: String = stem.chars().take(65).collect();
        Self { name: format!("{stem}-part{}", number.saturating_add(1)), input }
    }
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
    /// The execution that goes on with the remaining candidates: this one has come near the limits of Step Functions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuation: Option<Continuation>,
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
        assert_eq!(request.asked(), Asked::default());
    }

    #[test]
    fn members_and_market_can_be_asked_for() {
        let text = r#"{"asg_name":"g","replace":["i-0123456789abcdef0"],"to":"ON_DEMAND"}"#;
        let asked = serde_json::from_str::<SwapRequest>(text).unwrap().asked();
        assert_eq!(asked.to, Market::OnDemand);
        assert_eq!(asked.replace, Some(Named::one(&"i-0123456789abcdef0".parse().unwrap())));
    }

    #[test]
    fn an_ordinary_swap_reads_as_it_did_before_there_were_markets() {
        let old = r#"{"old_instance_id":"i-0123456789abcdef0","new_instance_id":"i-0123456789abcdef1","pool":"us-east-1#use1-az6#m5.large","monthly_saving_usd":null}"#;
        let swapped: Swapped = serde_json::from_str(old).unwrap();
        assert_eq!((swapped.from, swapped.to), (Market::OnDemand, Market::Spot));
        assert_eq!(serde_json::to_string(&swapped).unwrap(), old);
        let back = Swapped { from: Market::Spot, to: Market::OnDemand, ..swapped };
        let text = serde_json::to_string(&back).unwrap();
        assert!(text.contains(r#""from":"SPOT","to":"ON_DEMAND""#), "{text}");
    }

    #[test]
    fn a_continuation_has_the_next_number_and_a_name_that_fits() {
        let of = |name: &str| {
            let arn = format!("arn:aws:states:us-east-1:123456789012:execution:swap:{name}");
            let input = serde_json::from_str(r#"{"asg_name":"g"}"#).unwrap();
            Continuation::of(&arn.parse().unwrap(), input).name
        };
        assert_eq!((of("web").as_str(), of("web-part2").as_str()), ("web-part2", "web-part3"));
        assert_eq!(of("web-party"), "web-party-part2");
        assert!(of(&"w".repeat(80)).len() <= 80 && of(&format!("w-part{}", u32::MAX)).len() <= 80);
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
            (r#"{"asg_name":"g","replace":[]}"#, "names no instance"),
            (r#"{"asg_name":"g","replace":["web-1"]}"#, "instance id \"web-1\" is malformed"),
            (r#"{"asg_name":"g","replace":"i-0123456789abcdef0"}"#, "expected a sequence"),
            (
                r#"{"asg_name":"g","to":"on-demand"}"#,
                "unknown variant `on-demand`, expected `SPOT` or `ON_DEMAND`",
            ),
        ];
        for (input, expected) in cases {
            let error = serde_json::from_str::<SwapRequest>(input).unwrap_err().to_string();
            assert!(error.contains(expected), "{input}: {error}");
        }
    }
}
