//! The fuzz target `execution`: an execution as Step Functions describes it.
//!
//! The parser promises: no panic. An execution is over only if its status says so, and then its end is known. An error names
//! the field. An input that can't be read names nothing, so that the execution vouches for no swap.

use aws_sdk_sfn::primitives::DateTime;
use spot_fuzz::Target;

use super::*;

const ARN: &str = "arn:aws:states:us-east-1:123456789012:execution:Swap:run-1";
const OVER: [&str; 4] = ["SUCCEEDED", "FAILED", "ABORTED", "TIMED_OUT"];

#[test]
fn execution() {
    let words = &["SUCCEEDED", "FAILED", "ABORTED", "TIMED_OUT", "RUNNING", "PENDING_REDRIVE"];
    Target { name: "execution", samples: &[], words, cases: 2_000 }.fuzz(check);
}

fn check(bytes: &[u8]) -> Result<(), String> {
    let Ok(sample) = serde_json::from_slice::<Value>(bytes) else { return Ok(()) };
    let status = sample["status"].as_str().unwrap_or_default();
    let time = |field: &str| sample.get(field).and_then(Value::as_i64);
    let is_over = OVER.contains(&status);
    let is_time = |seconds: Option<i64>| seconds.is_some_and(|s| Timestamp::from_second(s).is_ok());
    let started = time("startDate").or(Some(0));
    match read(&ARN.parse().unwrap(), &answer(&sample, status, started)) {
        Ok(Execution { life, known: Some(known) }) => {
            let ended = time("stopDate").and_then(|s| Timestamp::from_second(s).ok());
            let expected =
                if is_over { ended.map(ExecutionState::EndedAt) } else { Some(ExecutionState::Running) };
            promise(expected == Some(life), || format!("{status}: {life:?}"))?;
            promise(known.has_succeeded == (status == "SUCCEEDED"), || format!("{status}: {known:?}"))?;
            let input: Option<Value> =
                sample["input"].as_str().and_then(|input| serde_json::from_str(input).ok());
            promise(known.input == input.unwrap_or_default(), || format!("its input is {}", known.input))
        }
        Ok(other) => Err(format!("{other:?} is known")),
        Err(error) => {
            let field = if is_time(started) { "stopDate" } else { "startDate" };
            let is_bad = !is_time(started) || (is_over && !is_time(time("stopDate")));
            promise(is_bad && error.to_string().contains(field), || {
                format!("the error does not name {field}: {error}")
            })
        }
    }
}

fn answer(sample: &Value, status: &str, started: Option<i64>) -> DescribeExecutionOutput {
    DescribeExecutionOutput::builder()
        .execution_arn(ARN)
        .state_machine_arn("arn:aws:states:us-east-1:123456789012:stateMachine:Swap")
        .status(ExecutionStatus::from(status))
        .set_start_date(started.map(DateTime::from_secs))
        .set_stop_date(sample.get("stopDate").and_then(Value::as_i64).map(DateTime::from_secs))
        .set_input(sample["input"].as_str().map(str::to_owned))
        .build()
        .unwrap()
}

fn promise(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}
