//! What a drain would do, from one look, before anything is changed.

use kube::Client;
use serde::Serialize;

use crate::budgets::Budget;
use crate::error::ClusterError;
use crate::node::{Node, NodeName};
use crate::pods::{NodePod, Policy, PodRef, Stay};
use crate::volumes::Ties;

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
    todo!("{node:?} {policy:?}")
}

/// What a drain of this node would do. Pure.
#[must_use]
pub fn report(look: &Look) -> Report {
    todo!("{look:?}")
}
