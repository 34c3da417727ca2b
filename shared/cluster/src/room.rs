//! Room: judges if the newcomer could hold the pods that must leave the old node. Asked before the cordon,
//! while nothing has been changed yet.
//!
//! Two kinds of demands, judged apart:
//!
//! - **The node's properties** (labels, taints, architecture, the resources that it offers and their amounts,
//!   places where volumes can be attached). The newcomer itself must be such a node, and as large as the pods
//!   that must move and its own agents need together. Another node with these properties is no answer: the
//!   old node leaves for good, and a part of its owner's capacity of that kind would leave with it.
//! - **Free room** (room that other pods have taken, host ports, anti-affinity, spread by hostname). The
//!   newcomer, or any other schedulable node, may give it. Pods that came to the newcomer meanwhile take
//!   their room there and leave it elsewhere. So the cluster is asked as a whole before a swap fails for lack
//!   of room.

mod demands;
mod look;
mod place;

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Result};

pub use demands::{Demands, KeepsOff, Spread, demands};
pub use look::lacks;

pub use crate::amount::{Amount, Amounts};
use crate::capacity;
use crate::node::Node;
use crate::spec::PODS;
pub use crate::terms::NodeTerms;

/// The prefix of the resource names of attachable volumes; the rest is the CSI driver's name.
const ATTACHABLE: &str = "attachable-volumes-csi-";
/// Labels by which images and binaries fit a node, even if no pod asks for them.
const PLATFORM: [&str; 2] = ["kubernetes.io/arch", "kubernetes.io/os"];
/// Resources that no device plugin adds to a node that is Ready.
const OF_THE_TYPE: [&str; 2] = ["cpu", "memory"];
/// Lacks that a sentence names.
const NAMED: usize = 3;

/// A pod that must leave the old node and comes back elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Mover {
    pub pod: Resident,
    pub volumes: Vec<PodVolume>,
}

/// A PersistentVolume of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodVolume {
    pub name: String,
    /// The CSI driver that attaches it.
    pub driver: Option<String>,
    /// Required node affinity: a node must meet every one.
    pub selects: Vec<NodeTerms>,
}

/// A node that pods may go to, and the pods on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    pub node: Node,
    /// Pods of the node that have not finished.
    pub residents: Vec<Resident>,
}

/// A pod that runs on a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Resident {
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// The demands of the pod on its node.
    pub demands: Demands,
    /// True if the pod is on its way out. A pod holds its room until it is gone.
    pub is_terminating: bool,
    /// True for a pod of a DaemonSet and for a static pod: each node has one, the newcomer too.
    pub is_agent: bool,
}

/// Something that the newcomer lacks to hold the pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    pub need: Need,
    /// The first pod that needs it, as `namespace/name`; none if the node as a whole lacks it.
    pub pod: Option<String>,
    /// The number of pods that need it.
    pub pods: usize,
}

/// Something that the pods need of the newcomer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// The newcomer bears a label that says On-Demand.
    SpotLabel(String),
    /// The old node has this taint, which keeps strangers off.
    Taint(String),
    /// The old node has another value of this label.
    Platform(String),
    /// The newcomer's labels do not match.
    Label(String),
    /// The newcomer's labels do not match: they name another instance type or family.
    TypeLabel(String),
    /// The newcomer has this taint.
    Toleration(String),
    /// A volume can't be attached to the newcomer.
    Volume {
        volume: String,
        /// The requirement of the volume's node affinity.
        requires: String,
    },
    /// The newcomer offers too little of a resource, used or not.
    Resource {
        /// The name of the resource.
        resource: String,
        /// The amount that the pod requests.
        wanted: Amount,
        /// The amount that the newcomer offers.
        offered: Amount,
    },
    /// The newcomer offers too little of a resource for all pods that must move, and for its own agents.
    Size {
        /// The name of the resource.
        resource: String,
        /// The amount that the pods request together.
        wanted: Amount,
        /// The amount that the newcomer offers.
        offered: Amount,
    },
    /// Too little of a resource is left, on the newcomer and elsewhere.
    Free(String),
    /// A port of the node is taken.
    HostPort(i32),
    /// Anti-affinity by hostname to this pod.
    Apart(String),
    /// A topology spread by hostname, of this `maxSkew`.
    Spread(i64),
}

/// Returns what keeps the pods that must move off the newcomer; empty if it could hold them. `others` are
/// schedulable nodes that could hold the pods for which the newcomer has no room left. If `others` is empty,
/// the newcomer must hold all.
#[must_use]
pub fn missing(old: &Node, newcomer: &Host, movers: &[Mover], others: &[Host]) -> Vec<Lack> {
    let mut lacks = Lacks::default();
    for need in of_the_node(old, &newcomer.node) {
        lacks.add(need, None);
    }
    for mover in movers {
        for need in of_the_pod(mover, &newcomer.node) {
            lacks.add(need, Some(mover));
        }
    }
    if lacks.0.is_empty() {
        for need in of_the_sum(newcomer, movers) {
            lacks.add(need, None);
        }
    }
    if lacks.0.is_empty() { place::homeless(newcomer, movers, others) } else { lacks.0 }
}

impl Need {
    /// Returns true if waiting can't help: nothing that starts on a node takes such a label off again, or
    /// makes its machine larger. An offer of none may still grow: a kubelet that could not read its machine offers no
    /// cpu.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::SpotLabel(_) | Self::TypeLabel(_) => true,
            Self::Resource { resource, offered, .. } | Self::Size { resource, offered, .. } => {
                let is_fixed = OF_THE_TYPE.contains(&resource.as_str()) || resource == PODS;
                is_fixed && *offered > Amount::default()
            }
            _ => false,
        }
    }

    /// Returns true if every node of this instance type lacks it. A machine's cpu and memory are fixed. The number
    /// of pods and the devices follow from the type, too, once the node offers some: their plugin is there.
    #[must_use]
    pub fn is_of_the_type(&self) -> bool {
        match self {
            Self::TypeLabel(_) => true,
            Self::Resource { resource, offered, .. } | Self::Size { resource, offered, .. } => {
                let is_device_or_pods = resource == PODS || resource.contains('/');
                OF_THE_TYPE.contains(&resource.as_str())
                    || (is_device_or_pods && *offered > Amount::default())
            }
            _ => false,
        }
    }

    /// Returns true if another node may give it.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        match self {
            Self::Free(_) | Self::HostPort(_) | Self::Apart(_) | Self::Spread(_) => true,
            Self::SpotLabel(_)
            | Self::Taint(_)
            | Self::Platform(_)
            | Self::Label(_)
            | Self::TypeLabel(_)
            | Self::Toleration(_)
            | Self::Volume { .. }
            | Self::Resource { .. }
            | Self::Size { .. } => false,
        }
    }
}

#[derive(Default)]
struct Lacks(Vec<Lack>);

impl Lacks {
    fn add(&mut self, need: Need, mover: Option<&Mover>) {
        if let Some(known) = self.0.iter_mut().find(|lack| lack.need == need) {
            known.pods += 1;
            return;
        }
        let pod = mover.map(|mover| mover.pod.to_string());
        self.0.push(Lack { need, pods: usize::from(pod.is_some()), pod });
    }
}

/// Returns what the newcomer must have, whichever pods come.
fn of_the_node(old: &Node, newcomer: &Node) -> Vec<Need> {
    let mut needs: Vec<Need> =
        capacity::on_demand_label(&newcomer.labels).map(Need::SpotLabel).into_iter().collect();
    needs.extend(
        old.taints_to_keep().filter(|t| !newcomer.startup_taints.contains(t)).cloned().map(Need::Taint),
    );
    for label in PLATFORM {
        let values = (old.labels.get(label), newcomer.labels.get(label));
        if let (Some(was), Some(is)) = values
            && was != is
        {
            needs.push(Need::Platform(format!("{label}={was}")));
        }
    }
    needs
}

/// Returns what a pod needs of the kind of node, whichever other pods are there.
fn of_the_pod(mover: &Mover, node: &Node) -> Vec<Need> {
    let demands = &mover.pod.demands;
    let unmet = |terms: &&NodeTerms| !terms.are_met_by(node);
    let labels = demands.selects.iter().filter(unmet).map(|terms| {
        let need = if terms.fail_by_type(node) { Need::TypeLabel } else { Need::Label };
        need(terms.to_string())
    });
    let taints = node.startup_taints.iter().filter(|taint| !demands.facts.tolerates(taint));
    let taints = taints.cloned().map(Need::Toleration);
    let volumes = mover.volumes.iter().flat_map(|volume| {
        volume
            .selects
            .iter()
            .filter(unmet)
            .map(|terms| Need::Volume { volume: volume.name.clone(), requires: terms.to_string() })
    });
    let resources = demands.requests().iter().filter_map(|(name, wanted)| {
        let offered = node.allocatable.get(name).copied().unwrap_or_default();
        let too_little = || Need::Resource { resource: name.clone(), wanted: *wanted, offered };
        (offered < *wanted).then(too_little)
    });
    labels.chain(taints).chain(volumes).chain(resources).collect()
}

/// Returns the resources of which the newcomer has too little, even without other pods.
fn of_the_sum(newcomer: &Host, movers: &[Mover]) -> Vec<Need> {
    let agents = newcomer.residents.iter().filter(|resident| resident.is_agent);
    let mut sums = Amounts::new();
    for pod in movers.iter().map(|mover| &mover.pod).chain(agents) {
        for (resource, amount) in pod.demands.requests() {
            let sum = sums.entry(resource.clone()).or_default();
            *sum = sum.plus(*amount);
        }
    }
    // The movers need no resource that only agents request.
    sums.retain(|resource, _| movers.iter().any(|mover| mover.pod.demands.requests().contains_key(resource)));
    let too_little = |(resource, wanted): (String, Amount)| {
        let offered = newcomer.node.allocatable.get(&resource).copied().unwrap_or_default();
        (offered < wanted).then_some(Need::Size { resource, wanted, offered })
    };
    sums.into_iter().filter_map(too_little).collect()
}

/// Describes the lacks for a person: the first ones, each with a pod that needs it.
#[must_use]
pub fn in_words(lacks: &[Lack]) -> String {
    let mut words: Vec<String> = lacks.iter().take(NAMED).map(ToString::to_string).collect();
    if lacks.len() > NAMED {
        words.push(format!("and {} more", lacks.len() - NAMED));
    }
    words.join("; ")
}

impl Display for Resident {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Display for Lack {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}", self.need)?;
        match (&self.pod, self.pods) {
            (None, _) => Ok(()),
            (Some(pod), 0 | 1) => write!(f, " (pod {pod})"),
            (Some(pod), pods) => write!(f, " (pod {pod} and {} more)", pods - 1),
        }
    }
}

impl Display for Need {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::SpotLabel(label) => write!(
                f,
                "its label {label} says On-Demand, and it is Spot: take the label out of the launch template"
            ),
            Self::Taint(taint) => write!(f, "it lacks the taint {taint} of the old node"),
            Self::Platform(label) => write!(f, "it is not {label} as the old node is"),
            Self::Label(wanted) | Self::TypeLabel(wanted) => write!(f, "its labels do not match {wanted}"),
            Self::Toleration(taint) => write!(f, "its taint {taint} is not tolerated"),
            Self::Volume { volume, requires } => {
                write!(f, "its labels do not match {requires}, which volume {volume} requires")
            }
            Self::Resource { resource, wanted, offered } => {
                write!(f, "it offers {offered} of {resource}, and {wanted} is requested")
            }
            Self::Size { resource, wanted, offered } => write!(
                f,
                "it offers {offered} of {resource}, and the pods that must move and its own agents request {wanted} \
                 together"
            ),
            Self::Free(resource) => {
                write!(f, "too little {resource} is free, on it and on the other schedulable nodes")
            }
            Self::HostPort(port) => write!(f, "host port {port} is taken on it"),
            Self::Apart(other) => write!(f, "anti-affinity by hostname keeps it apart from pod {other}"),
            Self::Spread(skew) => write!(
                f,
                "its topology spread by hostname (maxSkew {skew}) counts the cordoned old node as empty and leaves no \
                 node for it: set nodeTaintsPolicy to Honor"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
