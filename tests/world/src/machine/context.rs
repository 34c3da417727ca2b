//! The context object: <https://docs.aws.amazon.com/step-functions/latest/dg/input-output-contextobject.html>.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

/// The decisions of the driver about an execution: its names, its clock, its chances.
#[derive(Debug, Clone)]
pub struct ExecutionContext {
    /// The ARN of the execution.
    pub execution_arn: String,
    /// The name of the execution.
    pub name: String,
    /// The ARN of the state machine.
    pub state_machine_arn: String,
    /// The name of the state machine.
    pub state_machine_name: String,
    /// The role of the state machine.
    pub role_arn: String,
    /// The instant at which the world began, on tokio's clock.
    pub origin: Instant,
    /// The time of day at the origin.
    pub epoch: Timestamp,
    /// The effect of a payload that is too large.
    pub data_limit: DataLimit,
    /// The most bytes of a payload.
    pub payload_bytes: usize,
    /// The source of jitter. The same seed makes the same waits.
    pub random: fastrand::Rng,
}

/// The effect of `States.DataLimitExceeded` in a task whose rules name only the wildcards. The sources disagree, so a
/// simulation explores both until an account settles it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DataLimit {
    /// No wildcard takes the error: "a terminal error that can't be caught by the States.ALL error type"
    /// (<https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>).
    #[default]
    Terminal,
    /// The wildcards take it. AWS did so with a function's result in March 2024, as LocalStack recorded
    /// (<https://github.com/localstack/localstack/blob/main/tests/aws/services/stepfunctions/v2/error_handling/test_states_errors.snapshot.json>).
    Caught,
}

impl ExecutionContext {
    /// Returns the time since the origin.
    pub(super) fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(self.origin)
    }

    /// Returns the time of day.
    pub(super) fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.elapsed()).unwrap_or(SignedDuration::MAX);
        self.epoch.saturating_add(elapsed).unwrap_or(self.epoch)
    }

    /// Returns the context object of an execution that starts now.
    pub(super) fn object(&self, input: &Value) -> Value {
        json!({
            "Execution": {
                "Id": self.execution_arn,
                "Input": input,
                "Name": self.name,
                "RoleArn": self.role_arn,
                "StartTime": self.spoken(),
                "RedriveCount": 0,
            },
            "StateMachine": { "Id": self.state_machine_arn, "Name": self.state_machine_name },
        })
    }

    /// Returns the `State` of the context object for a state that is entered now.
    pub(super) fn state(&self, name: &str) -> Value {
        json!({ "EnteredTime": self.spoken(), "Name": name, "RetryCount": 0 })
    }

    /// Returns the time of day as Step Functions writes it, with milliseconds.
    pub(super) fn spoken(&self) -> String {
        format!("{:.3}", self.now())
    }
}
