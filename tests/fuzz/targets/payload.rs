//! The payload that one step hands to the next ([`Work`]), as a state machine, an older release or a person in the
//! console may have changed it.
//!
//! The runner promises: no panic. A payload that can't be read is refused by the path of its field. One that is read is
//! handed on as it was, but for its count of steps; and whatever a step asks of it first is answered.

use std::task::{Context, Poll, Waker};

use serde_json::{Value, json};
use spot_domain::Reason;
use spot_fuzz::Target;
use spot_swap::error::StepError;
use spot_swap::machine::{Phases, StepAnswer, step};
use spot_swap::work::{Next, Work};

use crate::promise;

#[test]
fn payload() {
    let words = &["9999-12-31T00:00:00Z", "-009999-01-02T01:59:59Z", "4294967295", "steps", "deadline"];
    Target { name: "payload", samples: &["shared/swap/tests/payloads"], words, cases: 3_000 }.fuzz(check);
}

fn check(bytes: &[u8]) -> Result<(), String> {
    // Lambda hands on JSON only.
    let Ok(work) = serde_json::from_slice::<Value>(bytes) else { return Ok(()) };
    match handed_on(&work) {
        Ok(once) => {
            let again = handed_on(&once).map_err(|error| format!("{once} is refused: {error}"))?;
            promise(without_steps(again.clone()) == without_steps(once.clone()), || {
                format!("{once}\nreads back as {again}")
            })?;
            asked(serde_json::from_value(once).unwrap());
            Ok(())
        }
        Err(error) => {
            let text = error.to_string();
            let names_its_field = text.contains(": work") && matches!(error, StepError::Protocol(_));
            promise(names_its_field, || format!("the error names no field: {text}"))
        }
    }
}

/// Returns the payload as the runner hands it to the next step.
fn handed_on(work: &Value) -> Result<Value, StepError> {
    let look = step(async |(): &(), _: &mut Work| Ok(Next::Wait));
    let phases: Phases<Work, String, ()> = Phases::new([("Look", look)]);
    let mut run = std::pin::pin!(phases.run(&(), json!({ "phase": "Look", "work": work })));
    match run.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer
            .map(|answer: StepAnswer<Work, String>| serde_json::to_value(answer).unwrap()["work"].take()),
        Poll::Pending => panic!("it waits for nothing"),
    }
}

fn without_steps(mut work: Value) -> Value {
    work["steps"].take();
    work["pause_seconds"].take();
    work
}

/// Asks what the phases ask before their first call.
fn asked(mut work: Work) {
    let _ = (work.swap_id(), work.summary(), work.newcomers(), work.ending(), work.executions_needed());
    let _ = (work.retire_seconds(), work.drain_seconds(), work.has_captured(), work.group().is_ok());
    let deadlines = [work.retire_seconds(), work.drain_seconds(), work.settings.health_timeout_seconds];
    for seconds in deadlines {
        work.wait_at_most(seconds);
    }
    if let Some(current) = work.current.clone() {
        work.done(current.swapped());
        work.skip(&current.newcomer, Reason::NewcomerAtRisk, "");
    }
    let _ = (work.next_candidate(), work.undo(Reason::StepFailed, ""));
}
