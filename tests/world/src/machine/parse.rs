//! From a deployed file to a definition. It refuses what `CreateStateMachine` would refuse, and what this interpreter
//! does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::StateMachine;
use super::definition::{Definition, MachineState, PassState, TaskState, WaitState, names};

/// The file is no state machine, or one that the interpreter would run by half.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The file as a whole.
    #[error("the state machine: {0}")]
    Machine(String),
    /// One of its states.
    #[error("state {state}: {problem}")]
    State {
        /// The state.
        state: String,
        /// The problem.
        problem: String,
    },
}

/// The top level of a file.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct File {
    #[serde(rename = "Comment")]
    _comment: Option<IgnoredAny>,
    query_language: String,
    start_at: String,
    timeout_seconds: Option<u64>,
    states: BTreeMap<String, Value>,
}

impl StateMachine {
    /// Parses a deployed file. `substitutions` are the `DefinitionSubstitutions` of the template.
    pub fn parse(yaml: &str, substitutions: &BTreeMap<&str, &str>) -> Result<Self, DefinitionError> {
        let text = substitute(yaml, substitutions)?;
        let file: File =
            serde_saphyr::from_str(&text).map_err(|error| DefinitionError::Machine(error.to_string()))?;
        if file.query_language != "JSONata" {
            return Err(DefinitionError::Machine(format!(
                "the query language {} is not supported",
                file.query_language
            )));
        }
        let states =
            file.states.into_iter().map(|(name, state)| Ok((name.clone(), parse_state(name, state)?)));
        let states = states.collect::<Result<_, DefinitionError>>()?;
        let definition = Definition { start_at: file.start_at, states };
        check_transitions(&definition)?;
        Ok(Self { definition: Arc::new(definition), timeout_seconds: file.timeout_seconds })
    }

    /// Returns the names of its states.
    pub fn states(&self) -> impl Iterator<Item = &str> {
        self.definition.states.keys().map(String::as_str)
    }
}

/// Replaces each `${Name}`. A name without a value is an error, and so is a value without a place.
fn substitute(yaml: &str, substitutions: &BTreeMap<&str, &str>) -> Result<String, DefinitionError> {
    let mut text = yaml.to_owned();
    for (name, value) in substitutions {
        let place = format!("${{{name}}}");
        if !text.contains(&place) {
            return Err(DefinitionError::Machine(format!("it has no place for the substitution {name}")));
        }
        text = text.replace(&place, value);
    }
    match text.split_once("${").and_then(|(_, rest)| rest.split_once('}')) {
        None => Ok(text),
        Some((name, _)) => Err(DefinitionError::Machine(format!("the substitution {name} has no value"))),
    }
}

fn parse_state(name: String, value: Value) -> Result<MachineState, DefinitionError> {
    let checked = serde_json::from_value(value).map_err(|error| error.to_string()).and_then(|state| {
        check_state(&state)?;
        Ok(state)
    });
    checked.map_err(|problem| DefinitionError::State { state: name, problem })
}

fn check_state(state: &MachineState) -> Result<(), String> {
    match state {
        MachineState::Task(task) => {
            check_wildcards(task)?;
            check_end(task.next.as_deref(), task.end)
        }
        MachineState::Wait(WaitState { next, end, .. }) | MachineState::Pass(PassState { next, end, .. }) => {
            check_end(next.as_deref(), *end)
        }
        MachineState::Choice(choice) if choice.choices.is_empty() => Err("it has no choices".to_owned()),
        MachineState::Choice(_) | MachineState::Succeed(_) | MachineState::Fail(_) => Ok(()),
    }
}

/// A state has either a `Next` or `End: true`.
fn check_end(next: Option<&str>, end: Option<bool>) -> Result<(), String> {
    if next.is_some() == (end == Some(true)) {
        return Err("it needs either Next or End".to_owned());
    }
    Ok(())
}

/// `States.ALL` stands alone, and in the last rule
/// (<https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>).
fn check_wildcards(task: &TaskState) -> Result<(), String> {
    let retry: Vec<_> = task.retry.iter().map(|rule| &rule.error_equals).collect();
    let catch: Vec<_> = task.catch.iter().map(|rule| &rule.error_equals).collect();
    for rules in [retry, catch] {
        let last = rules.len().saturating_sub(1);
        for (at, errors) in rules.into_iter().enumerate() {
            if errors.is_empty() {
                return Err("a rule of Retry or Catch names no error".to_owned());
            }
            let wild = errors.iter().any(|error| error == names::ALL);
            if wild && (errors.len() > 1 || at != last) {
                return Err("States.ALL must stand alone, in the last rule".to_owned());
            }
        }
    }
    if task.retry.iter().any(|rule| rule.backoff_rate < 1.0 || rule.interval_seconds == 0) {
        return Err("a rule of Retry has a BackoffRate below 1, or no interval".to_owned());
    }
    Ok(())
}

/// Each transition leads to a state, and each state can be reached.
fn check_transitions(definition: &Definition) -> Result<(), DefinitionError> {
    let mut reached = BTreeSet::new();
    let mut open = vec![definition.start_at.as_str()];
    while let Some(name) = open.pop() {
        let Some(state) = definition.states.get(name) else {
            return Err(DefinitionError::Machine(format!("a transition leads to {name}, which is no state")));
        };
        if reached.insert(name) {
            open.extend(state.successors());
        }
    }
    match definition.states.keys().find(|name| !reached.contains(name.as_str())) {
        None => Ok(()),
        Some(name) => Err(DefinitionError::Machine(format!("no transition leads to {name}"))),
    }
}
