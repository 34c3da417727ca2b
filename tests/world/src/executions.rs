//! The executions as Step Functions keeps them, and the two calls that ask for one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::machine::Outcome;
use crate::wire::{ApiAnswer, ApiCall};

/// The state machines of the world, by the ends of their ARNs.
pub const CLUSTER_SWAP: &str =
    "arn:aws:states:us-east-1:123456789012:stateMachine:spot-optimizer-ClusterSwap";
/// Answers notices.
pub const INTERRUPTION_RESPONSE: &str =
    "arn:aws:states:us-east-1:123456789012:stateMachine:spot-optimizer-interruptions";
/// Swaps nodes.
pub const NODE_SWAP: &str = "arn:aws:states:us-east-1:123456789012:stateMachine:spot-optimizer-NodeSwap";
/// Swaps stand-alone instances.
pub const LAB_SWAP: &str = "arn:aws:states:us-east-1:123456789012:stateMachine:spot-optimizer-LabSwap";
/// All state machines of the world. Step Functions starts no other.
const STATE_MACHINES: [&str; 4] = [CLUSTER_SWAP, NODE_SWAP, LAB_SWAP, INTERRUPTION_RESPONSE];

/// An execution, as Step Functions describes it.
#[derive(Debug, Clone)]
pub struct ExecutionRecord {
    /// The ARN of its state machine.
    pub state_machine_arn: String,
    /// The name, which a caller gives.
    pub name: String,
    /// The input.
    pub input: Value,
    /// When it was started.
    pub started: Timestamp,
    /// When and how it ended.
    pub ended: Option<(Timestamp, Outcome)>,
    /// It has ended before, and was begun again where it ended.
    pub is_redriven: bool,
}

/// Returns the status of an end as Step Functions spells it.
#[must_use]
pub fn status(end: &Outcome) -> &'static str {
    match end {
        Outcome::Succeeded(_) => "SUCCEEDED",
        Outcome::TimedOut => "TIMED_OUT",
        Outcome::Failed { .. } => "FAILED",
        Outcome::Aborted => "ABORTED",
    }
}

/// All executions, and those that were asked for and do not run yet.
#[derive(Debug, Clone, Default)]
pub struct Executions {
    by_arn: BTreeMap<String, ExecutionRecord>,
    /// ARNs of executions that nobody runs yet.
    pub to_run: Vec<String>,
}

impl Executions {
    /// Starts an execution, or returns the one that runs under this name with this input.
    /// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>
    ///
    /// # Errors
    /// The name is taken by an execution that has ended, or that has another input.
    pub fn start(
        &mut self,
        state_machine_arn: &str,
        name: &str,
        input: Value,
        now: Timestamp,
    ) -> Result<String, AlreadyExists> {
        let arn = format!("{}:{name}", state_machine_arn.replace(":stateMachine:", ":execution:"));
        if let Some(known) = self.by_arn.get(&arn) {
            let is_same = known.ended.is_none() && known.input == input;
            return if is_same { Ok(arn) } else { Err(AlreadyExists) };
        }
        let record = ExecutionRecord {
            state_machine_arn: state_machine_arn.to_owned(),
            name: name.to_owned(),
            input,
            started: now,
            ended: None,
            is_redriven: false,
        };
        self.by_arn.insert(arn.clone(), record);
        self.to_run.push(arn.clone());
        Ok(arn)
    }

    /// Notes the end of an execution. The first end counts.
    pub fn end(&mut self, arn: &str, end: Outcome, now: Timestamp) {
        if let Some(record) = self.by_arn.get_mut(arn) {
            record.ended.get_or_insert((now, end));
        }
    }

    /// An execution that has ended is begun again where it ended.
    pub fn is_redriven(&mut self, arn: &str) {
        if let Some(record) = self.by_arn.get_mut(arn) {
            (record.ended, record.is_redriven) = (None, true);
        }
    }

    /// Returns an execution.
    #[must_use]
    pub fn get(&self, arn: &str) -> Option<&ExecutionRecord> {
        self.by_arn.get(arn)
    }

    /// Returns every execution with its ARN.
    pub fn all(&self) -> impl Iterator<Item = (&String, &ExecutionRecord)> {
        self.by_arn.iter()
    }

    /// Returns true if none runs.
    #[must_use]
    pub fn have_ended(&self) -> bool {
        self.to_run.is_empty() && self.by_arn.values().all(|record| record.ended.is_some())
    }

    /// Carries out a call of Step Functions.
    pub fn carry_out(&mut self, call: &ApiCall, now: Timestamp) -> ApiAnswer {
        let text = |field: &str| call.json().get(field).and_then(Value::as_str).unwrap_or_default();
        match call.action.as_str() {
            "StartExecution" => {
                if !STATE_MACHINES.contains(&text("stateMachineArn")) {
                    let message = "State Machine Does Not Exist";
                    return ApiAnswer::json_error(400, "StateMachineDoesNotExist", message);
                }
                let input = serde_json::from_str(text("input")).unwrap_or_else(|_| json!({}));
                match self.start(text("stateMachineArn"), text("name"), input, now) {
                    Ok(arn) => ApiAnswer::json(&json!({"executionArn": arn, "startDate": now.as_second()})),
                    Err(AlreadyExists) => ApiAnswer::json_error(
                        400,
                        "ExecutionAlreadyExists",
                        "Execution Already Exists: its name is taken",
                    ),
                }
            }
            "DescribeExecution" => match self.by_arn.get(text("executionArn")) {
                Some(record) => ApiAnswer::json(&described(text("executionArn"), record)),
                None => ApiAnswer::json_error(400, "ExecutionDoesNotExist", "Execution Does Not Exist"),
            },
            other => ApiAnswer::json_error(400, "UnknownOperationException", other),
        }
    }
}

/// The name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ExecutionAlreadyExists")]
pub struct AlreadyExists;

fn described(arn: &str, record: &ExecutionRecord) -> Value {
    let status = record.ended.as_ref().map_or("RUNNING", |(_, end)| status(end));
    let mut answer = json!({
        "executionArn": arn,
        "stateMachineArn": record.state_machine_arn,
        "name": record.name,
        "status": status,
        "startDate": record.started.as_second(),
        "input": record.input.to_string(),
    });
    if let Some((at, end)) = &record.ended {
        answer["stopDate"] = at.as_second().into();
        if let Outcome::Succeeded(output) = end {
            answer["output"] = output.to_string().into();
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_name_starts_once_and_its_execution_is_returned_while_it_runs() {
        let (mut executions, now) = (Executions::default(), Timestamp::UNIX_EPOCH);
        let first = executions.start(CLUSTER_SWAP, "web", json!({"asg_name": "web"}), now).unwrap();
        assert_eq!(executions.start(CLUSTER_SWAP, "web", json!({"asg_name": "web"}), now), Ok(first.clone()));
        assert_eq!(executions.start(CLUSTER_SWAP, "web", json!({}), now), Err(AlreadyExists));
        assert_eq!(executions.to_run, std::slice::from_ref(&first));
        executions.end(&first, Outcome::Aborted, now);
        executions.end(&first, Outcome::TimedOut, now);
        assert_eq!(executions.get(&first).unwrap().ended, Some((now, Outcome::Aborted)));
        assert_eq!(
            executions.start(CLUSTER_SWAP, "web", json!({"asg_name": "web"}), now),
            Err(AlreadyExists)
        );
    }
}
