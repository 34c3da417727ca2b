//! Nodes: which one an instance is, whether it is fit for pods, cordon and uncordon.
//!
//! A cordon of ours bears a mark (an annotation), so that we never undo another's, and another's
//! never passes for ours.

use std::collections::BTreeMap;

use kube::Client;
use serde::{Deserialize, Serialize};
use spot_domain::InstanceId;
pub use spot_domain::ids::NodeName;

use crate::error::ClusterError;
use crate::ownership::NodeOwner;

/// Names who cordoned the node; its value is the caller's mark.
pub const CORDONED_BY: &str = "spot-optimizer/cordoned-by";
/// Kept beside [`CORDONED_BY`] when it was us who set [`EXCLUDE_FROM_LOAD_BALANCERS`].
pub const EXCLUDED_BY: &str = "spot-optimizer/excluded-from-load-balancers-by";
/// Takes the node out of external load balancers while it is drained
/// (<https://kubernetes.io/docs/reference/labels-annotations-taints/>).
pub const EXCLUDE_FROM_LOAD_BALANCERS: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// A node, as much as a swap needs of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// `metadata.name`. Not always the instance's private DNS name.
    pub name: NodeName,
    /// `metadata.uid`: a node that was deleted and registered again has another one.
    pub uid: String,
    /// From `spec.providerID`; absent on Fargate and outside AWS.
    pub instance_id: Option<InstanceId>,
    /// `topology.kubernetes.io/zone`: a zone's *name*.
    pub zone: Option<String>,
    /// Condition `Ready` is `True`.
    pub is_ready: bool,
    /// `spec.unschedulable`, whoever set it.
    pub is_unschedulable: bool,
    /// The mark of our cordon ([`CORDONED_BY`]).
    pub cordoned_by: Option<String>,
    /// Keys of all taints that keep pods off (`NoSchedule`, `NoExecute`), except the cordon's own
    /// `node.kubernetes.io/unschedulable`. Which of them mean "not yet":
    /// [`Node::taints_beyond`].
    pub startup_taints: Vec<String>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// Who else manages the node.
    pub owner: Option<NodeOwner>,
}

/// How a [`cordon`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cordon {
    /// The node is unschedulable and bears our mark.
    Ours,
    /// Somebody else had cordoned it before, or it bears another mark: nothing was changed.
    ByOther,
}

impl Node {
    /// Taints that keep pods off this node and that `old` does not have: of a newcomer they mean
    /// "not yet" (its network agent or cloud controller has not finished). Empty = fit for
    /// the pods of `old`.
    #[must_use]
    pub fn taints_beyond(&self, old: &Node) -> Vec<String> {
        todo!("{old:?}")
    }
}

/// The node that is this instance, by `spec.providerID`, or none: it has not joined (yet), or is
/// gone. Lists all nodes in pages.
pub async fn find(client: &Client, instance: &InstanceId) -> Result<Option<Node>, ClusterError> {
    todo!("{instance}")
}

/// One node by name; `None` if there is none.
pub async fn get(client: &Client, name: &NodeName) -> Result<Option<Node>, ClusterError> {
    todo!("{name}")
}

/// Makes the node unschedulable, marks that as ours, and takes it out of external load balancers:
/// one patch, that fails with [`Kind::Conflict`](crate::Kind::Conflict) if the node changed
/// between look and patch (the kubelet writes status often: call again). Safe to repeat.
///
/// # Errors
/// `NotFound` if the node is gone.
pub async fn cordon(client: &Client, name: &NodeName, mark: &str) -> Result<Cordon, ClusterError> {
    todo!("{name} {mark}")
}

/// Undoes our own cordon: only if the node bears `mark`, else nothing is changed. A node that is
/// gone is fine. Safe to repeat.
pub async fn uncordon(client: &Client, name: &NodeName, mark: &str) -> Result<(), ClusterError> {
    todo!("{name} {mark}")
}
