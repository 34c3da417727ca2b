//! Volumes: which of them tie a pod to its zone or to its very node, and which a node still holds.

use std::collections::BTreeMap;

use kube::Client;

use crate::error::ClusterError;
use crate::node::NodeName;
use crate::pods::NodePod;

/// Where a pod must run because of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tie {
    /// In the volume's Availability Zone (EBS).
    Zone,
    /// On this very node (a `local` or `hostPath` PersistentVolume): it can't move.
    Node,
}

/// The tightest tie of each pod that has one, by the pod's UID.
pub type Ties = BTreeMap<String, Tie>;

/// Follows the claims of `pods` to their PersistentVolumes: one `get` for each claim, one for each
/// volume. A claim that is not bound ties to nothing.
pub async fn ties(client: &Client, pods: &[NodePod]) -> Result<Ties, ClusterError> {
    todo!("{pods:?}")
}

/// Names of the PersistentVolumes that are still attached to the node. Terminating an instance
/// before they have gone costs about 6 minutes of forced detach for each.
pub async fn attached(client: &Client, node: &NodeName) -> Result<Vec<String>, ClusterError> {
    todo!("{node}")
}
