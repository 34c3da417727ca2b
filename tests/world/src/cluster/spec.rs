//! What a scene asks of a cluster.

use jiff::SignedDuration;

/// The namespace of all workloads.
pub(super) const NAMESPACE: &str = "shop";

/// A cluster, as a scene asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSpec {
    /// The name by which EKS knows it.
    pub name: String,
    /// The workloads. Each has its own name as the label `app`.
    pub workloads: Vec<WorkloadSpec>,
    /// The budgets.
    pub budgets: Vec<BudgetSpec>,
}

/// The kind of a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkloadKind {
    /// Makes another pod as soon as one is asked to end.
    ReplicaSet,
    /// Makes a pod again, under the same name, once the one before is gone.
    StatefulSet,
    /// Keeps a pod on each node, whether or not the node is cordoned.
    DaemonSet,
}

/// Pods of one template, and their controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadSpec {
    /// The name of the controller.
    pub name: String,
    /// The kind of the controller.
    pub kind: WorkloadKind,
    /// The number of pods; of no meaning for a `DaemonSet`.
    pub replicas: usize,
    /// The thousandths of a core that a pod requests.
    pub millicores: u32,
    /// From the binding to a node until a pod is Ready.
    pub starts_within: SignedDuration,
    /// From the eviction until a pod is gone.
    pub ends_within: SignedDuration,
}

/// A `PodDisruptionBudget` with `minAvailable`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetSpec {
    /// The name of the budget.
    pub name: String,
    /// The workload whose pods it covers.
    pub workload: String,
    /// The fewest pods that must be healthy.
    pub min_available: usize,
}

impl WorkloadSpec {
    /// Returns a controller of pods that start and end within seconds.
    #[must_use]
    pub fn of(kind: WorkloadKind, name: &str, replicas: usize) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            replicas,
            millicores: 200,
            starts_within: SignedDuration::from_secs(10),
            ends_within: SignedDuration::from_secs(5),
        }
    }
}

impl BudgetSpec {
    /// Returns the budget of a workload.
    #[must_use]
    pub fn of(workload: &str, min_available: usize) -> Self {
        Self { name: workload.to_owned(), workload: workload.to_owned(), min_available }
    }
}

impl Default for ClusterSpec {
    /// Returns a cluster with three pods under a budget of two, two pods without a budget, a single pod that comes back under
    /// its name, and an agent on each node.
    fn default() -> Self {
        use WorkloadKind::{DaemonSet, ReplicaSet, StatefulSet};
        Self {
            name: "shop".to_owned(),
            workloads: vec![
                WorkloadSpec::of(ReplicaSet, "web", 3),
                WorkloadSpec::of(ReplicaSet, "api", 2),
                WorkloadSpec::of(StatefulSet, "db", 1),
                WorkloadSpec::of(DaemonSet, "agent", 0),
            ],
            budgets: vec![BudgetSpec::of("web", 2)],
        }
    }
}
