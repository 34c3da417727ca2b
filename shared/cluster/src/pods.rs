//! The pods of a node, and what a drain does with each.
//!
//! As `kubectl drain` sorts them, with the two refusals that it lifts by flags (pods without a
//! controller, `emptyDir`) lifted here by the pod's own annotations or by [`Policy`]. Apart from it: a pod
//! that its Job would count as the last failure it has left, or that runs once for a controller of
//! another API group, is one that nothing brings back.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::{Deserialize, Serialize};

use crate::controllers::{Bringers, Losses};
use crate::error::ClusterError;
use crate::leaving::Leaving;
use crate::node::NodeName;
use crate::pages;
use crate::spec::{Facts, Mounted};

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
    /// A controller of another API group keeps one on each node, this one among them.
    NodeAgent,
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
    /// Its controller would not start it again, for this reason.
    NotRestarted(String),
    /// It ends by itself, and its controller, of another API group, may start it again or not.
    RunsOnce(String),
    /// Its controller, of another API group, keeps it on this very node.
    KeptHere(String),
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
#[derive(Debug, Clone, PartialEq)]
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
    /// How it ends, once it was told to.
    pub leaving: Option<Leaving>,
    /// What the drain does with it.
    pub disposition: Disposition,
    /// Its owner permits its eviction at any time ([`SAFE_TO_EVICT`] is `"true"`).
    pub is_safe_to_evict: bool,
    /// The demands of its spec.
    pub facts: Facts,
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

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl Controller {
    /// It is of Kubernetes itself: what it brings back is known.
    #[must_use]
    pub(crate) fn is_built_in(&self) -> bool {
        const KINDS: [&str; 5] = ["ReplicaSet", "StatefulSet", "ReplicationController", "Job", "DaemonSet"];
        KINDS.contains(&self.kind.as_str())
    }

    /// It is of another API group than Kubernetes' own.
    fn is_foreign(&self) -> bool {
        self.kind.contains('.')
    }

    /// It keeps a pod on each node by its very kind (`DaemonSet.apps.kruise.io`).
    fn is_foreign_daemon_set(&self) -> bool {
        self.kind.starts_with("DaemonSet.")
    }
}

impl Stay {
    /// For a person.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::DaemonSet => "its DaemonSet keeps one on each node",
            Self::NodeAgent => "its controller keeps one on each node",
            Self::Mirror => "it is a static pod of this node",
            Self::Finished => "it has finished",
        }
    }
}

impl Block {
    /// For a person: why, and what would help.
    #[must_use]
    pub fn why(&self) -> String {
        match self {
            Self::Unmanaged => format!(
                "no controller would bring the pod back: delete it yourself, or annotate it with {SAFE_TO_EVICT}: \"true\""
            ),
            Self::NotRestarted(why) => format!(
                "nothing would bring the pod back: {why}; wait for its end, or annotate it with {SAFE_TO_EVICT}: \"true\""
            ),
            Self::RunsOnce(owner) => format!(
                "the pod runs once, and {owner} may not start it again: wait for its end, or annotate it with \
                 {SAFE_TO_EVICT}: \"true\""
            ),
            Self::KeptHere(owner) => format!(
                "{owner} keeps the pod on this very node, and would bring it back here: annotate it with \
                 {SAFE_TO_EVICT}: \"true\" if it may end with the node"
            ),
            Self::LocalStorage(volume) => format!(
                "the pod would lose its emptyDir volume {volume}: annotate it with {SAFE_TO_EVICT}: \"true\" if \
                 that is fine, or allow it for all by the setting evict_local_storage"
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

    /// It runs to its own end (a Job's pod, say): whatever forbids its eviction is over then.
    #[must_use]
    pub fn ends_by_itself(&self) -> bool {
        self.facts.runs_once
    }

    /// It has to leave the node before that may go.
    #[must_use]
    pub fn must_go(&self) -> bool {
        !matches!(self.disposition, Disposition::Stays(_))
    }
}

/// All pods of a node, sorted by namespace and name. Lists in pages of [`PAGE_SIZE`], then asks
/// once for each of their DaemonSets and Jobs.
pub async fn on_node(client: &Client, node: &NodeName, policy: Policy) -> Result<Vec<NodePod>, ClusterError> {
    let api: Api<Pod> = Api::all(client.clone());
    let selector = format!("spec.nodeName={node}");
    let pods =
        pages::all(&api, "list pods", &selector, ListParams::default().fields(&selector), PAGE_SIZE).await?;
    let losses = Bringers::of(client, &pods).await?.losses(&pods);
    let mut pods: Vec<NodePod> = pods.iter().map(|pod| look_at(pod, &losses, policy)).collect();
    pods.sort_by(|a, b| a.pod.cmp(&b.pod));
    Ok(pods)
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

/// It runs, or is to run, and nobody has told it to go.
pub(crate) fn is_alive(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase(pod), "Succeeded" | "Failed")
}

fn look_at(pod: &Pod, losses: &Losses, policy: Policy) -> NodePod {
    let facts = facts(pod);
    NodePod {
        pod: PodRef {
            namespace: pod.namespace().unwrap_or_default(),
            pod: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
        },
        controller: controller(pod),
        labels: pod.labels().clone(),
        claims: claims(pod, &facts),
        has_inline_ebs: facts.volumes.contains(&Mounted::InlineEbs),
        is_ready: is_ready(pod),
        is_pending: phase(pod) == "Pending",
        leaving: Leaving::of(pod),
        disposition: disposition(pod, &facts, losses, policy),
        is_safe_to_evict: annotation(pod, SAFE_TO_EVICT) == Some("true"),
        facts,
    }
}

/// What a drain does with `pod`, given what its controllers say.
fn disposition(pod: &Pod, facts: &Facts, losses: &Losses, policy: Policy) -> Disposition {
    let owner = controller(pod);
    if pod.annotations().contains_key(MIRROR) {
        return Disposition::Stays(Stay::Mirror);
    }
    if owner.as_ref().is_some_and(|owner| losses.has_daemon_set(owner)) {
        return Disposition::Stays(Stay::DaemonSet);
    }
    // A finalizer may hold a pod that has finished: whoever set it has work left to do, so that a
    // terminating pod is waited for in any case.
    if pod.metadata.deletion_timestamp.is_some() {
        return Disposition::Terminating;
    }
    if !is_alive(pod) {
        return Disposition::Stays(Stay::Finished);
    }
    if let Some(block) = block(pod, owner.as_ref(), facts, losses, policy) {
        return Disposition::Blocked(block);
    }
    let is_agent = owner.is_some_and(|owner| keeps_here(&owner, facts));
    if is_agent { Disposition::Stays(Stay::NodeAgent) } else { Disposition::Evict }
}

fn block(
    pod: &Pod,
    owner: Option<&Controller>,
    facts: &Facts,
    losses: &Losses,
    policy: Policy,
) -> Option<Block> {
    let forbids = |key: &&&str| annotation(pod, key).is_some_and(|value| value != "false");
    if let Some(key) = DO_NOT_DISRUPT.iter().find(forbids) {
        return Some(Block::DoNotDisrupt((*key).to_owned()));
    }
    match annotation(pod, SAFE_TO_EVICT) {
        Some("true") => return None,
        Some("false") => return Some(Block::DoNotDisrupt(SAFE_TO_EVICT.to_owned())),
        _ => {}
    }
    let local = || {
        let safe: Vec<&str> =
            annotation(pod, SAFE_TO_EVICT_VOLUMES).unwrap_or_default().split(',').map(str::trim).collect();
        let mut local = facts.volumes.iter().filter_map(|volume| match volume {
            Mounted::Scratch(name) if !safe.contains(&name.as_str()) => Some(name.clone()),
            _ => None,
        });
        local.next().filter(|_| !policy.evict_local_storage).map(Block::LocalStorage)
    };
    match owner {
        Some(owner) if owner.is_foreign_daemon_set() => None,
        Some(owner) if keeps_here(owner, facts) => Some(Block::KeptHere(owner.to_string())),
        _ => unrestored(pod, owner, facts, losses).filter(|_| !policy.evict_unmanaged).or_else(local),
    }
}

/// Says why nothing would bring the pod back.
fn unrestored(pod: &Pod, owner: Option<&Controller>, facts: &Facts, losses: &Losses) -> Option<Block> {
    // An existing DaemonSet was sorted out before: this one's is gone. A Node is the owner of static pods.
    let Some(owner) = owner.filter(|owner| !matches!(owner.kind.as_str(), "DaemonSet" | "Node")) else {
        return Some(Block::Unmanaged);
    };
    if let Some(why) = losses.of(pod) {
        return Some(Block::NotRestarted(why.to_owned()));
    }
    let runs_once = !owner.is_built_in() && facts.runs_once;
    runs_once.then(|| Block::RunsOnce(owner.to_string()))
}

/// A controller of another API group brings the pod back to its very node, as a DaemonSet does.
fn keeps_here(owner: &Controller, facts: &Facts) -> bool {
    owner.is_foreign_daemon_set() || (owner.is_foreign() && facts.is_tied_by_field())
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.annotations().get(key).map(String::as_str)
}

fn facts(pod: &Pod) -> Facts {
    pod.spec.as_ref().map(Facts::of).unwrap_or_default()
}

/// A claim that is made for the pod is named after it and the volume.
fn claims(pod: &Pod, facts: &Facts) -> Vec<String> {
    let claim = |volume: &Mounted| match volume {
        Mounted::Claim(name) => Some(name.clone()),
        Mounted::OwnClaim(volume) => Some(format!("{}-{volume}", pod.name_any())),
        Mounted::Scratch(_) | Mounted::InlineEbs => None,
    };
    facts.volumes.iter().filter_map(claim).collect()
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

#[cfg(test)]
pub(crate) use tests::node_pod;

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
