//! The answer to an interruption: which instance is rescued ([`verdict`]), how many of a group within an hour ([`share`]),
//! how a Kubernetes node is evacuated ([`evacuation`]), and the codes that say why one is not rescued ([`reason`]).
//!
//! What an answer in progress may have changed, and how it ends, is the subject of
//! [`recovery::answer`](crate::swap::recovery::answer).

pub mod evacuation;
pub mod reason;
pub mod share;
pub mod verdict;

use std::fmt;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

pub use reason::AnswerReason;

/// The time from EC2's interruption warning to the end of the instance.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html>
pub const NOTICE: SignedDuration = SignedDuration::from_secs(120);

/// The result of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AnswerOutcome {
    /// An instance of the group's own launch replaces the instance, which has left its group: with decrement, unless the group
    /// launched the replacement by itself.
    Replaced,
    /// The instance has left its group without decrement: the group launches the replacement by itself.
    Released,
    /// The instance is a Kubernetes node: it was cordoned, and every pod that must move has left it by eviction.
    Drained,
    /// Nothing was changed.
    Ignored,
    /// A step failed, or pods are left on a node. What was raised is given back.
    Failed,
}

impl fmt::Display for AnswerOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replaced => "REPLACED",
            Self::Released => "RELEASED",
            Self::Drained => "DRAINED",
            Self::Ignored => "IGNORED",
            Self::Failed => "FAILED",
        })
    }
}

/// The reason of an outcome, as a code and in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Because {
    /// The code.
    pub reason: AnswerReason,
    /// The reason in words.
    pub detail: String,
}

impl Because {
    /// Returns a reason with its words.
    #[must_use]
    pub fn of(reason: AnswerReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}
