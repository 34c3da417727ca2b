//! Executions of the stack's state machines: their start, and their end.

use aws_sdk_sfn::types::ExecutionStatus;
use serde::de::DeserializeOwned;
use serde_json::Value;
use spot_cloud::error::{CallError, Kind, failed};
use spot_cloud::input;
use spot_domain::ExecutionArn;
use spot_domain::ids::MalformedText;
use spot_domain::swap::lab::LabReport;
use spot_domain::swap::node::NodeSwapReport;
use spot_domain::swap::report::SwapReport;
use spot_domain::watch::back_off::RunEnd;
use spot_domain::words::{LONGEST, cut};
use spot_swap::StepFailure;

/// A state machine of the stack.
#[derive(Debug, Clone)]
pub struct Machine(pub String);

impl Machine {
    /// Returns the ARN of the execution of this name.
    ///
    /// # Errors
    /// The state machine's ARN is malformed.
    pub fn execution(&self, name: &str) -> Result<ExecutionArn, MalformedText> {
        format!("{}:{name}", self.0.replacen(":stateMachine:", ":execution:", 1)).parse()
    }
}

/// The answer to a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// The execution runs.
    Running,
    /// An execution of this name has ended already.
    EndedAlready,
}

/// Starts the execution. While an execution of the same name and input runs, that one is the answer.
///
/// # Errors
/// The call fails.
pub async fn start(
    client: &aws_sdk_sfn::Client,
    machine: &Machine,
    name: &str,
    input: &Value,
) -> Result<Begun, CallError> {
    let request = client.start_execution().state_machine_arn(&machine.0).name(name).input(input.to_string());
    match request.send().await.map_err(failed("states:StartExecution")) {
        Err(error) if error.code == "ExecutionAlreadyExists" => Ok(Begun::EndedAlready),
        answer => answer.map(|_| Begun::Running),
    }
}

/// The state of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// The execution runs.
    Running,
    /// The execution has ended.
    Ended(RunEnd),
    /// Step Functions does not know the execution: it is being started, or never was.
    Unknown,
}

/// Returns the state of an execution.
///
/// # Errors
/// The call fails.
pub async fn life(client: &aws_sdk_sfn::Client, execution: &ExecutionArn) -> Result<Life, CallError> {
    let request = client.describe_execution().execution_arn(execution.as_str());
    let answer = match request.send().await.map_err(failed("states:DescribeExecution")) {
        Err(error) if error.kind == Kind::NotFound || error.code == "ExecutionDoesNotExist" => {
            return Ok(Life::Unknown);
        }
        answer => answer?,
    };
    Ok(match answer.status() {
        ExecutionStatus::Succeeded => Life::Ended(of_output(answer.output().unwrap_or_default())),
        status @ (ExecutionStatus::Failed | ExecutionStatus::Aborted | ExecutionStatus::TimedOut) => {
            let told = |text: Option<&str>| text.unwrap_or_default().to_owned();
            let failure = StepFailure { error: told(answer.error()), cause: told(answer.cause()) };
            Life::Ended(RunEnd::of_failure(status.as_str(), &failure.error, &failure.message()))
        }
        _ => Life::Running, // also what AWS invents tomorrow
    })
}

/// Reads the report of a run over a group, or of the swap of a node or of a lab instance. Each kind has a field of its own
/// that tells it from the others.
#[must_use]
pub fn of_output(output: &str) -> RunEnd {
    let read = serde_json::from_str::<Value>(output).map_err(|error| error.to_string()).and_then(end_of);
    read.unwrap_or_else(|why| RunEnd::Failed(cut(&format!("its report can't be read: {why}"), LONGEST)))
}

fn end_of(report: Value) -> Result<RunEnd, String> {
    if report.get("asg_name").is_some() {
        read::<SwapReport>(report).map(|report| RunEnd::of_group(&report))
    } else if report.get("evicted").is_some() {
        read::<NodeSwapReport>(report).map(|report| RunEnd::of_node(&report))
    } else {
        read::<LabReport>(report).map(|report| RunEnd::of_lab(&report))
    }
}

fn read<T: DeserializeOwned>(report: Value) -> Result<T, String> {
    input::parse(None, report).map_err(|bad| bad.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arn_of_an_execution_is_known_before_its_start() {
        let machine = Machine("arn:aws:states:us-east-1:123456789012:stateMachine:Swap-1".to_owned());
        let arn = machine.execution("loop-web-1").unwrap();
        assert_eq!(arn.as_str(), "arn:aws:states:us-east-1:123456789012:execution:Swap-1:loop-web-1");
        assert!(Machine("Swap-1".to_owned()).execution("x").is_err());
    }

    #[test]
    fn an_output_that_cannot_be_read_is_a_failure() {
        let by_position = r#"["i-0123456789abcdef0", null, "SWAPPED", null, null, [], [], null]"#;
        let of_node =
            r#"{"instance_id":"i-0123456789abcdef0","outcome":"SWAPPED","evicted":0,"blocked":null}"#;
        for output in ["", "[]", "{}", "null", by_position, of_node] {
            assert!(matches!(of_output(output), RunEnd::Failed(_)), "{output}");
        }
        let report = r#"{"asg_name":"web","account_id":"123456789012","region":"us-east-1","swapped":[],"skipped":[],
            "rolled_back":[],"remaining":0}"#;
        assert_eq!(of_output(report), RunEnd::NothingSwapped(String::new()));
        let node = r#"{"instance_id":"i-0123456789abcdef0","cluster_name":"c","outcome":"SWAPPED","evicted":0,"blocked":[]}"#;
        assert_eq!(of_output(node), RunEnd::GoesOn);
        let lab = r#"{"instance_id":"i-0123456789abcdef0","outcome":"SWAPPED"}"#;
        assert_eq!(of_output(lab), RunEnd::Replaced);
    }
}
