//! Executions: whether one is dead, and since when, and what it was started for.

use aws_sdk_sfn::types::ExecutionStatus;
use jiff::Timestamp;
use serde_json::Value;
use spot_cloud::error::{CallError, Kind, failed};
use spot_cloud::swaps::{Lease, Leased};
use spot_domain::journal::Journal;
use spot_domain::{AccountId, ExecutionArn, Region};

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

/// An execution, as Step Functions has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// Its life.
    pub life: Life,
    /// The input that it was started with, which nobody can write later.
    input: Value,
}

impl Execution {
    /// Returns true if it was started to swap what the row tells of. Whoever can write a row can't write that. Accounts and
    /// regions that its input leaves out are the stack's own.
    #[must_use]
    pub fn was_started_for(&self, lease: &Lease, journal: &Journal, own: (&AccountId, &Region)) -> bool {
        let says = |field: &str, value: &str| self.input.get(field).and_then(Value::as_str) == Some(value);
        let place = |field: &str, value: &str, own: &str| match self.input.get(field) {
            None | Some(Value::Null) => value == own,
            Some(given) => given.as_str() == Some(value),
        };
        let names_it = match (&lease.on, &journal.node) {
            (Leased::Group { name, .. }, None) => says("asg_name", name.as_str()),
            (Leased::Group { .. }, Some(node)) => {
                let cluster = self.input.get("cluster_name").and_then(Value::as_str);
                says("instance_id", journal.old.as_str())
                    && cluster.is_none_or(|named| named == node.cluster.as_str())
            }
            (Leased::Instance(id), _) => says("instance_id", id.as_str()),
            (Leased::ClusterSlot { .. }, _) => false, // no swap lies under it
        };
        let is_dry = self.input.get("dry_run") == Some(&Value::Bool(true)); // it writes no row
        names_it
            && !is_dry
            && place("account_id", lease.account_id.as_str(), own.0.as_str())
            && place("region", lease.region.as_str(), own.1.as_str())
    }
}

/// Asks Step Functions.
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
            return Ok(Execution { life: Life::Forgotten, input: Value::Null });
        }
        answer => answer?,
    };
    let over = [
        ExecutionStatus::Succeeded,
        ExecutionStatus::Failed,
        ExecutionStatus::Aborted,
        ExecutionStatus::TimedOut,
    ];
    let input = answer.input().and_then(|input| serde_json::from_str(input).ok()).unwrap_or_default();
    if !over.contains(answer.status()) {
        return Ok(Execution { life: Life::Running, input }); // also what AWS invents tomorrow
    }
    let ended = answer.stop_date().and_then(|t| Timestamp::from_second(t.secs()).ok());
    ended.map(|at| Execution { life: Life::EndedAt(at), input }).ok_or_else(|| {
        CallError::malformed("states:DescribeExecution", format!("{execution} is over but has no stop date"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use spot_cloud::swaps::Owner;
    use spot_domain::journal::{NodeSwap, Retirement};

    use super::*;

    const OLD: &str = "i-0123456789abcdef0";

    fn vouches(input: &Value, on: Leased) -> bool {
        vouches_for(input, on, None)
    }

    fn vouches_for(input: &Value, on: Leased, node: Option<NodeSwap>) -> bool {
        let (own, region): (AccountId, Region) =
            ("123456789012".parse().unwrap(), "us-east-1".parse().unwrap());
        let execution = "arn:aws:states:us-east-1:123456789012:execution:swap:run-1".parse().unwrap();
        let lease = Lease {
            on,
            account_id: own.clone(),
            region: region.clone(),
            owner: Owner::Execution(execution),
            since: Timestamp::UNIX_EPOCH,
        };
        let journal = Journal::new(&OLD.parse().unwrap(), Timestamp::UNIX_EPOCH, Retirement::Detach);
        let journal = Journal { node, ..journal };
        let execution = Execution { life: Life::Running, input: input.clone() };
        execution.was_started_for(&lease, &journal, (&own, &region))
    }

    fn group() -> Leased {
        let arn = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:u:autoScalingGroupName/web";
        Leased::Group { arn: arn.parse().unwrap(), name: "web".parse().unwrap() }
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
        let vouches = |input: &Value| vouches_for(input, group(), Some(node()));
        assert!(vouches(&json!({"instance_id": OLD, "cluster_name": "c"})));
        assert!(vouches(&json!({"instance_id": OLD})), "its cluster was found by its tags");
        assert!(!vouches(&json!({"instance_id": OLD, "cluster_name": "d"})));
        assert!(!vouches(&json!({"asg_name": "web"})));
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
}
