//! PodDisruptionBudgets: which of them a pod is in, and which can never be met.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Client;

use crate::error::ClusterError;

/// A PodDisruptionBudget with its controller's last count.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Its namespace: it selects pods of this one only.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which pods; none = no pod, empty = all pods of the namespace (policy/v1).
    pub selector: Option<LabelSelector>,
    /// Evictions that it would grant now.
    pub disruptions_allowed: i32,
    /// Healthy pods that there are.
    pub current_healthy: i32,
    /// Healthy pods that there must be.
    pub desired_healthy: i32,
    /// Pods that there should be, healthy or not.
    pub expected_pods: i32,
    /// Its controller has counted since the budget last changed.
    pub is_observed: bool,
}

impl Budget {
    /// Whether the budget covers a pod of `namespace` with `labels`.
    #[must_use]
    pub fn selects(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        todo!("{namespace} {labels:?}")
    }

    /// Waiting won't help: it wants every pod healthy at all times (`maxUnavailable: 0`,
    /// `minAvailable` ≥ the number of pods), so that it never grants the eviction of a healthy one.
    #[must_use]
    pub fn is_never_met(&self) -> bool {
        todo!()
    }
}

/// The budgets of these namespaces, in pages.
pub async fn list(client: &Client, namespaces: &BTreeSet<String>) -> Result<Vec<Budget>, ClusterError> {
    todo!("{namespaces:?}")
}
