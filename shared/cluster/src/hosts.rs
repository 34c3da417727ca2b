//! Pods that keep apart from each other by node, or stay together on one: whether other nodes can have them once this
//! one leaves. Only the cluster's other nodes, and where the pods' peers run, can tell; asked where it matters.
//!
//! A cordon does not keep off a pod that tolerates it. Nobody can tell where the scheduler puts such a pod while several
//! nodes would do. This module names the pods that must return to the node. The drain counts those that return by the
//! scheduler's choice ([`crate::drain`]).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::Client;

use crate::controllers::{self, Workload};
use crate::error::ClusterError;
use crate::node::{self, Node};
use crate::pods::{self, Disposition, NodePod};
use crate::spec::Facts;

/// The nodes that take pods, this one and its newcomer left out, and the peers of pods that spread.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hosts {
    /// Each other node that is Ready and schedulable.
    pub(crate) others: Vec<Node>,
    /// Peers on each node, by the UID of the pod that spreads: one entry for each of its spreads.
    pub(crate) peers: BTreeMap<String, Vec<BTreeMap<String, usize>>>,
    /// The newcomer is among `others` by now.
    pub(crate) has_newcomer: bool,
}

/// Looks at the other nodes, if a pod that moves keeps apart from its peers in a way that counts them.
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

/// Counts the pods that a spread counts, by their node.
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
        .filter(|pod| pods::is_alive(pod))
        .filter_map(|pod: &Pod| pod.spec.as_ref()?.node_name.clone());
    for node in nodes {
        *counts.entry(node).or_default() += 1;
    }
    Ok(counts)
}

/// The spread's selector, narrowed by the pod's own values of `matchLabelKeys`.
fn selector(pod: &NodePod, spread: &TopologySpreadConstraint) -> Option<LabelSelector> {
    let mut selector = spread.label_selector.clone()?;
    let own = spread.match_label_keys.iter().flatten().filter_map(|key| {
        let values = vec![pod.labels.get(key)?.clone()];
        Some(LabelSelectorRequirement { key: key.clone(), operator: "In".to_owned(), values: Some(values) })
    });
    selector.match_expressions.get_or_insert_default().extend(own);
    Some(selector)
}

/// The cordon does not keep its replacement off the node, and one node holds one such pod.
fn keeps_apart_in_spite_of_cordon(pod: &NodePod) -> bool {
    pod.facts.tolerates_cordon() && pod.facts.is_one_per_node(&pod.labels)
}

/// Says why `pod` would return to this node, or find none.
pub(crate) fn obstacle(
    pod: &NodePod,
    workload: Option<&Workload>,
    all: &[NodePod],
    hosts: &Hosts,
    this: &Node,
) -> Option<String> {
    returns(pod, workload, hosts).or_else(|| short_of_domains(pod, all, hosts, this))
}

/// Says why a pod that tolerates the cordon would follow those of its peers that are still on the node.
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

/// A pod that runs in spite of the cordon, one on each node, comes back to this one unless another is free.
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

/// While this node, cordoned and empty, counts as a domain with no pod, no other node may hold more than
/// `maxSkew`: what doesn't fit stays Pending until the node is gone, which waits for it; or it returns, if the cordon
/// doesn't keep it off.
fn short_of_domains(pod: &NodePod, all: &[NodePod], hosts: &Hosts, this: &Node) -> Option<String> {
    let counts = hosts.peers.get(&pod.pod.uid)?;
    pod.facts.spreads.iter().zip(counts).find_map(|(spread, peers)| {
        let skew = usize::try_from(spread.max_skew).unwrap_or(1);
        let free = |node: &Node| skew.saturating_sub(peers.get(node.name.as_str()).copied().unwrap_or(0));
        let room: usize = hosts.open_to(&pod.facts).map(free).sum::<usize>() + skew * hosts.to_come();
        // A spread counts pods that may be another controller's; those that move must fit.
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

/// Pods of the same controller that are to be evicted from this node.
fn moving_with(pod: &NodePod, all: &[NodePod]) -> usize {
    let peers = all
        .iter()
        .filter(|other| other.disposition == Disposition::Evict && other.controller == pod.controller);
    peers.count()
}

impl Hosts {
    /// Nodes that the swap adds to `others`.
    fn to_come(&self) -> usize {
        usize::from(!self.has_newcomer)
    }

    /// Nodes among `others` whose labels and taints let the pod in.
    fn open_to(&self, facts: &Facts) -> impl Iterator<Item = &Node> {
        self.others.iter().filter(|node| facts.fits(node))
    }
}

/// The pods that are asked about.
pub(crate) fn moving(pods: &[NodePod]) -> Vec<&NodePod> {
    let mut seen = BTreeSet::new();
    // One pod speaks for all of its controller.
    let evicted = pods.iter().filter(|pod| pod.disposition == Disposition::Evict);
    evicted.filter(|pod| pod.controller.as_ref().is_none_or(|owner| seen.insert(owner.clone()))).collect()
}

#[cfg(test)]
#[path = "hosts_tests.rs"]
mod tests;
