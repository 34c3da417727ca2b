//! A controller without a budget keeps serving while its pods leave. A PodDisruptionBudget would demand the
//! same; most workloads have no budget, and all their pods may be on one node.
//!
//! One Ready pod of a controller goes first. The others follow once the controller has as many Ready pods as
//! before: an API server that admits no new pod (a quota, a webhook, a missing ServiceAccount) costs one pod.
//! The last Ready pod stays until another one is Ready. Near the deadline, pods go as by kubectl, if each pod
//! that went before has a replacement that could run.
//!
//! The ReplicaSets of one Deployment count together, as far as they have pods on the node: in mid-rollout each of
//! them may have a single pod.
//!
//! A controller that wants only one pod has no other pod to wait for: that pod is evicted at once, as by
//! kubectl. So are all pods of a node that is about to be lost ([`Others::Go`]), except for the last Ready
//! ones.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use kube::Client;

use crate::drain_state::{ExpectedReplicas, State};
use crate::error::ClusterError;
use crate::manner::{LastReady, Manner, Others};
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

/// A controller, or the ReplicaSets of one Deployment, and what must be brought back.
#[derive(Default)]
struct Group<'a> {
    owed: Vec<&'a ExpectedReplicas>,
    /// The Ready pods that are due.
    here: u32,
}

/// The counts from which a verdict follows.
#[derive(Default)]
struct Counts {
    /// Ready pods that are due.
    here: u32,
    /// Ready pods, on any node.
    ready: u32,
    /// Pods that the controller wants by now.
    wanted: u32,
    /// Ready pods that the controller had before, or that it wants by now if that is less.
    before: u32,
    /// True if a pod of the controller was evicted before.
    is_tried: bool,
    /// The reason why a pod has no replacement.
    lack: Option<String>,
    /// The problem of a pod that no node can start.
    unstartable: Option<String>,
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
    let groups = groups(&due, state);
    let looks = groups.iter().map(|group| async move {
        let mut counts = Counts { here: group.here, ..Counts::default() };
        for owed in &group.owed {
            let now = match fresh.get(&owed.controller) {
                Some(known) => known.clone(),
                None => migration::replicas_of(client, &owed.controller).await?,
            };
            counts.add(owed, &now, state);
        }
        Ok::<_, ClusterError>((group, verdict(&counts, manner)))
    });
    let mut verdicts: Vec<(&Group<'_>, Verdict)> =
        stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await?;
    let mut split = Split::default();
    for pod in due {
        let found = verdicts.iter_mut().find(|(group, _)| pod.is_ready && group.has(pod));
        match found.map(|(_, verdict)| verdict) {
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
fn groups<'a>(due: &[&NodePod], state: &'a State) -> Vec<Group<'a>> {
    let mut here: BTreeMap<&Controller, u32> = BTreeMap::new();
    for controller in due.iter().filter(|pod| pod.is_ready).filter_map(|pod| pod.controller.as_ref()) {
        *here.entry(controller).or_default() += 1;
    }
    let mut groups: BTreeMap<&str, Group<'a>> = BTreeMap::new();
    for owed in &state.owed {
        let group = groups.entry(owed.parent.as_ref().unwrap_or(&owed.controller.uid)).or_default();
        group.here += here.get(&owed.controller).copied().unwrap_or_default();
        group.owed.push(owed);
    }
    groups.into_values().filter(|group| group.here > 0 && group.has_others()).collect()
}

impl Group<'_> {
    fn has(&self, pod: &NodePod) -> bool {
        self.owed.iter().any(|owed| Some(&owed.controller) == pod.controller.as_ref())
    }

    /// Returns true if another pod can be Ready before this one goes. A budget that has refused guards its pods
    /// itself, and the pods of a Job serve no traffic.
    fn has_others(&self) -> bool {
        let wanted = self.owed.iter().map(|owed| owed.wanted.unwrap_or(owed.ready_before));
        let is_several = wanted.fold(0, u32::saturating_add) > 1;
        is_several && !self.owed.iter().any(|owed| owed.is_guarded || owed.controller.kind == "Job")
    }
}

impl Counts {
    /// Adds a controller and its present pods.
    fn add(&mut self, owed: &ExpectedReplicas, now: &Replicas, state: &State) {
        let wanted = now.wanted.or(owed.wanted).unwrap_or(owed.ready_before);
        self.ready = self.ready.saturating_add(now.ready);
        self.wanted = self.wanted.saturating_add(wanted);
        self.before = self.before.saturating_add(wanted.min(owed.ready_before));
        self.is_tried |= state.turns.of(&owed.controller.uid).evicted > 0;
        self.lack = self.lack.take().or_else(|| now.lack(owed));
        self.unstartable = self.unstartable.take().or_else(|| now.unstartable.clone());
    }
}

fn verdict(counts: &Counts, manner: Manner) -> Verdict {
    let Counts { here, ready, wanted, before, is_tried, lack, unstartable } = counts;
    let (here, ready, before) = (*here, *ready, *before);
    if *wanted <= 1 {
        // Scaled down meanwhile, or its rollout is over: there is no other pod to wait for.
        return Verdict { may_go: here, hold: Hold::Last, takes_last: false };
    }
    let is_late = manner.last_ready == LastReady::Evict;
    let is_lost = manner.others == Others::Go;
    let (is_short, has_last) = (ready < before, ready <= here);
    // Of a controller with as many Ready pods as before, a pod that can't start is an old trouble.
    let lack = lack.as_ref().or(unstartable.as_ref().filter(|_| is_short));
    if let Some(why) = lack.filter(|_| !is_lost && (is_late || !is_short)) {
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
    use crate::pods::node_pod;

    const EARLY: Manner = Manner { last_ready: LastReady::Keep, others: Others::Stay };
    const LATE: Manner = Manner { last_ready: LastReady::Evict, others: Others::Stay };
    const LOST: Manner = Manner { last_ready: LastReady::Keep, others: Others::Go };

    fn owed(kind: &str, wanted: Option<u32>, ready_before: u32) -> ExpectedReplicas {
        let text = str::to_owned;
        let controller =
            Controller { kind: text(kind), namespace: text("shop"), name: text("web"), uid: text("1") };
        ExpectedReplicas {
            controller,
            parent: None,
            ready_before,
            least_alive: Some(ready_before),
            wanted,
            is_guarded: false,
        }
    }

    fn has_others(owed: &ExpectedReplicas) -> bool {
        Group { owed: vec![owed], here: 1 }.has_others()
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
        Counts { here, ready, wanted: 4, before: 4, is_tried: true, lack: None, unstartable: None }
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
    fn a_pod_that_starts_nowhere_keeps_its_peers_near_the_deadline_unless_it_was_broken_before() {
        let broken = |ready| Counts { unstartable: Some("image".to_owned()), ..four(3, ready) };
        assert_eq!(judged(&broken(3), LATE), (0, Hold::Unreplaced("image".to_owned())));
        assert_eq!(judged(&broken(4), LATE).0, 3);
        assert_eq!(judged(&broken(4), EARLY).0, 3);
    }

    /// Returns the ReplicaSet of this UID, of which one pod was Ready, of Deployment `d`.
    fn in_rollout(uid: &str) -> ExpectedReplicas {
        let mut owed = owed("ReplicaSet", Some(1), 1);
        (owed.controller.uid, owed.parent) = (uid.to_owned(), Some("d".to_owned()));
        owed
    }

    #[test]
    fn replica_sets_of_one_deployment_are_one_controller_of_several() {
        let of = |set: &ExpectedReplicas| NodePod {
            controller: Some(set.controller.clone()),
            ..node_pod("web-1")
        };
        let state = State { owed: vec![in_rollout("old"), in_rollout("new")], ..State::default() };
        let (old, new) = (of(&state.owed[0]), of(&state.owed[1]));
        let found = groups(&[&old, &new], &state);
        assert_eq!((found.len(), found[0].here, found[0].owed.len()), (1, 2, 2));
        let mut counts = Counts { here: 2, ..Counts::default() };
        let one = Replicas { ready: 1, alive: 1, wanted: Some(1), ..Replicas::default() };
        state.owed.iter().for_each(|owed| counts.add(owed, &one, &state));
        assert_eq!(judged(&counts, EARLY), (1, Hold::Last));
        let alone = State { owed: vec![in_rollout("new")], ..State::default() };
        assert!(groups(&[&new], &alone).is_empty(), "it would wait for ever");
    }

    #[test]
    fn once_only_one_pod_is_wanted_it_goes_at_once() {
        assert_eq!(judged(&Counts { wanted: 1, ..four(1, 1) }, EARLY).0, 1);
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
