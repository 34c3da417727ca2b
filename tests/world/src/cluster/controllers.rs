//! Controllers and the scheduler: they make pods and bind them.

use jiff::Timestamp;

use super::Cluster;
use super::nodes::ALLOCATABLE_MILLICORES;
use super::spec::{WorkloadKind, WorkloadSpec};

impl Cluster {
    /// Each controller makes the pods that it lacks, and the scheduler binds what has no node.
    pub(super) fn control(&mut self, now: Timestamp) {
        for workload in self.workloads.clone() {
            match workload.kind {
                WorkloadKind::ReplicaSet => self.replace_ending(&workload, now),
                WorkloadKind::StatefulSet => self.replace_gone(&workload, now),
                WorkloadKind::DaemonSet => self.cover_nodes(&workload, now),
            }
        }
        let unbound = self.pods.values().filter(|pod| pod.node.is_none() && pod.ending.is_none());
        let unbound: Vec<String> = unbound.map(|pod| pod.uid.clone()).collect();
        for uid in unbound {
            self.bind(&uid, now);
        }
    }

    /// A `ReplicaSet` counts no pod that was asked to end.
    fn replace_ending(&mut self, workload: &WorkloadSpec, now: Timestamp) {
        let lives = self.pods.values().filter(|pod| pod.workload == workload.name && pod.ending.is_none());
        for _ in lives.count()..workload.replicas {
            let name = format!("{}-{:05}", workload.name, self.next_version());
            self.add_pod(workload, name, None, now);
        }
    }

    /// A `StatefulSet` makes no second pod of a name.
    fn replace_gone(&mut self, workload: &WorkloadSpec, now: Timestamp) {
        for ordinal in 0..workload.replicas {
            let name = format!("{}-{ordinal}", workload.name);
            if !self.pods.values().any(|pod| pod.name == name) {
                self.add_pod(workload, name, None, now);
            }
        }
    }

    fn cover_nodes(&mut self, workload: &WorkloadSpec, now: Timestamp) {
        let nodes: Vec<String> = self.nodes.keys().cloned().collect();
        for node in nodes {
            let is_covered = |pod: &super::ClusterPod| {
                pod.workload == workload.name && pod.node.as_deref() == Some(node.as_str())
            };
            if !self.pods.values().any(is_covered) {
                let name = format!("{}-{:05}", workload.name, self.next_version());
                self.add_pod(workload, name, Some(&node), now);
            }
        }
    }

    /// Binds a pod to the emptiest node that takes it; leaves it pending if there is none.
    fn bind(&mut self, uid: &str, now: Timestamp) {
        let Some((wanted, workload)) = self.pods.get(uid).map(|pod| (pod.millicores, pod.workload.clone()))
        else {
            return;
        };
        let takes = self.nodes.values().filter(|node| node.is_ready() && !node.is_unschedulable());
        let loads = takes.map(|node| {
            let here = self.pods.values().filter(|pod| pod.node.as_ref() == Some(&node.name));
            (here.map(|pod| pod.millicores).sum::<u32>(), node.name.clone())
        });
        let Some((_, node)) = loads.filter(|(load, _)| load + wanted <= ALLOCATABLE_MILLICORES).min() else {
            return;
        };
        let starts_within =
            self.workloads.iter().find(|w| w.name == workload).map(|w| w.starts_within).unwrap_or_default();
        if let Some(pod) = self.pods.get_mut(uid) {
            (pod.node, pod.bound_at, pod.starts_at) = (Some(node), now, now + starts_within);
        }
    }
}
