//! Thin Kubernetes calls: access to a cluster's API server, cordon, and a drain by eviction in
//! short passes that never sleep, for programs that may die between two of them.
//!
//! A drain from beginning to end:
//!
//! 1. [`access`] opens a client (EKS, or a kubeconfig in Secrets Manager); `access::Untried::tried` makes
//!    sure that the API server answers and knows the caller.
//! 2. [`node::find`] finds the node of an instance; [`ownership`] tells who else manages it.
//! 3. [`preflight::look`] and [`preflight::report`] say what would move and what would block.
//! 4. [`room::lacks`] says what a node that is to replace it lacks to hold its pods.
//! 5. [`node::cordon`] makes it unschedulable, marked as ours.
//! 6. [`drain::pass`] evicts, again and again until [`drain::Pass::is_done`].
//! 7. [`drain::migrated`] says which replacements are not Ready yet, [`volumes::attached`] which
//!    volumes the node still holds.
//! 8. [`node::uncordon`] undoes step 5.
//!
//! What it never does: delete a pod, override a PodDisruptionBudget, touch a cordon of somebody
//! else, sleep, or retry by itself. It knows no swap and no Auto Scaling group.
//!
//! What it may do in the cluster (a ClusterRole): nodes get, list, patch; pods list;
//! pods/eviction create; daemonsets, replicasets, statefulsets, replicationcontrollers and jobs get;
//! poddisruptionbudgets list; persistentvolumeclaims and persistentvolumes get;
//! volumeattachments list; csinodes get.

pub mod access;
pub mod budgets;
pub mod capacity;
pub mod controllers;
pub mod drain;
mod drain_state;
pub mod eks_token;
pub mod error;
mod eviction;
mod expiry;
pub mod hosts;
mod jobs;
mod knock;
mod last_ready;
pub mod leaving;
mod migration;
pub mod node;
mod obstacles;
pub mod ownership;
mod pages;
pub mod pods;
pub mod preflight;
pub mod room;
pub mod spec;
pub mod volumes;

pub use error::{ClusterError, Kind};
/// The client that every call takes; [`access`] makes one.
pub use kube::Client;
