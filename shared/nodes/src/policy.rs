//! The rules for evictions.

use spot_cluster::pods::Policy;
use spot_domain::swap::journal::NodeSwap;

/// Returns the rules for the eviction of pods, as the settings had them when the run began.
#[must_use]
pub fn policy(node: &NodeSwap) -> Policy {
    Policy { evict_local_storage: node.evict_local_storage, evict_unmanaged: node.evict_unmanaged }
}
