//! How a swap that nobody drives any more is finished or undone: one decision after another, from its journal and from
//! what AWS shows.

use std::fmt;
use std::str::FromStr;

use crate::ids::MalformedText;

pub mod answer;
#[cfg(test)]
mod fate;
pub mod group;
pub mod lab;
#[cfg(test)]
mod truth;

/// How a swap ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The newcomer serves, the old instance is gone.
    Finished,
    /// Everything is as its owner wants it, the old instance serves.
    Undone,
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
