//! The groups that the loop keeps on Spot without a word of their owner.

use serde::{Deserialize, Serialize};

/// The groups that are enrolled without a word of their owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enrolment {
    /// None: a group is enrolled by its tag.
    OptIn,
    /// All: a group is taken out by its tag.
    OptOut,
}
