//! Small machines whose tasks are scripted. All waits are on tokio's paused clock.

#![allow(clippy::unwrap_used, clippy::panic)]

mod deployed;
mod endings;
mod group_swap;
mod payloads;
mod random_walks;
mod refusals;
mod retries;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::*;

/// A call of a task: the seconds since the start, the state, the arguments, the attempt.
type TaskCall = (u64, String, Value, u32);
/// An answer of a task, and the seconds it takes.
type TimedAnswer = (u64, Result<Value, TaskFailure>);

/// Answers the tasks of a machine in turn. The last answer is repeated.
struct Script {
    answers: RefCell<VecDeque<TimedAnswer>>,
    calls: RefCell<Vec<TaskCall>>,
    start: Instant,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = TimedAnswer>) -> Self {
        Self {
            answers: RefCell::new(answers.into_iter().collect()),
            calls: RefCell::default(),
            start: Instant::now(),
        }
    }

    fn calls(&self) -> Vec<TaskCall> {
        self.calls.borrow().clone()
    }

    /// Returns the seconds at which the tasks were called.
    fn times(&self) -> Vec<u64> {
        self.calls.borrow().iter().map(|(at, ..)| *at).collect()
    }
}

impl Tasks for Script {
    async fn invoke(
        &self,
        _: &str,
        state: &str,
        arguments: Value,
        attempt: u32,
    ) -> Result<Value, TaskFailure> {
        self.calls.borrow_mut().push((self.start.elapsed().as_secs(), state.to_owned(), arguments, attempt));
        let (seconds, answer) = {
            let mut answers = self.answers.borrow_mut();
            let answer = answers.pop_front().unwrap();
            if answers.is_empty() {
                answers.push_back(answer.clone());
            }
            answer
        };
        sleep(Duration::from_secs(seconds)).await;
        answer
    }
}

/// Returns an answer that comes at once.
fn answer(value: Value) -> TimedAnswer {
    (0, Ok(value))
}

/// Returns an error that comes at once.
fn error(name: &str) -> TimedAnswer {
    (0, Err(TaskFailure::new(name, "its cause")))
}

/// Returns a machine of these states, as YAML. It starts at `A`.
fn machine_of(states: &str) -> StateMachine {
    parse(&format!("QueryLanguage: JSONata\nTimeoutSeconds: 3600\nStartAt: A\nStates:\n{states}")).unwrap()
}

fn parse(yaml: &str) -> Result<StateMachine, DefinitionError> {
    StateMachine::parse(yaml, &BTreeMap::new())
}

fn context(seed: u64) -> ExecutionContext {
    ExecutionContext {
        execution_arn: "arn:aws:states:eu-central-1:111122223333:execution:swap:one".to_owned(),
        name: "one".to_owned(),
        state_machine_arn: "arn:aws:states:eu-central-1:111122223333:stateMachine:swap".to_owned(),
        state_machine_name: "swap".to_owned(),
        role_arn: "arn:aws:iam::111122223333:role/swap".to_owned(),
        origin: Instant::now(),
        epoch: "2026-11-26T12:00:00Z".parse().unwrap(),
        data_limit: DataLimit::Terminal,
        payload_bytes: PAYLOAD_BYTES,
        random: fastrand::Rng::with_seed(seed),
    }
}

fn start(states: &str) -> Execution {
    Execution::start(&machine_of(states), context(1), json!({ "asg_name": "web" }))
}

/// Runs a machine of these states to its end.
async fn run(states: &str, script: &Script) -> Outcome {
    start(states).run(script).await
}

fn failed(error: &str, cause: &str) -> Outcome {
    Outcome::Failed { error: Some(error.to_owned()), cause: Some(cause.to_owned()) }
}

/// Returns the name of the error with which an execution has failed.
fn error_of(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed { error: Some(error), .. } => error,
        other => panic!("not failed: {other}"),
    }
}
