//! The payload of the evacuation of a node whose instance EC2 takes back. The interruption responder's state machine
//! carries it from pass to pass; a cordon of a doomed node needs no journal, since nobody takes it back.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spot_cluster::drain::{LastReady, Manner, Others, Pass, State};
use spot_cluster::node::NodeName;
use spot_cluster::pods::Policy;
use spot_domain::response::evacuation::{
    Evacuated, PODS_LISTED, Unfinished, after_pass, may_evict_last_ready,
};
use spot_domain::response::{AnswerOutcome, Because};
use spot_domain::settings::Settings;
use spot_domain::swap::node::BlockedPod;
use spot_swap::work::Next;

use crate::phases::drain::blocked_pod;

/// The seconds between two passes. A refused eviction is asked for again after as many.
const PAUSE_SECONDS: u32 = 5;

/// The evacuation of a node, between two passes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Evacuation {
    /// The node, once it was found and nobody else drains it.
    pub node: Option<NodeName>,
    /// The state of its drain.
    pub drain: State,
    /// The pods that were left after the last pass, the gravest first; at most [`PODS_LISTED`].
    pub blocked: Vec<BlockedPod>,
    /// The work that the last pass has left; `None` before the first pass.
    pub unfinished: Option<Unfinished>,
    /// The result, once there is one.
    pub result: Option<Evacuated>,
    /// Seconds that the state machine waits before the next pass.
    pub pause_seconds: u32,
}

impl Evacuation {
    /// Returns an evacuation of which nothing is done yet.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self { pause_seconds: settings.poll_seconds.min(PAUSE_SECONDS), ..Self::default() }
    }

    /// Takes a pass in. Returns what follows.
    pub fn passed(&mut self, pass: Pass, node: &NodeName, ends_at: Timestamp, now: Timestamp) -> Next {
        let unfinished = pass.left(node).map(Unfinished::Pods);
        self.blocked = pass.blocked.into_iter().take(PODS_LISTED).map(blocked_pod).collect();
        self.drain = pass.state;
        self.go_on(unfinished, ends_at, now)
    }

    /// Takes the failure of a pass in. Returns what follows.
    pub fn troubled(&mut self, error: &str, ends_at: Timestamp, now: Timestamp) -> Next {
        tracing::warn!(node = ?self.node, "a pass failed: {error}");
        let unfinished = Unfinished::with_trouble(self.unfinished.as_ref(), error);
        self.go_on(Some(unfinished), ends_at, now)
    }

    fn go_on(&mut self, unfinished: Option<Unfinished>, ends_at: Timestamp, now: Timestamp) -> Next {
        self.unfinished.clone_from(&unfinished);
        match after_pass(unfinished, ends_at, now) {
            None => Next::Wait,
            Some((outcome, because)) => self.end(outcome, because),
        }
    }

    /// Ends the evacuation.
    pub fn end(&mut self, outcome: AnswerOutcome, because: Option<Because>) -> Next {
        tracing::info!(node = ?self.node, %outcome, ?because, evicted = self.drain.evicted, "evacuation ended");
        let blocked = std::mem::take(&mut self.blocked);
        self.result = Some(Evacuated { outcome, because, evicted: self.drain.evicted, blocked });
        Next::Report
    }
}

/// Returns the rules for the evictions from a doomed node. The content of an `emptyDir` ends with the node in any case, so
/// that a pod that keeps one is evicted whatever the setting says. A pod that nothing brings back has no other node to go to.
#[must_use]
pub fn policy(settings: &Settings) -> Policy {
    Policy { evict_local_storage: true, evict_unmanaged: settings.evict_unmanaged }
}

/// Returns the manner of a pass. The node is lost in any case: a pod that can't move keeps no other from moving.
#[must_use]
pub fn manner(ends_at: Timestamp, now: Timestamp) -> Manner {
    let last_ready = if may_evict_last_ready(ends_at, now) { LastReady::Evict } else { LastReady::Keep };
    Manner { last_ready, others: Others::Go }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use spot_cluster::pods::{Blocked, PodRef};
    use spot_domain::response::AnswerReason;

    use super::*;

    fn node() -> NodeName {
        "n1".parse().unwrap()
    }

    fn in_seconds(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    /// A pass after which these pods are left, each held by the budget `web`.
    fn pass(left: &[&str], evicted: u32) -> Pass {
        let blocked = left.iter().map(|pod| Blocked {
            pod: (*pod).to_owned(),
            namespace: "shop".to_owned(),
            budget: Some("web".to_owned()),
            why: "the disruption budget web needs 3 healthy pods".to_owned(),
        });
        let remaining = left.iter().map(|pod| PodRef {
            namespace: "shop".to_owned(),
            pod: (*pod).to_owned(),
            uid: (*pod).to_owned(),
        });
        Pass {
            state: State { evicted, ..State::default() },
            remaining: remaining.collect(),
            blocked: blocked.collect(),
            stuck: vec![],
            ending: vec![],
            overdue: vec![],
            unreplaced: vec![],
            is_done: left.is_empty(),
            trouble: None,
        }
    }

    #[test]
    fn a_node_is_drained_once_no_pod_that_must_move_is_left() {
        let mut evacuation = Evacuation::new(&Settings::default());
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(evacuation.passed(pass(&["a"], 2), &node(), in_seconds(100), now), Next::Wait);
        assert_eq!(evacuation.result, None);
        assert_eq!(evacuation.passed(pass(&[], 3), &node(), in_seconds(95), now), Next::Report);
        let drained =
            Evacuated { outcome: AnswerOutcome::Drained, because: None, evicted: 3, blocked: vec![] };
        assert_eq!(evacuation.result, Some(drained));
    }

    #[test]
    fn what_a_budget_keeps_to_the_end_is_named_with_the_budget() {
        let mut evacuation = Evacuation::new(&Settings::default());
        let names: Vec<String> = (0..30).map(|n| format!("pod-{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let next = evacuation.passed(pass(&names, 1), &node(), in_seconds(10), Timestamp::UNIX_EPOCH);
        assert_eq!(next, Next::Report);
        let result = evacuation.result.unwrap();
        let because = result.because.unwrap();
        assert_eq!((result.outcome, because.reason), (AnswerOutcome::Failed, AnswerReason::PodsLeft));
        assert!(because.detail.contains("30 pods") && because.detail.contains("budget web"), "{because:?}");
        assert_eq!((result.blocked.len(), result.evicted), (PODS_LISTED, 1));
        assert_eq!(result.blocked[0].budget.as_deref(), Some("web"));
    }

    #[test]
    fn a_pass_that_fails_is_repeated_to_the_end_and_forgets_no_eviction() {
        let mut evacuation = Evacuation::new(&Settings::default());
        let now = Timestamp::UNIX_EPOCH;
        evacuation.passed(pass(&["a"], 2), &node(), in_seconds(100), now);
        assert_eq!(evacuation.troubled("list pods: timed out", in_seconds(60), now), Next::Wait);
        assert_eq!(evacuation.troubled("list pods: timed out", in_seconds(9), now), Next::Report);
        let result = evacuation.result.unwrap();
        let because = result.because.unwrap();
        assert_eq!((because.reason, result.evicted), (AnswerReason::PodsLeft, 2));
        assert!(because.detail.contains("shop/a") && because.detail.contains("timed out"), "{because:?}");
    }

    #[test]
    fn a_doomed_node_keeps_no_pod_for_its_scratch_space_and_none_for_another_pod() {
        let strict = policy(&Settings::default());
        assert!(
            strict.evict_local_storage && !strict.evict_unmanaged,
            "nothing brings an unmanaged pod back"
        );
        assert!(policy(&Settings { evict_unmanaged: true, ..Settings::default() }).evict_unmanaged);
        for (left, last_ready) in [(41, LastReady::Keep), (40, LastReady::Evict)] {
            let manner = manner(in_seconds(left), Timestamp::UNIX_EPOCH);
            assert_eq!((manner.last_ready, manner.others), (last_ready, Others::Go), "{left} s");
        }
    }

    #[test]
    fn a_payload_goes_from_pass_to_pass_unchanged() {
        let mut evacuation = Evacuation::new(&Settings::default());
        evacuation.passed(pass(&["a"], 2), &node(), in_seconds(100), Timestamp::UNIX_EPOCH);
        let wire = serde_json::to_value(&evacuation).unwrap();
        assert_eq!(wire["result"], serde_json::Value::Null, "the state machine reads it after each pass");
        assert!(wire["pause_seconds"].is_number());
        assert_eq!(serde_json::from_value::<Evacuation>(wire).unwrap(), evacuation);
    }
}
