//! The events of an execution, as Step Functions counts them, and the trace that a person reads.
//!
//! Events are counted by their types (<https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html>):
//!
//! | what happens | events |
//! | --- | --- |
//! | an execution starts, ends, is redriven | 1: `Execution…` |
//! | a Task is visited | 2: `TaskStateEntered`, `TaskStateExited` |
//! | each attempt of a task | 3: `…Scheduled`, `…Started`, then `…Succeeded`, `…Failed` or `…TimedOut` |
//! | a Choice, Wait, Pass or Succeed is visited | 2: `…StateEntered`, `…StateExited` |
//! | a Fail is visited | 1: `FailStateEntered` |
//! | an expression fails | 1: `EvaluationFailed` |
//!
//! The order and number of these events are those of executions on AWS that LocalStack recorded, for instance in
//! <https://github.com/localstack/localstack/blob/main/tests/aws/services/stepfunctions/v2/timeouts/test_timeouts.snapshot.json>.
//! The state in which an execution is stopped or times out is not exited, and adds no event. A redriven state is entered
//! once more here: AWS documents no example, so the count is at worst one too high.

use std::fmt;
use std::time::Duration;

use super::TaskFailure;
use super::definition::names;

/// The quota of events. The execution fails when it is reached
/// (<https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>).
pub(super) const EVENT_QUOTA: u32 = 25_000;

/// The events and transitions of an execution.
#[derive(Debug, Default)]
pub(super) struct ExecutionHistory {
    pub(super) events: u32,
    /// Steps that AWS bills: each visit to a state, and each retry (<https://aws.amazon.com/step-functions/pricing/>).
    pub(super) transitions: u32,
    pub(super) trace: Vec<TraceEntry>,
}

/// A line of the trace.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceEntry {
    /// Milliseconds since the origin of the context.
    pub at_ms: u64,
    /// The state in which it happened.
    pub state: String,
    /// The event.
    pub event: TraceEvent,
}

/// An event in a state, as a person reads it.
#[derive(Debug, Clone, PartialEq)]
pub enum TraceEvent {
    /// The execution entered the state.
    Entered,
    /// An attempt failed.
    Failed(TaskFailure),
    /// The next attempt follows after this time.
    Retried(Duration),
    /// A catcher took the error.
    Caught {
        /// The next state.
        next: String,
    },
    /// The execution ended, in these words.
    Ended(String),
    /// A redrive began.
    Redriven,
}

impl ExecutionHistory {
    /// Counts events, if the quota has room for them and for the event that ends the execution.
    pub(super) fn record(&mut self, events: u32) -> Result<(), TaskFailure> {
        self.events += events;
        if self.events < EVENT_QUOTA {
            return Ok(());
        }
        self.events = EVENT_QUOTA - 1;
        // The words are AWS's: https://github.com/loads/ardere/issues/86.
        let cause = format!("The execution reached the maximum number of history events ({EVENT_QUOTA}).");
        Err(TaskFailure::new(names::RUNTIME, cause))
    }

    /// Counts the events that end an execution. They have room always.
    pub(super) fn record_end(&mut self, events: u32) {
        self.events = (self.events + events).min(EVENT_QUOTA);
    }
}

impl fmt::Display for TraceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = Duration::from_millis(self.at_ms).as_secs_f64();
        write!(f, "{seconds:>12.3} s  {}: {}", self.state, self.event)
    }
}

impl fmt::Display for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entered => f.write_str("entered"),
            Self::Failed(failure) => write!(f, "failed: {failure}"),
            Self::Retried(after) => write!(f, "retried after {:.3} s", after.as_secs_f64()),
            Self::Caught { next } => write!(f, "caught, next is {next}"),
            Self::Ended(outcome) => write!(f, "the execution ended: {outcome}"),
            Self::Redriven => f.write_str("the execution is redriven"),
        }
    }
}
