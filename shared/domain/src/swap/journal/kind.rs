//! The kinds of swap, and the part of the journal that each has alone.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::ids::{ClusterName, InstanceId, NodeName};
use crate::swap::eviction::Turns;
use crate::swap::lab::LabSwap;

/// The kind of a swap: its instances, and the part of the journal that no other kind has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub enum SwapKind {
    /// A member of an Auto Scaling group.
    Group,
    /// A member of an Auto Scaling group that is a Kubernetes node: no node goes undrained.
    Node(Box<NodeJournal>),
    /// An instance in no group: the things that the swap moves, and how far it may have come.
    Lab(Box<LabSwap>),
    /// No swap of ours: the answer to the two-minute notice of a member. The group itself launches the replacement.
    Answer(AnswerJournal),
}

/// The journal's part for the answer to a two-minute notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerJournal {
    /// The time at which EC2 takes the instance back.
    pub ends_at: Timestamp,
    /// How far the raise of desired has come.
    pub raise: Raise,
    /// Desired just before our call lowered it, if AWS has named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lowered_from: Option<u32>,
}

impl AnswerJournal {
    /// Returns the part of an answer that has raised nothing yet.
    #[must_use]
    pub const fn new(ends_at: Timestamp) -> Self {
        Self { ends_at, raise: Raise::NotAsked, lowered_from: None }
    }
}

/// How far the raise of desired by one has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Raise {
    /// The call was not made.
    NotAsked,
    /// The call may have been made: its answer is not known.
    Asked,
    /// AWS has answered that desired is one higher.
    Made,
    /// The same, of a try that was repeated: an earlier one had no answer, and may land yet. It says how many, not how many
    /// more, so that it changes nothing as long as our one is in desired.
    MadeAgain,
    /// AWS has refused the call, or the call to raise MaxSize before it.
    Refused,
    /// No call is made: the group has launched a replacement by itself, beyond desired.
    NotNeeded,
}

/// The journal's part for a swap of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeJournal {
    /// The cluster and the node.
    pub node: NodeSwap,
    /// The node that is being drained on the way back.
    pub leaving: Option<LeavingNode>,
    /// The instance that the way back leaves in service. The decision is made once.
    pub kept: Option<Kept>,
}

/// The Kubernetes side of a swap of nodes: the cluster to ask before a node goes, and the node to make
/// schedulable again. A node that we cordon bears the swap's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSwap {
    /// The cluster.
    pub cluster: ClusterName,
    /// The secret (ARN or name) that holds the cluster's kubeconfig; `None` for an EKS cluster.
    pub kubeconfig_secret: Option<String>,
    /// The node of the instance to be replaced.
    pub old: NodeName,
    /// The setting of that name, when the run began.
    pub evict_local_storage: bool,
    /// The setting of that name, when the run began.
    pub evict_unmanaged: bool,
}

/// The drain of an instance that leaves on the way back: the state that one visit hands to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeavingNode {
    /// The instance.
    pub instance_id: InstanceId,
    /// The time when the drain began.
    pub since: Timestamp,
    /// The evictions from its node.
    pub turns: Turns,
    /// The claims of the pods that move, as `namespace/name`. The volumes of those claims must be detached
    /// before the instance goes.
    pub claims: BTreeSet<String>,
    /// Visits in a row that have found a pod that can't be moved.
    #[serde(default)]
    pub stuck_visits: u32,
}

/// An instance that should leave on the way back, and stays in service: a pod on its node can't be moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The instance.
    pub instance_id: InstanceId,
    /// The pod, the reason, and the work that is left, in words.
    pub why: String,
}

/// A kind as the payload and the Swaps table hold it: beside the fields that all kinds have.
///
/// Beside other fields, serde forgets the path of an error: each field names itself.
#[derive(Default, Serialize, Deserialize)]
struct Wire {
    #[serde(default, deserialize_with = "node", skip_serializing_if = "Option::is_none")]
    node: Option<NodeSwap>,
    #[serde(default, deserialize_with = "leaving_node", skip_serializing_if = "Option::is_none")]
    leaving_node: Option<LeavingNode>,
    #[serde(default, deserialize_with = "kept", skip_serializing_if = "Option::is_none")]
    kept: Option<Kept>,
    #[serde(default, deserialize_with = "lab", skip_serializing_if = "Option::is_none")]
    lab: Option<Box<LabSwap>>,
    #[serde(default, deserialize_with = "answer", skip_serializing_if = "Option::is_none")]
    answer: Option<AnswerJournal>,
}

fn node<'de, D: Deserializer<'de>>(field: D) -> Result<Option<NodeSwap>, D::Error> {
    named("node", field)
}

fn leaving_node<'de, D: Deserializer<'de>>(field: D) -> Result<Option<LeavingNode>, D::Error> {
    named("leaving_node", field)
}

fn kept<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Kept>, D::Error> {
    named("kept", field)
}

fn lab<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Box<LabSwap>>, D::Error> {
    named("lab", field)
}

fn answer<'de, D: Deserializer<'de>>(field: D) -> Result<Option<AnswerJournal>, D::Error> {
    named("answer", field)
}

/// Reads a field. Its error begins with the path of what is wrong.
fn named<'de, T: Deserialize<'de>, D: Deserializer<'de>>(name: &str, field: D) -> Result<T, D::Error> {
    serde_path_to_error::deserialize(field).map_err(|error| {
        let path = error.path().to_string();
        let inside = if path == "." { String::new() } else { format!(".{path}") };
        D::Error::custom(format!("{name}{inside}: {}", error.inner()))
    })
}

impl SwapKind {
    /// Returns the kind of a swap of nodes that has not begun.
    #[must_use]
    pub fn of_node(node: NodeSwap) -> Self {
        Self::Node(Box::new(NodeJournal { node, leaving: None, kept: None }))
    }

    /// Returns the node of a swap of nodes.
    #[must_use]
    pub fn node(&self) -> Option<&NodeSwap> {
        match self {
            Self::Node(journal) => Some(&journal.node),
            Self::Group | Self::Lab(_) | Self::Answer(_) => None,
        }
    }

    /// Returns what a lab swap moves.
    #[must_use]
    pub fn lab(&self) -> Option<&LabSwap> {
        match self {
            Self::Lab(lab) => Some(lab),
            Self::Group | Self::Node(_) | Self::Answer(_) => None,
        }
    }

    /// Returns what a lab swap moves, to be changed.
    #[must_use]
    pub fn lab_mut(&mut self) -> Option<&mut LabSwap> {
        match self {
            Self::Lab(lab) => Some(lab),
            Self::Group | Self::Node(_) | Self::Answer(_) => None,
        }
    }

    /// Returns the part of an answer to a two-minute notice.
    #[must_use]
    pub const fn answer(&self) -> Option<AnswerJournal> {
        match self {
            Self::Answer(answer) => Some(*answer),
            Self::Group | Self::Node(_) | Self::Lab(_) => None,
        }
    }

    /// Returns the instance that the way back leaves in service.
    #[must_use]
    pub fn kept(&self) -> Option<&Kept> {
        match self {
            Self::Node(journal) => journal.kept.as_ref(),
            Self::Group | Self::Lab(_) | Self::Answer(_) => None,
        }
    }
}

impl TryFrom<Wire> for SwapKind {
    type Error = &'static str;

    fn try_from(wire: Wire) -> Result<Self, &'static str> {
        match wire {
            Wire { answer: Some(answer), node: None, leaving_node: None, kept: None, lab: None } => {
                Ok(Self::Answer(answer))
            }
            Wire { answer: Some(_), .. } => {
                Err("answer: an answer to an interruption is no swap of another kind")
            }
            Wire { node: Some(_), lab: Some(_), .. } => {
                Err("node, lab: a swap is of a node or of an instance in no group, never of both")
            }
            Wire { node: Some(node), leaving_node: leaving, kept, lab: None, .. } => {
                Ok(Self::Node(Box::new(NodeJournal { node, leaving, kept })))
            }
            Wire { leaving_node: Some(_), .. } | Wire { kept: Some(_), .. } => {
                Err("leaving_node, kept: only a swap of nodes has them, and it has a node")
            }
            Wire { lab: Some(lab), .. } => Ok(Self::Lab(lab)),
            Wire { lab: None, .. } => Ok(Self::Group),
        }
    }
}

impl From<SwapKind> for Wire {
    fn from(kind: SwapKind) -> Self {
        match kind {
            SwapKind::Group => Self::default(),
            SwapKind::Node(part) => {
                let NodeJournal { node, leaving, kept } = *part;
                Self { node: Some(node), leaving_node: leaving, kept, ..Self::default() }
            }
            SwapKind::Lab(lab) => Self { lab: Some(lab), ..Self::default() },
            SwapKind::Answer(answer) => Self { answer: Some(answer), ..Self::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = r#"{"cluster": "one", "kubeconfig_secret": null, "old": "ip-10-0-0-1", "evict_local_storage": false,
        "evict_unmanaged": false}"#;
    const KEPT: &str = r#"{"instance_id": "i-0123456789abcdef0", "why": "its pods"}"#;

    fn read(fields: &str) -> Result<SwapKind, String> {
        serde_json::from_str(&format!("{{{fields}}}")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_fields_of_a_kind_name_it() {
        assert_eq!(read(""), Ok(SwapKind::Group));
        let kept = read(&format!(r#""node": {NODE}, "kept": {KEPT}"#)).unwrap();
        assert_eq!(kept.kept().map(|kept| kept.why.as_str()), Some("its pods"));
        let written = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<SwapKind>(&written).unwrap(), kept);
    }

    /// The payload and the row hold a kind beside other fields.
    #[test]
    fn a_field_that_can_t_be_read_is_named_with_its_path() {
        #[derive(Debug, Deserialize)]
        struct Beside {
            #[serde(rename = "stage")]
            _stage: String,
            #[serde(flatten)]
            _kind: SwapKind,
        }
        for (fields, expected) in [
            (NODE.replace("\"one\"", "1"), "node.cluster: invalid type"),
            ("[]".to_owned(), "node: invalid length 0"),
            ("{}".to_owned(), "node: missing field `cluster`"),
        ] {
            let text = format!(r#"{{"stage": "Launching", "node": {fields}}}"#);
            let error = serde_json::from_str::<Beside>(&text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        let none = r#"{"stage": "Launching", "node": null, "lab": null}"#;
        assert!(serde_json::from_str::<Beside>(none).is_ok());
    }

    #[test]
    fn fields_of_two_kinds_are_refused_by_name() {
        let refused = read(&format!(r#""kept": {KEPT}"#)).unwrap_err();
        assert!(refused.starts_with("leaving_node, kept"), "{refused}");
        let lab = r#"{"old_instance": "stop", "address": null, "registrations": [], "capture": false, "leaving": false,
            "stopping": false}"#;
        assert!(matches!(read(&format!(r#""lab": {lab}"#)), Ok(SwapKind::Lab(_))));
        let refused = read(&format!(r#""node": {NODE}, "lab": {lab}"#)).unwrap_err();
        assert!(refused.starts_with("node, lab"), "{refused}");
        let answer = r#""answer": {"ends_at": "2026-11-26T10:02:00Z", "raise": "Asked"}"#;
        assert!(read(answer).unwrap().answer().is_some_and(|answer| answer.raise == Raise::Asked));
        let refused = read(&format!(r#"{answer}, "node": {NODE}"#)).unwrap_err();
        assert!(refused.starts_with("answer"), "{refused}");
    }
}
