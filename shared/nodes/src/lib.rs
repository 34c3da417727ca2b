//! The Kubernetes side of a swap whose instances are nodes, for the functions that talk to a cluster: the way into it
//! ([`connect`]), what a step does about a failed call to it ([`failed`], [`no_access`]), and the way back, on which no
//! node goes undrained ([`permit`]).
//!
//! `spot-swap` knows of a node what the journal tells; it makes no call to a cluster and links no client for one.

mod door;
mod error;
mod way_back;

pub use door::{Door, connect, connect_for};
pub use error::{failed, no_access};
use spot_cluster::pods::Policy;
use spot_domain::journal::NodeSwap;
pub use way_back::permit;

/// Returns which pods may be evicted, as the settings had it when the run began.
#[must_use]
pub fn policy(node: &NodeSwap) -> Policy {
    Policy { evict_local_storage: node.evict_local_storage, evict_unmanaged: node.evict_unmanaged }
}
