//! How a swap that nobody drives any more is finished or undone: one decision after another, from its journal and from
//! what AWS shows.

use std::fmt;
use std::str::FromStr;

use crate::ids::MalformedText;

#[cfg(test)]
mod fate;
pub mod group;
pub mod lab;

/// How a swap ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The newcomer serves, the old instance is gone.
    Finished,
    /// Everything is as its owner wants it, the old instance serves.
    Undone,
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
