//! An interpreter of the deployed state machines, on tokio's clock.
//!
//! It runs the files as they are deployed: what it does not know in them is an error of [`StateMachine::parse`]. The rules
//! are those of Step Functions' Standard workflows; each carries its source. The driver answers the tasks through
//! [`Tasks`], and may stop an [`Execution`] at every await.

mod context;
mod definition;
mod execution;
mod history;
mod jsonata;
mod limits;
mod parse;
mod retry;
mod template;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;

use serde_json::{Value, json};

use definition::Definition;

pub use context::{DataLimit, ExecutionContext};
pub use execution::{Execution, NotRedrivable, Outcome};
pub use history::{TraceEntry, TraceEvent};
pub use limits::PAYLOAD_BYTES;
pub use parse::DefinitionError;

/// A state machine that Step Functions would run. A clone shares the definition.
#[derive(Debug, Clone)]
pub struct StateMachine {
    definition: Arc<Definition>,
    timeout_seconds: Option<u64>,
}

impl StateMachine {
    /// Returns the same machine with another `TimeoutSeconds`.
    #[must_use]
    pub fn timing_out_after(&self, seconds: u64) -> Self {
        Self { timeout_seconds: Some(seconds), ..self.clone() }
    }
}

/// The resources that Task states call.
pub trait Tasks {
    /// Invokes the resource of a task: a function's ARN, or `arn:aws:states:::states:startExecution`.
    ///
    /// `attempt` counts the retries of this visit to the state, from 0. If the state has a `TimeoutSeconds`, or the
    /// execution times out or is stopped, the future is dropped. A function that runs on after that must be spawned by
    /// the implementation.
    fn invoke(
        &self,
        resource: &str,
        state: &str,
        arguments: Value,
        attempt: u32,
    ) -> impl Future<Output = Result<Value, TaskFailure>>;
}

/// The error of a task, as Retry and Catch see it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}: {cause}")]
pub struct TaskFailure {
    /// The name that `ErrorEquals` matches.
    pub error: String,
    /// The cause, which is JSON if a function returned the error.
    pub cause: String,
}

impl TaskFailure {
    /// Returns an error with its cause, such as `Lambda.Unknown`.
    #[must_use]
    pub fn new(error: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { error: error.into(), cause: cause.into() }
    }

    /// Returns the error that a function has returned. Its name is the function's `errorType`, its cause the whole
    /// answer (<https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>).
    #[must_use]
    pub fn of_function(error_type: &str, message: &str) -> Self {
        Self::new(error_type, json!({ "errorType": error_type, "errorMessage": message }).to_string())
    }
}
