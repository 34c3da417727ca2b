//! The forecast of a drain, from one look, before anything is changed.
//!
//! The look reads the node's pods, their controllers, templates and budgets, and, if pods keep apart from
//! each other, the other nodes. The report names every pod that an eviction would lose for good, or that
//! returns to the node, or can't run elsewhere. It also names every wait that can't end. A cordon of ours
//! changes no answer, so that the same look may be made again after it.

use std::collections::BTreeSet;

use kube::Client;
use serde::Serialize;
use spot_domain::clock;

use crate::budgets;
use crate::capacity;
use crate::controllers::{self, Workload};
use crate::error::ClusterError;
use crate::hosts;
use crate::node::{Node, NodeName};
use crate::obstacles;
use crate::ownership::{self, NodeOwner};
use crate::pods::{self, Controller, Disposition, NodePod, PodRef, Stay};
use crate::spec::Mounted;
use crate::volumes::{self, Tie};

pub use crate::observation::{Observation, Terms};
pub use crate::pods::Blocked;

/// The reason for a pod whose place the scheduler's choice leaves open.
const MAY_RETURN: &str =
    "it tolerates the cordon, and may return here: a pod that returns twice ends the drain";

/// A pod that goes with the node, and the reason why it may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Staying {
    pub namespace: String,
    pub pod: String,
    /// The reason why the pod stays.
    pub because: Stay,
}

/// A workload that has all its replicas on this node: while they move, it may have none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gathered {
    /// The name by which its owner knows it: `Deployment shop/web`.
    pub workload: String,
    /// The number of its pods, all of them on this node.
    pub replicas: usize,
    /// The budget that lets only some of them go at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
}

/// The fate of a pod in a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PodFate {
    /// The pod can't be evicted.
    Blocked,
    /// The pod is evicted, or on its way out already.
    Moves,
    /// The pod goes with the node.
    Stays,
}

/// A pod of the node, as a table lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Line {
    pub verdict: PodFate,
    pub namespace: String,
    pub pod: String,
    /// The workload that brings the pod back (`Deployment shop/web`); empty if none does.
    pub workload: String,
    /// The reasons against the eviction, or for the pod's staying.
    pub why: String,
}

/// The dry run's answer. An empty `blocked` means that no known obstacle stands against the drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    pub node: NodeName,
    /// Pods that would be evicted, or are on their way out already.
    pub would_move: Vec<PodRef>,
    /// Pods that would stay.
    pub stays: Vec<Staying>,
    /// Pods that could never be evicted; one entry for each reason.
    pub blocked: Vec<Blocked>,
    /// The blocked pods that end by themselves. Once they have ended, they block nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ending: Vec<Blocked>,
    /// True if a pod that would move holds a zonal volume: the new node must be in the same zone.
    pub is_zone_bound: bool,
    /// Workloads that have all their replicas on this node.
    pub gathered: Vec<Gathered>,
    /// All pods, those that block first.
    #[serde(skip)]
    pub lines: Vec<Line>,
    /// The label by which the node, and a newcomer from the same template, call themselves On-Demand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_demand_label: Option<String>,
    /// The manager of the node, by the marks of the node itself or of its pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<NodeOwner>,
}

/// Reads the cluster; changes nothing.
pub async fn look(client: &Client, node: Node, terms: Terms) -> Result<Observation, ClusterError> {
    let pods = pods::on_node(client, &node.name, terms.policy).await?;
    let moving: Vec<NodePod> =
        pods.iter().filter(|pod| pod.disposition == Disposition::Evict).cloned().collect();
    let namespaces: BTreeSet<String> = moving.iter().map(|pod| pod.pod.namespace.clone()).collect();
    let budgets = budgets::list(client, &namespaces).await?;
    let ties = volumes::ties(client, &moving).await?;
    volumes::may_follow(client, &node.name, &moving).await?;
    let owners = moving.iter().filter_map(|pod| pod.controller.clone()).collect();
    let workloads = controllers::workloads(client, owners).await?;
    let hosts = hosts::look(client, &node, &hosts::moving(&pods)).await?;
    Ok(Observation { node, pods, budgets, ties, workloads, hosts, terms, at: clock::now() })
}

/// Forecasts a drain of this node. Pure.
#[must_use]
pub fn report(look: &Observation) -> Report {
    let mut report = Report {
        node: look.node.name.clone(),
        would_move: Vec::new(),
        stays: Vec::new(),
        blocked: Vec::new(),
        ending: Vec::new(),
        is_zone_bound: false,
        gathered: gathered(look),
        lines: Vec::new(),
        on_demand_label: capacity::inherited_on_demand_label(&look.node.labels),
        owner: look.node.owner.clone().or_else(|| control_plane(&look.pods)),
    };
    for pod in &look.pods {
        let (verdict, whys) = sort_in(pod, look, &mut report);
        report.lines.push(Line {
            verdict,
            namespace: pod.pod.namespace.clone(),
            pod: pod.pod.pod.clone(),
            workload: workload_of(pod, look),
            why: whys.join("; "),
        });
    }
    report.lines.sort();
    report
}

/// Puts the pod where it belongs in the report. Returns its fate and the reason.
fn sort_in(pod: &NodePod, look: &Observation, report: &mut Report) -> (PodFate, Vec<String>) {
    match &pod.disposition {
        Disposition::Stays(because) => {
            let (namespace, name) = (pod.pod.namespace.clone(), pod.pod.pod.clone());
            report.stays.push(Staying { namespace, pod: name, because: *because });
            (PodFate::Stays, vec![because.why().to_owned()])
        }
        Disposition::Terminating => {
            if let Some(why) = obstacles::lingers(pod, look) {
                report.blocked.push(pod.blocked(None, why.clone()));
                return (PodFate::Blocked, vec![why]);
            }
            report.would_move.push(pod.pod.clone());
            (PodFate::Moves, vec!["it is on its way out already".to_owned()])
        }
        Disposition::Blocked(block) => {
            report.blocked.push(pod.blocked(None, block.why()));
            if pod.ends_by_itself() {
                report.ending.push(pod.blocked(None, block.why()));
            }
            (PodFate::Blocked, vec![block.why()])
        }
        Disposition::Evict => {
            report.is_zone_bound |= look.ties.get(&pod.pod.uid) == Some(&Tie::Zone);
            let reasons = obstacles::against(pod, look);
            if reasons.is_empty() {
                report.would_move.push(pod.pod.clone());
                let caution = pod.facts.tolerates_cordon().then(|| MAY_RETURN.to_owned());
                let losses = pod.facts.volumes.iter().filter_map(Mounted::loss);
                return (PodFate::Moves, caution.into_iter().chain(losses).collect());
            }
            let whys = reasons.iter().map(|reason| reason.why.clone()).collect();
            report.blocked.extend(reasons);
            (PodFate::Blocked, whys)
        }
    }
}

fn workload_of(pod: &NodePod, look: &Observation) -> String {
    let Some(owner) = &pod.controller else { return String::new() };
    look.workloads.get(owner).map_or_else(|| owner.to_string(), |workload| workload.name.clone())
}

/// Returns the control plane as the owner, if a pod that goes with the node is a part of it.
fn control_plane(pods: &[NodePod]) -> Option<NodeOwner> {
    let goes_with_node = |pod: &&NodePod| match pod.disposition {
        Disposition::Stays(Stay::Mirror) => true,
        Disposition::Stays(Stay::DaemonSet) => pod.pod.namespace == "kube-system",
        _ => false,
    };
    let mut going = pods.iter().filter(goes_with_node);
    let part = going.find(|pod| ownership::control_plane_pod(&pod.pod.pod, &pod.labels))?;
    Some(NodeOwner::ControlPlane(format!("pod {}/{}", part.pod.namespace, part.pod.pod)))
}

/// Returns the workloads that have all their replicas among the pods that would be evicted.
fn gathered(look: &Observation) -> Vec<Gathered> {
    let evicted = || look.pods.iter().filter(|pod| pod.disposition == Disposition::Evict);
    let all_here = |(owner, workload): (&Controller, &Workload)| {
        let replicas = workload.replicas?;
        let here: Vec<&NodePod> = evicted().filter(|pod| pod.controller.as_ref() == Some(owner)).collect();
        let first = here.first().filter(|_| here.len() >= replicas)?;
        let mut budgets = look.budgets.iter();
        let budget = budgets.find(|budget| budget.selects(&first.pod.namespace, &first.labels));
        let budget = budget.map(|budget| budget.name.clone());
        Some(Gathered { workload: workload.name.clone(), replicas: here.len(), budget })
    };
    look.workloads.iter().filter_map(all_here).collect()
}

#[cfg(test)]
mod tests;
