//! What a drain would do, from one look, before anything is changed.

use std::collections::BTreeSet;

use kube::Client;
use serde::Serialize;

use crate::budgets::{self, Budget};
use crate::error::ClusterError;
use crate::node::{Node, NodeName};
use crate::pods::{self, Disposition, NodePod, PodRef, Policy, Stay};
use crate::volumes::{self, Tie, Ties};

pub use crate::pods::Blocked;

/// Everything that the report is made from.
#[derive(Debug, Clone)]
pub struct Look {
    /// The node.
    pub node: Node,
    /// Its pods.
    pub pods: Vec<NodePod>,
    /// The budgets of their namespaces.
    pub budgets: Vec<Budget>,
    /// What ties pods to the zone or the node.
    pub ties: Ties,
}

/// A pod that goes with the node, and why it may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Staying {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Why it stays.
    pub because: Stay,
}

/// The dry run's answer. An empty `blocked` means that nothing known stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The node.
    pub node: NodeName,
    /// Pods that would be evicted, or are on their way out already.
    pub would_move: Vec<PodRef>,
    /// Pods that would stay.
    pub stays: Vec<Staying>,
    /// Pods that could never be evicted; one entry for each reason.
    pub blocked: Vec<Blocked>,
    /// A pod that would move holds a zonal volume: the new node must be in the same zone.
    pub is_zone_bound: bool,
}

/// Looks; changes nothing.
pub async fn look(client: &Client, node: Node, policy: Policy) -> Result<Look, ClusterError> {
    let pods = pods::on_node(client, &node.name, policy).await?;
    let moving: Vec<NodePod> =
        pods.iter().filter(|pod| pod.disposition == Disposition::Evict).cloned().collect();
    let namespaces: BTreeSet<String> = moving.iter().map(|pod| pod.pod.namespace.clone()).collect();
    let budgets = budgets::list(client, &namespaces).await?;
    let ties = volumes::ties(client, &moving).await?;
    Ok(Look { node, pods, budgets, ties })
}

/// What a drain of this node would do. Pure.
#[must_use]
pub fn report(look: &Look) -> Report {
    let mut report = Report {
        node: look.node.name.clone(),
        would_move: Vec::new(),
        stays: Vec::new(),
        blocked: Vec::new(),
        is_zone_bound: false,
    };
    for pod in &look.pods {
        match &pod.disposition {
            Disposition::Stays(because) => report.stays.push(Staying {
                namespace: pod.pod.namespace.clone(),
                pod: pod.pod.pod.clone(),
                because: *because,
            }),
            Disposition::Terminating => report.would_move.push(pod.pod.clone()),
            Disposition::Blocked(block) => report.blocked.push(pod.blocked(None, block.why())),
            Disposition::Evict => {
                let tie = look.ties.get(&pod.pod.uid);
                report.is_zone_bound |= tie == Some(&Tie::Zone);
                let reasons = reasons_against(pod, tie, &look.budgets);
                if reasons.is_empty() {
                    report.would_move.push(pod.pod.clone());
                }
                report.blocked.extend(reasons);
            }
        }
    }
    report
}

/// Why the eviction of a pod could never work.
fn reasons_against(pod: &NodePod, tie: Option<&Tie>, budgets: &[Budget]) -> Vec<Blocked> {
    let mut reasons = Vec::new();
    if tie == Some(&Tie::Node) {
        let why = "the pod holds a PersistentVolume that exists on this node only".to_owned();
        reasons.push(pod.blocked(None, why));
    }
    let covering: Vec<&Budget> =
        budgets.iter().filter(|budget| budget.selects(&pod.pod.namespace, &pod.labels)).collect();
    match covering.as_slice() {
        [budget] if pod.is_ready && budget.is_never_met() => {
            let why = format!(
                "budget {} wants {} healthy pods of {}: it never grants an eviction; let it spare one, or add a \
                 replica",
                budget.name, budget.desired_healthy, budget.expected_pods
            );
            reasons.push(pod.blocked(Some(budget.name.clone()), why));
        }
        [] | [_] => {}
        // A pod that has not started is evicted whatever its budgets.
        _ if pod.is_pending => {}
        _ => {
            let names = covering.iter().map(|budget| budget.name.as_str()).collect::<Vec<_>>().join(", ");
            let why =
                format!("budgets {names} all cover the pod, which Kubernetes does not evict then: leave one");
            reasons.push(pod.blocked(Some(names), why));
        }
    }
    reasons
}

#[cfg(test)]
#[path = "preflight_tests.rs"]
mod tests;
