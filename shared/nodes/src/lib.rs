//! The Kubernetes half of a swap whose instances are nodes, for the functions that talk to a cluster. It connects to
//! the cluster ([`connect`]) and converts a failed call to a step's error ([`failed`], [`no_access`]). Its recovery
//! drains each node before the node leaves ([`recover_node`]).
//!
//! `spot-swap` knows of a node only what the journal records; it makes no call to a cluster and links no client
//! for one.

mod door;
mod error;
mod policy;
mod way_back;

pub use door::{ClusterEndpoint, connect, connect_for};
pub use error::{failed, no_access};
pub use policy::policy;
pub use way_back::recover_node;
