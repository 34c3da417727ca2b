//! The alert of a run that needs a person: something was rolled back, or the run failed.

use std::fmt::Write as _;

use crate::ids::ExecutionArn;
use crate::reason::Reason;
use crate::swap::lab::{LabOutcome, LabReport};
use crate::swap::node::{NodeOutcome, NodeSwapReport};
use crate::swap::recovery::End;
use crate::swap::report::{EndedBy, NotSwapped, SwapReport};

/// The most instances that an alert names.
const NAMED: usize = 10;

/// A message to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// The subject.
    pub subject: String,
    /// The text.
    pub message: String,
}

impl Alert {
    /// Returns the alert of a run over a group.
    ///
    /// A run that a blind gate ended has not failed: its place is as it is, and every plan says so. Nor has one that a change of
    /// its group ended, or a group that did not come to rest: the next run goes on.
    #[must_use]
    pub fn of_group(report: &SwapReport, execution: &ExecutionArn) -> Option<Self> {
        let ended = report.ended_by.as_ref().filter(|ended| needs_a_person(ended.reason));
        if report.planned.is_some() || (report.rolled_back.is_empty() && ended.is_none()) {
            return None;
        }
        let SwapReport { asg_name, account_id, region, swapped, rolled_back, .. } = report;
        let mut message = format!(
            "Auto Scaling group {asg_name} (account {account_id}, {region}): {} swapped, {} rolled back.\n",
            swapped.len(),
            rolled_back.len()
        );
        for NotSwapped { instance_id, reason, detail } in rolled_back.iter().take(NAMED) {
            let _ = write!(message, "\n{instance_id} was rolled back: {reason}: {detail}");
        }
        if rolled_back.len() > NAMED {
            let _ = write!(message, "\n… and {} more", rolled_back.len() - NAMED);
        }
        if let Some(ended) = ended {
            let _ = write!(message, "\nThe run ended early: {}: {}", ended.reason, ended.detail);
        }
        let is_in_doubt = ended.is_some_and(|ended| ended.reason == Reason::CapacityInDoubt);
        let what = match (rolled_back.is_empty(), is_in_doubt) {
            (false, _) => "was rolled back",
            (true, true) => "leaves capacity in doubt",
            (true, false) => "failed",
        };
        Some(Self::of(&format!("A swap of group {asg_name} {what}"), &message, execution))
    }

    /// Returns the alert of the swap of a node. `ended_by` is what a person has to know of one that is done.
    #[must_use]
    pub fn of_node(
        report: &NodeSwapReport,
        ended_by: Option<&EndedBy>,
        execution: &ExecutionArn,
    ) -> Option<Self> {
        let id = &report.instance_id;
        let told = told(report.reason, report.detail.as_deref());
        let message = match report.outcome {
            NodeOutcome::RolledBack => format!("The swap of node {id} was rolled back: {told}"),
            NodeOutcome::Refused if report.reason.is_some_and(Reason::fails_run) => {
                format!("The swap of node {id} failed before anything was changed: {told}")
            }
            NodeOutcome::Swapped => {
                let EndedBy { reason, detail } = ended_by.filter(|ended| needs_a_person(ended.reason))?;
                let message = format!("Node {id} was swapped. {reason}: {detail}");
                return Some(Self::of(
                    &format!("The swap of node {id} leaves capacity in doubt"),
                    &message,
                    execution,
                ));
            }
            NodeOutcome::Refused | NodeOutcome::Planned => return None,
        };
        Some(Self::of(&format!("The swap of node {id} did not succeed"), &message, execution))
    }

    /// Returns the alert of a lab swap. `left` is what a person has to know of a swap that is done, or of an instance that
    /// its owner has brought back. Without any of it, neither is an alert.
    #[must_use]
    pub fn of_lab(report: &LabReport, left: &[String], execution: &ExecutionArn) -> Option<Self> {
        let id = &report.instance_id;
        let told = told(report.reason, report.detail.as_deref());
        let message = match report.outcome {
            LabOutcome::RolledBack => format!("The swap of instance {id} was rolled back: {told}"),
            LabOutcome::Refused if report.reason.is_some_and(Reason::fails_run) => {
                format!("The swap of instance {id} failed before anything was changed: {told}")
            }
            LabOutcome::Swapped | LabOutcome::BroughtBack if !left.is_empty() => {
                return Some(Self::of_leftovers(report, left, execution));
            }
            LabOutcome::Refused | LabOutcome::Swapped | LabOutcome::Planned | LabOutcome::BroughtBack => {
                return None;
            }
        };
        Some(Self::of(&format!("The swap of instance {id} did not succeed"), &message, execution))
    }

    fn of_leftovers(report: &LabReport, left: &[String], execution: &ExecutionArn) -> Self {
        let id = &report.instance_id;
        let what = if report.outcome == LabOutcome::BroughtBack { "was brought back" } else { "was swapped" };
        let subject = format!("Instance {id} {what}, and something is left");
        Self::of(&subject, &format!("Instance {id} {what}. {}", left.join("; ")), execution)
    }

    /// Returns the alert of a swap that has ended without its execution, which died.
    #[must_use]
    pub fn of_reconciler(on: &str, end: End, summary: &str, execution: &ExecutionArn) -> Self {
        let message = format!("The execution of a swap of {on} died. {summary}");
        let what = match end {
            End::Undone => "undone by the reconciler",
            End::Finished => "finished by the reconciler, and needs a person",
        };
        Self::of(&format!("A swap of {on} was {what}"), &message, execution)
    }

    /// Returns the alert of a swap that an execution has ended, and died before it told.
    #[must_use]
    pub fn of_dead_run(on: &str, summary: &str, execution: &ExecutionArn) -> Self {
        let message = format!("The execution of a swap of {on} died. {summary}");
        Self::of(&format!("A swap of {on} ended before its execution died"), &message, execution)
    }

    fn of(subject: &str, message: &str, execution: &ExecutionArn) -> Self {
        Self { subject: subject.to_owned(), message: format!("{message}\n\nExecution: {execution}") }
    }
}

const fn needs_a_person(reason: Reason) -> bool {
    !matches!(reason, Reason::GateBlind | Reason::GroupScaling | Reason::GroupChanged | Reason::OptedOut)
}

fn told(reason: Option<Reason>, detail: Option<&str>) -> String {
    format!("{}: {}", reason.map_or("no reason", Reason::code), detail.unwrap_or("no detail"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const I: &str = "i-0123456789abcdef0";

    fn execution() -> ExecutionArn {
        "arn:aws:states:us-east-1:123456789012:execution:swap:run-1".parse().unwrap()
    }

    fn group(more: &Value) -> Option<Alert> {
        let mut report = json!({"asg_name": "web", "account_id": "123456789012", "region": "us-east-1", "swapped": [],
            "skipped": [], "rolled_back": [], "remaining": 0});
        report.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Alert::of_group(&serde_json::from_value(report).unwrap(), &execution())
    }

    fn left(reason: &str, count: usize) -> Value {
        Value::Array(vec![json!({"instance_id": I, "reason": reason, "detail": "why"}); count])
    }

    #[test]
    fn a_run_that_rolled_something_back_or_failed_alerts_once() {
        let alert = group(&json!({"rolled_back": left("NEWCOMER_UNHEALTHY", 12)})).unwrap();
        assert_eq!(alert.subject, "A swap of group web was rolled back");
        assert!(alert.message.contains("0 swapped, 12 rolled back"), "{}", alert.message);
        assert_eq!(
            alert.message.matches(&format!("{I} was rolled back: NEWCOMER_UNHEALTHY: why")).count(),
            10
        );
        assert!(alert.message.contains("… and 2 more") && alert.message.ends_with("swap:run-1"));
        let ended = |reason: &str| json!({"ended_by": {"reason": reason, "detail": "why"}});
        let alert = group(&ended("QUOTA_EXCEEDED")).unwrap();
        assert_eq!(alert.subject, "A swap of group web failed");
        assert!(alert.message.contains("The run ended early: QUOTA_EXCEEDED: why"));
        assert_eq!(group(&ended("GATE_BLIND")), None);
    }

    #[test]
    fn a_run_that_has_done_what_it_could_alerts_nobody() {
        assert_eq!(group(&json!({})), None);
        assert_eq!(group(&json!({"skipped": left("NOT_CHEAPER", 2), "remaining": 3})), None);
        let plan = json!({"planned": [], "ended_by": {"reason": "GATE_UNREACHABLE", "detail": "why"}});
        assert_eq!(group(&plan), None, "a plan is read by whoever asked for it");
    }

    #[test]
    fn so_do_the_swaps_of_nodes_and_of_lab_instances() {
        for (outcome, reason, node, lab) in [
            ("SWAPPED", None, false, false),
            ("PLANNED", None, false, false),
            ("REFUSED", Some("OPTED_OUT"), false, false),
            ("REFUSED", Some("GATE_BLIND"), false, false),
            ("REFUSED", Some("QUOTA_EXCEEDED"), true, true),
            ("ROLLED_BACK", Some("NEWCOMER_AT_RISK"), true, true),
            ("BROUGHT_BACK", None, false, false),
        ] {
            let mut report = json!({"instance_id": I, "cluster_name": "c", "outcome": outcome, "detail": "why",
                "evicted": 0, "blocked": []});
            report["reason"] = json!(reason);
            if outcome != "BROUGHT_BACK" {
                let alert = of_node(&report, None);
                assert_eq!(alert.is_some(), node, "{report}");
            }
            let alert = Alert::of_lab(&serde_json::from_value(report.clone()).unwrap(), &[], &execution());
            assert_eq!(alert.is_some(), lab, "{report}");
            if let Some(alert) = alert {
                assert!(alert.subject.contains(I) && alert.message.contains(": why"), "{alert:?}");
            }
        }
    }

    fn of_node(report: &Value, ended_by: Option<&EndedBy>) -> Option<Alert> {
        Alert::of_node(&serde_json::from_value(report.clone()).unwrap(), ended_by, &execution())
    }

    #[test]
    fn a_swap_that_is_done_and_leaves_capacity_in_doubt_tells_a_person() {
        let detail = "desired capacity is 2, and was 1".to_owned();
        let in_doubt = EndedBy { reason: Reason::CapacityInDoubt, detail: detail.clone() };
        let of_group = group(&json!({"ended_by": in_doubt.clone()})).unwrap();
        let report =
            json!({"instance_id": I, "cluster_name": "c", "outcome": "SWAPPED", "evicted": 0, "blocked": []});
        for alert in [of_group, of_node(&report, Some(&in_doubt)).unwrap()] {
            assert!(alert.message.contains(&detail), "{alert:?}");
        }
        let changed = EndedBy { reason: Reason::GroupChanged, detail };
        assert_eq!(of_node(&report, Some(&changed)), None);
    }

    #[test]
    fn a_lab_swap_that_ended_well_tells_of_what_it_leaves() {
        let left = ["volume vol-1 stays".to_owned(), "instance i-2 stays".to_owned()];
        for (outcome, is_told) in [("SWAPPED", true), ("BROUGHT_BACK", true), ("PLANNED", false)] {
            let report = json!({"instance_id": I, "outcome": outcome, "detail": "why"});
            let alert = Alert::of_lab(&serde_json::from_value(report).unwrap(), &left, &execution());
            assert_eq!(alert.is_some(), is_told, "{outcome}");
            let names_all = |alert: &Alert| left.iter().all(|left| alert.message.contains(left));
            assert!(alert.is_none_or(|alert| names_all(&alert) && alert.subject.contains(I)), "{outcome}");
        }
    }

    #[test]
    fn what_the_reconciler_has_ended_names_its_execution() {
        for (end, what) in [(End::Undone, "undone"), (End::Finished, "finished")] {
            let alert = Alert::of_reconciler("group web", end, "its words", &execution());
            assert!(alert.subject.contains(&format!("group web was {what}")), "{}", alert.subject);
            assert!(alert.message.contains("its words") && alert.message.ends_with("swap:run-1"));
        }
        let alert = Alert::of_dead_run("group web", "its words", &execution());
        assert!(!alert.subject.contains("reconciler") && alert.message.contains("its words"), "{alert:?}");
    }
}
