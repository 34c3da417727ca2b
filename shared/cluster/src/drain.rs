//! The drain: every pod that can move leaves the node through the Eviction API, in short passes.
//!
//! One [`pass`] lists the node's pods, asks for the eviction of each pod that is due, and returns the rest. A
//! pass never sleeps and never waits for a pod to go. The caller (a loop with a pause, a state machine)
//! carries the [`State`] from pass to pass. A pass that died half-way is safe to repeat from the old state.
//!
//! As in `kubectl drain`, DaemonSet and mirror pods stay; 404 and another UID mean gone; a pod that a budget
//! refuses (429) is asked for again after 5 s. The drain departs from kubectl in these points:
//! - Finished pods stay, nothing is ever deleted, and an eviction names the pod's UID: it can't hit a pod
//!   that came back under the same name.
//! - A pod's own annotations can allow or forbid its eviction ([`crate::pods`]).
//! - A pod that comes back to the node is evicted once more; after that it is blocked, by its name. kubectl
//!   does not look again. Pods that the cordon does not keep off go first: a node that is still full attracts
//!   no pod.
//! - While a pod is there that no pass can move, no other is evicted for a drain that can't end
//!   ([`Pass::stuck`]). The exception is a node that is about to be lost ([`Others`]).
//! - Without a budget, one Ready pod of a controller that wants several goes first, and the last one stays
//!   until another is Ready ([`LastReady`]). With kubectl, all of them are evicted at once.
//! - The result names each pod that is left with its cause: a budget, a finalizer, a webhook, an API server
//!   that does not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use kube::Client;
use spot_domain::clock;
use tokio::time::Instant;

use crate::error::{ClusterError, cut};
use crate::eviction::{self, EvictionAnswer};
use crate::last_ready::{self, Hold, Split};
use crate::migration::{self, Replicas};
use crate::node::NodeName;
use crate::pods::{self, Blocked, Controller, Disposition, NodePod, PodRef, Policy};

use crate::drain_state::turn_of;
pub use crate::drain_state::{ExpectedReplicas, Refused, State, Unanswered};
pub use crate::manner::{LastReady, Manner, Others};
pub use crate::migration::{Missing, migrated};

/// The pause before a refused eviction is asked for again (kubectl's own pause).
pub const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(5);
/// Evictions in flight at once. Evictions under one budget conflict in the API server, which then waits half
/// a second before it tries again, up to 20 times. With 20 in flight, some were held up for 10 s.
pub const CONCURRENCY: usize = 5;

/// A pass sends no further eviction after this time, so that it ends against a slow API server, too. An
/// eviction that was sent may take [`crate::access::READ_TIMEOUT`].
const SENDING_TIME: Duration = Duration::from_secs(10);
/// A pass that took longer than this counts the Ready pods once more: a replacement may be Ready by now.
const WORTH_A_LOOK: Duration = Duration::from_secs(1);

/// Passes in a row that must see a pod which can't be moved. A pod whose DaemonSet or Job was deleted a
/// moment ago is about to be deleted, too.
const PASSES_TO_BE_STUCK: u32 = 3;

/// The result of one pass.
#[derive(Debug, Clone)]
pub struct Pass {
    /// The state for the next pass.
    pub state: State,
    /// Pods that are still there and must go, with the blocked and the terminating ones.
    pub remaining: Vec<PodRef>,
    /// The same pods with the cause for each, the gravest first: first those that a budget, an annotation or
    /// local storage holds, then those that are terminating or were asked to go a moment ago.
    pub blocked: Vec<Blocked>,
    /// The remaining pods that no further pass will move: a policy forbids the eviction, they have come back
    /// to the node twice, or they are overdue and no pod of their controller was evicted. Empty until several passes
    /// in a row have seen such a pod.
    pub stuck: Vec<Blocked>,
    /// The remaining pods that may not be evicted and end by themselves. Wait for their end.
    pub ending: Vec<Blocked>,
    /// The remaining pods that were asked to end and won't: they are minutes past their grace period.
    pub overdue: Vec<Blocked>,
    /// The remaining pods whose controllers bring no evicted pod back.
    pub unreplaced: Vec<Blocked>,
    /// True if no pod that must go is left.
    pub is_done: bool,
    /// A call failed in mid-pass in a way that may pass. The other fields hold what was done: continue with
    /// another pass.
    pub trouble: Option<ClusterError>,
}

/// Pods that a sentence names. [`Pass::blocked`] has all of them.
const NAMED: usize = 3;

impl Pass {
    /// Describes for a person how many pods are left on the node, what holds the first of them, and what went
    /// wrong in this pass. Returns `None` once all are gone.
    #[must_use]
    pub fn left(&self, node: &NodeName) -> Option<String> {
        if self.is_done {
            return None;
        }
        let mut named = vec![in_words(&self.blocked)];
        named.extend(
            self.trouble
                .as_ref()
                .map(|trouble| format!("the last trouble was: {}", cut(&trouble.to_string()))),
        );
        Some(format!("{} pods are left on node {node}; {}", self.remaining.len(), named.join("; ")))
    }
}

/// Describes the first of these pods for a person, each with its cause.
#[must_use]
pub fn in_words(blocked: &[Blocked]) -> String {
    let named = blocked.iter().take(NAMED).map(|b| format!("{}/{}: {}", b.namespace, b.pod, b.why));
    named.collect::<Vec<_>>().join("; ")
}

/// Returns the state before the first pass: the controllers that have pods to move, and the number of their
/// Ready pods. Evicts nothing. Call it after the cordon, and keep the answer before the first pass. If that
/// pass dies after its evictions, the expected replicas are still known.
pub async fn begin(client: &Client, node: &NodeName, policy: Policy) -> Result<State, ClusterError> {
    let pods = pods::on_node(client, node, policy).await?;
    let mut state = State::default();
    state.see(&pods, 0);
    record_expected(client, &pods, &mut state).await?;
    Ok(state)
}

/// Runs one pass over the node's pods. A pass ends within a minute, usually within seconds, and never sleeps.
///
/// # Errors
/// The pods could not be listed, or an eviction failed in a way that no later pass mends (`Denied`,
/// `Unauthorized`). Continuing from the old state with an authorized client loses nothing.
pub async fn pass(
    client: &Client,
    node: &NodeName,
    policy: Policy,
    manner: impl Into<Manner>,
    mut state: State,
) -> Result<Pass, ClusterError> {
    let manner: Manner = manner.into();
    let (began, now) = (Instant::now(), clock::now());
    let pods = pods::on_node(client, node, policy).await?;
    let troubled: BTreeSet<String> =
        state.unanswered.iter().map(|unanswered| unanswered.uid.clone()).collect();
    state.see(&pods, now.as_millisecond());
    let fresh = record_expected(client, &pods, &mut state).await?;
    let immovable = immovable(&pods, &state, now);
    state.stuck_passes = if immovable.is_empty() { 0 } else { state.stuck_passes.saturating_add(1) };
    let is_worth_it = immovable.is_empty() || manner.others == Others::Go;
    let mut due = if is_worth_it { due(&pods, &state) } else { Vec::new() };
    // A pod that the API server could not answer for must not hold up the others again. A pod that tolerates
    // the cordon finds its way elsewhere as long as this node is the fuller one.
    due.sort_by_key(|pod| (troubled.contains(&pod.pod.uid), !pod.facts.tolerates_cordon()));
    let mut split = last_ready::split(client, due, &state, &fresh, manner).await?;
    let mut running = RunningPass { state, immovable, ..RunningPass::default() };
    running.evict_now(client, began, &split).await?;
    if running.trouble.is_none() && !split.held.is_empty() && began.elapsed() > WORTH_A_LOOK {
        let held = split.held.into_iter().map(|(pod, _)| pod).collect();
        split = last_ready::split(client, held, &running.state, &BTreeMap::new(), manner).await?;
        running.evict_now(client, began, &split).await?;
    }
    running.hold(&split);
    Ok(running.end(&pods, now))
}

/// Returns the pods whose eviction is to be asked for now. Leaves out pods that were refused a moment ago,
/// and pods that keep coming back.
fn due<'a>(pods: &'a [NodePod], state: &State) -> Vec<&'a NodePod> {
    let mut turns = state.turns.clone();
    let to_evict = pods.iter().filter(|pod| pod.disposition == Disposition::Evict);
    to_evict
        .filter(|pod| state.refusal_of(&pod.pod).is_none())
        .filter(|pod| {
            let of = turn_of(pod);
            let may = !turns.of(&of).is_over();
            turns.count(&of);
            may
        })
        .collect()
}

/// Returns the UIDs of pods that neither an eviction nor their own end takes off the node. An evicted pod is waited
/// for until the drain's own end: its finalizer or the unmount of its volumes may take long.
fn immovable(pods: &[NodePod], state: &State, now: Timestamp) -> BTreeSet<String> {
    let is_overdue =
        |pod: &NodePod| pod.termination.as_ref().is_some_and(|termination| termination.is_overdue(now));
    let is_asked = |pod: &NodePod| state.turns.of(&turn_of(pod)).evicted > 0;
    let is_immovable = |pod: &&NodePod| match &pod.disposition {
        Disposition::Blocked(_) => !pod.ends_by_itself(),
        Disposition::Evict => state.turns.of(&turn_of(pod)).is_over(),
        Disposition::Terminating => is_overdue(pod) && !is_asked(pod),
        Disposition::Stays(_) => false,
    };
    pods.iter().filter(is_immovable).map(|pod| pod.pod.uid.clone()).collect()
}

/// A pass in progress.
#[derive(Default)]
struct RunningPass {
    state: State,
    immovable: BTreeSet<String>,
    gone: BTreeSet<String>,
    unreplaced: BTreeSet<String>,
    causes: BTreeMap<String, (Option<String>, String)>,
    trouble: Option<ClusterError>,
}

impl RunningPass {
    /// Asks for the evictions that are due now.
    async fn evict_now(
        &mut self,
        client: &Client,
        began: Instant,
        split: &Split<'_>,
    ) -> Result<(), ClusterError> {
        split.last.iter().for_each(|pod| self.state.note_last_ready(pod));
        self.evict(client, began, &split.now).await
    }

    /// Records why pods are held.
    fn hold(&mut self, split: &Split<'_>) {
        for (pod, hold) in &split.held {
            if matches!(hold, Hold::Unreplaced(_)) {
                self.unreplaced.insert(pod.pod.uid.clone());
            }
            self.say(pod, None, hold.why(pod));
        }
    }

    /// Asks for these evictions and records the answers.
    async fn evict(&mut self, client: &Client, began: Instant, due: &[&NodePod]) -> Result<(), ClusterError> {
        let answers = evict_all(client, began, due).await;
        let until_ms = (clock::now() + PAUSE_AFTER_REFUSAL).as_millisecond();
        for (pod, answer) in answers {
            match answer {
                EvictionAnswer::Granted => {
                    self.state.count(&turn_of(pod));
                    self.say(pod, None, "its eviction was granted a moment ago".to_owned());
                }
                EvictionAnswer::Gone => {
                    self.gone.insert(pod.pod.uid.clone());
                }
                EvictionAnswer::Refused(refusal) => {
                    self.say(pod, refusal.budget.clone(), refusal.why.clone());
                    self.state.note(pod, refusal, until_ms);
                }
                EvictionAnswer::Wait(why) => self.say(pod, None, why),
                EvictionAnswer::NotAsked => self.say(pod, None, "its turn has not come yet".to_owned()),
                EvictionAnswer::Later(error) => {
                    self.state.unanswered.push(Unanswered { uid: pod.pod.uid.clone(), of: turn_of(pod) });
                    self.say(pod, None, cut(&error.to_string()));
                    self.trouble = Some(error);
                }
                EvictionAnswer::Never(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn say(&mut self, pod: &NodePod, budget: Option<String>, why: String) {
        self.causes.insert(pod.pod.uid.clone(), (budget, why));
    }

    fn end(mut self, pods: &[NodePod], now: Timestamp) -> Pass {
        let left = pods.iter().filter(|pod| pod.must_go() && !self.gone.contains(&pod.pod.uid));
        let left: Vec<&NodePod> = left.collect();
        let mut causes = std::mem::take(&mut self.causes);
        let mut named: Vec<(bool, Blocked, &NodePod)> = left
            .iter()
            .map(|pod| {
                let (budget, why) = causes.remove(&pod.pod.uid).unwrap_or_else(|| self.cause(pod, now));
                (self.is_moving(pod), pod.blocked(budget, why), *pod)
            })
            .collect();
        named.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let those = |is_one: &dyn Fn(&NodePod) -> bool| {
            let found = named.iter().filter(|(_, _, pod)| is_one(pod));
            found.map(|(_, blocked, _)| blocked.clone()).collect::<Vec<_>>()
        };
        let is_stuck = self.state.stuck_passes >= PASSES_TO_BE_STUCK;
        let ends = |pod: &NodePod| matches!(pod.disposition, Disposition::Blocked(_)) && pod.ends_by_itself();
        Pass {
            stuck: those(&|pod| is_stuck && self.immovable.contains(&pod.pod.uid)),
            ending: those(&ends),
            overdue: those(&|pod| {
                pod.termination.as_ref().is_some_and(|termination| termination.is_overdue(now))
            }),
            unreplaced: those(&|pod| self.unreplaced.contains(&pod.pod.uid)),
            remaining: left.iter().map(|pod| pod.pod.clone()).collect(),
            blocked: those(&|_| true),
            is_done: left.is_empty(),
            trouble: self.trouble,
            state: self.state,
        }
    }

    /// Returns true if the pod is on its way out, and nothing is known to hold it.
    fn is_moving(&self, pod: &NodePod) -> bool {
        match &pod.disposition {
            Disposition::Terminating => {
                pod.termination.as_ref().is_none_or(|termination| termination.finalizers.is_empty())
            }
            Disposition::Evict => self.state.refusal_of(&pod.pod).is_none() && !self.came_back(pod),
            Disposition::Blocked(_) | Disposition::Stays(_) => false,
        }
    }

    fn came_back(&self, pod: &NodePod) -> bool {
        self.state.turns.of(&turn_of(pod)).is_over()
    }

    /// Returns the cause why a pod is there that was not asked to go in this pass.
    fn cause(&self, pod: &NodePod, now: Timestamp) -> (Option<String>, String) {
        match &pod.disposition {
            Disposition::Blocked(block) => return (None, block.why()),
            Disposition::Terminating => {
                let why = pod
                    .termination
                    .as_ref()
                    .map_or("Terminating".to_owned(), |termination| termination.why(now));
                return (None, why);
            }
            Disposition::Evict | Disposition::Stays(_) => {}
        }
        match self.state.refusal_of(&pod.pod) {
            Some(refused) => (refused.budget.clone(), refused.why.clone()),
            None if self.came_back(pod) => {
                (None, comes_back(pod, self.state.turns.of(&turn_of(pod)).evicted))
            }
            None if !self.immovable.is_empty() => {
                (None, "it is not evicted while another pod can't leave the node".to_owned())
            }
            None => (None, "its turn has not come yet".to_owned()),
        }
    }
}

fn comes_back(pod: &NodePod, times: u32) -> String {
    let who = match &pod.controller {
        Some(controller) => format!("the pods of {controller} were"),
        None => "it was".to_owned(),
    };
    format!(
        "{who} evicted {times} times and came back to this node, which is cordoned: its template must neither name \
         the node nor tolerate node.kubernetes.io/unschedulable, and the pod needs another node to go to"
    )
}

/// Asks for the eviction of each pod, a few at once. After an answer that concerns all of them (the API
/// server is down, throttles or denies) the rest is left for a later pass.
async fn evict_all<'a>(
    client: &Client,
    began: Instant,
    due: &[&'a NodePod],
) -> Vec<(&'a NodePod, EvictionAnswer)> {
    let is_over = AtomicBool::new(false);
    let evictions = due.iter().map(|pod| {
        let is_over = &is_over;
        async move {
            if is_over.load(Ordering::Relaxed) || began.elapsed() > SENDING_TIME {
                return (*pod, EvictionAnswer::NotAsked);
            }
            let answer = eviction::evict(client, &pod.pod).await;
            if matches!(answer, EvictionAnswer::Later(_) | EvictionAnswer::Never(_)) {
                is_over.store(true, Ordering::Relaxed);
            }
            (*pod, answer)
        }
    });
    stream::iter(evictions).buffer_unordered(CONCURRENCY).collect().await
}

/// Records the present replicas of the controllers whose pods move, once for each. Returns the pods of those
/// controllers that were new.
async fn record_expected(
    client: &Client,
    pods: &[NodePod],
    state: &mut State,
) -> Result<BTreeMap<Controller, Replicas>, ClusterError> {
    let known: BTreeSet<&Controller> = state.owed.iter().map(|owed| &owed.controller).collect();
    let moving = pods.iter().filter(|pod| pod.must_go()).filter_map(|pod| pod.controller.as_ref());
    let new: BTreeSet<&Controller> = moving.filter(|controller| !known.contains(controller)).collect();
    let new: Vec<Controller> = new.into_iter().cloned().collect();
    let mut counted = migration::states_of(client, &new).await?;
    for (owed, _) in &mut counted {
        let least = owed.least_alive;
        owed.least_alive = least.map(|least| state.turns.keep_least(&owed.controller.uid, least));
    }
    state.owed.extend(counted.iter().map(|(owed, _)| owed.clone()));
    Ok(counted.into_iter().map(|(owed, now)| (owed.controller, now)).collect())
}
