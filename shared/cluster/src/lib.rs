//! Thin Kubernetes calls: access to a cluster's API server, cordon, and a drain by eviction in short passes
//! that never sleep. A program that calls them may die between two passes.
//!
//! A drain from beginning to end:
//!
//! 1. [`access`] opens a client (EKS, or a kubeconfig in Secrets Manager). `access::Untried::tried` makes
//!    sure that the API server answers and knows the caller.
//! 2. [`node::find`] finds the node of an instance; [`ownership`] names another manager of the node. Where the
//!    instance is about to be lost, [`drainers::drainer`] names another system that drains the node.
//! 3. [`preflight::look`] and [`preflight::report`] forecast which pods move and which block the drain.
//! 4. [`room::lacks`] names what the replacement node lacks to hold the pods.
//! 5. [`node::cordon`] makes the node unschedulable, marked as ours.
//! 6. [`drain::pass`] evicts pods, pass by pass, until [`drain::Pass::is_done`].
//! 7. [`drain::migrated`] names the replacements that are not Ready yet, [`volumes::attached`] the volumes
//!    that the node still holds.
//! 8. [`node::uncordon`] undoes step 5.
//!
//! The crate never deletes a pod, overrides a PodDisruptionBudget, touches another's cordon, sleeps, or
//! retries by itself. The crate knows no swap and no Auto Scaling group.
//!
//! The crate needs these rights in the cluster (a ClusterRole): nodes get, list, patch; pods list;
//! pods/eviction create; daemonsets, replicasets, statefulsets, replicationcontrollers and jobs get;
//! poddisruptionbudgets list; persistentvolumeclaims and persistentvolumes get; volumeattachments list;
//! csinodes get.

pub mod access;
mod access_error;
mod amount;
pub mod budgets;
pub mod capacity;
pub mod controllers;
pub mod drain;
mod drain_state;
pub mod drainers;
pub mod eks_token;
pub mod error;
mod eviction;
mod expiry;
pub mod hosts;
mod jobs;
mod knock;
mod last_ready;
mod manner;
mod migration;
pub mod node;
mod observation;
mod obstacles;
pub mod ownership;
mod pages;
mod pod;
pub mod pods;
pub mod preflight;
pub mod room;
pub mod spec;
pub mod termination;
mod terms;
pub mod volumes;

pub use error::{ClusterError, Kind};
/// The client that every call takes. [`access`] makes it.
pub use kube::Client;
