//! The loop: keeps enrolled groups on Spot. The group watcher looks, decides and starts executions; it changes nothing
//! else but its own table.
//!
//! A sweep, every 15 minutes, looks at every enrolled group in every enabled account and region. A launch event of Auto
//! Scaling, or a person, names one group. What must rest, wait or be repaired first is deferred, with a reason that is
//! told once. [`visit`] walks one account and region, [`look`] asks of a group what Discover would ask.

pub mod answer;
pub mod error;
pub mod executions;
pub mod input;
pub mod look;
pub mod table;
pub mod visit;

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::Value;
use spot_cloud::announcements::Announcements;
use spot_cloud::environment::{BadEnvironment, variable};
use spot_cloud::launch::gatekeeper::Gatekeeper;
use spot_cloud::scopes::{AccountRegion, Unreadable, plan};
use spot_cloud::tables::accounts::AccountError;
use spot_cloud::tables::swaps::Swaps;
use spot_cloud::{CallError, Stack};
use spot_domain::watch::name::NAMED_FOR_SECONDS;
use spot_domain::{ExecutionArn, GroupArn};

use answer::{Answer, Failure};
use error::WatchError;
use executions::{Life, Machine, life};
use input::Request;
use table::{GroupsTable, Memories};
use visit::Visit;

/// Time that is kept free at the end, for what was decided to be told and written down.
const RESERVE: Duration = Duration::from_secs(20);

/// The group watcher.
#[derive(Debug)]
pub struct GroupWatcher {
    stack: Stack,
    swaps: Swaps,
    table: GroupsTable,
    gatekeeper: Gatekeeper,
    announcements: Announcements,
    sfn: aws_sdk_sfn::Client,
    group_swap: Machine,
    node_swap: Machine,
}

impl GroupWatcher {
    /// Reads the environment that the template sets.
    ///
    /// # Errors
    /// A variable is missing or malformed.
    pub async fn from_environment() -> Result<Self, BadEnvironment> {
        let stack = Stack::from_environment().await?;
        Ok(Self {
            swaps: Swaps::new(&stack)?,
            table: GroupsTable::new(stack.dynamodb.clone(), variable("GROUPS_TABLE")?),
            gatekeeper: Gatekeeper::new(&stack).await?,
            announcements: Announcements::new(&stack)?,
            sfn: aws_sdk_sfn::Client::new(stack.config()),
            group_swap: Machine(variable("CLUSTER_SWAP_STATE_MACHINE_ARN")?),
            node_swap: Machine(variable("NODE_SWAP_STATE_MACHINE_ARN")?),
            stack,
        })
    }

    /// Runs once, until Lambda ends it at `deadline`.
    ///
    /// # Errors
    /// The input, an account or a setting is wrong, or a table does not answer. Nothing was started.
    pub async fn handle(&self, event: Value, deadline: SystemTime) -> Result<Answer, WatchError> {
        let answer = self.run(event, deadline).await;
        match &answer {
            Ok(answer) => tracing::info!(
                looked_at = answer.looked_at,
                started = ?answer.started,
                deferred = answer.deferred.len(),
                partial = answer.partial,
                failed = ?answer.failed,
                "watched"
            ),
            Err(error) => tracing::error!(error = error.name(), "{error}"),
        }
        answer
    }

    async fn run(&self, event: Value, deadline: SystemTime) -> Result<Answer, WatchError> {
        let request = input::parse(event)?;
        let (account_id, region) = match &request {
            Request::Sweep => (None, None),
            Request::Group { account_id, region, .. } => (
                Some(account_id.as_ref().unwrap_or(&self.stack.account_id)),
                Some(region.as_ref().unwrap_or(&self.stack.region)),
            ),
        };
        let plan = plan(&self.stack, account_id, region).await?;
        let mut answer = Answer::default();
        answer.failed.extend(plan.unreadable.iter().map(|error| self.unreadable(error)));
        let mut memories = Memories::default();
        if request == Request::Sweep {
            memories = self.remember(&mut answer).await?;
        }
        let stop_at = deadline.checked_sub(RESERVE).unwrap_or(deadline);
        for scope in &plan.visits {
            if SystemTime::now() >= stop_at {
                answer.partial = true;
                break;
            }
            let clients = self.stack.clients(&scope.access, &scope.place.region, None).await;
            let mut visit = Visit {
                watcher: self,
                scope,
                clients: &clients,
                now: Timestamp::now(),
                stop_at,
                answer: &mut answer,
            };
            if let Err(error) = visit.run(&request, &mut memories).await {
                answer.failed.push(Failure::at(&scope.place, &error));
            }
        }
        Ok(answer)
    }

    /// Reads what the table remembers, and notes the ends of executions that have ended since.
    async fn remember(&self, answer: &mut Answer) -> Result<Memories, CallError> {
        let mut memories = self.table.load().await?;
        let mut ended = Vec::new();
        for execution in memories.running.clone() {
            match life(&self.sfn, &execution).await {
                Ok(Life::Running) => {}
                Ok(Life::Unknown) if may_be_starting(&execution, Timestamp::now()) => {}
                Ok(Life::Unknown) => ended.push(execution),
                Ok(Life::Ended(end)) => {
                    let is_its = |memory: &table::Memory| memory.execution.as_ref() == Some(&execution);
                    let group: Option<GroupArn> = memories
                        .groups
                        .iter()
                        .find(|(_, memory)| memory.as_ref().is_ok_and(is_its))
                        .map(|(arn, _)| arn.clone());
                    if let Some(arn) = group
                        && let Some(Ok(memory)) = memories.groups.get_mut(&arn)
                    {
                        memory.past = memory.past.and(&end, Timestamp::now());
                        if let Err(error) =
                            self.table.note_end(&arn, &execution, &memory.past, Timestamp::now()).await
                        {
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
        if let Err(error) = self.table.count_out(gone).await {
            answer.failed.push(Failure::own(&error));
        }
        Ok(memories)
    }

    fn unreadable(&self, error: &Unreadable) -> Failure {
        let account_id = match error {
            Unreadable::Row(AccountError::Malformed { account_id, .. })
            | Unreadable::Regions { account_id, .. } => account_id,
            Unreadable::Row(_) => &self.stack.account_id, // the row lies in the stack's own table
        };
        let place = AccountRegion { account_id: account_id.clone(), region: self.stack.region.clone() };
        Failure { region: None, ..Failure::at(&place, error) }
    }
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
