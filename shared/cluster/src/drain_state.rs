//! The state that travels from pass to pass of a drain.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use spot_domain::swap::eviction::Turns;

use crate::eviction::EvictionRefusal;
use crate::pod::{Controller, PodRef};
use crate::pods::{Disposition, NodePod};

/// The most controllers to name for an evicted last Ready pod.
const LISTED: usize = 20;
/// The claim key of a volume that a pod names itself, without a claim.
pub(crate) const INLINE_EBS: &str = "inline EBS";

/// The state that travels from pass to pass. Takes about 40 bytes for each claim and each pod that was
/// refused in the last 5 s. A reason takes 200 bytes, a controller 360.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Pods whose eviction was granted.
    pub evicted: u32,
    /// The refusals of the last 5 s, by their reason.
    pub refused: Vec<Refused>,
    /// The controllers of the pods that move, and what they must bring back.
    pub owed: Vec<ExpectedReplicas>,
    /// The number of evictions of each controller's pods.
    #[serde(default, skip_serializing_if = "Turns::is_empty")]
    pub turns: Turns,
    /// The claims of the pods that move, as `namespace/name`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub claims: BTreeSet<String>,
    /// Evictions of the last pass that got no answer. The next pass sees what became of the pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unanswered: Vec<Unanswered>,
    /// Passes in a row that have found a pod which no pass can move.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stuck_passes: u32,
    /// Controllers whose last Ready pod was evicted before another was Ready, the first 20 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_ready_evicted: Vec<String>,
}

/// Pods that were refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// No eviction is asked for before this time (Unix milliseconds).
    pub until_ms: i64,
    /// The budget, if a budget refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// The API server's message.
    pub why: String,
    /// The UIDs of the pods.
    pub uids: Vec<String>,
}

/// The replicas of a controller before the drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedReplicas {
    pub controller: Controller,
    /// The UID of the controller's own controller: ReplicaSets of one Deployment serve together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Pods of the controller that were Ready, on any node.
    pub ready_before: u32,
    /// The fewest pods of the controller that may exist, Ready or not, when a further one is evicted. Absent in a
    /// state of an earlier release, and of a Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_alive: Option<u32>,
    /// The pods that the controller asks for, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u32>,
    /// True if a budget has refused the eviction of one of the controller's pods.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_guarded: bool,
}

/// An eviction that may have been granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    pub uid: String,
    /// The controller of the pod, as in [`State::turns`].
    pub of: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl State {
    /// Compares the state with the pods that are on the node now.
    pub(crate) fn see(&mut self, pods: &[NodePod], now_ms: i64) {
        self.refused.retain(|refused| refused.until_ms > now_ms);
        for pod in pods.iter().filter(|pod| pod.must_go()) {
            let claims = pod.claims.iter().map(|claim| claim_key(&pod.pod.namespace, claim));
            self.claims.extend(claims.chain(pod.has_inline_ebs.then(|| INLINE_EBS.to_owned())));
        }
        let of: Vec<String> = pods.iter().filter(|pod| pod.must_go()).map(turn_of).collect();
        self.turns.meet(of.iter().map(String::as_str));
        let stays =
            |uid: &str| pods.iter().any(|pod| pod.pod.uid == uid && pod.disposition == Disposition::Evict);
        for unanswered in std::mem::take(&mut self.unanswered) {
            if !stays(&unanswered.uid) {
                self.count(&unanswered.of);
            }
        }
    }

    /// Counts an eviction that was granted.
    pub(crate) fn count(&mut self, of: &str) {
        self.evicted += 1;
        self.turns.count(of);
    }

    pub(crate) fn refusal_of(&self, pod: &PodRef) -> Option<&Refused> {
        self.refused.iter().find(|refused| refused.uids.contains(&pod.uid))
    }

    pub(crate) fn note(&mut self, pod: &NodePod, refusal: EvictionRefusal, until_ms: i64) {
        let EvictionRefusal { budget, why } = refusal;
        if budget.is_some()
            && let Some(owed) =
                self.owed.iter_mut().find(|owed| Some(&owed.controller) == pod.controller.as_ref())
        {
            owed.is_guarded = true;
        }
        let alike = |r: &&mut Refused| r.until_ms == until_ms && r.budget == budget && r.why == why;
        let uid = pod.pod.uid.clone();
        match self.refused.iter_mut().find(alike) {
            Some(refused) => refused.uids.push(uid),
            None => self.refused.push(Refused { until_ms, budget, why, uids: vec![uid] }),
        }
    }

    /// Notes that a controller has lost its last Ready pod.
    pub(crate) fn note_last_ready(&mut self, pod: &NodePod) {
        let Some(controller) = &pod.controller else { return };
        let name = controller.to_string();
        if self.last_ready_evicted.len() < LISTED && !self.last_ready_evicted.contains(&name) {
            self.last_ready_evicted.push(name);
        }
    }
}

/// Returns the name under which a pod's evictions are counted: its controller's UID, which a pod that comes
/// back shares. A pod without a controller comes back under its own name.
pub(crate) fn turn_of(pod: &NodePod) -> String {
    match &pod.controller {
        Some(controller) => controller.uid.clone(),
        None => format!("{}/{}", pod.pod.namespace, pod.pod.pod),
    }
}

/// Returns the name of a claim in [`State::claims`].
pub(crate) fn claim_key(namespace: &str, claim: &str) -> String {
    format!("{namespace}/{claim}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(number: usize) -> NodePod {
        let uid = |kind: &str| format!("{kind}{number:06}-0000-4000-8000-000000000000");
        let controller = Controller {
            kind: "ReplicaSet".to_owned(),
            namespace: "a-namespace-of-some-length".to_owned(),
            name: format!("a-deployment-of-some-length-{number}-5d59d67564"),
            uid: uid("rs"),
        };
        let pod = PodRef {
            namespace: controller.namespace.clone(),
            pod: format!("{}-x7k2p", controller.name),
            uid: uid("po"),
        };
        let claims = vec![format!("a-claim-of-some-length-{number}")];
        let labels = std::collections::BTreeMap::new();
        NodePod { pod, controller: Some(controller), labels, claims, ..crate::pods::node_pod("web-1") }
    }

    fn owed(pod: &NodePod) -> ExpectedReplicas {
        ExpectedReplicas {
            controller: pod.controller.clone().unwrap(),
            parent: pod.controller.as_ref().map(|controller| controller.uid.replace("rs", "dp")),
            ready_before: 1,
            least_alive: Some(1),
            wanted: Some(1),
            is_guarded: true,
        }
    }

    /// Step Functions carries 256 KiB, and the drain's state is not alone there.
    #[test]
    fn the_state_of_250_pods_of_250_controllers_under_250_budgets_leaves_half_of_the_payload_free() {
        let pods: Vec<NodePod> = (0..250).map(pod).collect();
        let mut state = State { owed: pods.iter().map(owed).collect(), ..State::default() };
        state.see(&pods, 0);
        for pod in &pods {
            state.turns.keep_least(&turn_of(pod), 1);
            let why = "Cannot evict pod as it would violate the pod's disruption budget. The disruption budget \
                       a-budget-of-some-length needs 1 healthy pods and has 1 currently";
            let refusal = EvictionRefusal { budget: Some(pod.pod.pod.clone()), why: why.to_owned() };
            state.note(pod, refusal, 1_800_000_000_000);
        }
        let bytes = serde_json::to_vec(&state).unwrap().len();
        assert!(bytes < 190_000, "{bytes}");
    }

    #[test]
    fn an_eviction_without_an_answer_is_counted_once_its_pod_is_seen_to_go() {
        let pods: Vec<NodePod> = (0..3).map(pod).collect();
        let mut state = State::default();
        state.see(&pods, 0);
        state.unanswered =
            pods.iter().map(|pod| Unanswered { uid: pod.pod.uid.clone(), of: turn_of(pod) }).collect();
        let terminating = NodePod { disposition: Disposition::Terminating, ..pods[1].clone() };
        state.see(&[pods[0].clone(), terminating], 0); // the third one is gone
        assert_eq!(state.evicted, 2);
        let granted: Vec<u32> = pods.iter().map(|pod| state.turns.of(&turn_of(pod)).evicted).collect();
        assert_eq!((granted, state.unanswered.len()), (vec![0, 1, 1], 0));
    }
}
