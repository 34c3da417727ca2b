//! The interruption responder: gets a Spot instance that EC2 takes back out of service in time, with its replacement on
//! the way.
//!
//! One function with two doors. EventBridge brings the notice to [`hear`], which decides by a few reads if the instance is
//! in our care, and starts an execution named after it: whatever is delivered twice, it is answered once. For a two-minute
//! notice, that is the state machine `respond.asl.yaml` beside this crate, which drives [`phases`]; for a rebalance
//! recommendation, it is the swap of the group.
//!
//! An instance that is a Kubernetes node is evacuated: the state machine asks the Kubernetes optimizer for that, which
//! alone talks to clusters.
//!
//! The first changing call is a step of the execution, not of the event: what is begun must have a name that the reconciler
//! can ask about.

pub mod announce;
pub mod context;
pub mod event;
pub mod executions;
pub mod hear;
pub mod phases;
pub mod work;

use serde::Serialize;
use serde_json::Value;
use spot_domain::swap::journal::Journal;
use spot_swap::error::StepError;
use spot_swap::machine::{Phase, Phases, Start, StepAnswer, phase, start, step};
use spot_swap::work::Next;
use tracing::Instrument;

pub use context::Responder;
use event::Heard;
use phases::{answer, leave, release, replace, restore, wait_for_replacement};
use work::{Answer, Answering};

/// The phases by the names of their states.
pub type Table = Phases<Answering, Answer, Responder>;

/// The answer to an event, or to a step.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Handled {
    /// Of an event: nothing is done, or an execution was started.
    Heard(Box<Answer>),
    /// Of a step of the state machine.
    Step(StepAnswer<Answering, Answer>),
}

/// Handles one event of EventBridge, or one step of the state machine.
///
/// # Errors
/// The event is malformed, or the step failed.
pub async fn handle(responder: &Responder, phases: &Table, event: Value) -> Result<Handled, StepError> {
    if is_step(&event) {
        return phases.run(responder, event).await.map(Handled::Step);
    }
    let heard = event::parse(event, responder.allow_drills);
    let span = span_of(heard.as_ref().ok());
    let work = async {
        let answer = match heard {
            Ok(heard) => hear::run(responder, heard).await,
            Err(error) => Err(error),
        };
        match &answer {
            Ok(answer) => tracing::info!(?answer, "heard"),
            Err(error) => tracing::error!(error = error.name(), "{error}"),
        }
        answer
    };
    work.instrument(span).await.map(Box::new).map(Handled::Heard)
}

/// Returns true for a step of the state machine, also if its phase is missing or misspelt: the error then names the phase.
fn is_step(event: &Value) -> bool {
    ["phase", "work", "execution"].into_iter().any(|field| event.get(field).is_some())
}

/// Returns the span of a notice's log lines, which names the instance.
fn span_of(heard: Option<&Heard>) -> tracing::Span {
    let Some(Heard { account_id, region, instance_id, .. }) = heard else {
        return tracing::error_span!("event");
    };
    tracing::error_span!("notice", %account_id, %region, %instance_id)
}

/// Lists the phases of `respond.asl.yaml`.
#[must_use]
pub fn phase_table() -> Table {
    Phases::new([
        (
            "Answer",
            start(async |responder, Start { execution, input, .. }| {
                answer::run(responder, execution, input).await
            }),
        ),
        ("Replace", on_journal(replace::run)),
        ("WaitForReplacement", on_journal(wait_for_replacement::run)),
        ("Release", step(release::run)),
        ("Leave", step(leave::run)),
        ("Restore", phase(restore::run)),
        ("Report", phase(phases::report::run)),
    ])
}

/// A step of an answer that holds the lease.
fn on_journal(
    run: impl AsyncFn(&Responder, &mut Answering, Journal) -> Result<Next, StepError> + Copy + 'static,
) -> Phase<Answering, Answer, Responder> {
    step(async move |responder: &Responder, work: &mut Answering| {
        let none = || StepError::Protocol("work.journal: no answer in progress".into());
        let journal = work.journal.clone().ok_or_else(none)?;
        run(responder, work, journal).await
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;
    use spot_scripted::state_machine::StateMachine;

    use super::is_step;

    const MACHINE: StateMachine = StateMachine(include_str!("../respond.asl.yaml"));

    #[test]
    fn an_event_of_the_state_machine_is_a_step_also_without_its_phase() {
        for event in [json!({"phase": 1}), json!({"phaes": "Leave", "work": {}}), json!({"execution": "a"})] {
            assert!(is_step(&event), "{event}");
        }
        assert!(!is_step(&json!({"source": "aws.ec2", "detail": {}})) && !is_step(&json!([])));
    }

    #[test]
    fn the_table_lists_every_task_of_the_state_machine_and_no_other() {
        let (table, tasks) =
            (super::phase_table().names(), MACHINE.tasks_of("InterruptionResponderFunctionArn"));
        assert_eq!(table.len(), 7);
        assert_eq!(MACHINE.tasks_of("KubernetesOptimizerFunctionArn"), ["EvacuateNode"]);
        assert_eq!(BTreeSet::from_iter(table), BTreeSet::from_iter(tasks));
        assert_eq!(MACHINE.phases(), MACHINE.tasks(), "each task asks for the phase of its name");
    }
}
