//! A run of a state machine.

mod visit;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::context::ExecutionContext;
use super::definition::names;
use super::history::{EVENT_QUOTA, ExecutionHistory, TraceEntry, TraceEvent};
use super::{StateMachine, TaskFailure, Tasks};

/// The longest life of an execution: a year (<https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>).
pub(super) const LONGEST_SECONDS: f64 = 31_536_000.0;
/// An execution may be redriven for 14 days
/// (<https://docs.aws.amazon.com/step-functions/latest/dg/redrive-executions.html>).
const REDRIVABLE: Duration = Duration::from_hours(14 * 24);

/// The end of an execution.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The execution succeeded with this output.
    Succeeded(Value),
    /// A state failed and nothing caught it, or a Fail state was reached.
    Failed {
        /// The name of the error.
        error: Option<String>,
        /// Its cause.
        cause: Option<String>,
    },
    /// The state machine's `TimeoutSeconds` were over.
    TimedOut,
    /// The driver stopped the execution.
    Aborted,
}

/// The execution cannot be redriven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRedrivable {
    /// It has not ended.
    #[error("the execution is running")]
    Running,
    /// It has succeeded.
    #[error("the execution has succeeded")]
    Succeeded,
    /// Its history has no room.
    #[error("the execution's history has reached its quota of events")]
    EventQuota,
    /// It ended too long ago.
    #[error("the execution ended more than 14 days ago")]
    Period,
}

/// An execution of a state machine.
#[derive(Debug)]
pub struct Execution {
    machine: StateMachine,
    context: ExecutionContext,
    /// `$states.context`.
    context_object: Value,
    /// The state that runs, or that ran last, and its input. A redrive begins here.
    state: String,
    input: Value,
    variables: BTreeMap<String, Value>,
    history: ExecutionHistory,
    deadline: Instant,
    outcome: Option<Outcome>,
    ended_at: Instant,
    redrives: u32,
}

impl Execution {
    /// Starts an execution; [`run`](Self::run) drives it. Its timeout counts from now.
    #[must_use]
    pub fn start(machine: &StateMachine, context: ExecutionContext, input: Value) -> Self {
        let mut history = ExecutionHistory::default();
        history.record_end(1);
        Self {
            context_object: context.object(&input),
            state: machine.definition.start_at.clone(),
            deadline: deadline(machine),
            machine: machine.clone(),
            context,
            input,
            variables: BTreeMap::new(),
            history,
            outcome: None,
            ended_at: Instant::now(),
            redrives: 0,
        }
    }

    /// Runs the execution to its end. An execution that has ended keeps its outcome.
    ///
    /// The future may be dropped at every await. That is `StopExecution`: nothing is retried or caught, and the outcome
    /// is [`Outcome::Aborted`].
    pub async fn run(&mut self, tasks: &impl Tasks) -> Outcome {
        if let Some(outcome) = &self.outcome {
            return outcome.clone();
        }
        self.outcome = Some(Outcome::Aborted);
        let outcome = timeout_at(self.deadline, self.walk(tasks)).await.unwrap_or(Outcome::TimedOut);
        self.ended_at = Instant::now();
        self.history.record_end(1);
        self.note(TraceEvent::Ended(outcome.to_string()));
        self.outcome.insert(outcome).clone()
    }

    /// Stops the execution, unless it has ended. After the future of [`run`](Self::run) is dropped, this notes the time.
    pub fn stop(&mut self) {
        let noted =
            self.history.trace.last().is_some_and(|entry| matches!(entry.event, TraceEvent::Ended(_)));
        if *self.outcome.get_or_insert(Outcome::Aborted) == Outcome::Aborted && !noted {
            self.ended_at = Instant::now();
            self.note(TraceEvent::Ended(Outcome::Aborted.to_string()));
        }
    }

    /// Makes the execution ready to run again from the state in which it ended.
    ///
    /// It keeps its ARN, its variables and that state's input. Retries and the timeout count afresh, a Wait waits in
    /// full, and a Fail fails again (<https://docs.aws.amazon.com/step-functions/latest/dg/redrive-executions.html>).
    pub fn redrive(&mut self) -> Result<(), NotRedrivable> {
        match &self.outcome {
            None => return Err(NotRedrivable::Running),
            Some(Outcome::Succeeded(_)) => return Err(NotRedrivable::Succeeded),
            Some(_) => self.stop(),
        }
        // "The workflow execution event history count is less than 24,999."
        if self.events() >= EVENT_QUOTA - 1 {
            return Err(NotRedrivable::EventQuota);
        }
        if self.ended_at.elapsed() > REDRIVABLE {
            return Err(NotRedrivable::Period);
        }
        self.history.events = self.events() + 1;
        self.outcome = None;
        self.redrives += 1;
        self.deadline = deadline(&self.machine);
        self.context_object["Execution"]["RedriveCount"] = Value::from(self.redrives);
        self.context_object["Execution"]["RedriveTime"] = Value::from(self.context.spoken());
        self.note(TraceEvent::Redriven);
        Ok(())
    }

    /// Returns the outcome, once the execution has ended.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Returns the ARN of the execution.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.context.execution_arn
    }

    /// Returns the events of the history so far.
    #[must_use]
    pub fn events(&self) -> u32 {
        match self.outcome {
            Some(Outcome::Aborted) => (self.history.events + 1).min(EVENT_QUOTA),
            _ => self.history.events,
        }
    }

    /// Returns the state transitions that AWS bills so far.
    #[must_use]
    pub fn transitions(&self) -> u32 {
        self.history.transitions
    }

    /// Returns what has happened so far. Each entry displays as a line.
    #[must_use]
    pub fn trace(&self) -> &[TraceEntry] {
        &self.history.trace
    }

    /// Returns a workflow variable.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&Value> {
        self.variables.get(name)
    }

    fn note(&mut self, event: TraceEvent) {
        let at_ms = u64::try_from(self.context.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.history.trace.push(TraceEntry { at_ms, state: self.state.clone(), event });
    }

    fn note_failure(&mut self, failure: &TaskFailure) {
        if failure.error == names::QUERY_EVALUATION_ERROR {
            self.history.record_end(1);
        }
        self.note(TraceEvent::Failed(failure.clone()));
    }
}

impl Outcome {
    fn of(failure: TaskFailure) -> Self {
        let cause = Some(failure.cause).filter(|cause| !cause.is_empty());
        Self::Failed { error: Some(failure.error), cause }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded(output) => write!(f, "succeeded: {output}"),
            Self::Failed { error, cause } => {
                let shown = |text: &Option<String>| text.clone().unwrap_or_default();
                write!(f, "failed: {}: {}", shown(error), shown(cause))
            }
            Self::TimedOut => f.write_str("timed out"),
            Self::Aborted => f.write_str("aborted"),
        }
    }
}

fn deadline(machine: &StateMachine) -> Instant {
    let longest = Duration::from_secs_f64(LONGEST_SECONDS);
    Instant::now() + machine.timeout_seconds.map_or(longest, Duration::from_secs).min(longest)
}
