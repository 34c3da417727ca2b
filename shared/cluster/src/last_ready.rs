//! A controller without a budget keeps serving while its pods leave. A PodDisruptionBudget would demand the
//! same; most workloads have no budget, and all their pods may be on one node.
//!
//! One Ready pod of a controller goes first. The others follow once the controller has as many Ready pods as
//! before: an API server that admits no new pod (a quota, a webhook, a missing ServiceAccount) costs one pod.
//! The last Ready pod stays until another one is Ready. Near the deadline, pods go as by kubectl, if each pod
//! that went before has a replacement that could run.
//!
//! A controller that wants only one pod has no other pod to wait for: that pod is evicted at once, as by
//! kubectl. So are all pods of a node that is about to be lost ([`Others::Go`]), except for the last Ready
//! ones.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use kube::Client;

use crate::drain::{ExpectedReplicas, LastReady, Manner, Others, State};
use crate::error::ClusterError;
use crate::migration::{self, Replicas};
use crate::pod::{Controller, LOOKS_AT_ONCE};
use crate::pods::NodePod;

/// The pods to evict now, and the pods to hold.
#[derive(Default)]
pub(crate) struct Split<'a> {
    pub(crate) now: Vec<&'a NodePod>,
    /// The pods to hold, each with the reason.
    pub(crate) held: Vec<(&'a NodePod, Hold)>,
    /// The last Ready pods among those to evict now: the deadline is near.
    pub(crate) last: Vec<&'a NodePod>,
}

/// The reason why a Ready pod stays for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Another pod of the controller goes first.
    First,
    /// The controller has fewer Ready pods than before.
    Short,
    /// The pod is the last Ready one of its controller.
    Last,
    /// A pod of the controller has no replacement that could run, for this reason.
    Unreplaced(String),
}

/// A controller with Ready pods that are due, and what it must bring back.
struct Due<'a> {
    owed: &'a ExpectedReplicas,
    /// Its Ready pods that are due.
    here: u32,
}

/// The counts from which a verdict follows.
struct Counts {
    /// Ready pods that are due.
    here: u32,
    /// Ready pods, on any node.
    ready: u32,
    /// Ready pods that the controller had before, or that it wants by now if that is less.
    before: u32,
    /// True if a pod of the controller was evicted before.
    is_tried: bool,
    /// The reason why a pod has no replacement that could run.
    lack: Option<String>,
}

/// The decision on the Ready pods of a controller.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    /// The number of pods to evict now.
    may_go: u32,
    /// The reason why the others stay.
    hold: Hold,
    /// True if no Ready pod is left once these are evicted.
    takes_last: bool,
}

impl Hold {
    /// Returns the reason for a person.
    pub(crate) fn why(&self, pod: &NodePod) -> String {
        let of = pod.controller.as_ref().map(Controller::to_string).unwrap_or_default();
        match self {
            Self::First => {
                format!("another pod of {of} goes first: it is evicted once a replacement is Ready")
            }
            Self::Short => {
                format!("{of} has fewer Ready pods than before: it is evicted once they are Ready again")
            }
            Self::Last => format!("the last Ready pod of {of}: it is evicted once another one is Ready"),
            Self::Unreplaced(why) => format!("it stays, since {of} brings no evicted pod back: {why}"),
        }
    }
}

/// Splits the pods that are due. `fresh` has the controllers whose pods were counted a moment ago.
pub(crate) async fn split<'a>(
    client: &Client,
    due: Vec<&'a NodePod>,
    state: &State,
    fresh: &BTreeMap<Controller, Replicas>,
    manner: Manner,
) -> Result<Split<'a>, ClusterError> {
    let controllers = controllers(&due, state);
    let looks = controllers.iter().map(|one| async move {
        let controller = &one.owed.controller;
        let now = match fresh.get(controller) {
            Some(known) => known.clone(),
            None => migration::replicas_of(client, controller).await?,
        };
        Ok::<_, ClusterError>((controller, verdict(&one.counts(state, &now), manner)))
    });
    let verdicts: Vec<(&Controller, Verdict)> =
        stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await?;
    let mut verdicts: BTreeMap<&Controller, Verdict> = verdicts.into_iter().collect();
    let mut split = Split::default();
    for pod in due {
        let controller = pod.controller.as_ref().filter(|_| pod.is_ready);
        match controller.and_then(|controller| verdicts.get_mut(controller)) {
            Some(verdict) if verdict.may_go == 0 => split.held.push((pod, verdict.hold.clone())),
            Some(verdict) => {
                verdict.may_go -= 1;
                if verdict.takes_last && verdict.may_go == 0 {
                    split.last.push(pod);
                }
                split.now.push(pod);
            }
            None => split.now.push(pod),
        }
    }
    Ok(split)
}

/// Returns the controllers that have Ready pods among those that are due, and other pods to wait for.
fn controllers<'a>(due: &[&NodePod], state: &'a State) -> Vec<Due<'a>> {
    let mut here: BTreeMap<&Controller, u32> = BTreeMap::new();
    for controller in due.iter().filter(|pod| pod.is_ready).filter_map(|pod| pod.controller.as_ref()) {
        *here.entry(controller).or_default() += 1;
    }
    let found = state.owed.iter().filter(|owed| has_others(owed));
    found.filter_map(|owed| Some(Due { owed, here: *here.get(&owed.controller)? })).collect()
}

/// Returns true if another pod of the controller can be Ready before this one goes. A budget that has refused
/// guards its pods itself, and the pods of a Job serve no traffic.
fn has_others(owed: &ExpectedReplicas) -> bool {
    let wants_several = owed.wanted.map_or(owed.ready_before > 1, |wanted| wanted > 1);
    wants_several && !owed.is_guarded && owed.controller.kind != "Job"
}

impl Due<'_> {
    fn counts(&self, state: &State, now: &Replicas) -> Counts {
        let Self { owed, here } = self;
        Counts {
            here: *here,
            ready: now.ready,
            before: now.wanted.map_or(owed.ready_before, |wanted| wanted.min(owed.ready_before)),
            is_tried: state.turns.of(&owed.controller.uid).evicted > 0,
            lack: now.lack(owed),
        }
    }
}

fn verdict(counts: &Counts, manner: Manner) -> Verdict {
    let Counts { here, ready, before, is_tried, lack } = counts;
    let (here, ready, before) = (*here, *ready, *before);
    let is_late = manner.last_ready == LastReady::Evict;
    let is_lost = manner.others == Others::Go;
    let (is_short, has_last) = (ready < before, ready <= here);
    if let Some(why) = lack.as_ref().filter(|_| !is_lost && (is_late || !is_short)) {
        return Verdict { may_go: 0, hold: Hold::Unreplaced(why.clone()), takes_last: false };
    }
    // Pods that may go while one stays Ready.
    let spared = if has_last { here.saturating_sub(1) } else { here };
    let is_first = !is_lost && !is_short && !is_tried && spared > 0;
    if is_late && !is_first {
        return Verdict { may_go: here, hold: Hold::Last, takes_last: has_last };
    }
    let may_go = if is_first {
        spared.min((ready - before).saturating_add(1))
    } else if is_short && !is_lost {
        0
    } else {
        spared
    };
    let hold = if has_last && here - may_go == 1 {
        Hold::Last
    } else if is_short {
        Hold::Short
    } else {
        Hold::First
    };
    Verdict { may_go, hold, takes_last: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLY: Manner = Manner { last_ready: LastReady::Keep, others: Others::Stay };
    const LATE: Manner = Manner { last_ready: LastReady::Evict, others: Others::Stay };
    const LOST: Manner = Manner { last_ready: LastReady::Keep, others: Others::Go };

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

    /// A controller of four pods, of which so many are Ready.
    fn four(here: u32, ready: u32) -> Counts {
        Counts { here, ready, before: 4, is_tried: true, lack: None }
    }

    /// Returns how many of the pods go now, and the reason why the others stay.
    fn judged(counts: &Counts, manner: Manner) -> (u32, Hold) {
        let Verdict { may_go, hold, .. } = verdict(counts, manner);
        (may_go, hold)
    }

    #[test]
    fn one_pod_goes_first_and_the_rest_but_the_last_once_all_are_ready_again() {
        let untried = Counts { is_tried: false, ..four(4, 4) };
        assert_eq!(judged(&untried, EARLY), (1, Hold::First));
        assert_eq!(judged(&four(3, 3), EARLY), (0, Hold::Short), "its replacement is not Ready yet");
        assert_eq!(judged(&four(3, 4), EARLY).0, 3, "one serves elsewhere");
        assert_eq!(judged(&four(4, 4), EARLY), (3, Hold::Last));
        assert_eq!(judged(&four(1, 1), EARLY), (0, Hold::Last));
        let surplus = Counts { is_tried: false, ..four(4, 5) };
        assert_eq!(judged(&surplus, EARLY).0, 2, "it had one more than it wants");
    }

    #[test]
    fn no_pod_follows_one_that_has_no_replacement_however_late_it_is() {
        let lack = Some("exceeded quota".to_owned());
        let unreplaced = |ready| Counts { lack: lack.clone(), ..four(3, ready) };
        for (ready, manner) in [(3, LATE), (4, EARLY), (4, LATE)] {
            let expected = (0, Hold::Unreplaced("exceeded quota".to_owned()));
            assert_eq!(judged(&unreplaced(ready), manner), expected, "{ready} {manner:?}");
        }
        assert_eq!(judged(&unreplaced(3), EARLY), (0, Hold::Short));
        assert_eq!(judged(&unreplaced(3), LOST).0, 2, "it would die with its node");
    }

    #[test]
    fn near_the_deadline_all_go_whose_replacements_exist_and_the_last_is_told() {
        let all = Verdict { may_go: 3, hold: Hold::Last, takes_last: true };
        assert_eq!(verdict(&four(3, 3), LATE), all);
        assert!(!verdict(&four(2, 3), LATE).takes_last, "another serves elsewhere");
        let untried = Counts { is_tried: false, ..four(4, 4) };
        assert_eq!(judged(&untried, LATE), (1, Hold::First));
    }

    #[test]
    fn all_but_the_last_leave_a_node_that_is_about_to_be_lost() {
        let untried = Counts { is_tried: false, ..four(4, 4) };
        assert_eq!(judged(&untried, LOST), (3, Hold::Last));
        assert_eq!(judged(&four(3, 3), LOST), (2, Hold::Last));
        assert_eq!(judged(&four(3, 3), Manner { last_ready: LastReady::Evict, ..LOST }).0, 3);
    }
}
