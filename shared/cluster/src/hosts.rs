//! Pods that keep apart by node, or stay together on one: whether other nodes can hold them once this one
//! leaves. Only the cluster's other nodes, and the nodes of the pods' peers, can show that. This module reads
//! the nodes only if a pod depends on them.
//!
//! A cordon does not keep off a pod that tolerates it. If several nodes would do, the scheduler's choice for
//! such a pod can't be foreseen. This module names the pods that must return to the node. The drain counts
//! those that return by the scheduler's choice ([`crate::drain`]).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::Client;

use crate::controllers::{self, Workload};
use crate::error::ClusterError;
use crate::node::{self, Node};
use crate::pod;
use crate::pods::{Disposition, NodePod};
use crate::spec::Facts;

/// The nodes that take pods, except this one and its newcomer, and the peers of pods that spread.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hosts {
    /// The other nodes that are Ready and schedulable.
    pub(crate) others: Vec<Node>,
    /// Peers on each node, by the UID of the pod that spreads: one entry for each of its spreads.
    pub(crate) peers: BTreeMap<String, Vec<BTreeMap<String, usize>>>,
    /// True if the newcomer is among `others` by now.
    pub(crate) has_newcomer: bool,
}

/// Reads the other nodes, if a pod that moves keeps apart from its peers in a way that counts nodes.
pub(crate) async fn look(
    client: &Client,
    node: &Node,
    moving: &[&NodePod],
) -> Result<Option<Hosts>, ClusterError> {
    let spreading: Vec<&&NodePod> = moving.iter().filter(|pod| !pod.facts.spreads.is_empty()).collect();
    if spreading.is_empty() && !moving.iter().any(|pod| keeps_apart_in_spite_of_cordon(pod)) {
        return Ok(None);
    }
    let open = node::schedulable(client).await?;
    let mut hosts = Hosts {
        others: open.into_iter().filter(|other| other.name != node.name).collect(),
        peers: BTreeMap::new(),
        // A cordon of ours stands only while there is a newcomer.
        has_newcomer: node.cordoned_by.is_some(),
    };
    for pod in spreading {
        let mut counts = Vec::new();
        for spread in &pod.facts.spreads {
            counts.push(peers(client, pod, spread).await?);
        }
        hosts.peers.insert(pod.pod.uid.clone(), counts);
    }
    Ok(Some(hosts))
}

/// Counts the peers of a spread, by node.
async fn peers(
    client: &Client,
    pod: &NodePod,
    spread: &TopologySpreadConstraint,
) -> Result<BTreeMap<String, usize>, ClusterError> {
    let mut counts = BTreeMap::new();
    let Some(selector) = selector(pod, spread) else { return Ok(counts) };
    let found = controllers::selected(client, &pod.pod.namespace, &selector).await?;
    let nodes = found
        .iter()
        .filter(|pod| pod::is_alive(pod))
        .filter_map(|pod: &Pod| pod.spec.as_ref()?.node_name.clone());
    for node in nodes {
        *counts.entry(node).or_default() += 1;
    }
    Ok(counts)
}

/// Returns the spread's selector, narrowed by the pod's own values of `matchLabelKeys`.
fn selector(pod: &NodePod, spread: &TopologySpreadConstraint) -> Option<LabelSelector> {
    let mut selector = spread.label_selector.clone()?;
    let own = spread.match_label_keys.iter().flatten().filter_map(|key| {
        let values = vec![pod.labels.get(key)?.clone()];
        Some(LabelSelectorRequirement { key: key.clone(), operator: "In".to_owned(), values: Some(values) })
    });
    selector.match_expressions.get_or_insert_default().extend(own);
    Some(selector)
}

/// Returns true if a node holds only one such pod, and the cordon does not keep the pod's replacement off the
/// node.
fn keeps_apart_in_spite_of_cordon(pod: &NodePod) -> bool {
    pod.facts.tolerates_cordon() && pod.facts.is_one_per_node(&pod.labels)
}

/// Returns the reason why `pod` would return to this node, or find no node.
pub(crate) fn obstacle(
    pod: &NodePod,
    workload: Option<&Workload>,
    all: &[NodePod],
    hosts: &Hosts,
    this: &Node,
) -> Option<String> {
    returns(pod, workload, hosts).or_else(|| short_of_domains(pod, all, hosts, this))
}

/// Returns the reason why a pod that tolerates the cordon would follow its peers that are still on the node.
pub(crate) fn follows_its_peers(pod: &NodePod, all: &[NodePod]) -> Option<String> {
    let here = moving_with(pod, all);
    let is_drawn = pod.facts.tolerates_cordon() && pod.facts.is_together(&pod.labels) && here > 1;
    is_drawn.then(|| {
        format!(
            "the pod tolerates the cordon, and its required podAffinity keeps it with its peers, {here} of which are here: the \
             first that is evicted would return to them; prefer the affinity, or narrow its tolerations"
        )
    })
}

/// Returns the reason why a pod comes back to this node: it tolerates the cordon, runs once on each node, and
/// no other node is free.
fn returns(pod: &NodePod, workload: Option<&Workload>, hosts: &Hosts) -> Option<String> {
    if !keeps_apart_in_spite_of_cordon(pod) {
        return None;
    }
    let replicas = workload?.replicas?;
    let room = hosts.open_to(&pod.facts).count() + hosts.to_come();
    (replicas > room).then(|| {
        format!(
            "the pod tolerates the cordon and shares no node with its peers: {replicas} replicas need as many nodes, and \
             without this one there are {room}, so that it would return here; lower its replicas, or narrow its \
             tolerations"
        )
    })
}

/// Returns the reason why a spread leaves the pod no other node. This node, cordoned and empty, counts as a
/// domain with no pod. Meanwhile no other node may hold more than `maxSkew` pods. A pod beyond that stays
/// Pending until this node is gone, and the node waits for the pod. If the cordon doesn't keep the pod off,
/// the pod returns.
fn short_of_domains(pod: &NodePod, all: &[NodePod], hosts: &Hosts, this: &Node) -> Option<String> {
    let counts = hosts.peers.get(&pod.pod.uid)?;
    pod.facts.spreads.iter().zip(counts).find_map(|(spread, peers)| {
        let skew = usize::try_from(spread.max_skew).unwrap_or(1);
        let free = |node: &Node| skew.saturating_sub(peers.get(node.name.as_str()).copied().unwrap_or(0));
        let room: usize = hosts.open_to(&pod.facts).map(free).sum::<usize>() + skew * hosts.to_come();
        // A spread may count pods of another controller. The pods that move must fit.
        let moving = moving_with(pod, all).min(peers.get(this.name.as_str()).copied().unwrap_or(0));
        (moving > room).then(|| {
            let way_out = if pod.facts.tolerates_cordon() {
                "the others would return here, since they tolerate the cordon; narrow their tolerations and set \
                 nodeTaintsPolicy: Honor, or set whenUnsatisfiable: ScheduleAnyway"
            } else {
                "set nodeTaintsPolicy: Honor or whenUnsatisfiable: ScheduleAnyway"
            };
            format!(
                "its topologySpreadConstraint (maxSkew {}, {}, DoNotSchedule) counts the cordoned node as an empty one: of \
                 {moving} pods here, {room} would find a place; {way_out}",
                spread.max_skew, spread.topology_key
            )
        })
    })
}

/// Counts the pods of the same controller that are to be evicted from this node.
fn moving_with(pod: &NodePod, all: &[NodePod]) -> usize {
    let peers = all
        .iter()
        .filter(|other| other.disposition == Disposition::Evict && other.controller == pod.controller);
    peers.count()
}

impl Hosts {
    /// Counts the nodes that the swap adds to `others`.
    fn to_come(&self) -> usize {
        usize::from(!self.has_newcomer)
    }

    /// Returns the nodes among `others` whose labels and taints let the pod in.
    fn open_to(&self, facts: &Facts) -> impl Iterator<Item = &Node> {
        self.others.iter().filter(|node| facts.fits(node))
    }
}

/// Returns the pods to ask about.
pub(crate) fn moving(pods: &[NodePod]) -> Vec<&NodePod> {
    let mut seen = BTreeSet::new();
    // One pod speaks for all pods of its controller.
    let evicted = pods.iter().filter(|pod| pod.disposition == Disposition::Evict);
    evicted.filter(|pod| pod.controller.as_ref().is_none_or(|owner| seen.insert(owner.clone()))).collect()
}

#[cfg(test)]
mod tests;
