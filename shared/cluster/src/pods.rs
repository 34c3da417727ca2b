//! The pods of a node, and what a drain does with each.
//!
//! As `kubectl drain` sorts them, with the two refusals that it lifts by flags (pods without a
//! controller, `emptyDir`) lifted here by the pod's own annotations or by [`Policy`].

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::{Deserialize, Serialize};

use crate::error::{ClusterError, failed};
use crate::node::NodeName;
use crate::pages;
use crate::room::{self, Demands};

/// Pods per page of a list.
pub const PAGE_SIZE: u32 = 100;

/// Calls in flight at once while looking.
pub(crate) const LOOKS_AT_ONCE: usize = 10;

/// Cluster Autoscaler's annotation: `"true"` permits what [`Policy`] permits, `"false"` forbids.
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// Cluster Autoscaler's annotation: names of volumes, with commas, that hold nothing of worth.
pub const SAFE_TO_EVICT_VOLUMES: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
/// Karpenter's annotations by which a pod asks not to be moved (the second one before v1beta1).
pub const DO_NOT_DISRUPT: [&str; 2] = ["karpenter.sh/do-not-disrupt", "karpenter.sh/do-not-evict"];
/// The kubelet's annotation of a static pod's mirror.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What the owner of the cluster allows beyond the safe default (both `false`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Evict pods with `emptyDir` volumes: what is in them is lost (kubectl's
    /// `--delete-emptydir-data`).
    pub evict_local_storage: bool,
    /// Evict pods that no controller brings back (kubectl's `--force`).
    pub evict_unmanaged: bool,
}

/// A pod, this very one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name; a StatefulSet's pod comes back under the same one.
    pub pod: String,
    /// `metadata.uid`: tells the pod from the one that comes back under its name.
    pub uid: String,
}

/// The controller that owns a pod (`controller: true` in its owner references).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Controller {
    /// `ReplicaSet`, `StatefulSet`, `Job`, `DaemonSet`, or a custom kind with its group (`Job.batch.volcano.sh`).
    pub kind: String,
    /// The namespace of its pods.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Why a pod is no business of the drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stay {
    /// A DaemonSet would bring it back to this very node.
    DaemonSet,
    /// A static pod of the kubelet's, mirrored in the API.
    Mirror,
    /// It has succeeded or failed: nothing runs.
    Finished,
}

/// Why a pod may not be evicted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// No controller would bring it back, or its DaemonSet does not exist any more.
    Unmanaged,
    /// It keeps data in this `emptyDir` volume.
    LocalStorage(String),
    /// Its owner asks for peace, with this annotation.
    DoNotDisrupt(String),
}

/// What the drain does with a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// It stays and goes with the node.
    Stays(Stay),
    /// It is evicted.
    Evict,
    /// It is on its way out already: nothing to do but wait.
    Terminating,
    /// It may not be evicted; the drain can't finish.
    Blocked(Block),
}

/// A pod of the node, as much as a drain needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePod {
    /// Which pod.
    pub pod: PodRef,
    /// Who would bring it back.
    pub controller: Option<Controller>,
    /// `metadata.labels`, which budgets select by.
    pub labels: BTreeMap<String, String>,
    /// Names of the PersistentVolumeClaims that it mounts.
    pub claims: Vec<String>,
    /// It mounts an EBS volume without a claim (`awsElasticBlockStore` in its own spec).
    pub has_inline_ebs: bool,
    /// Condition `Ready` is `True`.
    pub is_ready: bool,
    /// It has not started; no budget protects it.
    pub is_pending: bool,
    /// What it demands of its node.
    pub demands: Demands,
    /// What the drain does with it.
    pub disposition: Disposition,
}

/// A pod that stands in the way, for a person to read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Blocked {
    /// The pod's name.
    pub pod: String,
    /// Its namespace.
    pub namespace: String,
    /// The PodDisruptionBudget that forbids the eviction, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// Why, and what would help.
    pub why: String,
}

impl Block {
    /// For a person: why, and what would help.
    #[must_use]
    pub fn why(&self) -> String {
        match self {
            Self::Unmanaged => format!(
                "no controller would bring the pod back: delete it yourself, or annotate it with {SAFE_TO_EVICT}: \"true\""
            ),
            Self::LocalStorage(volume) => format!(
                "the pod would lose its emptyDir volume {volume}: annotate it with {SAFE_TO_EVICT}: \"true\" if \
                 that is fine"
            ),
            Self::DoNotDisrupt(annotation) => format!("the pod's annotation {annotation} forbids to move it"),
        }
    }
}

impl NodePod {
    /// The pod in the way, and why.
    #[must_use]
    pub fn blocked(&self, budget: Option<String>, why: String) -> Blocked {
        Blocked { pod: self.pod.pod.clone(), namespace: self.pod.namespace.clone(), budget, why }
    }

    /// It has to leave the node before that may go.
    #[must_use]
    pub fn must_go(&self) -> bool {
        !matches!(self.disposition, Disposition::Stays(_))
    }
}

/// All pods of a node, sorted by namespace and name. Lists in pages of [`PAGE_SIZE`], then asks
/// once for each DaemonSet whether it still exists.
pub async fn on_node(client: &Client, node: &NodeName, policy: Policy) -> Result<Vec<NodePod>, ClusterError> {
    let api: Api<Pod> = Api::all(client.clone());
    let selector = format!("spec.nodeName={node}");
    let pods =
        pages::all(&api, "list pods", &selector, ListParams::default().fields(&selector), PAGE_SIZE).await?;
    let daemon_sets = existing_daemon_sets(client, &pods).await?;
    let mut pods: Vec<NodePod> = pods.iter().map(|pod| look_at(pod, &daemon_sets, policy)).collect();
    pods.sort_by(|a, b| a.pod.cmp(&b.pod));
    Ok(pods)
}

/// Controllers of kind DaemonSet that exist, among those of `pods`. A pod outlives its DaemonSet if
/// that was deleted with `--cascade=orphan`.
async fn existing_daemon_sets(client: &Client, pods: &[Pod]) -> Result<BTreeSet<Controller>, ClusterError> {
    let claimed: BTreeSet<Controller> =
        pods.iter().filter_map(controller).filter(|c| c.kind == "DaemonSet").collect();
    let looks = claimed.into_iter().map(|owner| async move {
        let api: Api<DaemonSet> = Api::namespaced(client.clone(), &owner.namespace);
        let object = format!("{}/{}", owner.namespace, owner.name);
        let found = api.get_opt(&owner.name).await.map_err(failed("get daemonsets", object))?;
        Ok(found.map(|_| owner))
    });
    stream::iter(looks)
        .buffer_unordered(LOOKS_AT_ONCE)
        .try_filter_map(|c| async move { Ok(c) })
        .try_collect()
        .await
}

/// The controller of a pod.
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

/// Another group's `StatefulSet` is none of ours.
fn kind(owner: &OwnerReference) -> String {
    match owner.api_version.split_once('/') {
        Some((group, _)) if !matches!(group, "apps" | "batch") => format!("{}.{group}", owner.kind),
        _ => owner.kind.clone(),
    }
}

/// Condition `Ready` is `True`.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn look_at(pod: &Pod, daemon_sets: &BTreeSet<Controller>, policy: Policy) -> NodePod {
    NodePod {
        pod: PodRef {
            namespace: pod.namespace().unwrap_or_default(),
            pod: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
        },
        controller: controller(pod),
        labels: pod.labels().clone(),
        claims: claims(pod),
        has_inline_ebs: volumes(pod).any(|volume| volume.aws_elastic_block_store.is_some()),
        is_ready: is_ready(pod),
        is_pending: phase(pod) == "Pending",
        demands: room::demands(pod),
        disposition: disposition(pod, daemon_sets, policy),
    }
}

/// What a drain does with `pod`, given the DaemonSets that exist.
fn disposition(pod: &Pod, daemon_sets: &BTreeSet<Controller>, policy: Policy) -> Disposition {
    let owner = controller(pod);
    if pod.annotations().contains_key(MIRROR) {
        return Disposition::Stays(Stay::Mirror);
    }
    if owner.as_ref().is_some_and(|owner| daemon_sets.contains(owner)) {
        return Disposition::Stays(Stay::DaemonSet);
    }
    // A finalizer may hold a pod that has finished: whoever set it has work left to do, so that a
    // terminating pod is waited for in any case.
    if pod.metadata.deletion_timestamp.is_some() {
        return Disposition::Terminating;
    }
    if matches!(phase(pod), "Succeeded" | "Failed") {
        return Disposition::Stays(Stay::Finished);
    }
    block(pod, owner.as_ref(), policy).map_or(Disposition::Evict, Disposition::Blocked)
}

fn block(pod: &Pod, owner: Option<&Controller>, policy: Policy) -> Option<Block> {
    let annotation = |key: &str| pod.annotations().get(key).map(String::as_str);
    if let Some(key) = DO_NOT_DISRUPT.iter().find(|key| annotation(key).is_some_and(|value| value != "false"))
    {
        return Some(Block::DoNotDisrupt((*key).to_owned()));
    }
    match annotation(SAFE_TO_EVICT) {
        Some("true") => return None,
        Some("false") => return Some(Block::DoNotDisrupt(SAFE_TO_EVICT.to_owned())),
        _ => {}
    }
    // An existing DaemonSet was sorted out before: this one's is gone.
    let is_managed = owner.is_some_and(|owner| owner.kind != "DaemonSet");
    if !is_managed && !policy.evict_unmanaged {
        return Some(Block::Unmanaged);
    }
    let safe: Vec<&str> =
        annotation(SAFE_TO_EVICT_VOLUMES).unwrap_or_default().split(',').map(str::trim).collect();
    let local = local_volumes(pod).find(|name| !safe.contains(&name.as_str()));
    local.filter(|_| !policy.evict_local_storage).map(Block::LocalStorage)
}

/// `emptyDir` volumes on disk. One in memory is a scratch area by its nature (Cluster Autoscaler
/// takes it so); a `hostPath` belongs to the node and is no reason to stay (as in kubectl).
fn local_volumes(pod: &Pod) -> impl Iterator<Item = String> {
    volumes(pod)
        .filter(|volume| volume.empty_dir.as_ref().is_some_and(|dir| dir.medium.as_deref() != Some("Memory")))
        .map(|volume| volume.name.clone())
}

fn claims(pod: &Pod) -> Vec<String> {
    let claim = |volume: &k8s_openapi::api::core::v1::Volume| {
        let named = volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone());
        // A generic ephemeral volume's claim is named after its pod and volume.
        named.or_else(|| volume.ephemeral.as_ref().map(|_| format!("{}-{}", pod.name_any(), volume.name)))
    };
    volumes(pod).filter_map(claim).collect()
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &k8s_openapi::api::core::v1::Volume> {
    pod.spec.iter().flat_map(|spec: &PodSpec| spec.volumes.iter().flatten())
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
