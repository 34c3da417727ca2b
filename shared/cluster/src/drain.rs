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

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use kube::Client;
use serde::{Deserialize, Serialize};

use crate::error::ClusterError;
use crate::eviction::{self, Answer, Refusal};
use crate::migration;
use crate::node::NodeName;
use crate::pods::{self, Blocked, Controller, Disposition, NodePod, PodRef, Policy};

pub use crate::migration::{Missing, migrated};

/// How long a pod whose eviction was refused is left alone (kubectl's own pause).
pub const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(5);
/// Evictions in flight at once. No more: those under one budget conflict in the API server, which
/// then waits half a second before it tries again, up to 20 times; with 20 in flight some were
/// held so for 10 s.
pub const CONCURRENCY: usize = 5;

/// A pass sends no further eviction after this time: against a slow API server, too, it ends.
const SENDING_TIME: Duration = Duration::from_secs(10);

/// What travels from pass to pass. About 40 bytes for each pod that was refused in the last
/// 5 s, and 200 for each reason and each controller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Pods whose eviction was granted.
    pub evicted: u32,
    /// The refusals of the last 5 s, by their reason.
    pub refused: Vec<Refused>,
    /// The controllers of the pods that move, and what they must bring back.
    pub owed: Vec<Owed>,
}

/// Pods that were refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Not to be asked for again before (Unix milliseconds).
    pub until_ms: i64,
    /// The budget, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// The API server's words.
    pub why: String,
    /// The UIDs of the pods.
    pub uids: Vec<String>,
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

impl State {
    fn refusal_of(&self, pod: &PodRef) -> Option<&Refused> {
        self.refused.iter().find(|refused| refused.uids.contains(&pod.uid))
    }

    fn note(&mut self, pod: &PodRef, refusal: Refusal, until_ms: i64) {
        let Refusal { budget, why } = refusal;
        let alike = |r: &&mut Refused| r.until_ms == until_ms && r.budget == budget && r.why == why;
        match self.refused.iter_mut().find(alike) {
            Some(refused) => refused.uids.push(pod.uid.clone()),
            None => self.refused.push(Refused { until_ms, budget, why, uids: vec![pod.uid.clone()] }),
        }
    }
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
    state.refused.retain(|refused| refused.until_ms > now_ms);
    let to_evict = pods.iter().filter(|pod| pod.disposition == Disposition::Evict);
    let (due, resting): (Vec<&NodePod>, Vec<&NodePod>) =
        to_evict.partition(|pod| state.refusal_of(&pod.pod).is_none());

    let answers = evict_all(client, &due).await;
    let until_ms = (Timestamp::now() + PAUSE_AFTER_REFUSAL).as_millisecond();
    let mut pass = Pass { state, remaining: vec![], blocked: vec![], is_done: false, trouble: None };
    let mut gone = BTreeSet::new();
    for (pod, answer) in answers {
        match answer {
            Answer::Granted => pass.state.evicted += 1,
            Answer::Gone => {
                gone.insert(&pod.pod.uid);
            }
            Answer::Refused(refusal) => {
                pass.blocked.push(pod.blocked(refusal.budget.clone(), refusal.why.clone()));
                pass.state.note(&pod.pod, refusal, until_ms);
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
    let still_refused = resting.iter().filter_map(|pod| {
        let refused = pass.state.refusal_of(&pod.pod)?;
        Some(pod.blocked(refused.budget.clone(), refused.why.clone()))
    });
    pass.blocked.extend(still_refused.collect::<Vec<_>>());
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
