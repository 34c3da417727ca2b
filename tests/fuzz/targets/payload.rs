//! The payloads that one step hands to the next, as a state machine, an older release or a person in the console may have
//! changed them: [`Work`] of a swap, [`NodeWork`] of a node's swap, [`Answering`] of an answer, [`Evacuation`] of a node.
//!
//! The runner promises: no panic. A payload that can't be read is refused by the path of its field. One that is read is
//! handed on as it was, but for its count of steps; and whatever a step asks of it first is answered.

use std::task::{Context, Poll, Waker};

use interruption_responder::work::Answering;
use jiff::Timestamp;
use kubernetes_optimizer::evacuation::Evacuation;
use kubernetes_optimizer::work::{NodeRun, NodeWork};
use serde::Serialize;
use serde_json::{Value, json};
use spot_domain::Reason;
use spot_fuzz::Target;
use spot_swap::error::StepError;
use spot_swap::machine::{Payload, Phases, StepAnswer, step};
use spot_swap::work::{Next, Work};

use crate::promise;

const WORDS: &[&str] =
    &["9999-12-31T00:00:00Z", "-009999-01-02T01:59:59Z", "4294967295", "steps", "deadline"];

#[test]
fn payload() {
    Target { name: "payload", samples: &["shared/swap/tests/payloads"], words: WORDS, cases: 3_000 }
        .fuzz(|bytes| check(bytes, asked));
}

#[test]
fn node_payload() {
    Target { name: "node_payload", samples: &[], words: WORDS, cases: 1_500 }
        .fuzz(|bytes| check(bytes, asked_of_a_node));
}

#[test]
fn answer_payload() {
    Target { name: "answer_payload", samples: &[], words: WORDS, cases: 1_500 }
        .fuzz(|bytes| check(bytes, asked_of_an_answer));
}

#[test]
fn evacuation_payload() {
    Target { name: "evacuation_payload", samples: &[], words: WORDS, cases: 1_500 }.fuzz(evacuation);
}

#[test]
fn the_samples_are_read() {
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let node = json(include_str!("../corpus/node_payload/draining.json"));
    assert!(handed_on::<NodeWork>(&node).unwrap()["run"].is_object());
    let answer = json(include_str!("../corpus/answer_payload/replacing.json"));
    assert!(handed_on::<Answering>(&answer).unwrap()["journal"].is_object());
    let evacuation = json(include_str!("../corpus/evacuation_payload/after-a-pass.json"));
    assert!(parsed(evacuation).unwrap().unfinished.is_some());
}

fn check<W: Payload + Serialize>(bytes: &[u8], asked: impl Fn(W)) -> Result<(), String> {
    // Lambda hands on JSON only.
    let Ok(work) = serde_json::from_slice::<Value>(bytes) else { return Ok(()) };
    match handed_on::<W>(&work) {
        Ok(once) => {
            let again = handed_on::<W>(&once).map_err(|error| format!("{once} is refused: {error}"))?;
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
fn handed_on<W: Payload + Serialize>(work: &Value) -> Result<Value, StepError> {
    let look = step(async |(): &(), _: &mut W| Ok(Next::Wait));
    let phases: Phases<W, String, ()> = Phases::new([("Look", look)]);
    let mut run = std::pin::pin!(phases.run(&(), json!({ "phase": "Look", "work": work })));
    match run.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => {
            answer.map(|answer: StepAnswer<W, String>| serde_json::to_value(answer).unwrap()["work"].take())
        }
        Poll::Pending => panic!("it waits for nothing"),
    }
}

/// Leaves out what each step of a run changes. The run of a node lies deeper.
fn without_steps(mut work: Value) -> Value {
    for run in ["", "/run/swap"] {
        if let Some(Value::Object(run)) = work.pointer_mut(run) {
            run.remove("steps");
            run.remove("pause_seconds");
        }
    }
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

fn asked_of_a_node(mut work: NodeWork) {
    let Ok((run, _)) = work.run() else { return };
    let _ = (run.may_try_another_type(), run.newcomers(), run.drain_until(), run.last_ready());
    run.pace_drain();
    run.note_kept(None, None);
    run.note_queued();
    let mut again: NodeRun = run.clone();
    again.begin_again();
    assert_eq!(again.swap.queue.len(), usize::from(again.queued.is_some()));
    let _ = run.take_current().is_ok();
}

fn asked_of_an_answer(mut answer: Answering) {
    let _ = answer.group().is_ok();
    let before = answer.outcome;
    answer.failed("a step failed".to_owned());
    assert!(answer.outcome.is_some() && answer.because.is_some(), "after {before:?}");
}

fn parsed(work: Value) -> Result<Evacuation, String> {
    spot_cloud::input::parse(Some("work"), work).map_err(|bad| bad.to_string())
}

/// The step reads an evacuation within its event; the machine hands on what the step returns.
fn evacuation(bytes: &[u8]) -> Result<(), String> {
    let Ok(work) = serde_json::from_slice::<Value>(bytes) else { return Ok(()) };
    match parsed(work) {
        Ok(mut evacuation) => {
            let written = serde_json::to_value(&evacuation).unwrap();
            let again = parsed(written);
            promise(again.as_ref() == Ok(&evacuation), || format!("{evacuation:?} reads back as {again:?}"))?;
            let (now, evicted) = (Timestamp::from_second(1_800_000_000).unwrap(), evacuation.drain.evicted);
            let next = evacuation.troubled("no answer", now, now);
            let told = evacuation.result.as_ref().map(|result| result.evicted);
            promise(next == Next::Report && told == Some(evicted), || format!("{next:?}: {evacuation:?}"))
        }
        Err(error) => promise(error.starts_with("work"), || format!("the error names no field: {error}")),
    }
}
