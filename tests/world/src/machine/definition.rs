//! The Amazon States Language, as far as the deployed files use it: <https://states-language.net/spec.html> and
//! <https://docs.aws.amazon.com/step-functions/latest/dg/statemachine-structure.html>. Unknown fields are errors.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::template::{Assign, Template, present};

/// The names of the errors that Step Functions itself reports
/// (<https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>, "Error names").
pub(super) mod names {
    pub(in super::super) const ALL: &str = "States.ALL";
    pub(in super::super) const DATA_LIMIT_EXCEEDED: &str = "States.DataLimitExceeded";
    pub(in super::super) const NO_CHOICE_MATCHED: &str = "States.NoChoiceMatched";
    pub(in super::super) const QUERY_EVALUATION_ERROR: &str = "States.QueryEvaluationError";
    pub(in super::super) const RUNTIME: &str = "States.Runtime";
    pub(in super::super) const TASK_FAILED: &str = "States.TaskFailed";
    pub(in super::super) const TIMEOUT: &str = "States.Timeout";
}

/// A state machine's text.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) start_at: String,
    pub(super) states: BTreeMap<String, MachineState>,
}

/// A state. Each has the fields that its type may have.
#[derive(Debug, Deserialize)]
#[serde(tag = "Type")]
pub(super) enum MachineState {
    Task(Box<TaskState>),
    Choice(ChoiceState),
    Wait(WaitState),
    Pass(PassState),
    Succeed(SucceedState),
    Fail(FailState),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct TaskState {
    #[serde(rename = "Comment")]
    _comment: Option<IgnoredAny>,
    pub(super) resource: String,
    #[serde(default, deserialize_with = "present")]
    pub(super) arguments: Option<Template>,
    pub(super) timeout_seconds: Option<Template>,
    #[serde(default)]
    pub(super) retry: Vec<Retrier>,
    #[serde(default)]
    pub(super) catch: Vec<Catcher>,
    #[serde(default)]
    pub(super) assign: Assign,
    #[serde(default, deserialize_with = "present")]
    pub(super) output: Option<Template>,
    pub(super) next: Option<String>,
    pub(super) end: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct ChoiceState {
    #[serde(rename = "Comment")]
    _comment: Option<IgnoredAny>,
    pub(super) choices: Vec<ChoiceRule>,
    pub(super) default: Option<String>,
    #[serde(default)]
    pub(super) assign: Assign,
    #[serde(default, deserialize_with = "present")]
    pub(super) output: Option<Template>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct ChoiceRule {
    #[serde(rename = "Comment")]
    _comment: Option<IgnoredAny>,
    pub(super) condition: Template,
    pub(super) next: String,
    #[serde(default)]
    pub(super) assign: Assign,
    #[serde(default, deserialize_with = "present")]
    pub(super) output: Option<Template>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct WaitState {
    #[serde(rename = "Comment")]
    _comment: Option<IgnoredAny>,
    pub(super) seconds: Template,
    #[serde(default)]
    pub(super) assign: Assign,
    #[serde(default, deserialize_with = "present")]
    pub(super) output: Option<Template>,
    pub(super) next: Option<String>,
    pub(super) end: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct PassState {
    #[serde(rename = "Comment")]
    _comment: Option<IgnoredAny>,
    #[serde(default)]
    pub(super) assign: Assign,
    #[serde(default, deserialize_with = "present")]
    pub(super) output: Option<Template>,
    pub(super) next: Option<String>,
    pub(super) end: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct SucceedState {
    #[serde(rename = "Comment")]
    _comment: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    pub(super) output: Option<Template>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct FailState {
    #[serde(rename = "Comment")]
    _comment: Option<IgnoredAny>,
    pub(super) error: Option<Template>,
    pub(super) cause: Option<Template>,
}

/// A rule of `Retry`. The defaults are those of the States Language.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Retrier {
    #[serde(rename = "Comment")]
    _comment: Option<IgnoredAny>,
    pub(super) error_equals: Vec<String>,
    #[serde(default = "one")]
    pub(super) interval_seconds: u32,
    #[serde(default = "three")]
    pub(super) max_attempts: u32,
    #[serde(default = "double")]
    pub(super) backoff_rate: f64,
    pub(super) max_delay_seconds: Option<u32>,
    #[serde(default)]
    pub(super) jitter_strategy: JitterStrategy,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum JitterStrategy {
    #[default]
    None,
    Full,
}

/// A rule of `Catch`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Catcher {
    #[serde(rename = "Comment")]
    _comment: Option<IgnoredAny>,
    pub(super) error_equals: Vec<String>,
    #[serde(default)]
    pub(super) assign: Assign,
    #[serde(default, deserialize_with = "present")]
    pub(super) output: Option<Template>,
    pub(super) next: String,
}

fn one() -> u32 {
    1
}

fn three() -> u32 {
    3
}

fn double() -> f64 {
    2.0
}

impl MachineState {
    /// Returns the states that may come after this one.
    pub(super) fn successors(&self) -> Vec<&str> {
        match self {
            Self::Task(task) => {
                let caught = task.catch.iter().map(|catcher| catcher.next.as_str());
                caught.chain(task.next.as_deref()).collect()
            }
            Self::Choice(choice) => {
                let chosen = choice.choices.iter().map(|rule| rule.next.as_str());
                chosen.chain(choice.default.as_deref()).collect()
            }
            Self::Wait(WaitState { next, .. }) | Self::Pass(PassState { next, .. }) => {
                next.as_deref().into_iter().collect()
            }
            Self::Succeed(_) | Self::Fail(_) => Vec::new(),
        }
    }
}
