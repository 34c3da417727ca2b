//! The fate of the instance that a lab swap replaces: a setting, which the journal of the swap keeps.

use serde::{Deserialize, Serialize};

/// The fate of the old instance once the newcomer serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OldInstance {
    /// The instance is stopped: its disks stay (and cost), and it can be started again.
    #[default]
    Stop,
    /// The instance is terminated, with every volume that is deleted on termination.
    Terminate,
}
