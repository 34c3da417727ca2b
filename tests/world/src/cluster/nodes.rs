//! Nodes: each is an object that clients patch, and follows its instance.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Cluster;
use crate::fleet::{Ec2Instance, Ec2State, Fleet};

/// From the boot of an instance until its kubelet registers the node, and from then until the node is Ready.
const JOINS_WITHIN: SignedDuration = SignedDuration::from_secs(20);
const READY_WITHIN: SignedDuration = SignedDuration::from_secs(15);
/// The node controller's `node-monitor-grace-period`, for which a silent kubelet passes for a living one.
/// <https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/>
const SILENT_FOR: SignedDuration = SignedDuration::from_secs(40);
/// What an m5.large offers to pods, in thousandths of a core.
pub(super) const ALLOCATABLE_MILLICORES: u32 = 1_930;

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterNode {
    /// Its name.
    pub name: String,
    /// Its instance.
    pub instance_id: String,
    /// The object, as the API server keeps it.
    pub(super) object: Value,
    /// Its owner has cordoned it.
    pub is_kept_cordoned: bool,
    ready_at: Option<Timestamp>,
    silent_since: Option<Timestamp>,
}

impl ClusterNode {
    /// Returns true if the condition `Ready` is `True`.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.object["status"]["conditions"][0]["status"] == "True"
    }

    /// Returns true if the scheduler binds no pod to it.
    #[must_use]
    pub fn is_unschedulable(&self) -> bool {
        self.object["spec"]["unschedulable"] == true
    }

    /// Returns true if the kubelet runs.
    #[must_use]
    pub fn has_kubelet(&self) -> bool {
        self.silent_since.is_none()
    }

    /// Returns the annotations by which we mark what we have changed.
    pub fn marks(&self) -> impl Iterator<Item = &str> {
        let annotations = self.object["metadata"]["annotations"].as_object();
        let keys = annotations.into_iter().flat_map(|annotations| annotations.keys());
        keys.map(String::as_str).filter(|key| key.starts_with("spot-optimizer/"))
    }
}

impl Cluster {
    /// Registers the node of an instance.
    pub(super) fn join(&mut self, instance: &Ec2Instance, now: Timestamp) -> String {
        let name = format!("{}.ec2.internal", instance.id);
        let version = self.next_version();
        let object = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "uid": format!("node-{version}"),
                "resourceVersion": version.to_string(),
                "creationTimestamp": super::objects::time(now),
                "labels": {
                    "kubernetes.io/arch": "amd64",
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/hostname": name,
                    "node.kubernetes.io/instance-type": instance.instance_type,
                    "topology.kubernetes.io/zone": instance.zone,
                },
                "annotations": {},
            },
            "spec": {"providerID": format!("aws:///{}/{}", instance.zone, instance.id)},
            "status": {
                "conditions": [{"type": "Ready", "status": "False"}],
                "allocatable": {
                    "cpu": format!("{ALLOCATABLE_MILLICORES}m"), "memory": "7Gi", "pods": "29",
                },
            },
        });
        let node = ClusterNode {
            name: name.clone(),
            instance_id: instance.id.clone(),
            object,
            is_kept_cordoned: false,
            ready_at: Some(now + READY_WITHIN),
            silent_since: None,
        };
        self.nodes.insert(name.clone(), node);
        name
    }

    /// The owner of the cluster cordons a node, or uncordons one that anybody has cordoned, as `kubectl` does.
    pub fn owner_cordons(&mut self, name: &str, is_cordoned: bool) {
        let version = self.next_version();
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.is_kept_cordoned = is_cordoned;
        node.object["spec"]["unschedulable"] = json!(is_cordoned);
        node.object["metadata"]["resourceVersion"] = json!(version.to_string());
    }

    /// Sets the condition `Ready` of a node.
    pub(super) fn node_is_ready(&mut self, name: &str, is_ready: bool) {
        let version = self.next_version();
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.ready_at = None;
        node.object["status"]["conditions"][0]["status"] = json!(if is_ready { "True" } else { "Unknown" });
        node.object["metadata"]["resourceVersion"] = json!(version.to_string());
    }

    /// Nodes join and become Ready after the boots of their instances. They turn silent with their instances, and are deleted
    /// once EC2 says that the instance has ended.
    /// <https://kubernetes.io/docs/concepts/architecture/cloud-controller/#node-controller>
    pub(super) fn follow_instances(&mut self, fleet: &Fleet, now: Timestamp) {
        let running = fleet.instances().values().filter(|instance| instance.state == Ec2State::Running);
        for instance in running {
            if self.node_of(&instance.id).is_some() {
                continue;
            }
            let joins_at = *self.joins.entry(instance.id.clone()).or_insert(now + JOINS_WITHIN);
            if joins_at <= now {
                self.join(instance, joins_at);
            }
        }
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        for name in names {
            self.follow_instance(&name, fleet, now);
        }
    }

    fn follow_instance(&mut self, name: &str, fleet: &Fleet, now: Timestamp) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        let state = fleet.instances().get(&node.instance_id).map(|instance| instance.state);
        if state == Some(Ec2State::Running) {
            if node.ready_at.is_some_and(|at| at <= now) {
                self.node_is_ready(name, true);
            }
            return;
        }
        let is_noticed = now.duration_since(*node.silent_since.get_or_insert(now)) >= SILENT_FOR;
        let is_over = matches!(state, None | Some(Ec2State::Terminated));
        if is_noticed && is_over {
            self.nodes.remove(name);
            // The garbage collector of pods takes those whose node is gone.
            self.pods.retain(|_, pod| pod.node.as_deref() != Some(name));
        } else if is_noticed && node.is_ready() {
            self.node_is_ready(name, false);
        }
    }
}
