//! The evacuation of a Kubernetes node whose instance EC2 takes back: cordon, then passes of evictions until shortly before
//! the end. The node is doomed, so that it is never made schedulable again; its group is left as it is.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{AnswerOutcome, AnswerReason, Because};
use crate::ids::{AccountId, ClusterName, GroupName, InstanceId, Region};
use crate::settings::Settings;
use crate::swap::group::{Group, Instance};
use crate::swap::node::BlockedPod;
use crate::swap::recovery::answer::is_time_up;

/// The time before its end at which the last eviction is asked for: a pod needs a moment to end.
pub const NO_EVICTION_BEFORE_END: SignedDuration = SignedDuration::from_secs(10);

/// The most pods that an answer lists one by one.
pub const PODS_LISTED: usize = 20;

/// A node to be evacuated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoomedNode {
    /// The instance that EC2 takes back.
    pub instance_id: InstanceId,
    /// Its group, whose owner may opt out at any moment.
    pub asg_name: GroupName,
    /// The cluster that it is a node of.
    pub cluster_name: ClusterName,
    /// The account of the instance.
    pub account_id: AccountId,
    /// The region of the instance.
    pub region: Region,
    /// The time at which EC2 takes the instance back.
    pub ends_at: Timestamp,
}

/// The result of an evacuation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evacuated {
    /// [`AnswerOutcome::Drained`], [`AnswerOutcome::Ignored`] or [`AnswerOutcome::Failed`].
    pub outcome: AnswerOutcome,
    /// The reason, unless the node is drained.
    pub because: Option<Because>,
    /// The pods whose eviction was granted.
    pub evicted: u32,
    /// The pods that are left, the gravest first; at most [`PODS_LISTED`].
    pub blocked: Vec<BlockedPod>,
}

/// What a pass has left undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unfinished {
    /// Pods are left on the node, in words.
    Pods(String),
    /// The cluster could not be asked; the error, in words.
    Cluster(String),
}

impl Unfinished {
    /// Returns what is left after a pass that failed with `error`. The pods that an earlier pass has found stay named.
    #[must_use]
    pub fn with_trouble(earlier: Option<&Self>, error: &str) -> Self {
        match earlier {
            Some(Self::Pods(left)) => {
                // Only the trouble of the last pass is told.
                let left = left.split(TROUBLE).next().unwrap_or_default();
                Self::Pods(format!("{left}{TROUBLE}{error}"))
            }
            Some(Self::Cluster(_)) | None => Self::Cluster(error.to_owned()),
        }
    }
}

const TROUBLE: &str = "; the last trouble with the cluster was: ";

/// Says if a pod may be evicted although it is the last Ready one of its controller. Until 40 s before the end, another one
/// may still become Ready first.
#[must_use]
pub fn may_evict_last_ready(ends_at: Timestamp, now: Timestamp) -> bool {
    is_time_up(ends_at, now)
}

/// Returns the result if no further pass is made after this one; `None` if there is time for another.
#[must_use]
pub fn after_pass(
    unfinished: Option<Unfinished>,
    ends_at: Timestamp,
    now: Timestamp,
) -> Option<(AnswerOutcome, Option<Because>)> {
    let Some(unfinished) = unfinished else { return Some((AnswerOutcome::Drained, None)) };
    if ends_at.duration_since(now) > NO_EVICTION_BEFORE_END {
        return None;
    }
    let because = match unfinished {
        Unfinished::Pods(left) => Because::of(AnswerReason::PodsLeft, left),
        Unfinished::Cluster(error) => Because::of(AnswerReason::StepFailed, error),
    };
    Some((AnswerOutcome::Failed, Some(because)))
}

/// Returns the result if the evacuation has to stop: EC2 was faster, or the owner opted out. `unfinished` is what the last
/// pass has left; `None` if there was no pass, so that nothing was changed.
#[must_use]
pub fn stopped(
    instance: Option<&Instance>,
    group: Option<&Group>,
    settings: &Settings,
    unfinished: Option<&Unfinished>,
) -> Option<(AnswerOutcome, Because)> {
    let Some(instance) = instance.filter(|instance| instance.is_alive()) else {
        let ended = |left: &str| format!("EC2 has ended the instance; before, {left}");
        return Some(match unfinished {
            Some(Unfinished::Pods(left)) => {
                (AnswerOutcome::Failed, Because::of(AnswerReason::PodsLeft, ended(left)))
            }
            Some(Unfinished::Cluster(error)) => {
                (AnswerOutcome::Failed, Because::of(AnswerReason::StepFailed, ended(error)))
            }
            None => (AnswerOutcome::Ignored, Because::of(AnswerReason::InstanceGone, "it no longer runs")),
        });
    };
    let why = super::verdict::opted_out_of(instance, group, settings)?;
    Some(match unfinished {
        Some(Unfinished::Pods(left)) => {
            let detail = format!("{}; {left}", why.detail);
            (AnswerOutcome::Failed, Because { detail, ..why })
        }
        Some(Unfinished::Cluster(_)) | None => (AnswerOutcome::Ignored, why),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swap::group::InstanceState;
    use crate::swap::group::tests::{group_of, on_demand};
    use crate::watch::enrolment::ENABLED_TAG;

    fn pods() -> Unfinished {
        Unfinished::Pods("1 pods are left on node n1; shop/web: budget web".into())
    }

    fn in_seconds(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn passes_go_on_until_ten_seconds_before_the_end_and_then_name_what_is_left() {
        let at = |left| after_pass(Some(pods()), in_seconds(left), Timestamp::UNIX_EPOCH);
        assert_eq!(at(120), None);
        assert_eq!(at(11), None);
        for late in [10, 0, -60] {
            let (outcome, because) = at(late).unwrap();
            let because = because.unwrap();
            assert_eq!((outcome, because.reason), (AnswerOutcome::Failed, AnswerReason::PodsLeft), "{late}");
            assert!(because.detail.contains("budget web"), "{because:?}");
        }
    }

    #[test]
    fn an_empty_node_is_drained_whenever_that_is_seen() {
        for left in [110, 5, -5] {
            let seen = after_pass(None, in_seconds(left), Timestamp::UNIX_EPOCH);
            assert_eq!(seen, Some((AnswerOutcome::Drained, None)));
        }
    }

    #[test]
    fn a_cluster_that_is_silent_to_the_end_is_a_failed_step() {
        let silent = Some(Unfinished::Cluster("list pods: timed out".into()));
        assert_eq!(after_pass(silent.clone(), in_seconds(60), Timestamp::UNIX_EPOCH), None);
        let (outcome, because) = after_pass(silent, in_seconds(10), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((outcome, because.unwrap().reason), (AnswerOutcome::Failed, AnswerReason::StepFailed));
    }

    #[test]
    fn trouble_with_the_cluster_hides_no_pod_that_was_seen_before() {
        let alone = Unfinished::with_trouble(None, "timed out");
        assert_eq!(alone, Unfinished::Cluster("timed out".into()));
        assert_eq!(Unfinished::with_trouble(Some(&alone), "refused"), Unfinished::Cluster("refused".into()));
        let mut both = pods();
        for error in ["timed out", "refused"] {
            both = Unfinished::with_trouble(Some(&both), error);
        }
        let Unfinished::Pods(left) = both else { panic!("{both:?}") };
        assert!(left.contains("budget web") && left.ends_with("refused"), "{left}");
        assert!(!left.contains("timed out"), "{left}");
    }

    #[test]
    fn the_last_ready_pod_of_a_controller_stays_until_forty_seconds_before_the_end() {
        assert!(!may_evict_last_ready(in_seconds(41), Timestamp::UNIX_EPOCH));
        assert!(may_evict_last_ready(in_seconds(40), Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn what_ec2_has_ended_is_gone_before_the_first_pass_and_has_lost_pods_after_it() {
        let (alive, settings) = (on_demand(1), Settings::default());
        let dead = Instance { state: InstanceState::Dead, ..alive.clone() };
        for gone in [None, Some(&dead)] {
            let (outcome, because) = stopped(gone, None, &settings, None).unwrap();
            assert_eq!((outcome, because.reason), (AnswerOutcome::Ignored, AnswerReason::InstanceGone));
            let (outcome, because) = stopped(gone, None, &settings, Some(&pods())).unwrap();
            assert_eq!((outcome, because.reason), (AnswerOutcome::Failed, AnswerReason::PodsLeft));
            assert!(because.detail.contains("shop/web"), "{because:?}");
        }
        assert_eq!(stopped(Some(&alive), None, &settings, Some(&pods())), None, "its group may be deleted");
    }

    #[test]
    fn an_owner_who_opts_out_is_obeyed_at_the_next_pass() {
        let settings = Settings::default();
        let (alive, mut group) = (on_demand(1), group_of(2));
        assert_eq!(stopped(Some(&alive), Some(&group), &settings, None), None);
        group.tags.insert(ENABLED_TAG.to_owned(), "false".to_owned());
        let out = |left| stopped(Some(&alive), Some(&group), &settings, left);
        let before = out(None).unwrap();
        assert_eq!((before.0, before.1.reason), (AnswerOutcome::Ignored, AnswerReason::OptedOut));
        let (outcome, because) = out(Some(&pods())).unwrap();
        assert_eq!((outcome, because.reason), (AnswerOutcome::Failed, AnswerReason::OptedOut));
        assert!(because.detail.contains(ENABLED_TAG) && because.detail.contains("shop/web"), "{because:?}");
        let mut tagged = alive.clone();
        tagged.tags.insert(settings.opt_out_tag.clone(), "yes".to_owned());
        assert!(stopped(Some(&tagged), None, &settings, None).is_some());
    }
}
