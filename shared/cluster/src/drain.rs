//! The drain: every pod that can move leaves the node through the Eviction API, in short passes.
//!
//! One [`pass`] lists the node's pods, asks for the eviction of each that is due, and returns what
//! is left; it never sleeps and never waits for a pod to go. Whoever calls it (a loop with a pause,
//! a state machine) carries the [`State`] from pass to pass. A pass that died half-way is safe to
//! repeat from the old state.
//!
//! As `kubectl drain`: DaemonSet and mirror pods stay; 404 and another UID mean gone; a budget's
//! 429 is asked again after 5 s. Apart from it: finished pods stay; nothing is ever deleted; an
//! eviction names the pod's UID, so that it can't hit the one that came back under its name;
//! and a pod's own annotations can allow or forbid its eviction ([`crate::pods`]).

use kube::Client;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::ClusterError;
use crate::node::NodeName;
use crate::pods::{Blocked, Controller, Policy, PodRef};

/// How long a pod whose eviction was refused is left alone (kubectl's own pause).
pub const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(5);
/// Evictions in flight at once.
pub const CONCURRENCY: usize = 20;

/// What travels from pass to pass. About 100 bytes for each pod that was refused in the last
/// 5 s, and 200 for each controller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Pods whose eviction was granted.
    pub evicted: u32,
    /// Pods that were refused, by UID: not to be asked for again before (Unix milliseconds).
    pub not_before_ms: BTreeMap<String, i64>,
    /// The controllers of the pods that move, and what they must bring back.
    pub owed: Vec<Owed>,
}

/// What a controller had before the drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// The controller.
    pub controller: Controller,
    /// Its pods that were Ready, on any node.
    pub ready_before: u32,
}

/// What one pass found and did.
#[derive(Debug, Clone)]
pub struct Pass {
    /// For the next pass.
    pub state: State,
    /// Pods that are still there and must go, the blocked ones and those that are terminating
    /// among them.
    pub remaining: Vec<PodRef>,
    /// Those that something holds: a budget, an annotation, local storage. Also those that were
    /// refused less than 5 s ago and not asked for in this pass.
    pub blocked: Vec<Blocked>,
    /// No pod that must go is left.
    pub is_done: bool,
    /// A call failed in mid-pass in a way that may pass: what was done is in the other fields; go
    /// on with another pass.
    pub trouble: Option<ClusterError>,
}

/// A controller whose replacements are not Ready yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The controller.
    pub controller: Controller,
    /// Ready pods that it must have.
    pub wanted: u32,
    /// Ready pods that it has.
    pub ready: u32,
}

/// The state before the first pass: which controllers have pods to move, and how many of theirs
/// are Ready. Evicts nothing. Call it after the cordon and keep the answer before the first pass:
/// should that pass die after its evictions, what is owed is still known.
pub async fn begin(client: &Client, node: &NodeName, policy: Policy) -> Result<State, ClusterError> {
    todo!("{node} {policy:?}")
}

/// One pass over the node's pods. Ends within seconds, sleeps never.
///
/// # Errors
/// The pods could not be listed, or an eviction failed in a way that no later pass mends
/// (`Denied`, `Unauthorized`, `Rejected`).
pub async fn pass(client: &Client, node: &NodeName, policy: Policy, state: State) -> Result<Pass, ClusterError> {
    todo!("{node} {policy:?} {state:?}")
}

/// The controllers whose pods have moved but do not run again as before: each must have as many
/// Ready pods as it had, or as it wants by now if that is less. A controller that is gone, and a
/// Job that runs or is finished, owes nothing. Empty = migrated.
pub async fn migrated(client: &Client, state: &State) -> Result<Vec<Missing>, ClusterError> {
    todo!("{state:?}")
}
