//! Pods that keep apart from each other by node: whether there are nodes enough for them once this one
//! leaves. Only the cluster's other nodes, and where the pods' peers run, can tell; asked where it matters.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node as CoreNode, Pod, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::api::ListParams;
use kube::{Api, Client};

use crate::controllers::{self, Workload};
use crate::error::ClusterError;
use crate::node::Node;
use crate::pages;
use crate::pods::{self, Disposition, NodePod};
use crate::spec::Facts;

/// Nodes per page: a node lists its images, which makes it large.
const PAGE_SIZE: u32 = 100;

/// The nodes that take pods, this one and its newcomer left out, and the peers of pods that spread.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hosts {
    /// Labels of each node that is schedulable.
    pub(crate) others: BTreeMap<String, BTreeMap<String, String>>,
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
    let is_open = |other: &CoreNode| {
        let is_cordoned = other.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        !is_cordoned && other.metadata.name.as_deref() != Some(node.name.as_str())
    };
    let api: Api<CoreNode> = Api::all(client.clone());
    let open = pages::select(&api, "list nodes", ListParams::default(), PAGE_SIZE, is_open).await?;
    let labelled = |node: CoreNode| Some((node.metadata.name?, node.metadata.labels.unwrap_or_default()));
    let mut hosts = Hosts {
        others: open.into_iter().filter_map(labelled).collect(),
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
    pod.facts.tolerates_cordon && pod.facts.is_one_per_node(&pod.labels)
}

/// Says why `pod` would return to this node, or find none.
pub(crate) fn obstacle(
    pod: &NodePod,
    workload: Option<&Workload>,
    all: &[NodePod],
    hosts: &Hosts,
    this: &Node,
) -> Option<String> {
    returns(pod, workload, hosts).or_else(|| stays_pending(pod, all, hosts, this))
}

/// A pod that runs in spite of the cordon, one on each node, comes back to this one unless another is free.
fn returns(pod: &NodePod, workload: Option<&Workload>, hosts: &Hosts) -> Option<String> {
    if !keeps_apart_in_spite_of_cordon(pod) {
        return None;
    }
    let replicas = workload?.replicas?;
    let room = hosts.others.values().filter(|labels| fits(&pod.facts, labels)).count() + hosts.to_come();
    (replicas > room).then(|| {
        format!(
            "the pod tolerates the cordon and shares no node with its peers: {replicas} replicas need as many nodes, and \
             without this one there are {room}, so that it would return here; lower its replicas, or narrow its \
             tolerations"
        )
    })
}

/// While this node, cordoned and empty, counts as a domain with no pod, no other node may hold more than
/// `maxSkew`: what doesn't fit stays Pending until the node is gone, which waits for it.
fn stays_pending(pod: &NodePod, all: &[NodePod], hosts: &Hosts, this: &Node) -> Option<String> {
    let counts = hosts.peers.get(&pod.pod.uid)?;
    pod.facts.spreads.iter().zip(counts).find_map(|(spread, peers)| {
        let skew = usize::try_from(spread.max_skew).unwrap_or(1);
        let free = |name: &String| skew.saturating_sub(peers.get(name).copied().unwrap_or(0));
        let open = hosts.others.iter().filter(|(_, labels)| fits(&pod.facts, labels));
        let room: usize = open.map(|(name, _)| free(name)).sum::<usize>() + skew * hosts.to_come();
        // A spread counts pods that may be another controller's; those that move must fit.
        let moving = all.iter().filter(|other| {
            other.disposition == Disposition::Evict && other.controller == pod.controller
        });
        let moving = moving.count().min(peers.get(this.name.as_str()).copied().unwrap_or(0));
        (moving > room).then(|| {
            format!(
                "its topologySpreadConstraint (maxSkew {}, {}, DoNotSchedule) counts the cordoned node as an empty one: of \
                 {moving} pods here, {room} would find a place; set nodeTaintsPolicy: Honor or whenUnsatisfiable: \
                 ScheduleAnyway",
                spread.max_skew, spread.topology_key
            )
        })
    })
}

impl Hosts {
    /// Nodes that the swap adds to `others`.
    fn to_come(&self) -> usize {
        usize::from(!self.has_newcomer)
    }
}

/// The node's labels fit the pod's node selector. Affinity is not asked: too many nodes are better here
/// than a refusal that is wrong.
fn fits(facts: &Facts, labels: &BTreeMap<String, String>) -> bool {
    facts.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
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
