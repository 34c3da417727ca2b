//! Other managers of a node, read from its labels, annotations and taints alone.
//!
//! A node with an owner must not be swapped by hand: its owner would launch it again, or terminate its
//! replacement. A member of the control plane must not be swapped at all. A node whose owner asks to leave it
//! alone is left alone.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus};
use serde::{Deserialize, Serialize};

/// Another manager of a node, or a mark of its owner against a swap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum NodeOwner {
    /// An EKS managed node group, by name.
    ManagedNodeGroup(String),
    /// A Karpenter NodePool (or Provisioner, before v1beta1), by name.
    Karpenter(String),
    /// EKS Auto Mode.
    AutoMode,
    /// The node of a Fargate profile: one pod, no instance.
    Fargate,
    /// A Machine of Cluster API or OpenShift, by the annotation that names it.
    Machine(String),
    /// The cluster's control plane or its etcd, by the mark that says so.
    ControlPlane(String),
    /// Another system is about to remove the node, by this taint.
    Leaving(String),
    /// The node's owner forbids its disruption, by this annotation.
    LeftAlone(String),
}

/// Labels of Karpenter since v0.5: NodePool (v1beta1 on), Provisioner (before), and the mark of a node that
/// Karpenter has registered.
const KARPENTER: [&str; 3] =
    ["karpenter.sh/nodepool", "karpenter.sh/provisioner-name", "karpenter.sh/registered"];

/// Annotations by which Cluster API and OpenShift name the Machine behind a node.
const MACHINES: [&str; 2] = ["cluster.x-k8s.io/machine", "machine.openshift.io/machine"];

/// Labels, and keys of taints, of control planes and etcd members: kubeadm, kOps, k3s, RKE, RKE2, OpenShift,
/// Talos; then Typhoon, kOps before 1.20, k0s and MicroK8s.
const CONTROL_PLANE: [&str; 11] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/controlplane",
    "node-role.kubernetes.io/master",
    "node-role.kubernetes.io/etcd",
    "node-role.kubernetes.io/api-server",
    "node-role.kubernetes.io/apiserver",
    "node-role.kubernetes.io/controller",
    "node.kubernetes.io/controller",
    "node.kubernetes.io/master",
    "node.kubernetes.io/microk8s-controlplane",
    "kops.k8s.io/kops-controller-pki",
];
/// Labels whose value names the role.
const ROLES: [&str; 3] = ["kubernetes.io/role", "node.k0sproject.io/role", "kubernetes.io/node-role"];

/// Taints by which Cluster Autoscaler, Karpenter and aws-node-termination-handler announce that a node goes.
/// A taint that ends with a slash is the prefix of a key. `DeletionCandidateOfClusterAutoscaler` is a hint
/// only, which our own empty newcomer may bring about.
const LEAVING: [&str; 6] = [
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "aws-node-termination-handler/",
    "node.cloudprovider.kubernetes.io/shutdown",
    "node.kubernetes.io/out-of-service",
];

/// Annotations by which an owner asks to leave a node alone, unless they are `"false"`: Cluster Autoscaler's,
/// and Karpenter's (the last two before v1beta1).
const LEFT_ALONE: [&str; 4] = [
    "cluster-autoscaler.kubernetes.io/scale-down-disabled",
    "karpenter.sh/do-not-disrupt",
    "karpenter.sh/do-not-consolidate",
    "karpenter.sh/do-not-evict",
];

/// Components of a control plane; labels and names of their pods begin with these words.
const CONTROL_PLANE_PODS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// Returns the manager of the node, if it has one. Every field of the node's spec and status has its verdict
/// here.
#[must_use]
pub fn owner(node: &Node) -> Option<NodeOwner> {
    let NodeSpec {
        taints,
        // The identity and the cordon of the node: `node` reads them.
        provider_id: _,
        unschedulable: _,
        // This very machine's network: the newcomer has its own.
        pod_cidr: _,
        pod_cidrs: _,
        config_source: _,
        external_id: _,
    } = node.spec.clone().unwrap_or_default();
    let NodeStatus {
        // `node` reads Ready; other conditions of the old node leave with it.
        conditions: _,
        // `room` compares these with the newcomer's, once the newcomer has joined.
        allocatable: _,
        capacity: _,
        features: _,
        runtime_handlers: _,
        // The drain waits for attached volumes by VolumeAttachment.
        volumes_attached: _,
        volumes_in_use: _,
        // These fields are of this very machine.
        addresses: _,
        config: _,
        daemon_endpoints: _,
        images: _,
        node_info: _,
        phase: _,
    } = node.status.clone().unwrap_or_default();
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let annotations = node.metadata.annotations.clone().unwrap_or_default();
    let taints: Vec<String> = taints.into_iter().flatten().map(|taint| taint.key).collect();
    control_plane(&labels, &annotations, &taints)
        .or_else(|| by_labels(&labels))
        .or_else(|| MACHINES.iter().find_map(|key| annotations.get(*key)).cloned().map(NodeOwner::Machine))
        .or_else(|| taints.iter().find(|taint| is_leaving(taint)).cloned().map(NodeOwner::Leaving))
        .or_else(|| left_alone(&annotations))
}

/// Returns true if a pod is a part of the control plane, by its name or its labels.
#[must_use]
pub(crate) fn control_plane_pod(name: &str, labels: &BTreeMap<String, String>) -> bool {
    let is_part = |name: &str| {
        CONTROL_PLANE_PODS
            .iter()
            .any(|part| name.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
    };
    let labelled = ["component", "k8s-app", "app", "app.kubernetes.io/component"];
    labels.get("tier").is_some_and(|tier| tier == "control-plane")
        || is_part(name)
        || labelled.iter().any(|key| labels.get(*key).is_some_and(|value| is_part(value)))
}

fn control_plane(
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    taints: &[String],
) -> Option<NodeOwner> {
    let by_label = CONTROL_PLANE.iter().find(|key| labels.contains_key(**key)).map(|key| (*key).to_owned());
    let by_role = || {
        let is_of_it = |role: &str| role.contains("control") || role == "master" || role == "etcd";
        let role = ROLES.iter().find(|key| labels.get(**key).is_some_and(|role| is_of_it(role)))?;
        Some(format!("{role}={}", labels[*role]))
    };
    let by_taint = || taints.iter().find(|key| CONTROL_PLANE.contains(&key.as_str())).cloned();
    // k3s and RKE2 annotate each etcd member.
    let by_annotation = || {
        let is_etcd = |key: &&String| key.starts_with("etcd.") && key.contains(".cattle.io/");
        annotations.keys().find(is_etcd).cloned()
    };
    by_label.or_else(by_role).or_else(by_taint).or_else(by_annotation).map(NodeOwner::ControlPlane)
}

/// Returns the taint by which another system announces that it is about to remove the node, whatever its effect.
#[must_use]
pub(crate) fn leaving(node: &Node) -> Option<String> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.map(|taint| &taint.key).find(|key| is_leaving(key)).cloned()
}

fn is_leaving(taint: &str) -> bool {
    LEAVING.iter().any(|key| taint == *key || (key.ends_with('/') && taint.starts_with(key)))
}

fn left_alone(annotations: &BTreeMap<String, String>) -> Option<NodeOwner> {
    let asks = |key: &&&str| annotations.get(**key).is_some_and(|value| value != "false");
    LEFT_ALONE.iter().find(asks).map(|key| NodeOwner::LeftAlone((*key).to_owned()))
}

/// Returns the owner that `labels` name.
fn by_labels(labels: &BTreeMap<String, String>) -> Option<NodeOwner> {
    let label = |key: &str| labels.get(key).map(String::as_str);
    // Auto Mode first: its nodes bear Karpenter's labels, too.
    match label("eks.amazonaws.com/compute-type") {
        Some("auto") => return Some(NodeOwner::AutoMode),
        Some("fargate") => return Some(NodeOwner::Fargate),
        _ => {}
    }
    if let Some(group) = label("eks.amazonaws.com/nodegroup") {
        return Some(NodeOwner::ManagedNodeGroup(group.to_owned()));
    }
    KARPENTER.iter().find_map(|key| label(key)).map(|name| NodeOwner::Karpenter(name.to_owned()))
}

impl NodeOwner {
    /// Says in one sentence for a person who owns the node, and what to do instead.
    #[must_use]
    pub fn way_out(&self) -> String {
        match self {
            Self::ManagedNodeGroup(name) => format!(
                "the node belongs to the EKS managed node group {name}, which is On-Demand or Spot as a whole: \
                 create a group with capacityType SPOT and move the workload there"
            ),
            Self::Karpenter(name) => format!(
                "the node belongs to Karpenter ({name}): allow spot in the NodePool's \
                 karpenter.sh/capacity-type requirement and let Karpenter replace it"
            ),
            Self::AutoMode => "the node belongs to EKS Auto Mode: allow spot in a NodePool's \
                               karpenter.sh/capacity-type requirement and let Auto Mode replace it"
                .to_owned(),
            Self::Fargate => {
                "the node is a Fargate pod's: it has no instance that could be swapped, and EKS \
                              has no Fargate Spot"
                    .to_owned()
            }
            Self::Machine(name) => format!(
                "the node belongs to the Machine {name} of Cluster API or OpenShift: ask for Spot in its MachineSet \
                 (spotMarketOptions) and let it replace the Machine"
            ),
            Self::ControlPlane(mark) => format!(
                "the node is a member of the cluster's control plane ({mark}): its place in etcd can't move by a drain, \
                 and Spot can take it away at any time; leave it On-Demand"
            ),
            Self::Leaving(taint) => format!(
                "another system is about to remove the node (taint {taint}): let it, or take the taint off"
            ),
            Self::LeftAlone(annotation) => format!(
                "the node's annotation {annotation} forbids to disrupt it: take the annotation off to have it swapped"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn owner_of(labels: &Value, annotations: &Value, taints: &[&str]) -> Option<NodeOwner> {
        let taints: Vec<Value> =
            taints.iter().map(|key| json!({ "key": key, "effect": "NoSchedule" })).collect();
        let node = json!({
            "metadata": { "labels": labels, "annotations": annotations },
            "spec": { "taints": taints },
        });
        owner(&serde_json::from_value(node).unwrap())
    }

    fn owner_by(labels: &Value) -> Option<NodeOwner> {
        owner_of(labels, &json!({}), &[])
    }

    #[test]
    fn each_owner_is_told_by_its_label() {
        let group = NodeOwner::ManagedNodeGroup("blue".to_owned());
        let pool = NodeOwner::Karpenter("default".to_owned());
        assert_eq!(owner_by(&json!({ "eks.amazonaws.com/nodegroup": "blue" })), Some(group));
        assert_eq!(owner_by(&json!({ "karpenter.sh/nodepool": "default" })), Some(pool.clone()));
        assert_eq!(owner_by(&json!({ "karpenter.sh/provisioner-name": "default" })), Some(pool));
        let fargate = json!({ "eks.amazonaws.com/compute-type": "fargate" });
        assert_eq!(owner_by(&fargate), Some(NodeOwner::Fargate));
        let machine = owner_of(&json!({}), &json!({ "cluster.x-k8s.io/machine": "md-0-x" }), &[]);
        assert_eq!(machine, Some(NodeOwner::Machine("md-0-x".to_owned())));
    }

    #[test]
    fn auto_mode_is_not_taken_for_karpenter() {
        let labels =
            json!({ "karpenter.sh/nodepool": "general-purpose", "eks.amazonaws.com/compute-type": "auto" });
        assert_eq!(owner_by(&labels), Some(NodeOwner::AutoMode));
    }

    #[test]
    fn a_self_managed_node_has_no_owner() {
        let labels = json!({
            "kubernetes.io/hostname": "ip-10-0-0-1",
            "eks.amazonaws.com/compute-type": "ec2",
            "node-role.kubernetes.io/worker": "",
            "kubernetes.io/role": "node",
            "team": "a",
        });
        assert_eq!(owner_of(&labels, &json!({ "team": "a" }), &["dedicated"]), None);
    }

    #[test]
    fn a_control_plane_of_every_flavour_is_told() {
        let is_control_plane = |owner| matches!(owner, Some(NodeOwner::ControlPlane(_)));
        for label in CONTROL_PLANE {
            assert!(is_control_plane(owner_by(&json!({ label: "" }))), "label {label}");
            assert!(is_control_plane(owner_of(&json!({}), &json!({}), &[label])), "taint {label}");
        }
        assert!(is_control_plane(owner_by(&json!({ "kubernetes.io/role": "master" }))));
        assert!(is_control_plane(owner_by(&json!({ "node.k0sproject.io/role": "control-plane" }))));
        let etcd = json!({ "etcd.rke2.cattle.io/node-name": "a" });
        assert!(is_control_plane(owner_of(&json!({}), &etcd, &[])));
    }

    #[test]
    fn a_control_plane_is_told_by_its_pods() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        assert!(control_plane_pod("etcd-ip-10-0-0-1", &labels(&[])));
        assert!(control_plane_pod("x", &labels(&[("k8s-app", "etcd-manager-main")])));
        assert!(control_plane_pod("x", &labels(&[("component", "kube-apiserver")])));
        assert!(!control_plane_pod("kube-proxy-a", &labels(&[("k8s-app", "kube-proxy"), ("tier", "node")])));
        assert!(!control_plane_pod("etcdctl", &labels(&[])));
    }

    #[test]
    fn a_node_that_another_system_removes_is_told_by_its_taint() {
        for taint in ["ToBeDeletedByClusterAutoscaler", "aws-node-termination-handler/spot-itn"] {
            assert_eq!(
                owner_of(&json!({}), &json!({}), &[taint]),
                Some(NodeOwner::Leaving(taint.to_owned()))
            );
        }
    }

    #[test]
    fn an_owner_who_asks_for_peace_gets_it() {
        for key in LEFT_ALONE {
            let asks = owner_of(&json!({}), &json!({ key: "true" }), &[]);
            assert_eq!(asks, Some(NodeOwner::LeftAlone(key.to_owned())));
            assert_eq!(owner_of(&json!({}), &json!({ key: "false" }), &[]), None);
        }
    }

    #[test]
    fn the_way_out_names_the_owner() {
        let text = NodeOwner::ManagedNodeGroup("blue".to_owned()).way_out();
        assert!(text.contains("managed node group blue") && text.contains("capacityType SPOT"), "{text}");
        assert!(NodeOwner::Karpenter("default".to_owned()).way_out().contains("Karpenter (default)"));
        let taint = "ToBeDeletedByClusterAutoscaler".to_owned();
        assert!(NodeOwner::Leaving(taint.clone()).way_out().contains(&taint));
    }
}
