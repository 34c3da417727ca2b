//! Executions as Step Functions knows them: their state, their end, and the swap that each was started for.

use aws_lambda_events::eventbridge::EventBridgeEvent;
use aws_sdk_sfn::operation::describe_execution::DescribeExecutionOutput;
use aws_sdk_sfn::types::ExecutionStatus;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spot_cloud::error::{CallError, Kind, failed};
use spot_cloud::tables::swaps::{Lease, Leased};
use spot_domain::swap::journal::Journal;
use spot_domain::{AccountId, ExecutionArn, Region};

/// The state of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionState {
    /// The execution works, or waits to.
    Running,
    /// The execution ended at this moment, in whatever status.
    EndedAt(Timestamp),
    /// Step Functions has forgotten the execution (it keeps executions for 90 days).
    Forgotten,
}

/// An execution, as Step Functions describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// The state of the execution.
    pub life: ExecutionState,
    known: Option<Known>,
}

/// The facts that Step Functions keeps of an execution, which no caller can write later.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    input: Value,
    started: Timestamp,
    has_succeeded: bool,
}

/// The most by which the clocks of Lambda and Step Functions may differ.
const SLACK: SignedDuration = SignedDuration::from_secs(60);

impl Execution {
    /// Returns true if the execution can have left the swap in this row.
    ///
    /// Three things must hold. The execution was started for that swap. The execution was at work when the
    /// swap began. The execution did not succeed: the last step of a successful execution clears the row. A
    /// caller who can write a row can't write those facts. If the execution's input names no account or
    /// region, the stack's own count.
    #[must_use]
    pub fn vouches_for(&self, lease: &Lease, journal: &Journal, own: (&AccountId, &Region)) -> bool {
        let Some(known) = &self.known else { return false };
        let place = |field: &str, value: &str, own: &str| match known.input.get(field) {
            None | Some(Value::Null) => value == own,
            Some(given) => given.as_str() == Some(value),
        };
        !known.has_succeeded
            && !known.wants("dry_run") // it writes no row
            && known.names(lease, journal)
            && self.was_at_work_for(known, journal)
            && place("account_id", lease.account_id.as_str(), own.0.as_str())
            && place("region", lease.region.as_str(), own.1.as_str())
    }

    /// Returns true if the execution ran when the swap began: a swap begins when its run does. A swap that is
    /// brought back began in an earlier run.
    fn was_at_work_for(&self, known: &Known, journal: &Journal) -> bool {
        let is_over = journal.kind.lab().is_some_and(|lab| lab.is_over);
        if is_over || known.wants("bring_back") {
            return is_over && known.wants("bring_back");
        }
        let ended = match self.life {
            ExecutionState::EndedAt(ended) => ended,
            ExecutionState::Running | ExecutionState::Forgotten => Timestamp::MAX,
        };
        let is_within = |began: Timestamp| {
            known.started.duration_since(began) <= SLACK && began.duration_since(ended) <= SLACK
        };
        journal.swap_id.run_started().is_some_and(is_within)
    }
}

impl Known {
    fn says(&self, field: &str) -> Option<&str> {
        self.input.get(field).and_then(Value::as_str)
    }

    fn wants(&self, field: &str) -> bool {
        self.input.get(field) == Some(&Value::Bool(true))
    }

    fn names(&self, lease: &Lease, journal: &Journal) -> bool {
        let names_old = self.says("instance_id") == Some(journal.old.as_str());
        match (&lease.on, journal.kind.node()) {
            (Leased::Group { name, .. }, None) => {
                let is_answer = journal.kind.answer().is_some();
                // An answer is about one instance; a swap of its group is about none in particular.
                let names_instance = if is_answer { names_old } else { self.says("instance_id").is_none() };
                self.says("asg_name") == Some(name.as_str()) && names_instance
            }
            (Leased::Group { .. }, Some(node)) => {
                names_old && self.says("cluster_name").is_none_or(|named| named == node.cluster.as_str())
            }
            (Leased::Instance(_), _) => names_old,
            (Leased::ClusterSlot { .. }, _) => false, // no swap lies under it
        }
    }
}

/// The detail of `Step Functions Execution Status Change`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusChange {
    execution_arn: ExecutionArn,
}

/// Returns the execution that the event says has ended; `None` for the schedule's, which is about every lease.
#[must_use]
pub fn ended(event: &Value) -> Option<ExecutionArn> {
    let change = EventBridgeEvent::<StatusChange>::deserialize(event).ok()?;
    Some(change.detail.execution_arn)
}

/// Describes an execution.
///
/// # Errors
/// The call fails.
pub async fn describe(
    client: &aws_sdk_sfn::Client,
    execution: &ExecutionArn,
) -> Result<Execution, CallError> {
    let answer = client
        .describe_execution()
        .execution_arn(execution.as_str())
        .send()
        .await
        .map_err(failed("states:DescribeExecution"));
    let answer = match answer {
        Err(error) if error.kind == Kind::NotFound || error.code == "ExecutionDoesNotExist" => {
            return Ok(Execution { life: ExecutionState::Forgotten, known: None });
        }
        answer => answer?,
    };
    read(execution, &answer)
}

fn read(execution: &ExecutionArn, answer: &DescribeExecutionOutput) -> Result<Execution, CallError> {
    let over = [
        ExecutionStatus::Succeeded,
        ExecutionStatus::Failed,
        ExecutionStatus::Aborted,
        ExecutionStatus::TimedOut,
    ];
    let malformed =
        |what: &str| CallError::malformed("states:DescribeExecution", format!("{execution} {what}"));
    let started = Timestamp::from_second(answer.start_date().secs());
    let known = Known {
        input: answer.input().and_then(|input| serde_json::from_str(input).ok()).unwrap_or_default(),
        started: started.map_err(|_| malformed("has no usable startDate"))?,
        has_succeeded: answer.status() == &ExecutionStatus::Succeeded,
    };
    let life = if over.contains(answer.status()) {
        let ended = answer.stop_date().and_then(|t| Timestamp::from_second(t.secs()).ok());
        ExecutionState::EndedAt(ended.ok_or_else(|| malformed("is over but has no usable stopDate"))?)
    } else {
        ExecutionState::Running // also what AWS invents tomorrow
    };
    Ok(Execution { life, known: Some(known) })
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use serde_json::json;
    use spot_cloud::tables::swaps::Owner;
    use spot_domain::swap::journal::{AnswerJournal, NodeSwap, Raise, Retirement, SwapKind};

    use super::*;

    const OLD: &str = "i-0123456789abcdef0";

    const STARTED: i64 = 1_700_000_000;

    /// An execution of ten minutes that failed.
    fn failed_with(input: &Value) -> Execution {
        let at = |second| Timestamp::from_second(second).unwrap();
        let known = Known { input: input.clone(), started: at(STARTED), has_succeeded: false };
        Execution { life: ExecutionState::EndedAt(at(STARTED + 600)), known: Some(known) }
    }

    /// The journal of a swap in a run that began then.
    fn journal(began: i64) -> Journal {
        let began = Timestamp::from_second(began).unwrap();
        Journal::new(&OLD.parse().unwrap(), began, Retirement::Detach, SwapKind::Group)
    }

    fn believed(execution: &Execution, on: Leased, journal: &Journal) -> bool {
        let (own, region): (AccountId, Region) =
            ("123456789012".parse().unwrap(), "us-east-1".parse().unwrap());
        let owner = "arn:aws:states:us-east-1:123456789012:execution:swap:run-1".parse().unwrap();
        let lease = Lease {
            on,
            account_id: own.clone(),
            region: region.clone(),
            owner: Owner::Execution(owner),
            since: Timestamp::UNIX_EPOCH,
        };
        execution.vouches_for(&lease, journal, (&own, &region))
    }

    fn vouches(input: &Value, on: Leased) -> bool {
        believed(&failed_with(input), on, &journal(STARTED))
    }

    fn group() -> Leased {
        let arn = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:u:autoScalingGroupName/web";
        Leased::Group { arn: arn.parse().unwrap(), name: "web".parse().unwrap() }
    }

    #[test]
    fn a_status_change_names_the_execution_that_ended() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../events/execution-status-change.json");
        let event: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let named = "arn:aws:states:us-east-1:123456789012:execution:ClusterSwap:web-1";
        assert_eq!(ended(&event).map(|arn| arn.to_string()).as_deref(), Some(named));
        for event in [json!({"task": "sweep"}), Value::Null, json!({"detail": {"executionArn": 1}})] {
            assert_eq!(ended(&event), None, "{event}");
        }
    }

    #[test]
    fn an_execution_vouches_for_what_its_input_names() {
        let instance = || Leased::Instance(OLD.parse().unwrap());
        assert!(vouches(&json!({"asg_name": "web"}), group()));
        assert!(vouches(&json!({"asg_name": "web", "account_id": "123456789012", "region": null}), group()));
        assert!(vouches(&json!({"instance_id": OLD, "region": "us-east-1"}), instance()));
    }

    #[test]
    fn that_of_a_node_swap_vouches_for_a_swap_in_that_cluster() {
        let node = || NodeSwap {
            cluster: "c".parse().unwrap(),
            kubeconfig_secret: None,
            old: "node-1".parse().unwrap(),
            evict_local_storage: false,
            evict_unmanaged: false,
        };
        let vouches = |input: &Value| {
            believed(
                &failed_with(input),
                group(),
                &Journal { kind: SwapKind::of_node(node()), ..journal(STARTED) },
            )
        };
        assert!(vouches(&json!({"instance_id": OLD, "cluster_name": "c"})));
        assert!(vouches(&json!({"instance_id": OLD})), "its cluster was found by its tags");
        assert!(!vouches(&json!({"instance_id": OLD, "cluster_name": "d"})));
        assert!(!vouches(&json!({"asg_name": "web"})));
    }

    #[test]
    fn that_of_an_answer_vouches_for_the_answer_for_its_own_instance() {
        let answer = AnswerJournal { raise: Raise::Made, ..AnswerJournal::new(Timestamp::UNIX_EPOCH) };
        let vouches = |input: &Value, kind: SwapKind| {
            believed(&failed_with(input), group(), &Journal { kind, ..journal(STARTED) })
        };
        let own = json!({"asg_name": "web", "instance_id": OLD});
        assert!(vouches(&own, SwapKind::Answer(answer)));
        assert!(!vouches(&own, SwapKind::Group), "it swaps no group");
        assert!(!vouches(&json!({"asg_name": "web"}), SwapKind::Answer(answer)));
        let of_another = json!({"asg_name": "web", "instance_id": "i-0123456789abcdef1"});
        assert!(!vouches(&of_another, SwapKind::Answer(answer)));
    }

    #[test]
    fn it_vouches_for_nothing_else() {
        let instance = || Leased::Instance(OLD.parse().unwrap());
        for (input, on) in [
            (Value::Null, group()),
            (json!({}), group()),
            (json!({"asg_name": "other"}), group()),
            (json!({"asg_name": "web", "account_id": "210987654321"}), group()),
            (json!({"asg_name": "web", "region": "eu-west-1"}), group()),
            (json!({"asg_name": "web", "dry_run": true}), group()),
            (json!({"instance_id": OLD}), group()),
            (json!({"asg_name": "web"}), instance()),
            (json!({"instance_id": "i-0123456789abcdef1"}), instance()),
        ] {
            assert!(!vouches(&input, on.clone()), "{input} vouches for {on}");
        }
    }

    #[test]
    fn it_vouches_for_swaps_of_its_own_time_unless_it_succeeded() {
        let failed = failed_with(&json!({"asg_name": "web"}));
        let began_at = |second| believed(&failed, group(), &journal(STARTED + second));
        assert!(began_at(-1) && began_at(0) && began_at(599));
        assert!(!began_at(-3_600) && !began_at(3_600));
        let known = failed.known.clone().map(|known| Known { has_succeeded: true, ..known });
        let succeeded = Execution { known, ..failed };
        assert!(!believed(&succeeded, group(), &journal(STARTED)));
        let forgotten = Execution { life: ExecutionState::Forgotten, known: None };
        assert!(!believed(&forgotten, group(), &journal(STARTED)));
    }
}
