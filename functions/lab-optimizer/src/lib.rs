//! Replaces one stand-alone On-Demand instance of a LAB account with Spot. A twin is launched and takes over
//! the Elastic IP and the registrations in target groups; then the old instance stops.
//!
//! The state machine `swap.asl.yaml` beside this crate drives the swap. Each invocation is one short step of
//! one phase, safe to repeat. [`phases`] holds the phases that only a lab swap has; every swap shares gate,
//! launch, health and rollback.

pub mod phases;

use serde::{Deserialize, Serialize};
use spot_domain::swap::lab::LabReport;
use spot_domain::swap::report::NotSwapped;
use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::machine::{self, Phases, Start, StepAnswer, on_current, phase, start, step};
use spot_swap::phases::{gate, launch, rollback, wait_for_health};
use spot_swap::recovery::lab::recover_lab;
use spot_swap::work::{Next, Work};

use phases::discover::{self, Discovery};
use phases::{capture_image, report, retire_old, take_over};

/// The answers of Discover and Report.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum LabAnswer {
    /// The plan, or a refusal.
    Discovered {
        /// The decision that the state machine's Choice reads.
        next: Next,
        /// The input of the next step; `null` after a refusal.
        work: Option<Box<Work>>,
        /// The refusal, if the instance is left alone.
        refused: Option<NotSwapped>,
    },
    /// The execution's output.
    Report(LabReport),
}

/// The event of Report.
#[derive(Debug, Deserialize)]
struct LabEnded {
    work: Option<Work>,
    refused: Option<NotSwapped>,
}

/// Returns the phases, by the names of the state machine's tasks.
#[must_use]
pub fn phase_table() -> Phases<Work, LabAnswer> {
    Phases::new([
        (
            "Discover",
            start(async |context, Start { execution, input, .. }| {
                discover::run(context, execution, input).await
            }),
        ),
        ("Gate", step(gate::run)),
        ("CaptureImage", step(capture_image::run)),
        ("Launch", step(launch::run)),
        ("WaitForHealth", on_current(wait_for_health::run)),
        ("TakeOver", on_current(take_over::run)),
        ("RetireOld", on_current(retire_old::run)),
        (
            "Rollback",
            machine::rollback(async |context, work, failure| {
                rollback::run(context, work, failure, recover_lab).await.map(|visited| visited.next)
            }),
        ),
        ("Report", phase(end)),
    ])
}

async fn end(context: &Context, ended: LabEnded) -> Result<StepAnswer<Work, LabAnswer>, StepError> {
    let report = match ended {
        LabEnded { refused: Some(left), .. } => report::refused(left),
        LabEnded { work: Some(work), .. } => {
            spot_swap::spans::note_execution(work.lease.owner.execution());
            report::run(context, work).await?
        }
        LabEnded { .. } => return Err(StepError::Protocol("work, refused: nothing to report".into())),
    };
    Ok(StepAnswer::Other(Box::new(LabAnswer::Report(report))))
}

impl From<Discovery> for StepAnswer<Work, LabAnswer> {
    fn from(discovery: Discovery) -> Self {
        let (next, work, refused) = match discovery {
            Discovery::Refused(left) => (Next::Report, None, Some(left)),
            Discovery::Swap(work) => (Next::Proceed, Some(work), None),
            Discovery::BringBack(work) => (Next::Undo, Some(work), None),
        };
        Self::Other(Box::new(LabAnswer::Discovered { next, work, refused }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use spot_domain::Reason;
    use spot_scripted::state_machine::StateMachine;

    use super::*;

    const MACHINE: StateMachine = StateMachine(include_str!("../swap.asl.yaml"));

    #[test]
    fn the_table_lists_every_task_of_the_state_machine_and_no_other() {
        let (table, tasks) = (phase_table().names(), MACHINE.tasks());
        assert_eq!(table.len(), 9);
        assert_eq!(BTreeSet::from_iter(table), BTreeSet::from_iter(tasks));
        assert_eq!(MACHINE.phases(), MACHINE.tasks(), "each task asks for the phase of its name");
    }

    #[test]
    fn a_refusal_takes_the_place_of_the_work() {
        let left = NotSwapped::new(&"i-0123456789abcdef0".parse().unwrap(), Reason::InstanceGone, "gone");
        let answer: StepAnswer<Work, LabAnswer> = Discovery::Refused(left.clone()).into();
        let expected = serde_json::json!({ "next": "REPORT", "work": null, "refused": left });
        assert_eq!(serde_json::to_value(answer).unwrap(), expected);
        let payload = include_str!("../../../shared/swap/tests/payloads/3fb1158-lab-after-launch.json");
        let work: Work = serde_json::from_str(payload).unwrap();
        let answer: StepAnswer<Work, LabAnswer> = Discovery::BringBack(Box::new(work)).into();
        let answer = serde_json::to_value(answer).unwrap();
        assert_eq!(
            (&answer["next"], answer.get("refused")),
            (&"UNDO".into(), Some(&serde_json::Value::Null))
        );
        assert!(answer["work"].is_object());
    }

    /// Only Discover answers with the field.
    #[test]
    fn the_state_machine_reads_a_refusal_of_discover_alone() {
        let reads = |text: &str| text.matches("$states.result.refused").count();
        let (_, after) = MACHINE.0.split_once("\n  Discover:\n").unwrap();
        let (discover, _) = after.split_once("\n\n").unwrap();
        assert_eq!((reads(discover), reads(MACHINE.0)), (1, 1));
    }
}
