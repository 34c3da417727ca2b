//! One pod as the API server describes it, and the controller that owns it.

use std::fmt;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{ClusterError, failed};

/// Pods in a page of a list.
pub const PAGE_SIZE: u32 = 100;

/// Calls in flight at once while looking.
pub(crate) const LOOKS_AT_ONCE: usize = 10;

/// The identity of one pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodRef {
    pub namespace: String,
    /// The pod's name. A StatefulSet's pod comes back under the same name.
    pub pod: String,
    /// `metadata.uid`: differs from the UID of the pod that comes back under the same name.
    pub uid: String,
}

/// The controller that owns a pod (`controller: true` in its owner references).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Controller {
    /// `ReplicaSet`, `StatefulSet`, `Job`, `DaemonSet`, or a custom kind with its group (`Job.batch.volcano.sh`).
    pub kind: String,
    /// The namespace of its pods.
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl Controller {
    /// Returns true for a kind of Kubernetes itself: what such a controller brings back is known.
    #[must_use]
    pub(crate) fn is_built_in(&self) -> bool {
        const KINDS: [&str; 5] = ["ReplicaSet", "StatefulSet", "ReplicationController", "Job", "DaemonSet"];
        KINDS.contains(&self.kind.as_str())
    }

    /// Returns true for a kind of another API group than Kubernetes' own.
    pub(crate) fn is_foreign(&self) -> bool {
        self.kind.contains('.')
    }

    /// Returns true if the kind itself keeps a pod on each node (`DaemonSet.apps.kruise.io`).
    pub(crate) fn is_foreign_daemon_set(&self) -> bool {
        self.kind.starts_with("DaemonSet.")
    }
}

/// Returns the controller of a pod.
pub(crate) fn controller(pod: &Pod) -> Option<Controller> {
    let is_controller = |owner: &&OwnerReference| owner.controller == Some(true);
    let owner = pod.owner_references().iter().find(is_controller)?;
    Some(Controller {
        kind: kind(owner),
        namespace: pod.namespace().unwrap_or_default(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    })
}

/// Returns the kind, with its group unless Kubernetes owns the group: another group's `StatefulSet` is a
/// different kind.
fn kind(owner: &OwnerReference) -> String {
    match owner.api_version.split_once('/') {
        Some((group, _)) if !matches!(group, "apps" | "batch") => format!("{}.{group}", owner.kind),
        _ => owner.kind.clone(),
    }
}

/// Returns true if the condition `Ready` is `True`.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Returns true if the pod runs, or is to run, and was not asked to end.
pub(crate) fn is_alive(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase(pod), "Succeeded" | "Failed")
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Returns the controller itself, not one that was created again under its name.
pub(crate) async fn get<K>(
    client: &Client,
    controller: &Controller,
    call: &'static str,
) -> Result<Option<K>, ClusterError>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + fmt::Debug,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), &controller.namespace);
    let object = format!("{}/{}", controller.namespace, controller.name);
    let found = api.get_opt(&controller.name).await.map_err(failed(call, object))?;
    Ok(found.filter(|found| found.uid().as_deref() == Some(&controller.uid)))
}
