//! The runner with phases that only decide, and the contract of names with the three state machines.

use std::task::{Context as Wake, Poll, Waker};

use serde_json::json;
use spot_domain::Reason;
use spot_domain::swap::journal::Undo;
use spot_scripted::state_machine::StateMachine;

use super::*;

const IN_PROGRESS: &str = include_str!("../../tests/payloads/3fb1158-group-after-launch.json");
const QUEUED: &str = include_str!("../../tests/payloads/3fb1158-group-after-discover.json");
const MACHINES: [StateMachine; 3] = [
    StateMachine(include_str!("../../../../functions/cluster-optimizer/swap.asl.yaml")),
    StateMachine(include_str!("../../../../functions/kubernetes-optimizer/swap.asl.yaml")),
    StateMachine(include_str!("../../../../functions/lab-optimizer/swap.asl.yaml")),
];

/// The decision of a phase stands for the world that it sees.
fn table() -> Phases<Work, String, Next> {
    Phases::new([
        ("Discover", start(async |_: &Next, start: Start| Ok(StepAnswer::Other(Box::new(told(&start)))))),
        ("Launch", step(async |next: &Next, _: &mut Work| decide(*next))),
        ("Drain", self_paced(async |next: &Next, _: &mut Work| decide(*next))),
        ("Attach", on_current(async |next: &Next, _: &mut Work, _: &mut Current| decide(*next))),
        ("Rollback", rollback(async |next: &Next, work: &mut Work, failure| Ok(undo(*next, work, failure)))),
        ("Report", report(async |_: &Next, work: Work| Ok(work.summary()))),
    ])
}

fn told(start: &Start) -> String {
    format!("{} {} {}", start.execution, start.input, start.tries)
}

fn decide(next: Next) -> Result<Next, StepError> {
    if next == Next::Undo { Err(StepError::Stuck("its words".into())) } else { Ok(next) }
}

fn undo(next: Next, work: &mut Work, failure: Option<&StepFailure>) -> Next {
    let detail = failure.map(|failure| failure.error.clone()).unwrap_or_default();
    work.undo = Some(Undo { reason: Reason::StepFailed, detail });
    next
}

fn payload(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Runs one step whose phase decides for `next`.
fn run(next: Next, event: Value) -> Result<Value, StepError> {
    let table = table();
    let mut step = std::pin::pin!(table.run(&next, event));
    match step.as_mut().poll(&mut Wake::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer.map(|answer| serde_json::to_value(answer).unwrap()),
        Poll::Pending => panic!("no phase here waits"),
    }
}

fn step_of(phase: &str, next: Next, work: &str) -> Result<Value, StepError> {
    run(next, json!({ "phase": phase, "work": payload(work) }))
}

#[test]
fn what_no_phase_understands_is_a_protocol_error() {
    let work = payload(QUEUED);
    for event in [
        json!({ "phase": "Fly", "work": work }),
        json!({ "phase": 1, "work": work }),
        json!({ "work": work }),
        json!("Launch"),
        json!({ "phase": "Launch" }),
        json!({ "phase": "Launch", "work": null }),
        json!({ "phase": "Launch", "work": { "dry_run": 1 } }),
        json!({ "phase": "Discover", "input": {} }),
        json!({ "phase": "Discover", "execution": work["lease"]["owner"] }),
        json!({ "phase": "Rollback", "work": work, "error": 1 }),
        json!({ "phase": "Attach", "work": work }),
    ] {
        let shown = event.to_string();
        let error = run(Next::Proceed, event).expect_err(&shown);
        assert_eq!(error.name(), "Protocol", "{shown:.80}: {error}");
    }
}

#[test]
fn a_step_answers_with_its_decision_and_the_work_and_nothing_else() {
    let answer = step_of("Launch", Next::NextCandidate, QUEUED).unwrap();
    let mut work = serde_json::to_value(serde_json::from_str::<Work>(QUEUED).unwrap()).unwrap();
    work["steps"] = json!(payload(QUEUED)["steps"].as_u64().unwrap() + 1);
    assert_eq!(answer, json!({ "next": "NEXT_CANDIDATE", "work": work }));
}

#[test]
fn the_answer_of_a_step_names_the_swaps_that_it_has_ended_and_the_state_machine_does_not_hear_of_them() {
    let table: Phases<Work, String, Next> = Phases::new([(
        "Rollback",
        rollback(async |next: &Next, work: &mut Work, _| {
            let old = work.current.take().unwrap().candidate.instance_id;
            work.put_back(&old, &Undo { reason: Reason::StepFailed, detail: String::new() });
            Ok(*next)
        }),
    )]);
    let event = json!({ "phase": "Rollback", "work": payload(IN_PROGRESS), "error": null });
    let mut step = Box::pin(table.run(&Next::NextCandidate, event));
    let Poll::Ready(Ok(answer)) = step.as_mut().poll(&mut Wake::from_waker(Waker::noop())) else {
        panic!("no phase here waits")
    };
    let told = serde_json::to_value(&answer).unwrap();
    let StepAnswer::Step { ended, .. } = answer else { panic!("it is a step") };
    assert_eq!(ended.len(), 1);
    assert!(told.get("ended").is_none(), "{told}");
}

#[test]
fn every_step_counts_and_a_wait_has_its_pace() {
    let before = payload(IN_PROGRESS)["steps"].as_u64().unwrap();
    let mut waiting: Work = serde_json::from_str(IN_PROGRESS).unwrap();
    waiting.pause_seconds = 7_777;
    let waiting = serde_json::to_string(&waiting).unwrap();
    for (phase, next, keeps_its_pause) in [
        ("Launch", Next::Wait, false),
        ("Attach", Next::Wait, false),
        ("Rollback", Next::Wait, false),
        ("Launch", Next::Proceed, true),
        ("Drain", Next::Wait, true),
    ] {
        let work = step_of(phase, next, &waiting).unwrap()["work"].take();
        assert_eq!(work["steps"], before + 1, "{phase}");
        assert_eq!(work["pause_seconds"] == 7_777, keeps_its_pause, "{phase}, {next:?}");
    }
}

#[test]
fn a_swap_is_in_progress_until_a_phase_decides_for_the_next_one_or_the_end() {
    for (next, goes_on) in
        [(Next::Proceed, true), (Next::Wait, true), (Next::NextCandidate, false), (Next::Report, false)]
    {
        let answer = step_of("Attach", next, IN_PROGRESS).unwrap();
        assert_eq!(answer["work"]["current"].is_object(), goes_on, "{next:?}");
    }
}

#[test]
fn the_first_phase_gets_the_execution_and_the_last_one_answers_with_the_report() {
    let execution = &payload(QUEUED)["lease"]["owner"];
    let arn = execution.as_str().unwrap();
    for (tries, told) in [(json!(2), "2"), (Value::Null, "0")] {
        let mut event = json!({ "phase": "Discover", "execution": execution, "input": null });
        if tries.is_number() {
            event["tries"] = tries;
        }
        assert_eq!(run(Next::Proceed, event).unwrap(), json!(format!("{arn} null {told}")));
    }
    let summary = serde_json::from_str::<Work>(QUEUED).unwrap().summary();
    assert_eq!(step_of("Report", Next::Proceed, QUEUED).unwrap(), json!(summary));
}

#[test]
fn a_rollback_is_told_of_the_failure_that_led_to_it() {
    for (error, told) in [(json!({ "Error": "Rejected", "Cause": "" }), "Rejected"), (Value::Null, "")] {
        let event = json!({ "phase": "Rollback", "work": payload(IN_PROGRESS), "error": error });
        assert_eq!(run(Next::Wait, event).unwrap()["work"]["undo"]["detail"], told);
    }
}

#[test]
fn every_decision_that_a_state_machine_looks_for_is_made_here() {
    let known = [Next::Proceed, Next::Wait, Next::Undo, Next::NextCandidate, Next::Report]
        .map(|next| serde_json::to_string(&next).unwrap());
    for machine in MACHINES {
        let looked_for = machine.decisions();
        assert!(looked_for.len() >= 9);
        assert!(
            looked_for.iter().all(|decision| known.iter().any(|next| next == decision)),
            "{looked_for:?}"
        );
    }
}

#[test]
fn the_state_machines_retry_and_catch_by_the_names_used_here() {
    let transient = StepError::Transient(String::new().into()).name();
    let stuck = StepError::Stuck(String::new().into()).name();
    for machine in MACHINES {
        assert_eq!(machine.retries(transient), machine.tasks().len());
        assert!(machine.catches(stuck));
    }
}
