//! The last Ready pod of a controller stays until another one is Ready. A PodDisruptionBudget would demand
//! the same; most workloads have no budget, and all their pods may be on one node.
//!
//! A controller that wants only one pod has no other pod to wait for: that pod is evicted at once, as by
//! kubectl.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use kube::Client;

use crate::drain::{ExpectedReplicas, State};
use crate::error::ClusterError;
use crate::migration;
use crate::pod::{Controller, LOOKS_AT_ONCE};
use crate::pods::NodePod;

/// The pods to evict now, and the pods to hold because each is the last Ready one of its controller.
pub(crate) struct Split<'a> {
    pub(crate) now: Vec<&'a NodePod>,
    pub(crate) held: Vec<&'a NodePod>,
}

/// Splits the pods that are due. `fresh` names the controllers whose Ready pods were counted a moment ago.
pub(crate) async fn split<'a>(
    client: &Client,
    due: Vec<&'a NodePod>,
    state: &State,
    fresh: &[Controller],
) -> Result<Split<'a>, ClusterError> {
    let mut here: BTreeMap<&Controller, u32> = BTreeMap::new();
    for controller in due.iter().filter(|pod| pod.is_ready).filter_map(|pod| pod.controller.as_ref()) {
        *here.entry(controller).or_default() += 1;
    }
    let looks = state.owed.iter().filter_map(|owed| Some((owed, *here.get(&owed.controller)?)));
    let looks = looks.filter(|(owed, _)| has_others(owed)).map(|(owed, here)| async move {
        let is_fresh = fresh.contains(&owed.controller);
        let ready =
            if is_fresh { owed.ready_before } else { migration::ready_of(client, &owed.controller).await? };
        Ok((ready <= here).then_some(&owed.controller))
    });
    let lasting: Vec<Option<&Controller>> = stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await?;
    let mut lasting: Vec<&Controller> = lasting.into_iter().flatten().collect();
    let is_last = |pod: &&NodePod| {
        let found = pod.is_ready.then(|| lasting.iter().position(|c| Some(*c) == pod.controller.as_ref()));
        // Holds one pod of each controller; the others of the same controller go.
        found.flatten().map(|at| lasting.swap_remove(at)).is_some()
    };
    let (held, now) = due.into_iter().partition(is_last);
    Ok(Split { now, held })
}

/// Returns true if another pod of the controller can be Ready before this one goes. A budget that has refused
/// guards its pods itself, and the pods of a Job serve no traffic.
fn has_others(owed: &ExpectedReplicas) -> bool {
    let wants_several = owed.wanted.map_or(owed.ready_before > 1, |wanted| wanted > 1);
    wants_several && !owed.is_guarded && owed.controller.kind != "Job"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(kind: &str, wanted: Option<u32>, ready_before: u32) -> ExpectedReplicas {
        let text = str::to_owned;
        let controller =
            Controller { kind: text(kind), namespace: text("shop"), name: text("web"), uid: text("1") };
        ExpectedReplicas { controller, ready_before, wanted, is_guarded: false }
    }

    #[test]
    fn only_a_controller_of_several_can_bring_another_first() {
        assert!(has_others(&owed("ReplicaSet", Some(2), 1)), "the second one is not Ready yet");
        assert!(!has_others(&owed("ReplicaSet", Some(1), 1)), "it would wait for ever");
        assert!(has_others(&owed("Set.example.org", None, 2)));
        assert!(!has_others(&owed("Set.example.org", None, 1)));
        assert!(!has_others(&owed("Job", Some(5), 5)));
        assert!(!has_others(&ExpectedReplicas { is_guarded: true, ..owed("ReplicaSet", Some(2), 2) }));
    }
}
