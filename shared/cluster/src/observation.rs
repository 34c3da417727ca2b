//! The observations of one look at a node, from which the forecast of its drain is made.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::budgets::Budget;
use crate::controllers::Workload;
use crate::hosts::Hosts;
use crate::node::Node;
use crate::pod::Controller;
use crate::pods::{NodePod, Policy};
use crate::volumes::Ties;

/// The bounds of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Pods that may be evicted.
    pub policy: Policy,
    /// Seconds that the drain may take.
    pub drain_timeout_seconds: u32,
}

/// The observations that the report is made from.
#[derive(Debug, Clone)]
pub struct Observation {
    pub node: Node,
    pub pods: Vec<NodePod>,
    /// The budgets of the pods' namespaces.
    pub budgets: Vec<Budget>,
    /// The ties of pods to the zone or the node.
    pub ties: Ties,
    /// The controllers of the pods that move.
    pub workloads: BTreeMap<Controller, Workload>,
    /// The other nodes, if pods keep apart from each other.
    pub hosts: Option<Hosts>,
    /// The bounds of the drain.
    pub terms: Terms,
    /// The time of the look.
    pub at: Timestamp,
}
