//! The input and the output of a node swap's execution.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, ClusterName, InstanceId, Region};
use crate::reason::Reason;
use crate::risk::pool::Pool;
use crate::swap::report::GateView;

/// The input of an execution. Unknown fields are refused: a misspelt `dry_run` must not swap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSwapRequest {
    /// The On-Demand instance whose node is to be replaced.
    pub instance_id: InstanceId,
    /// The cluster of the node; absent, the one that the instance's tags name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<ClusterName>,
    /// The account of the instance; absent, the stack's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    /// The region of the instance; absent, the stack's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// Seconds that the drain may take; absent, the setting of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout_seconds: Option<NonZeroU32>,
    /// The execution observes and reports, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// The outcome of a node swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NodeOutcome {
    /// The pods run elsewhere, the newcomer serves, the old instance is gone.
    Swapped,
    /// The swap was refused, and nothing was changed.
    Refused,
    /// The old node is schedulable again. The newcomer is gone, or stays as a node like any other.
    RolledBack,
    /// A dry run: this node could be swapped.
    Planned,
}

/// A pod that can't be evicted, or could not be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlockedPod {
    /// The pod's name.
    pub pod: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The PodDisruptionBudget that blocks the eviction, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// The reason in words.
    pub why: String,
}

/// The result of a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    /// The node.
    pub node: String,
    /// Pods that would be evicted, as `namespace/name`; the first [`NodePlan::LISTED`] of them.
    pub would_move: Vec<String>,
    /// The number of pods that would be evicted.
    pub would_move_count: usize,
    /// The number of pods that would stay: of DaemonSets, static, finished.
    pub stays_count: usize,
    /// A pod holds a volume that binds it to the zone. The newcomer starts in the same zone.
    pub zone_bound: bool,
    /// Workloads whose replicas are all on this node, a sentence each. While they move, none may run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all_replicas_here: Vec<String>,
    /// The pods as lines of a table, blocking pods first; [`NodePlan::LISTED`] of them.
    #[serde(default)]
    pub table: Vec<String>,
    /// The pools that would be tried, best first.
    pub pools: Vec<Pool>,
}

impl NodePlan {
    /// The most pods that a plan names: a node may have 250 of them.
    pub const LISTED: usize = 50;

    /// Formats rows as lines with aligned columns. A last line tells how many rows were left out.
    #[must_use]
    pub fn lines<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> Vec<String> {
        let shown = &rows[..rows.len().min(Self::LISTED)];
        let mut widths = header.map(|column| column.chars().count());
        for row in shown {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: [&str; N]| {
            let padded: Vec<String> =
                cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        };
        let mut lines = vec![line(header)];
        lines.extend(shown.iter().map(|row| line(row.each_ref().map(String::as_str))));
        if rows.len() > shown.len() {
            lines.push(format!("… and {} more", rows.len() - shown.len()));
        }
        lines
    }
}

/// The output of an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSwapReport {
    /// The instance that was to be replaced.
    pub instance_id: InstanceId,
    /// The cluster of the node.
    pub cluster_name: Option<ClusterName>,
    /// The outcome of the swap.
    pub outcome: NodeOutcome,
    /// The code of the reason, if the node was not swapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The reason in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The Spot instance that serves instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_instance_id: Option<InstanceId>,
    /// The Spot instance that was rolled back and stays in service, since a pod can't leave its node. The
    /// detail names the pod and the work that is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_instance_id: Option<InstanceId>,
    /// Pods evicted from the old node.
    pub evicted: u32,
    /// Pods that blocked the drain.
    pub blocked: Vec<BlockedPod>,
    /// Actions that were less gentle than the rest. Examples: the last Ready pod of a controller was evicted
    /// near the deadline, or a target group had not deregistered an instance in time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The plan; of a dry run only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<NodePlan>,
    /// Absent if the gate hears of interruptions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateView>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_request_is_an_instance() {
        let request: NodeSwapRequest =
            serde_json::from_str(r#"{"instance_id":"i-0123456789abcdef0"}"#).unwrap();
        assert!(!request.dry_run && request.cluster_name.is_none());
        for (input, expected) in [
            ("{}", "missing field `instance_id`"),
            (r#"{"instance_id":"i-0123456789abcdef0","dryrun":true}"#, "unknown field `dryrun`"),
            (r#"{"instance_id":"i-0123456789abcdef0","drain_timeout_seconds":0}"#, "nonzero"),
            (r#"{"instance_id":"i-0123456789abcdef0","cluster_name":"-"}"#, "cluster name"),
        ] {
            let error = serde_json::from_str::<NodeSwapRequest>(input).unwrap_err().to_string();
            assert!(error.contains(expected), "{input}: {error}");
        }
    }

    #[test]
    fn a_table_aligns_its_columns_and_says_what_it_left_out() {
        let row = |pod: &str| ["MOVES".to_owned(), pod.to_owned(), String::new()];
        let lines = NodePlan::lines(["VERDICT", "POD", "WHY"], &[row("shop/web-1"), row("a/b")]);
        assert_eq!(lines, ["VERDICT  POD         WHY", "MOVES    shop/web-1", "MOVES    a/b"]);
        let many = vec![row("a/b"); NodePlan::LISTED + 2];
        let lines = NodePlan::lines(["VERDICT", "POD", "WHY"], &many);
        assert_eq!((lines.len(), lines.last().unwrap().as_str()), (NodePlan::LISTED + 2, "… and 2 more"));
    }

    #[test]
    fn a_report_says_only_what_it_knows() {
        let report = NodeSwapReport {
            instance_id: "i-0123456789abcdef0".parse().unwrap(),
            cluster_name: Some("shop".parse().unwrap()),
            outcome: NodeOutcome::RolledBack,
            reason: Some(Reason::DrainTimedOut),
            detail: None,
            new_instance_id: None,
            kept_instance_id: None,
            evicted: 1,
            blocked: vec![],
            warnings: vec![],
            plan: None,
            gate: None,
        };
        assert_eq!(
            serde_json::to_value(report).unwrap(),
            serde_json::json!({"instance_id": "i-0123456789abcdef0", "cluster_name": "shop",
                "outcome": "ROLLED_BACK", "reason": "DRAIN_TIMED_OUT", "evicted": 1, "blocked": []})
        );
    }
}
