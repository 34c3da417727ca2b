//! The pods of a node, and what a drain does with each.
//!
//! Pods are sorted as by `kubectl drain`. kubectl's flags lift two refusals (pods without a controller,
//! `emptyDir`); here the pod's own annotations or [`Policy`] lift them. In two cases more, nothing brings a
//! pod back: its Job would count the eviction as the last failure it has left, or the pod runs once for a
//! controller of another API group.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::{Deserialize, Serialize};

use crate::controllers::{DaemonSetsAndJobs, Losses};
use crate::error::ClusterError;
use crate::node::NodeName;
use crate::pages;
pub use crate::pod::{Controller, PAGE_SIZE, PodRef};
use crate::pod::{controller, is_alive, is_ready, phase};
use crate::spec::{Facts, Mounted};
use crate::termination::Termination;

/// Cluster Autoscaler's annotation: `"true"` permits what [`Policy`] permits, any other value forbids.
///
/// Cluster Autoscaler itself knows `"true"` and `"false"` letter by letter, and takes any other value for none. Here a
/// value that can't be read (`"False"`, `"no"`) forbids: its author cared, and an eviction can't be undone.
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// Cluster Autoscaler's annotation: names of volumes, separated by commas, whose content may be lost.
pub const SAFE_TO_EVICT_VOLUMES: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
/// Karpenter's annotations by which a pod asks not to be moved (the second one before v1beta1).
pub const DO_NOT_DISRUPT: [&str; 2] = ["karpenter.sh/do-not-disrupt", "karpenter.sh/do-not-evict"];
/// The kubelet's annotation on the mirror of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The permissions of the cluster's owner beyond the safe default (both `false`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Evict pods with `emptyDir` volumes, whose content is lost (kubectl's `--delete-emptydir-data`).
    pub evict_local_storage: bool,
    /// Evict pods that no controller brings back (kubectl's `--force`).
    pub evict_unmanaged: bool,
}

/// The reason why a drain leaves a pod on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stay {
    /// A DaemonSet would bring the pod back to this very node.
    DaemonSet,
    /// A controller of another API group keeps one pod on each node, this one among them.
    NodeAgent,
    /// A static pod of the kubelet's, mirrored in the API.
    Mirror,
    /// The pod has succeeded or failed: nothing runs.
    Finished,
}

/// The reason why a pod may not be evicted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// No controller would bring the pod back: it has none, its DaemonSet does not exist any more, or its owner
    /// is of a kind that creates no pods.
    Unmanaged,
    /// The pod's controller would not start it again, for this reason.
    NotRestarted(String),
    /// The pod ends by itself, and its controller, of another API group, may start it again or not.
    RunsOnce(String),
    /// The pod's controller, of another API group, keeps it on this very node.
    KeptHere(String),
    /// The pod keeps data in this `emptyDir` volume.
    LocalStorage(String),
    /// The pod's owner asks not to disrupt it, with this annotation.
    DoNotDisrupt(String),
}

/// The treatment of a pod by the drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// The pod stays and goes with the node.
    Stays(Stay),
    /// The pod is evicted.
    Evict,
    /// The pod is on its way out already: the drain waits.
    Terminating,
    /// The pod may not be evicted; the drain can't finish.
    Blocked(Block),
}

/// A pod of the node, as much as a drain needs of it.
#[derive(Debug, Clone, PartialEq)]
pub struct NodePod {
    pub pod: PodRef,
    /// The controller that would bring the pod back.
    pub controller: Option<Controller>,
    /// `metadata.labels`, which budgets select by.
    pub labels: BTreeMap<String, String>,
    /// Names of the PersistentVolumeClaims that the pod mounts.
    pub claims: Vec<String>,
    /// True if the pod mounts an EBS volume without a claim (`awsElasticBlockStore` in its own spec).
    pub has_inline_ebs: bool,
    /// True if the condition `Ready` is `True`.
    pub is_ready: bool,
    /// True if the pod has not started; no budget protects it.
    pub is_pending: bool,
    /// The termination of a pod that was asked to end.
    pub termination: Option<Termination>,
    pub disposition: Disposition,
    /// True if the pod's owner permits its eviction at any time ([`SAFE_TO_EVICT`] is `"true"`).
    pub is_safe_to_evict: bool,
    /// The demands of the pod's spec.
    pub facts: Facts,
}

/// A pod that stands in the way, for a person to read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Blocked {
    pub pod: String,
    pub namespace: String,
    /// The PodDisruptionBudget that forbids the eviction, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// The reason, and what would help.
    pub why: String,
}

impl Stay {
    /// Returns the reason for a person.
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
    /// Returns the reason and what would help, for a person.
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
            Self::DoNotDisrupt(annotation) if annotation == SAFE_TO_EVICT => {
                format!(
                    "the pod's annotation {annotation} forbids to move it: remove it, or set it to \"true\""
                )
            }
            Self::DoNotDisrupt(annotation) => format!("the pod's annotation {annotation} forbids to move it"),
        }
    }
}

impl NodePod {
    /// Returns the entry that names the pod as blocked.
    #[must_use]
    pub fn blocked(&self, budget: Option<String>, why: String) -> Blocked {
        Blocked { pod: self.pod.pod.clone(), namespace: self.pod.namespace.clone(), budget, why }
    }

    /// Returns true if the pod runs to its own end (a Job's pod, for instance). Any obstacle to its eviction
    /// is over then.
    #[must_use]
    pub fn ends_by_itself(&self) -> bool {
        self.facts.runs_once
    }

    /// Returns true if the pod has to leave before the node may go.
    #[must_use]
    pub fn must_go(&self) -> bool {
        !matches!(self.disposition, Disposition::Stays(_))
    }
}

/// Returns all pods of a node, sorted by namespace and name. Lists in pages of [`PAGE_SIZE`], then asks once
/// for each of their DaemonSets and Jobs.
pub async fn on_node(client: &Client, node: &NodeName, policy: Policy) -> Result<Vec<NodePod>, ClusterError> {
    let api: Api<Pod> = Api::all(client.clone());
    let selector = format!("spec.nodeName={node}");
    let pods =
        pages::all(&api, "list pods", &selector, ListParams::default().fields(&selector), PAGE_SIZE).await?;
    let losses = DaemonSetsAndJobs::of(client, &pods).await?.losses(&pods);
    let mut pods: Vec<NodePod> = pods.iter().map(|pod| look_at(pod, &losses, policy)).collect();
    pods.sort_by(|a, b| a.pod.cmp(&b.pod));
    Ok(pods)
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
        termination: Termination::of(pod),
        disposition: disposition(pod, &facts, losses, policy),
        is_safe_to_evict: annotation(pod, SAFE_TO_EVICT) == Some("true"),
        facts,
    }
}

/// Decides what a drain does with `pod`, given what its controllers say.
fn disposition(pod: &Pod, facts: &Facts, losses: &Losses, policy: Policy) -> Disposition {
    let owner = controller(pod);
    if pod.annotations().contains_key(MIRROR) {
        return Disposition::Stays(Stay::Mirror);
    }
    if owner.as_ref().is_some_and(|owner| losses.has_daemon_set(owner)) {
        return Disposition::Stays(Stay::DaemonSet);
    }
    // A finalizer may hold a pod that has finished: its controller has work left to do. So the drain waits
    // for a terminating pod in any case.
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
        Some(_) => return Some(Block::DoNotDisrupt(SAFE_TO_EVICT.to_owned())),
        None => {}
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

/// Returns the reason why nothing would bring the pod back.
fn unrestored(pod: &Pod, owner: Option<&Controller>, facts: &Facts, losses: &Losses) -> Option<Block> {
    // Pods of an existing DaemonSet were sorted out before: this pod's DaemonSet is gone. Of the other kinds of
    // Kubernetes itself (a Node, a Pod, a ConfigMap), none creates a pod again.
    let brings_back =
        |owner: &&Controller| owner.is_foreign() || (owner.is_built_in() && owner.kind != "DaemonSet");
    let Some(owner) = owner.filter(brings_back) else {
        return Some(Block::Unmanaged);
    };
    if let Some(why) = losses.of(pod) {
        return Some(Block::NotRestarted(why.to_owned()));
    }
    let runs_once = !owner.is_built_in() && facts.runs_once;
    runs_once.then(|| Block::RunsOnce(owner.to_string()))
}

/// Returns true if a controller of another API group brings the pod back to its very node, as a DaemonSet
/// does.
fn keeps_here(owner: &Controller, facts: &Facts) -> bool {
    owner.is_foreign_daemon_set() || (owner.is_foreign() && facts.is_tied_by_field())
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.annotations().get(key).map(String::as_str)
}

fn facts(pod: &Pod) -> Facts {
    pod.spec.as_ref().map(Facts::of).unwrap_or_default()
}

/// Returns the claims of a pod. A claim that is made for the pod is named after the pod and the volume.
fn claims(pod: &Pod, facts: &Facts) -> Vec<String> {
    let claim = |volume: &Mounted| match volume {
        Mounted::Claim(name) => Some(name.clone()),
        Mounted::OwnClaim(volume) => Some(format!("{}-{volume}", pod.name_any())),
        Mounted::Scratch(_) | Mounted::InlineEbs | Mounted::HostPath(_) => None,
    };
    facts.volumes.iter().filter_map(claim).collect()
}

#[cfg(test)]
pub(crate) use tests::node_pod;

#[cfg(test)]
mod tests;
