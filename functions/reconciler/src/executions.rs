//! Whether an execution is dead, and since when.

use aws_sdk_sfn::types::ExecutionStatus;
use jiff::Timestamp;
use spot_cloud::error::{CallError, Kind, failed};
use spot_domain::ExecutionArn;

/// What Step Functions says of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It works, or waits to.
    Running,
    /// It ended at this moment, one way or another.
    EndedAt(Timestamp),
    /// Step Functions has forgotten it (it keeps them for 90 days).
    Forgotten,
}

/// Asks Step Functions.
///
/// # Errors
/// The call fails.
pub async fn life(client: &aws_sdk_sfn::Client, execution: &ExecutionArn) -> Result<Life, CallError> {
    let answer = client
        .describe_execution()
        .execution_arn(execution.as_str())
        .send()
        .await
        .map_err(failed("states:DescribeExecution"));
    let answer = match answer {
        Err(error) if error.kind == Kind::NotFound || error.code == "ExecutionDoesNotExist" => {
            return Ok(Life::Forgotten);
        }
        answer => answer?,
    };
    let over = [
        ExecutionStatus::Succeeded,
        ExecutionStatus::Failed,
        ExecutionStatus::Aborted,
        ExecutionStatus::TimedOut,
    ];
    if !over.contains(answer.status()) {
        return Ok(Life::Running); // also what AWS invents tomorrow
    }
    let ended = answer.stop_date().and_then(|t| Timestamp::from_second(t.secs()).ok());
    ended.map(Life::EndedAt).ok_or_else(|| {
        CallError::malformed("states:DescribeExecution", format!("{execution} is over but has no stop date"))
    })
}
