//! Objects as the API server describes them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Cluster;
use super::nodes::ClusterNode;
use super::pods::{ClusterPod, GRACE_SECONDS, Owner};
use super::spec::{BudgetSpec, NAMESPACE, WorkloadKind, WorkloadSpec};

/// Returns a time as Kubernetes writes it, in whole seconds.
pub(super) fn time(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

impl WorkloadKind {
    /// Returns the kind as an owner reference spells it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }

    /// Returns the resource in a path.
    pub(super) fn resource(self) -> &'static str {
        match self {
            Self::ReplicaSet => "replicasets",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
        }
    }
}

/// Describes a node. The node controller keeps the taint of a cordon beside `unschedulable`.
/// <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-nodes-by-condition>
pub(super) fn node(node: &ClusterNode) -> Value {
    let mut object = node.object.clone();
    if node.is_unschedulable() {
        object["spec"]["taints"] =
            json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]);
    }
    object
}

/// Describes a pod.
pub(super) fn pod(pod: &ClusterPod) -> Value {
    let (kind, name, api) = match pod.owner {
        Owner::Workload(kind) => (kind.name(), pod.workload.clone(), "apps/v1"),
        Owner::Node => ("Node", pod.node.clone().unwrap_or_default(), "v1"),
    };
    let mut metadata = json!({
        "name": pod.name,
        "namespace": NAMESPACE,
        "uid": pod.uid,
        "creationTimestamp": time(pod.created_at),
        "labels": {"app": pod.workload},
        "ownerReferences": [{
            "apiVersion": api, "kind": kind, "name": name, "uid": format!("{kind}-{name}"), "controller": true,
        }],
    });
    if pod.owner == Owner::Node {
        metadata["annotations"] = json!({"kubernetes.io/config.mirror": pod.uid});
    }
    if let Some((asked_at, _)) = pod.ending {
        // The deletion timestamp is the end of the grace period.
        let until = asked_at + jiff::SignedDuration::from_secs(GRACE_SECONDS);
        metadata["deletionTimestamp"] = json!(time(until));
        metadata["deletionGracePeriodSeconds"] = json!(GRACE_SECONDS);
    }
    let status = |is_so: bool| if is_so { "True" } else { "False" };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": pod_spec(pod.node.as_deref(), pod.millicores),
        "status": {
            "phase": if pod.is_ready { "Running" } else { "Pending" },
            "conditions": [
                {"type": "Ready", "status": status(pod.is_ready)},
                {"type": "PodScheduled", "status": status(pod.node.is_some())},
            ],
        },
    })
}

fn pod_spec(node: Option<&str>, millicores: u32) -> Value {
    json!({
        "nodeName": node,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [
            {"name": "main", "image": "main", "resources": {"requests": {"cpu": format!("{millicores}m")}}},
        ],
    })
}

/// Describes a controller.
pub(super) fn workload(workload: &WorkloadSpec, ready: usize) -> Value {
    let (kind, name) = (workload.kind.name(), &workload.name);
    let labels = json!({"app": name});
    let mut object = json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": format!("{kind}-{name}")},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(None, workload.millicores)},
        },
        "status": {"replicas": workload.replicas, "readyReplicas": ready},
    });
    match workload.kind {
        WorkloadKind::ReplicaSet => object["spec"]["replicas"] = json!(workload.replicas),
        WorkloadKind::StatefulSet => {
            object["spec"]["replicas"] = json!(workload.replicas);
            object["spec"]["serviceName"] = json!(name);
        }
        WorkloadKind::DaemonSet => {
            object["status"] = json!({
                "currentNumberScheduled": ready, "desiredNumberScheduled": ready, "numberMisscheduled": 0,
                "numberReady": ready,
            });
        }
    }
    object
}

impl Cluster {
    /// Describes a budget, with the status that its controller computes.
    pub(super) fn budget(&self, budget: &BudgetSpec) -> Value {
        let pods = self.workloads.iter().find(|workload| workload.name == budget.workload);
        json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": budget.name, "namespace": NAMESPACE, "generation": 1},
            "spec": {
                "minAvailable": budget.min_available,
                "selector": {"matchLabels": {"app": budget.workload}},
            },
            "status": {
                "observedGeneration": 1,
                "currentHealthy": self.serving(&budget.workload),
                "desiredHealthy": budget.min_available,
                "disruptionsAllowed": self.disruptions_allowed(budget),
                "expectedPods": pods.map_or(0, |workload| workload.replicas),
            },
        })
    }

    /// Returns how many healthy pods may go now. A granted eviction counts at once, as in the API server.
    pub(super) fn disruptions_allowed(&self, budget: &BudgetSpec) -> usize {
        self.serving(&budget.workload).saturating_sub(budget.min_available)
    }
}
