//! How a swap that nobody drives any more is finished or undone: one decision after another, from its journal and from
//! what AWS shows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{InstanceId, MalformedText};
use crate::risk::pool::Pool;

pub mod answer;
#[cfg(test)]
mod fate;
pub mod group;
pub mod lab;
#[cfg(test)]
mod truth;

/// How a swap ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum End {
    /// The newcomer serves, the old instance is gone.
    Finished,
    /// Everything is as its owner wants it, the old instance serves.
    Undone,
}

/// A swap that has ended, as the last look of its recovery saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub end: End,
    /// The newcomer that serves, after [`End::Finished`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newcomer: Option<InstanceId>,
    /// The pool of the newcomer that is left in service, in a group, if EC2 gives its zone's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// Remarks for a person: the resources that were left alone, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// What may be left in desired, for a person: nothing proves whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
}

/// What a recovery does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<A> {
    /// Nothing is left to do.
    Done(End),
    /// Look again later.
    Wait(&'static str),
    /// This one thing.
    Do(A),
}

impl<A> Decision<A> {
    /// Returns the action, if there is one.
    #[must_use]
    pub const fn action(&self) -> Option<&A> {
        match self {
            Self::Do(action) => Some(action),
            Self::Done(_) | Self::Wait(_) => None,
        }
    }
}

impl<A> From<A> for Decision<A> {
    fn from(action: A) -> Self {
        Self::Do(action)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "Finished",
            Self::Undone => "Undone",
        })
    }
}

impl FromStr for End {
    type Err = MalformedText;

    fn from_str(text: &str) -> Result<Self, MalformedText> {
        [Self::Finished, Self::Undone].into_iter().find(|end| end.to_string() == text).ok_or_else(|| {
            MalformedText {
                kind: "end of a swap",
                given: text.chars().take(80).collect(),
                expected: "Finished or Undone",
            }
        })
    }
}
