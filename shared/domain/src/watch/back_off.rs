//! What follows from the end of a run that the loop started: when the next may start, and when the loop gives up.

use jiff::{SignedDuration, Timestamp};

use crate::ids::InstanceId;
use crate::reason::Reason;
use crate::settings::Settings;
use crate::swap::lab::{LabOutcome, LabReport};
use crate::swap::node::{NodeOutcome, NodeSwapReport};
use crate::swap::report::{NotSwapped, SwapReport};
use crate::watch::{Deferral, Deferred};
use crate::words::cut;

/// The pause after the first failure. Each further one doubles it.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_mins(15);
/// The longest pause after a failure, and the pause after a run that swapped nothing.
pub const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(6);
/// The time after which the loop looks again at a group that could not be swapped: its configuration may have changed.
pub const LOOK_AGAIN: SignedDuration = SignedDuration::from_hours(1);
/// The most characters of a detail.
const DETAIL: usize = 500;
/// The errors of an execution that found its group, cluster or instance leased. They say nothing of the group.
const BUSY: [&str; 3] = ["GroupBusy", "ClusterBusy", "InstanceBusy"];

/// The end of a run, as the loop sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEnd {
    /// Something was swapped, or another execution was at work. The next sweep goes on.
    GoesOn,
    /// A lab instance was replaced. If it runs again, its owner has brought it back, and it stays.
    Replaced,
    /// Nothing was swapped, and nothing went wrong. Carries the reasons in words.
    NothingSwapped(String),
    /// The run failed, or undid what it did. Carries the reason in words.
    Failed(String),
}

impl RunEnd {
    /// Reads the end of an execution that did not succeed: its status, its error and the message of that.
    #[must_use]
    pub fn of_failure(status: &str, error: &str, message: &str) -> Self {
        if BUSY.contains(&error) {
            return Self::GoesOn;
        }
        let told = [status, error, message]
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join(": ");
        Self::Failed(cut(&told, DETAIL))
    }

    /// Reads the report of a run over a group.
    #[must_use]
    pub fn of_group(report: &SwapReport) -> Self {
        if !report.swapped.is_empty() {
            return Self::GoesOn;
        }
        if let Some(undone) = report.rolled_back.first() {
            return Self::Failed(in_words(std::slice::from_ref(undone)));
        }
        if let Some(ended) = &report.ended_by {
            let told = cut(&format!("{}: {}", ended.reason, ended.detail), DETAIL);
            // The place is as it is: nothing went wrong with the group.
            let is_refused = ended.reason == Reason::GateBlind;
            return if is_refused { Self::NothingSwapped(told) } else { Self::Failed(told) };
        }
        // What ends a run may stand with its members alone.
        match report.skipped.iter().find(|left| left.reason.ends_run()) {
            Some(left) => Self::Failed(in_words(std::slice::from_ref(left))),
            None => Self::NothingSwapped(in_words(&report.skipped)),
        }
    }

    /// Reads the report of the swap of a lab instance.
    #[must_use]
    pub fn of_lab(report: &LabReport) -> Self {
        match report.outcome {
            LabOutcome::Swapped => Self::Replaced,
            LabOutcome::BroughtBack => Self::GoesOn,
            LabOutcome::Refused | LabOutcome::Planned => Self::of_refusal(
                told(&report.instance_id, report.reason, report.detail.as_deref()),
                report.reason,
            ),
            LabOutcome::RolledBack => {
                Self::Failed(told(&report.instance_id, report.reason, report.detail.as_deref()))
            }
        }
    }

    /// Reads the report of the swap of a node.
    #[must_use]
    pub fn of_node(report: &NodeSwapReport) -> Self {
        let told = told(&report.instance_id, report.reason, report.detail.as_deref());
        match report.outcome {
            NodeOutcome::Swapped => Self::GoesOn,
            NodeOutcome::Refused | NodeOutcome::Planned => Self::of_refusal(told, report.reason),
            NodeOutcome::RolledBack => Self::Failed(told),
        }
    }
}

impl RunEnd {
    /// A refusal that every other run would meet, too, is a failure: the loop must not go on with the next instance.
    fn of_refusal(told: String, reason: Option<Reason>) -> Self {
        if reason.is_some_and(Reason::fails_run) { Self::Failed(told) } else { Self::NothingSwapped(told) }
    }
}

fn told(instance_id: &InstanceId, reason: Option<Reason>, detail: Option<&str>) -> String {
    let reason = reason.map_or("no reason given", Reason::code);
    cut(&format!("{instance_id}: {reason}: {}", detail.unwrap_or_default()), DETAIL)
}

/// Returns the first members that stay, each with its reason.
#[must_use]
pub fn in_words(left: &[NotSwapped]) -> String {
    let told = |left: &NotSwapped| format!("{}: {}: {}", left.instance_id, left.reason, left.detail);
    let worth_telling = left.iter().filter(|left| left.reason != Reason::AlreadySpot);
    cut(&worth_telling.take(3).map(told).collect::<Vec<_>>().join("; "), DETAIL)
}

/// Failures in a row, and what the last run leaves for the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// Failed runs, one after the other.
    pub failures: u32,
    /// What the end of the last run forbids: until a time, or for good.
    pub pause: Option<Deferred>,
}

impl Past {
    /// Returns the past with one more run in it.
    #[must_use]
    pub fn and(&self, end: &RunEnd, now: Timestamp) -> Self {
        let until = |pause: SignedDuration| now.checked_add(pause).unwrap_or(Timestamp::MAX);
        match end {
            RunEnd::GoesOn => Self::default(),
            RunEnd::Replaced => {
                let why = "the loop has swapped it before, and it runs again: its owner brought it back";
                Self { failures: 0, pause: Some(Deferred::new(Deferral::BroughtBack, why)) }
            }
            RunEnd::NothingSwapped(why) => Self {
                failures: 0,
                pause: Some(Deferred::until(Deferral::NothingSwapped, why, until(LONGEST_PAUSE))),
            },
            RunEnd::Failed(why) => {
                let failures = self.failures.saturating_add(1);
                let pause = Deferred::until(Deferral::BackingOff, why, until(pause_after(failures)));
                Self { failures, pause: Some(pause) }
            }
        }
    }

    /// Returns why the next run may not start yet.
    #[must_use]
    pub fn forbids(&self, settings: &Settings, now: Timestamp) -> Option<Deferred> {
        if self.failures >= settings.max_failed_runs {
            let last = self.pause.as_ref().map(|pause| pause.detail.as_str()).unwrap_or_default();
            let detail = format!("{} runs failed in a row; the last: {last}", self.failures);
            return Some(Deferred::new(Deferral::TooManyFailures, detail));
        }
        self.pause.clone().filter(|pause| pause.not_before.is_none_or(|until| now < until))
    }
}

/// Returns the pause after so many failures in a row: 15 minutes, doubled, up to 6 hours.
fn pause_after(failures: u32) -> SignedDuration {
    let doublings = failures.saturating_sub(1).min(10);
    LONGEST_PAUSE.min(FIRST_PAUSE * (1 << doublings))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const I: &str = "i-0123456789abcdef0";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn group(more: &Value) -> RunEnd {
        let mut report = json!({"asg_name": "web", "account_id": "123456789012", "region": "us-east-1", "swapped": [],
            "skipped": [], "rolled_back": [], "remaining": 0});
        report.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        RunEnd::of_group(&serde_json::from_value(report).unwrap())
    }

    fn left(reason: &str) -> Value {
        json!([{"instance_id": I, "reason": reason, "detail": "why"}])
    }

    #[test]
    fn a_report_says_if_the_loop_goes_on() {
        let swapped = json!([{"old_instance_id": I, "new_instance_id": I, "pool": "us-east-1#use1-az6#m5.large",
            "monthly_saving_usd": null}]);
        let told = |reason: &str| format!("{I}: {reason}: why");
        for (report, end) in [
            (json!({"swapped": swapped}), RunEnd::GoesOn),
            (json!({"swapped": swapped, "rolled_back": left("NEWCOMER_UNHEALTHY")}), RunEnd::GoesOn),
            (json!({"rolled_back": left("NEWCOMER_UNHEALTHY")}), RunEnd::Failed(told("NEWCOMER_UNHEALTHY"))),
            (json!({"skipped": left("NOT_CHEAPER")}), RunEnd::NothingSwapped(told("NOT_CHEAPER"))),
            (json!({"skipped": left("NO_CAPACITY")}), RunEnd::NothingSwapped(told("NO_CAPACITY"))),
            (json!({"skipped": left("QUOTA_EXCEEDED")}), RunEnd::Failed(told("QUOTA_EXCEEDED"))),
            (json!({"skipped": left("ALREADY_SPOT")}), RunEnd::NothingSwapped(String::new())),
            (
                json!({"ended_by": {"reason": "GROUP_SCALING", "detail": "why"}}),
                RunEnd::Failed("GROUP_SCALING: why".to_owned()),
            ),
        ] {
            assert_eq!(group(&report), end, "{report}");
        }
    }

    #[test]
    fn so_does_the_report_of_a_node() {
        let node = |outcome: &str| {
            let report = json!({"instance_id": I, "cluster_name": "c", "outcome": outcome, "reason": "DRAIN_TIMED_OUT",
                "detail": "why", "evicted": 0, "blocked": []});
            RunEnd::of_node(&serde_json::from_value(report).unwrap())
        };
        let told = format!("{I}: DRAIN_TIMED_OUT: why");
        assert_eq!(node("SWAPPED"), RunEnd::GoesOn);
        assert_eq!(node("REFUSED"), RunEnd::NothingSwapped(told.clone()));
        assert_eq!(node("ROLLED_BACK"), RunEnd::Failed(told));
    }

    #[test]
    fn a_lab_instance_that_was_replaced_and_runs_again_stays() {
        let lab = |outcome: &str| {
            let report =
                json!({"instance_id": I, "outcome": outcome, "reason": "NO_CAPACITY", "detail": "why"});
            RunEnd::of_lab(&serde_json::from_value(report).unwrap())
        };
        let told = format!("{I}: NO_CAPACITY: why");
        assert_eq!(lab("REFUSED"), RunEnd::NothingSwapped(told.clone()));
        assert_eq!(lab("ROLLED_BACK"), RunEnd::Failed(told));
        assert_eq!(lab("BROUGHT_BACK"), RunEnd::GoesOn);
        assert_eq!(lab("SWAPPED"), RunEnd::Replaced);
        let past = Past { failures: 1, pause: None }.and(&lab("SWAPPED"), at(0));
        let kept = past.forbids(&Settings::default(), at(10_000_000_000)).unwrap();
        assert_eq!((kept.reason, kept.not_before), (Deferral::BroughtBack, None));
        assert_eq!(past.failures, 0);
    }

    #[test]
    fn an_execution_that_failed_says_why_and_one_that_found_a_lease_is_no_failure() {
        let message = "group web: it has a warm pool";
        assert_eq!(
            RunEnd::of_failure("FAILED", "GroupNotSupported", message),
            RunEnd::Failed("FAILED: GroupNotSupported: group web: it has a warm pool".to_owned())
        );
        assert_eq!(RunEnd::of_failure("ABORTED", "", ""), RunEnd::Failed("ABORTED".to_owned()));
        for error in BUSY {
            assert_eq!(RunEnd::of_failure("FAILED", error, message), RunEnd::GoesOn);
        }
    }

    #[test]
    fn failures_pause_for_a_quarter_of_an_hour_doubled_up_to_six_hours() {
        let settings = Settings { max_failed_runs: 100, ..Settings::default() };
        let failed = RunEnd::Failed("why".to_owned());
        let (mut past, mut pauses) = (Past::default(), Vec::new());
        for _ in 0..8 {
            past = past.and(&failed, at(0));
            let pause = past.forbids(&settings, at(0)).unwrap();
            assert_eq!((pause.reason, pause.detail.as_str()), (Deferral::BackingOff, "why"));
            pauses.push(pause.not_before.unwrap().as_second() / 60);
        }
        assert_eq!(pauses, [15, 30, 60, 120, 240, 360, 360, 360]);
        assert_eq!(past.forbids(&settings, at(360 * 60)), None, "the pause is over");
        assert_eq!(past.and(&RunEnd::GoesOn, at(0)), Past::default(), "a success forgets them");
        assert_eq!(pause_after(u32::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn the_loop_gives_up_after_so_many_failures_in_a_row() {
        let settings = Settings { max_failed_runs: 2, ..Settings::default() };
        let failed = RunEnd::Failed("why".to_owned());
        let once = Past::default().and(&failed, at(0));
        assert_eq!(once.forbids(&settings, at(900)), None);
        let idle = once.and(&RunEnd::NothingSwapped("left".to_owned()), at(900));
        assert_eq!(idle.failures, 0, "not in a row");
        let twice = once.and(&failed, at(900));
        let stopped = twice.forbids(&settings, at(1_000_000)).unwrap();
        assert_eq!((stopped.reason, stopped.not_before), (Deferral::TooManyFailures, None));
        assert_eq!(stopped.detail, "2 runs failed in a row; the last: why");
    }

    #[test]
    fn a_run_that_swapped_nothing_is_tried_again_after_six_hours() {
        let past = Past::default().and(&RunEnd::NothingSwapped("left".to_owned()), at(0));
        let pause = past.forbids(&Settings::default(), at(6 * 3_600 - 1)).unwrap();
        assert_eq!((pause.reason, pause.not_before), (Deferral::NothingSwapped, Some(at(6 * 3_600))));
        assert_eq!(past.forbids(&Settings::default(), at(6 * 3_600)), None);
    }
}
