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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use kube::Client;
use serde::{Deserialize, Serialize};

use crate::error::ClusterError;
use crate::eviction::{self, Answer};
use crate::migration;
use crate::node::NodeName;
use crate::pods::{self, Blocked, Controller, Disposition, NodePod, PodRef, Policy};

pub use crate::migration::{Missing, migrated};

/// How long a pod whose eviction was refused is left alone (kubectl's own pause).
pub const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(5);
/// Evictions in flight at once.
pub const CONCURRENCY: usize = 20;

/// A pass sends no further eviction after this time: against a slow API server, too, it ends.
const SENDING_TIME: Duration = Duration::from_secs(10);

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

/// The state before the first pass: which controllers have pods to move, and how many of theirs
/// are Ready. Evicts nothing. Call it after the cordon and keep the answer before the first pass:
/// should that pass die after its evictions, what is owed is still known.
pub async fn begin(client: &Client, node: &NodeName, policy: Policy) -> Result<State, ClusterError> {
    let pods = pods::on_node(client, node, policy).await?;
    let mut state = State::default();
    owe(client, &pods, &mut state).await?;
    Ok(state)
}

/// One pass over the node's pods. Ends within seconds, sleeps never.
///
/// # Errors
/// The pods could not be listed, or an eviction failed in a way that no later pass mends
/// (`Denied`, `Unauthorized`): nothing is lost by going on from the old state with a client that
/// is let in.
pub async fn pass(
    client: &Client,
    node: &NodeName,
    policy: Policy,
    state: State,
) -> Result<Pass, ClusterError> {
    pass_at(client, node, policy, state, Timestamp::now()).await
}

async fn pass_at(
    client: &Client,
    node: &NodeName,
    policy: Policy,
    mut state: State,
    now: Timestamp,
) -> Result<Pass, ClusterError> {
    let pods = pods::on_node(client, node, policy).await?;
    owe(client, &pods, &mut state).await?;
    let now_ms = now.as_millisecond();
    let is_due = |pod: &NodePod| state.not_before_ms.get(&pod.pod.uid).is_none_or(|at| *at <= now_ms);
    let (due, resting): (Vec<&NodePod>, Vec<&NodePod>) =
        pods.iter().filter(|pod| pod.disposition == Disposition::Evict).partition(|pod| is_due(pod));

    let answers = evict_all(client, &due).await;
    let mut pass = Pass { state, remaining: vec![], blocked: vec![], is_done: false, trouble: None };
    pass.state.not_before_ms.retain(|_, at| *at > now_ms);
    let mut gone = BTreeSet::new();
    for (pod, answer) in answers {
        match answer {
            Answer::Granted => pass.state.evicted += 1,
            Answer::Gone => {
                gone.insert(&pod.pod.uid);
            }
            Answer::Refused(refusal) => {
                let again = (Timestamp::now() + PAUSE_AFTER_REFUSAL).as_millisecond();
                pass.state.not_before_ms.insert(pod.pod.uid.clone(), again);
                pass.blocked.push(pod.blocked(refusal.budget, refusal.why));
            }
            Answer::Wait | Answer::NotAsked => {}
            Answer::Later(error) => pass.trouble = Some(error),
            Answer::Never(error) => return Err(error),
        }
    }
    let stuck = pods.iter().filter_map(|pod| match &pod.disposition {
        Disposition::Blocked(block) => Some(pod.blocked(None, block.why())),
        _ => None,
    });
    pass.blocked.extend(stuck);
    pass.blocked.extend(resting.iter().map(|pod| {
        pod.blocked(None, "its eviction was refused less than 5 s ago and is not asked for yet".to_owned())
    }));
    pass.blocked.sort();
    let left = pods.iter().filter(|pod| pod.must_go() && !gone.contains(&pod.pod.uid));
    pass.remaining = left.map(|pod| pod.pod.clone()).collect();
    pass.is_done = pass.remaining.is_empty();
    Ok(pass)
}

/// Asks for the eviction of each pod, a few at once. After an answer that concerns all of them (the
/// API server is down, throttles or denies) the rest is left for a later pass.
async fn evict_all<'a>(client: &Client, due: &[&'a NodePod]) -> Vec<(&'a NodePod, Answer)> {
    let (began, is_over) = (Instant::now(), AtomicBool::new(false));
    let evictions = due.iter().map(|pod| {
        let is_over = &is_over;
        async move {
            if is_over.load(Ordering::Relaxed) || began.elapsed() > SENDING_TIME {
                return (*pod, Answer::NotAsked);
            }
            let answer = eviction::evict(client, &pod.pod).await;
            if matches!(answer, Answer::Later(_) | Answer::Never(_)) {
                is_over.store(true, Ordering::Relaxed);
            }
            (*pod, answer)
        }
    });
    stream::iter(evictions).buffer_unordered(CONCURRENCY).collect().await
}

/// Notes what the controllers of the pods that move have now, once for each.
async fn owe(client: &Client, pods: &[NodePod], state: &mut State) -> Result<(), ClusterError> {
    let known: BTreeSet<&Controller> = state.owed.iter().map(|owed| &owed.controller).collect();
    let moving = pods.iter().filter(|pod| pod.must_go()).filter_map(|pod| pod.controller.as_ref());
    let new: BTreeSet<&Controller> = moving.filter(|controller| !known.contains(controller)).collect();
    let new: Vec<Controller> = new.into_iter().cloned().collect();
    state.owed.extend(migration::standing_of(client, &new).await?);
    Ok(())
}
