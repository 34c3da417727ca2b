//! Room: could the newcomer hold the pods that must leave the old node? Asked before the cordon, while
//! nothing has been changed yet.
//!
//! Two kinds of demands, judged apart:
//!
//! - **What a node is** (labels, taints, architecture, the resources it offers and how much of them, where volumes
//!   can be attached): the newcomer itself must be such a node, and as large as the pods that must move and its own
//!   agents need together. Another node that is one today is no answer: the old node leaves for good, and with it
//!   would go a part of what its owner has of that kind.
//! - **What is free** (room that other pods have taken, host ports, anti-affinity, spread by hostname): the newcomer, or
//!   any other schedulable node. Pods that came to the newcomer meanwhile take their room there and leave it
//!   elsewhere, so that the cluster is asked as a whole before a swap fails for that.

mod amount;
mod demands;
mod look;
mod place;
mod terms;

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Result};

pub use amount::Amount;
pub use demands::{Amounts, Demands, KeepsOff, Spread, demands};
pub use look::lacks;
pub use terms::NodeTerms;

use crate::capacity;
use crate::node::Node;

/// Resource names of attachable volumes begin so; the rest is the CSI driver's name.
const ATTACHABLE: &str = "attachable-volumes-csi-";
/// Labels by which images and binaries fit a node, asked for or not.
const PLATFORM: [&str; 2] = ["kubernetes.io/arch", "kubernetes.io/os"];
/// Resources that no device plugin or CNI adds to a node that is Ready.
const OF_THE_TYPE: [&str; 2] = ["cpu", "memory"];
/// Lacks that a sentence names.
const NAMED: usize = 3;

/// A pod that must leave the old node and comes back elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Mover {
    /// The pod.
    pub pod: Resident,
    /// Its volumes.
    pub volumes: Vec<Volume>,
}

/// A PersistentVolume of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The CSI driver that attaches it.
    pub driver: Option<String>,
    /// Required node affinity: every one must be met.
    pub selects: Vec<NodeTerms>,
}

/// A node that pods may go to, and who is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// The node.
    pub node: Node,
    /// Its pods that have not finished.
    pub residents: Vec<Resident>,
}

/// A pod that runs on a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Resident {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// What it demands.
    pub demands: Demands,
    /// It is on its way out, and holds its room until it is gone.
    pub is_terminating: bool,
    /// A DaemonSet's or a static pod: each node has one, the newcomer too.
    pub is_agent: bool,
}

/// Something that keeps pods off the newcomer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// What.
    pub need: Need,
    /// The first pod that needs it, as `namespace/name`; none where the node as a whole does.
    pub pod: Option<String>,
    /// How many pods need it.
    pub pods: usize,
}

/// What is needed.
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
    /// The newcomer has this taint.
    Toleration(String),
    /// A volume can't be attached to the newcomer.
    Volume {
        /// The volume.
        volume: String,
        /// What its node affinity requires.
        requires: String,
    },
    /// The newcomer offers too little of a resource, used or not.
    Resource {
        /// Its name.
        resource: String,
        /// What the pod requests.
        wanted: Amount,
        /// What the newcomer offers.
        offered: Amount,
    },
    /// The newcomer offers too little of a resource for all pods that must move, and for its own agents.
    Size {
        /// Its name.
        resource: String,
        /// What they request together.
        wanted: Amount,
        /// What the newcomer offers.
        offered: Amount,
    },
    /// Too little of a resource is left, there and elsewhere.
    Free(String),
    /// A port of the node is taken.
    HostPort(i32),
    /// Anti-affinity by hostname to this pod.
    Apart(String),
    /// A topology spread by hostname, of this `maxSkew`.
    Spread(i64),
}

/// What keeps the pods that must move off the newcomer; empty if it could hold them. `others` are schedulable nodes
/// that could hold what the newcomer has no room left for; none, and the newcomer must hold all.
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
    /// Says if waiting can't help: nothing that starts on a node takes such a label off again, or makes its machine
    /// larger.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::SpotLabel(_)) || self.is_of_the_type()
    }

    /// Says if every node of this instance type lacks it: a machine has so much cpu and memory.
    #[must_use]
    pub fn is_of_the_type(&self) -> bool {
        match self {
            Self::Resource { resource, .. } | Self::Size { resource, .. } => {
                OF_THE_TYPE.contains(&resource.as_str())
            }
            _ => false,
        }
    }

    /// Says if another node may give it.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        match self {
            Self::Free(_) | Self::HostPort(_) | Self::Apart(_) | Self::Spread(_) => true,
            Self::SpotLabel(_)
            | Self::Taint(_)
            | Self::Platform(_)
            | Self::Label(_)
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

/// What the newcomer must have whoever comes.
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

/// What a pod needs of the kind of node, whoever else is there.
fn of_the_pod(mover: &Mover, node: &Node) -> Vec<Need> {
    let demands = &mover.pod.demands;
    let unmet = |terms: &&NodeTerms| !terms.are_met_by(node);
    let labels = demands.selects.iter().filter(unmet).map(|terms| Need::Label(terms.to_string()));
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

/// What the newcomer is too small for, even if nobody else were there.
fn of_the_sum(newcomer: &Host, movers: &[Mover]) -> Vec<Need> {
    let agents = newcomer.residents.iter().filter(|resident| resident.is_agent);
    let mut sums = Amounts::new();
    for pod in movers.iter().map(|mover| &mover.pod).chain(agents) {
        for (resource, amount) in pod.demands.requests() {
            let sum = sums.entry(resource.clone()).or_default();
            *sum = sum.plus(*amount);
        }
    }
    // What only agents request is none of the movers' business.
    sums.retain(|resource, _| movers.iter().any(|mover| mover.pod.demands.requests().contains_key(resource)));
    let too_little = |(resource, wanted): (String, Amount)| {
        let offered = newcomer.node.allocatable.get(&resource).copied().unwrap_or_default();
        (offered < wanted).then_some(Need::Size { resource, wanted, offered })
    };
    sums.into_iter().filter_map(too_little).collect()
}

/// The lacks for a person: the first ones, each with a pod that needs it.
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
            Self::Label(wanted) => write!(f, "its labels do not match {wanted}"),
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
#[path = "room_tests.rs"]
mod tests;
