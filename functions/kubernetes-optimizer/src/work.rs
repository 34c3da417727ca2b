//! The payload of the state machine, 256 KiB at most. It holds the swap of the instance, as `spot_swap` knows it, and
//! the progress of its node's pods.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use spot_cloud::tables::swaps::Lease;
use spot_cluster::ClusterError;
use spot_cluster::drain::{LastReady, State};
use spot_cluster::node::{self, Node, NodeName};
use spot_domain::clock;
use spot_domain::swap::journal::NodeSwap;
use spot_domain::swap::node::{BlockedPod, NodePlan};
use spot_domain::swap::report::{GateView, NotSwapped};
use spot_domain::swap::selection::Candidate;
use spot_domain::{ClusterName, InstanceId, Pool, Reason};
use spot_swap::error::StepError;
use spot_swap::machine::Payload;
use spot_swap::work::{Current, Work};

/// The most types that a run launches, one after the other, if each proves too small.
const TYPES_TRIED: usize = 3;
/// The seconds between two passes.
const PAUSE_SECONDS: u32 = 5;
/// The most passes. Step Functions ends an execution at 25,000 events of history; a pass makes about ten.
const PASSES: u32 = 1_000;

/// A run over one node, or the reason why there is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeWork {
    /// The instance whose node is replaced.
    pub instance_id: InstanceId,
    pub cluster: Option<ClusterName>,
    /// The refusal, if the run changed nothing.
    pub refused: Option<NotSwapped>,
    /// The pods that block the drain, or blocked it.
    pub blocked: Vec<BlockedPod>,
    /// The result of a dry run.
    pub plan: Option<NodePlan>,
    /// The gate's view of the account and region; `None` if it hears of interruptions, or was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateView>,
    /// The swap; `None` if it was refused.
    pub run: Option<NodeRun>,
}

/// A swap of a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeRun {
    /// The swap in the node's group. The state machine reads its `pause_seconds`.
    pub swap: Work,
    /// The cluster's slot that this run holds beside the group's lease.
    pub slot: Lease,
    pub node: NodeSwap,
    /// The progress of the newcomer.
    pub joining: Joining,
    /// The progress of the old instance.
    pub leaving: Leaving,
    /// The end of the drain's time, once the drain has begun.
    pub drain_deadline: Option<Timestamp>,
    /// The state of the old node's drain.
    pub drain: State,
    /// The node as it was queued for the first launch. Launches number their attempts by its pools, so that a
    /// later launch needs all of them. Otherwise EC2 answers an earlier ClientToken with
    /// IdempotentParameterMismatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<Candidate>,
    /// The observations that later steps need.
    #[serde(default)]
    pub seen: Seen,
}

/// The observations of a step that later steps need.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The newcomer's node, once it was found. Later steps ask for it by name instead of searching all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newcomer_node: Option<NodeName>,
    /// The last trouble with the API server, until a pass evicts something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The time since which the drain waits for target groups that others have registered the old instance in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balanced_since: Option<Timestamp>,
    /// The newcomer that the rollback has left in service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<InstanceId>,
    /// The pool of that newcomer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_in: Option<Pool>,
    /// The warnings of the report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The stages of AwaitReady.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Joining {
    /// The newcomer must be healthy in EC2 and Ready in the cluster; then it is attached.
    Starting,
    /// The newcomer must be InService, and still Ready.
    InGroup,
}

/// The stages of Terminate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leaving {
    /// The old instance is checked once more, then it leaves its group.
    NotYet,
    /// The old instance must leave the group and its target groups; then it is terminated.
    LetGo,
    /// The old instance is gone; the owner's settings are restored.
    Gone,
}

impl Payload for NodeWork {
    fn run(&mut self) -> Option<&mut Work> {
        self.run.as_mut().map(|run| &mut run.swap)
    }
}

impl NodeWork {
    /// Returns the work of a run that ends here and has changed nothing.
    #[must_use]
    pub fn refused(
        instance_id: InstanceId,
        cluster: Option<ClusterName>,
        reason: Reason,
        detail: impl Into<String>,
    ) -> Self {
        let left = NotSwapped::new(&instance_id, reason, detail);
        Self {
            instance_id,
            cluster,
            refused: Some(left),
            blocked: Vec::new(),
            plan: None,
            gate: None,
            run: None,
        }
    }

    /// Returns the swap, and the pods that block its drain.
    ///
    /// # Errors
    /// The swap was refused: the state machine entered the wrong phase.
    pub fn run(&mut self) -> Result<(&mut NodeRun, &mut Vec<BlockedPod>), StepError> {
        let run =
            self.run.as_mut().ok_or_else(|| StepError::Protocol("work.run: no swap in progress".into()))?;
        Ok((run, &mut self.blocked))
    }
}

impl NodeRun {
    /// Takes the swap in progress out, for the phase to work on; the phase puts the swap back.
    ///
    /// # Errors
    /// There is no swap in progress: the state machine entered the wrong phase.
    pub fn take_current(&mut self) -> Result<Current, StepError> {
        self.swap
            .current
            .take()
            .ok_or_else(|| StepError::Protocol("work.run.swap.current: no newcomer in this swap".into()))
    }

    /// Returns true if the swap was undone only because of its newcomer's type, each type at most once, and left
    /// nothing behind.
    #[must_use]
    pub fn may_try_another_type(&self) -> bool {
        let swap = &self.swap;
        let undone = swap.rolled_back.len();
        swap.rolled_back.last().is_some_and(|left| left.reason == Reason::NodeNotReady)
            && undone == swap.too_small.len()
            && undone < TYPES_TRIED
            && self.queued.is_some()
            && self.seen.kept.is_none()
            && swap.swapped.is_empty()
            && swap.ended_by.is_none()
    }

    /// Notes the newcomer that a visit of the rollback has left in service, and its pool. A visit that finds no journal
    /// reports no newcomer; the note then stays.
    pub fn note_kept(&mut self, kept: Option<InstanceId>, pool: Option<Pool>) {
        if kept.is_some() {
            self.seen.kept = kept;
            self.seen.kept_in = pool;
        }
    }

    /// Returns the newcomers that serve, each with its pool, also one that the rollback has left in service.
    #[must_use]
    pub fn newcomers(&self) -> BTreeMap<InstanceId, Pool> {
        let kept = self.seen.kept.clone().zip(self.seen.kept_in.clone());
        self.swap.newcomers().into_iter().chain(kept).collect()
    }

    /// Notes the queued candidate before the first launch.
    pub fn note_queued(&mut self) {
        if self.queued.is_none() {
            self.queued = self.swap.queue.first().cloned();
        }
    }

    /// Puts the node back into the queue without a newcomer. Each pool keeps the number that the first launch gave
    /// it, even if the last launch dropped some pools by their price.
    pub fn begin_again(&mut self) {
        self.swap.queue = self.queued.iter().cloned().collect();
        self.swap.max_swaps = self.swap.max_swaps.saturating_add(1);
        self.joining = Joining::Starting;
        self.drain = State::default();
        self.drain_deadline = None;
        self.seen = Seen::default();
    }

    /// Sets the pause between two passes. While a budget blocks a pod, no pass comes earlier than that.
    pub fn pace_drain(&mut self) {
        self.swap.pause_seconds = PAUSE_SECONDS.max(self.swap.drain_seconds() / PASSES);
    }

    /// Starts the drain's clock once, and returns its end.
    pub fn drain_until(&mut self) -> Timestamp {
        let seconds = SignedDuration::from_secs(i64::from(self.swap.drain_seconds()));
        let deadline = || clock::now().saturating_add(seconds).unwrap_or(Timestamp::MAX);
        *self.drain_deadline.get_or_insert_with(deadline)
    }

    /// Returns the treatment of the last Ready pod of a controller: in the last third of the drain's time it is
    /// evicted, as kubectl does.
    pub fn last_ready(&mut self) -> LastReady {
        let third = SignedDuration::from_secs(i64::from(self.swap.drain_seconds())) / 3;
        let is_late = self.drain_until().duration_since(clock::now()) <= third;
        if is_late { LastReady::Evict } else { LastReady::Keep }
    }

    /// Returns the newcomer's node, by its name once that is known. If another instance has taken the name, the
    /// search goes by instance.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub async fn newcomer_node(
        &self,
        client: &kube::Client,
        newcomer: &InstanceId,
    ) -> Result<Option<Node>, ClusterError> {
        if let Some(name) = &self.seen.newcomer_node {
            let node = node::get(client, name).await?;
            if let Some(node) = node.filter(|node| node.instance_id.as_ref() == Some(newcomer)) {
                return Ok(Some(node));
            }
        }
        node::find(client, newcomer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spot_domain::swap::journal::Undo;
    use spot_swap::work::TooSmall;

    /// Returns a run whose newcomers of these types were undone, each for `reason`.
    fn undone(types: &[&str], reason: Reason) -> NodeRun {
        let payload = include_str!("../../../shared/swap/tests/payloads/3fb1158-node-after-launch.json");
        let mut swap: Work = serde_json::from_str(payload).unwrap();
        let instance_id: InstanceId = "i-0123456789abcdef0".parse().unwrap();
        for instance_type in types {
            let (instance_type, why) = (instance_type.parse().unwrap(), "1 of cpu".to_owned());
            swap.too_small.push(TooSmall { instance_type, why });
            swap.put_back(&instance_id, &Undo { reason, detail: String::new() });
        }
        let queued = swap.current.as_ref().map(|current| current.candidate.clone());
        NodeRun {
            slot: swap.lease.clone(),
            node: swap.kind.node().cloned().unwrap(),
            swap,
            joining: Joining::InGroup,
            leaving: Leaving::NotYet,
            drain_deadline: Some(clock::now()),
            drain: State { evicted: 1, ..State::default() },
            queued,
            seen: Seen::default(),
        }
    }

    /// The number of an attempt determines its ClientToken, and EC2 refuses a token that comes with another type.
    #[test]
    fn a_number_means_the_same_pool_in_every_launch_of_the_run() {
        let mut run = undone(&["m5a.large"], Reason::NodeNotReady);
        run.queued = None;
        let mut queued = run.swap.current.take().unwrap().candidate;
        queued.pools.push("us-east-1#use1-az6#m6i.large".parse().unwrap());
        run.swap.queue = vec![queued.clone()];
        run.note_queued();
        for launch in ["second", "third"] {
            run.swap.queue[0].pools.remove(0); // by its price, right before the launch before this one
            run.note_queued();
            run.swap.queue.clear();
            run.begin_again();
            assert_eq!(run.swap.queue[0].pools, queued.pools, "the {launch} launch");
        }
    }

    #[test]
    fn the_newcomers_that_serve_are_those_swapped_in_and_one_that_could_not_leave() {
        let mut run = undone(&["m5.large"], Reason::NodeNotReady);
        assert_eq!(run.newcomers(), BTreeMap::new(), "the one that was undone is gone");
        let current = run.swap.current.clone().unwrap();
        run.note_kept(Some(current.newcomer.clone()), Some(current.pool.clone()));
        run.note_kept(None, None);
        let one = BTreeMap::from([(current.newcomer.clone(), current.pool.clone())]);
        assert_eq!(run.newcomers(), one);
        run.seen = Seen::default();
        run.swap.done(current.swapped());
        assert_eq!(run.newcomers(), one);
    }

    #[test]
    fn another_type_is_tried_only_after_one_that_was_too_small_and_not_for_ever() {
        let not_ready = Reason::NodeNotReady;
        assert!(undone(&["m5.large"], not_ready).may_try_another_type());
        assert!(undone(&["m5.large", "m5a.large"], not_ready).may_try_another_type());
        assert!(!undone(&["m5.large", "m5a.large", "m6i.large"], not_ready).may_try_another_type());
        assert!(!undone(&[], not_ready).may_try_another_type(), "nothing was undone");
        assert!(
            !undone(&["m5.large"], Reason::NewcomerAtRisk).may_try_another_type(),
            "undone for another reason"
        );
        let mut never_joined = undone(&["m5.large"], not_ready);
        let undo = Undo { reason: not_ready, detail: "it has not joined".to_owned() };
        never_joined.swap.put_back(&"i-0123456789abcdef0".parse().unwrap(), &undo);
        assert!(!never_joined.may_try_another_type(), "the last one was large enough");
        let mut kept = undone(&["m5.large"], not_ready);
        let newcomer: InstanceId = "i-0123456789abcdef1".parse().unwrap();
        kept.note_kept(Some(newcomer.clone()), None);
        assert!(!kept.may_try_another_type(), "its newcomer is still there");
        kept.note_kept(None, None);
        assert_eq!(kept.seen.kept, Some(newcomer), "the visit was repeated, after its journal was closed");
        assert!(!kept.may_try_another_type(), "its newcomer is still there");
    }
}
