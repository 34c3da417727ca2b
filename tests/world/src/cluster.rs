//! The Kubernetes cluster whose nodes the instances are: its API server, and what its controllers do by themselves.
//!
//! Nodes follow the instances of the fleet. An evicted pod ends after a while, its controller makes another one, and the
//! scheduler binds it to a node that takes pods. A request that the world does not play is answered with 404, and fails the
//! history.

mod answers;
mod controllers;
mod nodes;
mod objects;
mod pods;
mod request;
mod server;
mod spec;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::fleet::Fleet;

pub(crate) use answers::{internal_error_of_server, no_cluster, not_played, too_many_requests};
pub use nodes::ClusterNode;
pub use pods::ClusterPod;
pub use server::ApiServer;
pub use spec::{BudgetSpec, ClusterSpec, WorkloadKind, WorkloadSpec};

/// A cluster of one account and region.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The name by which EKS knows it.
    pub name: String,
    workloads: Vec<WorkloadSpec>,
    budgets: Vec<BudgetSpec>,
    /// By name.
    nodes: BTreeMap<String, ClusterNode>,
    /// By UID.
    pods: BTreeMap<String, ClusterPod>,
    /// When each instance that boots joins.
    joins: BTreeMap<String, Timestamp>,
    /// The last `resourceVersion`, also the last number of a name or a UID.
    version: u64,
}

impl Cluster {
    /// Returns a cluster whose nodes are the instances of the fleet. All of its pods have long been Ready.
    #[must_use]
    pub fn of(spec: &ClusterSpec, fleet: &Fleet, now: Timestamp) -> Self {
        let mut cluster = Self {
            name: spec.name.clone(),
            workloads: spec.workloads.clone(),
            budgets: spec.budgets.clone(),
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            joins: BTreeMap::new(),
            version: 0,
        };
        for instance in fleet.instances().values() {
            let name = cluster.join(instance, now);
            cluster.node_is_ready(&name, true);
            cluster.add_mirror_pod(&name, now);
        }
        cluster.control(now);
        cluster.pods.values_mut().for_each(ClusterPod::has_long_been_ready);
        cluster
    }

    /// What the cluster does by itself has happened up to now.
    pub fn pass(&mut self, fleet: &Fleet, now: Timestamp) {
        self.follow_instances(fleet, now);
        self.run_pods(fleet, now);
        self.control(now);
    }

    /// Returns all nodes, by name.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<String, ClusterNode> {
        &self.nodes
    }

    /// Returns the node of an instance.
    #[must_use]
    pub fn node_of(&self, instance: &str) -> Option<&ClusterNode> {
        self.nodes.values().find(|node| node.instance_id == instance)
    }

    /// Returns all pods.
    pub fn pods(&self) -> impl Iterator<Item = &ClusterPod> {
        self.pods.values()
    }

    /// Returns the workloads.
    #[must_use]
    pub fn workloads(&self) -> &[WorkloadSpec] {
        &self.workloads
    }

    /// Returns the budgets.
    #[must_use]
    pub fn budgets(&self) -> &[BudgetSpec] {
        &self.budgets
    }

    /// Returns the number of the workload's pods that serve: Ready, and not asked to end.
    #[must_use]
    pub fn serving(&self, workload: &str) -> usize {
        self.pods().filter(|pod| pod.workload == workload && pod.serves()).count()
    }

    /// The owner of a workload sets its budget.
    pub fn owner_sets_budget(&mut self, name: &str, min_available: usize) {
        for budget in self.budgets.iter_mut().filter(|budget| budget.name == name) {
            budget.min_available = min_available;
        }
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }
}
