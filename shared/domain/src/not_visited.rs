//! The reasons for which no run visits a region that an account has enabled.

use serde::{Deserialize, Serialize};

/// The reason for which no run visits an enabled region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NotVisitedReason {
    /// The account's row does not list the region.
    NotListed,
    /// The account's row asks for all enabled regions, and a service control policy denies this one.
    Denied,
}
