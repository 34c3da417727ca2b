//! What the loop remembers at the beginning of a run: its table, and the ends of executions since.

use jiff::Timestamp;
use spot_cloud::CallError;
use spot_domain::ExecutionArn;
use spot_domain::watch::name::NAMED_FOR_SECONDS;

use crate::answer::{Answer, Failure};
use crate::executions::{Life, life};
use crate::table::{Memories, Memory};
use crate::tools::{Tools, now};

/// Reads the table, and notes the ends of executions that have ended since. What can't be noted is tried again next time.
///
/// # Errors
/// The table does not answer.
pub async fn remember(tools: &Tools, answer: &mut Answer) -> Result<Memories, CallError> {
    let mut memories = tools.table.load().await?;
    let mut ended = Vec::new();
    for execution in memories.running.clone() {
        match life(&tools.sfn, &execution).await {
            Ok(Life::Running) => {}
            Ok(Life::Unknown) if may_be_starting(&execution, now()) => {}
            Ok(Life::Unknown) => ended.push(execution),
            Ok(Life::Ended(end)) => {
                let is_its = |memory: &Memory| memory.execution.as_ref() == Some(&execution);
                let rows = memories.rows.iter_mut();
                let its = rows.filter_map(|(key, memory)| Some((key, memory.as_mut().ok()?)));
                if let Some((key, memory)) = its.into_iter().find(|(_, memory)| is_its(memory)) {
                    memory.past = memory.past.and(&end, now());
                    if let Err(error) = tools.table.note_end(key, &execution, &memory.past, now()).await {
                        answer.failed.push(Failure::own(&error));
                        continue; // It stays among those that run, so that its end is noted next time.
                    }
                }
                ended.push(execution);
            }
            // It counts as running until Step Functions say otherwise.
            Err(error) => answer.failed.push(Failure::own(&error)),
        }
    }
    for execution in &ended {
        memories.running.remove(execution);
    }
    let gone = ended.iter().map(ToString::to_string).collect();
    if let Err(error) = tools.table.count_out(gone).await {
        answer.failed.push(Failure::own(&error));
    }
    Ok(memories)
}

/// Returns true if the execution may be about to be started by another invocation: its name is of a moment ago.
fn may_be_starting(execution: &ExecutionArn, now: Timestamp) -> bool {
    let quarter = execution.as_str().rsplit('-').next().and_then(|second| second.parse::<i64>().ok());
    quarter.is_some_and(|quarter| now.as_second() - quarter < 2 * NAMED_FOR_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_that_is_not_known_yet_may_be_starting() {
        let arn =
            "arn:aws:states:us-east-1:123456789012:execution:swap:loop-web-1a2b-1800000000".parse().unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(may_be_starting(&arn, at(1_800_000_899)));
        assert!(may_be_starting(&arn, at(1_800_001_000)), "its name was made at the end of its quarter");
        assert!(!may_be_starting(&arn, at(1_800_001_800)));
        let other = "arn:aws:states:us-east-1:123456789012:execution:swap:by-hand".parse().unwrap();
        assert!(!may_be_starting(&other, at(0)));
    }
}
