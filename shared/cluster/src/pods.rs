//! The pods of a node, and what a drain does with each.
//!
//! As `kubectl drain` sorts them, with the two refusals that it lifts by flags (pods without a
//! controller, `emptyDir`) lifted here by the pod's own annotations or by [`Policy`].

use std::collections::BTreeMap;

use kube::Client;
use serde::{Deserialize, Serialize};

use crate::error::ClusterError;
use crate::node::NodeName;

/// Pods per page of a list.
pub const PAGE_SIZE: u32 = 100;

/// What the owner of the cluster allows beyond the safe default (both `false`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Evict pods with `emptyDir` volumes: what is in them is lost (kubectl's
    /// `--delete-emptydir-data`).
    pub evict_local_storage: bool,
    /// Evict pods that no controller brings back (kubectl's `--force`).
    pub evict_unmanaged: bool,
}

/// A pod, this very one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name; a StatefulSet's pod comes back under the same one.
    pub pod: String,
    /// `metadata.uid`: tells the pod from the one that comes back under its name.
    pub uid: String,
}

/// The controller that owns a pod (`controller: true` in its owner references).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Controller {
    /// `ReplicaSet`, `StatefulSet`, `Job`, `DaemonSet`, or a custom kind.
    pub kind: String,
    /// The namespace of its pods.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Why a pod is no business of the drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stay {
    /// A DaemonSet would bring it back to this very node.
    DaemonSet,
    /// A static pod of the kubelet's, mirrored in the API.
    Mirror,
    /// It has succeeded or failed: nothing runs.
    Finished,
}

/// Why a pod may not be evicted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// No controller would bring it back, or its DaemonSet does not exist any more.
    Unmanaged,
    /// It keeps data in this `emptyDir` volume.
    LocalStorage(String),
    /// Its owner asks for peace, with this annotation.
    DoNotDisrupt(String),
}

/// What the drain does with a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// It stays and goes with the node.
    Stays(Stay),
    /// It is evicted.
    Evict,
    /// It is on its way out already: nothing to do but wait.
    Terminating,
    /// It may not be evicted; the drain can't finish.
    Blocked(Block),
}

/// A pod of the node, as much as a drain needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePod {
    /// Which pod.
    pub pod: PodRef,
    /// Who would bring it back.
    pub controller: Option<Controller>,
    /// `metadata.labels`, which budgets select by.
    pub labels: BTreeMap<String, String>,
    /// Names of the PersistentVolumeClaims that it mounts.
    pub claims: Vec<String>,
    /// It mounts an EBS volume without a claim (`awsElasticBlockStore` in its own spec).
    pub has_inline_ebs: bool,
    /// Condition `Ready` is `True`.
    pub is_ready: bool,
    /// What the drain does with it.
    pub disposition: Disposition,
}

/// A pod that stands in the way, for a person to read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Blocked {
    /// The pod's name.
    pub pod: String,
    /// Its namespace.
    pub namespace: String,
    /// The PodDisruptionBudget that forbids the eviction, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// Why, and what would help.
    pub why: String,
}

/// All pods of a node, sorted by namespace and name. Lists in pages of [`PAGE_SIZE`], then asks
/// once for each DaemonSet whether it still exists.
pub async fn on_node(client: &Client, node: &NodeName, policy: Policy) -> Result<Vec<NodePod>, ClusterError> {
    todo!("{node} {policy:?}")
}
