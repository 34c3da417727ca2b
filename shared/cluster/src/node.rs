//! Nodes: finds the node of an instance, says if a node is fit for pods, cordons and uncordons, and keeps
//! Cluster Autoscaler away.
//!
//! Each of our changes bears a mark (an annotation), so that we never undo another's change, and another's
//! never passes for ours.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use spot_domain::InstanceId;
pub use spot_domain::ids::NodeName;

use crate::amount::{Amount, Amounts};
use crate::error::{ClusterError, Kind, failed};
use crate::ownership::{self, NodeOwner};
use crate::pages;

/// Names the swap that cordoned the node; its value is the caller's mark.
pub const CORDONED_BY: &str = "spot-optimizer/cordoned-by";
/// Stands beside [`CORDONED_BY`] if we set [`EXCLUDE_FROM_LOAD_BALANCERS`].
pub const EXCLUDED_BY: &str = "spot-optimizer/excluded-from-load-balancers-by";
/// Takes the node out of external load balancers during the drain
/// (<https://kubernetes.io/docs/reference/labels-annotations-taints/>).
pub const EXCLUDE_FROM_LOAD_BALANCERS: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Cluster Autoscaler removes no node with this annotation at `"true"`
/// (<https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md>).
pub const SCALE_DOWN_DISABLED: &str = "cluster-autoscaler.kubernetes.io/scale-down-disabled";
/// Stands beside [`SCALE_DOWN_DISABLED`] if we set it.
pub const KEPT_BY: &str = "spot-optimizer/scale-down-disabled-by";

/// A node, as much as a swap needs of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// `metadata.name`, which may differ from the instance's private DNS name.
    pub name: NodeName,
    /// `metadata.uid`: a node that was deleted and registered again has another UID.
    pub uid: String,
    /// The instance in `spec.providerID`; absent on Fargate and outside AWS.
    pub instance_id: Option<InstanceId>,
    /// `topology.kubernetes.io/zone`: a zone's *name*.
    pub zone: Option<String>,
    /// True if the condition `Ready` is `True`.
    pub is_ready: bool,
    /// `spec.unschedulable`, by any cordon.
    pub is_unschedulable: bool,
    /// The mark of our cordon ([`CORDONED_BY`]).
    pub cordoned_by: Option<String>,
    /// All taints that keep pods off (`NoSchedule`, `NoExecute`), as kubectl writes them
    /// (`key=value:effect`), except the cordon's own `node.kubernetes.io/unschedulable`.
    /// [`Node::taints_beyond`] returns the ones that mean "not yet".
    pub startup_taints: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// `status.allocatable`: the most that all pods of the node may request together.
    #[serde(default)]
    pub allocatable: Amounts,
    /// True if an annotation keeps Cluster Autoscaler off the node, whoever set it.
    #[serde(default)]
    pub is_kept: bool,
    /// Another manager of the node.
    pub owner: Option<NodeOwner>,
    /// The key of the taint by which another system announces that it is about to remove the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<String>,
}

/// Nodes in a page of a list. A node lists its images, which makes it large.
const PAGE_SIZE: u32 = 100;
/// Attempts for a patch that lost against the kubelet's own writes.
const ATTEMPTS: u32 = 3;
/// Taints of the node's own condition (not ready, unreachable, pressure).
const CONDITIONS: &str = "node.kubernetes.io/";
/// Prefixes of taint keys that say what is happening to a node, not what the node is for. The node's cloud
/// controller sets such taints, Cluster Autoscaler for a scale-down, aws-node-termination-handler and
/// Karpenter for a drain.
const EVENTS: [&str; 6] = [
    CONDITIONS,
    "node.cloudprovider.kubernetes.io/",
    "ToBeDeletedByClusterAutoscaler",
    "DeletionCandidateOfClusterAutoscaler",
    "aws-node-termination-handler/",
    "karpenter.sh/disrupt",
];
/// The suffix of keys by which agents keep pods off until they run (`node.cilium.io/agent-not-ready`).
const NOT_READY: &str = "not-ready";

/// The outcome of a [`cordon`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cordon {
    /// The node is unschedulable and bears our mark.
    Ours,
    /// Another had cordoned the node before, or the node bears another mark: nothing was changed.
    ByOther,
}

impl Node {
    /// Returns the taints that keep pods off this node and that `old` does not have. On a newcomer they mean
    /// "not yet": its network agent or cloud controller has not finished. A taint that Kubernetes sets for a
    /// node's condition (`node.kubernetes.io/…`) counts even if `old` has it. Empty = fit for the pods of
    /// `old`.
    #[must_use]
    pub fn taints_beyond(&self, old: &Node) -> Vec<String> {
        let is_own = |taint: &String| old.startup_taints.contains(taint) && !taint.starts_with(CONDITIONS);
        self.startup_taints.iter().filter(|taint| !is_own(taint)).cloned().collect()
    }

    /// Returns the taints that say what the node is for, whoever set them. The replacement must have them
    /// too; without them, strangers are scheduled there.
    pub(crate) fn taints_to_keep(&self) -> impl Iterator<Item = &String> {
        self.startup_taints.iter().filter(|taint| {
            let key = taint.split(['=', ':']).next().unwrap_or_default();
            !(EVENTS.iter().any(|event| key.starts_with(event)) || key.ends_with(NOT_READY))
        })
    }
}

/// Returns the node of this instance, by `spec.providerID`. Returns `None` if the node has not joined (yet),
/// or is gone. Lists all nodes in pages.
pub async fn find(client: &Client, instance: &InstanceId) -> Result<Option<Node>, ClusterError> {
    Ok(naming(client, instance).await?.into_iter().next())
}

/// Returns every node that names this instance. If there are two, one of them is stale, and nothing shows
/// which.
///
/// # Errors
/// The nodes can't be listed.
pub async fn naming(client: &Client, instance: &InstanceId) -> Result<Vec<Node>, ClusterError> {
    listed(client, |node| instance_of(node).as_ref() == Some(instance)).await
}

/// Returns every node.
///
/// # Errors
/// The nodes can't be listed.
pub async fn all(client: &Client) -> Result<Vec<Node>, ClusterError> {
    listed(client, |_| true).await
}

/// Returns every node that is Ready and takes pods.
///
/// # Errors
/// The nodes can't be listed.
pub(crate) async fn schedulable(client: &Client) -> Result<Vec<Node>, ClusterError> {
    listed(client, |node| is_ready(node) && !is_unschedulable(node)).await
}

/// Returns every node that bears `mark`: the ones that [`cordon`] and [`keep`] changed, even if the caller
/// has died since.
///
/// # Errors
/// The nodes can't be listed.
pub async fn marked(client: &Client, mark: &str) -> Result<Vec<Node>, ClusterError> {
    listed(client, |node| is_marked(node, mark)).await
}

async fn listed(client: &Client, is_it: impl Fn(&core::Node) -> bool) -> Result<Vec<Node>, ClusterError> {
    let found = pages::select(&api(client), "list nodes", ListParams::default(), PAGE_SIZE, is_it).await?;
    found.iter().map(look_at).collect()
}

/// Returns one node by name; `None` if it does not exist.
pub async fn get(client: &Client, name: &NodeName) -> Result<Option<Node>, ClusterError> {
    let node = raw(client, name).await?;
    node.map(|node| look_at(&node)).transpose()
}

/// Makes the node unschedulable, marks that as ours, and takes the node out of external load balancers. One
/// patch does all three and can't overwrite another's change. Safe to repeat.
///
/// # Errors
/// `NotFound` if the node is gone; `Conflict` if the node changed between read and patch, three times in a
/// row.
pub async fn cordon(client: &Client, name: &NodeName, mark: &str) -> Result<Cordon, ClusterError> {
    let mut attempt = 1;
    loop {
        let Some(node) = raw(client, name).await? else {
            let message = "the node is gone".to_owned();
            let reason = "NotFound".to_owned();
            let gone = ClusterError::malformed("get nodes", name.to_string(), message);
            return Err(ClusterError { kind: Kind::NotFound, reason, ..gone });
        };
        if is_unschedulable(&node) {
            let is_ours = annotation(&node, CORDONED_BY) == Some(mark);
            return Ok(if is_ours { Cordon::Ours } else { Cordon::ByOther });
        }
        match patch(client, name, &cordoned(&node, mark)).await {
            Ok(()) => return Ok(Cordon::Ours),
            Err(error) if error.kind == Kind::Conflict && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Keeps Cluster Autoscaler from removing the node: a node that pods are to move to is empty for a while. An
/// owner's own annotation stays, whatever its value. A node that is gone is fine. Safe to repeat.
///
/// # Errors
/// As [`cordon`], without `NotFound`.
pub async fn keep(client: &Client, name: &NodeName, mark: &str) -> Result<(), ClusterError> {
    change(client, name, |node| {
        let is_set = annotation(node, SCALE_DOWN_DISABLED).is_some();
        (!is_set).then(|| kept(node, mark))
    })
    .await
}

/// Undoes our own cordon and [`keep`], if the node bears `mark`; if not, nothing is changed. A node that is
/// gone is fine. Safe to repeat.
///
/// # Errors
/// As [`cordon`], without `NotFound`.
pub async fn uncordon(client: &Client, name: &NodeName, mark: &str) -> Result<(), ClusterError> {
    change(client, name, |node| is_marked(node, mark).then(|| unmarked(node, mark))).await
}

/// Patches the node as `wanted` says from its present state. Repeats the patch if another client was faster.
async fn change(
    client: &Client,
    name: &NodeName,
    wanted: impl Fn(&core::Node) -> Option<Value>,
) -> Result<(), ClusterError> {
    let mut attempt = 1;
    loop {
        let Some(node) = raw(client, name).await? else { return Ok(()) };
        let Some(wanted) = wanted(&node) else { return Ok(()) };
        match patch(client, name, &wanted).await {
            Err(error) if error.kind == Kind::NotFound => return Ok(()),
            Err(error) if error.kind == Kind::Conflict && attempt < ATTEMPTS => attempt += 1,
            answer => return answer,
        }
    }
}

fn api(client: &Client) -> Api<core::Node> {
    Api::all(client.clone())
}

async fn raw(client: &Client, name: &NodeName) -> Result<Option<core::Node>, ClusterError> {
    api(client).get_opt(name.as_str()).await.map_err(failed("get nodes", name.as_str()))
}

async fn patch(client: &Client, name: &NodeName, change: &Value) -> Result<(), ClusterError> {
    let answer = api(client).patch(name.as_str(), &PatchParams::default(), &Patch::Merge(change)).await;
    answer.map(drop).map_err(failed("patch nodes", name.as_str()))
}

/// Makes the patch of a cordon. The patch's resource version makes the API server refuse the patch (409) if
/// the node has changed since.
fn cordoned(node: &core::Node, mark: &str) -> Value {
    let mut annotations = json!({ CORDONED_BY: mark });
    let mut labels = json!({});
    if !node.metadata.labels.iter().flatten().any(|(key, _)| key == EXCLUDE_FROM_LOAD_BALANCERS) {
        annotations[EXCLUDED_BY] = json!(mark);
        labels[EXCLUDE_FROM_LOAD_BALANCERS] = json!("true");
    }
    let version = &node.metadata.resource_version;
    let metadata = json!({ "resourceVersion": version, "annotations": annotations, "labels": labels });
    json!({ "metadata": metadata, "spec": { "unschedulable": true } })
}

fn kept(node: &core::Node, mark: &str) -> Value {
    let version = &node.metadata.resource_version;
    let annotations = json!({ SCALE_DOWN_DISABLED: "true", KEPT_BY: mark });
    json!({ "metadata": { "resourceVersion": version, "annotations": annotations } })
}

/// Makes the patch that takes back each change that bears `mark`, and no other.
fn unmarked(node: &core::Node, mark: &str) -> Value {
    let is_ours = |key: &str| annotation(node, key) == Some(mark);
    let (mut annotations, mut labels, mut spec) = (json!({}), json!({}), json!({}));
    if is_ours(CORDONED_BY) {
        annotations[CORDONED_BY] = Value::Null;
        annotations[EXCLUDED_BY] = Value::Null;
        spec["unschedulable"] = Value::Null;
    }
    if is_ours(EXCLUDED_BY) {
        labels[EXCLUDE_FROM_LOAD_BALANCERS] = Value::Null;
    }
    if is_ours(KEPT_BY) {
        annotations[KEPT_BY] = Value::Null;
        annotations[SCALE_DOWN_DISABLED] = Value::Null;
    }
    let version = &node.metadata.resource_version;
    let metadata = json!({ "resourceVersion": version, "annotations": annotations, "labels": labels });
    json!({ "metadata": metadata, "spec": spec })
}

fn is_marked(node: &core::Node, mark: &str) -> bool {
    [CORDONED_BY, KEPT_BY].iter().any(|key| annotation(node, key) == Some(mark))
}

fn look_at(node: &core::Node) -> Result<Node, ClusterError> {
    let name = node.metadata.name.clone().unwrap_or_default();
    let labels = node.metadata.labels.clone().unwrap_or_default();
    Ok(Node {
        uid: node.metadata.uid.clone().unwrap_or_default(),
        instance_id: instance_of(node),
        zone: labels.get("topology.kubernetes.io/zone").cloned(),
        is_ready: is_ready(node),
        is_unschedulable: is_unschedulable(node),
        cordoned_by: annotation(node, CORDONED_BY).map(str::to_owned),
        startup_taints: taints(node),
        allocatable: allocatable(node),
        is_kept: annotation(node, SCALE_DOWN_DISABLED).is_some(),
        owner: ownership::owner(node),
        leaving: ownership::leaving(node),
        labels,
        name: NodeName::try_from(name)
            .map_err(|e| ClusterError::malformed("get nodes", e.given.clone(), e.to_string()))?,
    })
}

/// Parses `aws:///us-east-1a/i-…`, `aws:////i-…` or the bare id: the form depends on the component that set
/// it.
fn instance_of(node: &core::Node) -> Option<InstanceId> {
    let provider_id = node.spec.as_ref()?.provider_id.as_deref()?;
    provider_id.rsplit('/').next()?.parse().ok()
}

fn is_ready(node: &core::Node) -> bool {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn is_unschedulable(node: &core::Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false)
}

fn annotation<'a>(node: &'a core::Node, key: &str) -> Option<&'a str> {
    node.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Reads what the node offers. An amount that can't be read counts as nothing.
fn allocatable(node: &core::Node) -> Amounts {
    let offers = node.status.iter().flat_map(|status| status.allocatable.iter().flatten());
    offers.map(|(name, quantity)| (name.clone(), Amount::parse(quantity).unwrap_or_default())).collect()
}

fn taints(node: &core::Node) -> Vec<String> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints
        .filter(|taint| taint.effect != "PreferNoSchedule" && taint.key != "node.kubernetes.io/unschedulable")
        .map(|taint| match taint.value.as_deref().filter(|value| !value.is_empty()) {
            Some(value) => format!("{}={value}:{}", taint.key, taint.effect),
            None => format!("{}:{}", taint.key, taint.effect),
        })
        .collect()
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
pub(crate) fn from_object(node: Value) -> Node {
    look_at(&serde_json::from_value(node).unwrap()).unwrap()
}
