//! Pods: they are bound, start, are Ready, and end.

use jiff::Timestamp;

use super::Cluster;
use super::spec::{NAMESPACE, WorkloadKind, WorkloadSpec};
use crate::fleet::{Ec2State, Fleet};

/// The name before that of the node, of a pod that a kubelet mirrors.
const MIRRORED: &str = "static-proxy";
/// `terminationGracePeriodSeconds`, by default.
pub(super) const GRACE_SECONDS: i64 = 30;

/// The kind of a pod's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Workload(WorkloadKind),
    /// The kubelet of the node, which runs the pod from a file.
    Node,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterPod {
    /// Its name. A pod of a `StatefulSet` comes back under its name.
    pub name: String,
    /// Its UID, which no other pod ever has.
    pub uid: String,
    /// The workload of which it is; empty for a mirror pod.
    pub workload: String,
    /// The node that it is bound to.
    pub node: Option<String>,
    /// When it was bound.
    pub bound_at: Timestamp,
    pub(super) owner: Owner,
    pub(super) millicores: u32,
    pub(super) is_ready: bool,
    pub(super) created_at: Timestamp,
    pub(super) starts_at: Timestamp,
    /// When it was asked to end, and when it is gone.
    pub(super) ending: Option<(Timestamp, Timestamp)>,
}

impl ClusterPod {
    /// Returns true if the pod is Ready and was not asked to end.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.is_ready && self.ending.is_none()
    }

    /// Returns true if the pod has to leave its node before the node may go.
    #[must_use]
    pub fn must_move(&self) -> bool {
        matches!(self.owner, Owner::Workload(WorkloadKind::ReplicaSet | WorkloadKind::StatefulSet))
    }

    pub(super) fn has_long_been_ready(&mut self) {
        self.is_ready = self.node.is_some();
    }
}

impl Cluster {
    /// Adds the mirror of a pod that the kubelet runs by itself.
    pub(super) fn add_mirror_pod(&mut self, node: &str, now: Timestamp) {
        let pod = ClusterPod {
            name: format!("{MIRRORED}-{node}"),
            uid: format!("pod-{}", self.next_version()),
            workload: String::new(),
            node: Some(node.to_owned()),
            bound_at: now,
            owner: Owner::Node,
            millicores: 0,
            is_ready: true,
            created_at: now,
            starts_at: now,
            ending: None,
        };
        self.pods.insert(pod.uid.clone(), pod);
    }

    /// Adds a pod of a workload, bound to this node or to none.
    pub(super) fn add_pod(
        &mut self,
        workload: &WorkloadSpec,
        name: String,
        node: Option<&str>,
        now: Timestamp,
    ) {
        let pod = ClusterPod {
            name,
            uid: format!("pod-{}", self.next_version()),
            workload: workload.name.clone(),
            node: node.map(str::to_owned),
            bound_at: now,
            owner: Owner::Workload(workload.kind),
            millicores: workload.millicores,
            is_ready: false,
            created_at: now,
            starts_at: now + workload.starts_within,
            ending: None,
        };
        self.pods.insert(pod.uid.clone(), pod);
    }

    /// Kubelets start and end the pods of their nodes. A dead one does neither.
    pub(super) fn run_pods(&mut self, fleet: &Fleet, now: Timestamp) {
        let runs = |id: &str| fleet.instances().get(id).is_some_and(|i| i.state == Ec2State::Running);
        let nodes = &self.nodes;
        let has_kubelet = |pod: &ClusterPod| {
            let node = pod.node.as_ref().and_then(|name| nodes.get(name));
            node.is_some_and(|node| runs(&node.instance_id))
        };
        self.pods.retain(|_, pod| {
            let is_over = pod.ending.is_some_and(|(_, gone_at)| gone_at <= now);
            !(is_over && (has_kubelet(pod) || pod.node.is_none()))
        });
        for pod in self.pods.values_mut().filter(|pod| pod.node.is_some() && has_kubelet(pod)) {
            pod.is_ready |= pod.ending.is_none() && pod.starts_at <= now;
        }
        let unready = |pod: &&mut ClusterPod| {
            let node = pod.node.as_ref().and_then(|name| nodes.get(name));
            node.is_some_and(|node| !node.has_kubelet() && !node.is_ready())
        };
        // The node controller marks the pods of a silent node as not Ready.
        self.pods.values_mut().filter(unready).for_each(|pod| pod.is_ready = false);
    }

    /// Returns the pod of this name.
    pub(super) fn pod_named(&self, namespace: &str, name: &str) -> Option<&ClusterPod> {
        self.pods.values().find(|pod| pod.name == name).filter(|_| namespace == NAMESPACE)
    }
}
