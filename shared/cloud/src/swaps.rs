//! The Swaps table: one row for each target, with the lease of the execution that works on it and
//! the journal of the swap in progress. Every write is conditional on holding the lease.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spot_domain::journal::Journal;
use spot_domain::{AccountId, ExecutionArn, GroupArn, GroupName, Region};

use crate::clients::{BadEnvironment, Stack, variable};
use crate::error::{CallError, Kind, failed};

const UPDATE: &str = "dynamodb:UpdateItem";

/// A group under lease, and who holds it. It says where the group lies, so that the reconciler
/// finds it again knowing nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The row's key.
    pub target: GroupArn,
    /// The group's name.
    pub asg_name: GroupName,
    /// Its account.
    pub account_id: AccountId,
    /// Its region.
    pub region: Region,
    /// The execution that holds the lease.
    pub owner: ExecutionArn,
    /// When the run began.
    pub since: Timestamp,
}

/// A lease and what lies under it.
#[derive(Debug, Clone)]
pub struct Held {
    /// The lease.
    pub lease: Lease,
    /// The swap in progress, if one is.
    pub journal: Option<Journal>,
}

/// Why the table was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum SwapsError {
    /// Another execution works on this group.
    #[error("execution {owner} is working on this group; wait for it to end")]
    Busy {
        /// The holder.
        owner: String,
    },
    /// We no longer hold the lease: somebody has put the group right without us.
    #[error("the lease on {target} is no longer held by this execution")]
    LeaseLost {
        /// The group.
        target: GroupArn,
    },
    /// A row that can't be read: a person has to look.
    #[error("row {target:?} of the Swaps table: {problem}")]
    Malformed {
        /// The row's key.
        target: String,
        /// What is wrong.
        problem: String,
    },
    /// The table did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// The table.
#[derive(Debug, Clone)]
pub struct Swaps {
    dynamodb: aws_sdk_dynamodb::Client,
    table: String,
}

impl Swaps {
    /// The table of this stack.
    ///
    /// # Errors
    /// Its name is missing from the environment.
    pub fn new(stack: &Stack) -> Result<Self, BadEnvironment> {
        Ok(Self { dynamodb: stack.dynamodb.clone(), table: variable("SWAPS_TABLE")? })
    }

    /// Takes the lease. Taking it again for the same execution is fine.
    ///
    /// # Errors
    /// [`SwapsError::Busy`] if another execution holds it, dead or alive: the dead are the
    /// reconciler's.
    pub async fn take(&self, lease: &Lease) -> Result<(), SwapsError> {
        let set = "SET lease_owner = :me, lease_since = if_not_exists(lease_since, :since), \
                   asg_name = :name, account_id = :account, #region = :region, updated_at = :now";
        let answer = self
            .update(&lease.target, set)
            .condition_expression("attribute_not_exists(lease_owner) OR lease_owner = :me")
            .expression_attribute_names("#region", "region")
            .expression_attribute_values(":me", text(&lease.owner))
            .expression_attribute_values(":since", number(lease.since.as_millisecond()))
            .expression_attribute_values(":name", text(&lease.asg_name))
            .expression_attribute_values(":account", text(&lease.account_id))
            .expression_attribute_values(":region", text(&lease.region))
            .expression_attribute_values(":now", number(Timestamp::now().as_second()))
            .return_values_on_condition_check_failure(
                aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure::AllOld,
            )
            .send()
            .await;
        let Err(error) = answer else { return Ok(()) };
        let holder = error.as_service_error().and_then(|e| match e {
            aws_sdk_dynamodb::operation::update_item::UpdateItemError::ConditionalCheckFailedException(e) => {
                e.item().and_then(|row| row.get("lease_owner")?.as_s().ok().cloned())
            }
            _ => None,
        });
        let error = CallError::new(UPDATE, &error);
        if error.kind == Kind::ConditionFailed {
            return Err(SwapsError::Busy { owner: holder.unwrap_or_else(|| "another".to_owned()) });
        }
        Err(error.into())
    }

    /// Writes the journal ahead of the call it speaks of, and returns what it said before.
    ///
    /// # Errors
    /// [`SwapsError::LeaseLost`]: then the call must not be made.
    pub async fn write(&self, lease: &Lease, journal: &Journal) -> Result<Option<Journal>, SwapsError> {
        let row = serde_json::to_string(journal).map_err(|e| malformed(&lease.target, e.to_string()))?;
        let answer = self
            .update(&lease.target, "SET journal = :journal, updated_at = :now")
            .condition_expression("lease_owner = :me")
            .expression_attribute_values(":me", text(&lease.owner))
            .expression_attribute_values(":journal", AttributeValue::S(row))
            .expression_attribute_values(":now", number(Timestamp::now().as_second()))
            .return_values(aws_sdk_dynamodb::types::ReturnValue::UpdatedOld)
            .send()
            .await
            .map_err(failed(UPDATE))
            .map_err(|e| lost(e, lease))?;
        answer.attributes.as_ref().map_or(Ok(None), |row| parse_journal(&lease.target, row))
    }

    /// Closes the swap in progress: its journal goes. With `release`, so does the lease; `summary`
    /// stays in the row as its history.
    ///
    /// # Errors
    /// [`SwapsError::LeaseLost`].
    pub async fn close(&self, lease: &Lease, release: Release<'_>) -> Result<(), SwapsError> {
        let now = number(Timestamp::now().as_second());
        let request = match release {
            Release::Keep => self.update(&lease.target, "SET updated_at = :now REMOVE journal"),
            Release::LetGo { summary } => self
                .update(
                    &lease.target,
                    "SET updated_at = :now, last_execution = :me, last_summary = :summary \
                     REMOVE journal, lease_owner, lease_since",
                )
                .expression_attribute_values(":summary", AttributeValue::S(summary.to_owned())),
        };
        request
            .condition_expression("lease_owner = :me")
            .expression_attribute_values(":me", text(&lease.owner))
            .expression_attribute_values(":now", now)
            .send()
            .await
            .map_err(failed(UPDATE))
            .map_err(|e| lost(e, lease))
            .map(drop)
    }

    /// What the table holds of this lease; `None` once it is released or another's.
    ///
    /// # Errors
    /// The table does not answer, or the row can't be read.
    pub async fn read(&self, lease: &Lease) -> Result<Option<Held>, SwapsError> {
        let row = self
            .dynamodb
            .get_item()
            .table_name(&self.table)
            .key("target", text(&lease.target))
            .consistent_read(true)
            .send()
            .await
            .map_err(failed("dynamodb:GetItem"))?
            .item;
        let held = row.as_ref().map(parse).transpose()?.flatten();
        Ok(held.filter(|held| held.lease.owner == lease.owner))
    }

    /// Every lease there is. A row that can't be read is returned as its error, beside the others.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn all_held(&self) -> Result<Vec<Result<Held, SwapsError>>, CallError> {
        let mut pages = self
            .dynamodb
            .scan()
            .table_name(&self.table)
            .filter_expression("attribute_exists(lease_owner)")
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let mut held = Vec::new();
        while let Some(row) = pages.next().await {
            held.extend(parse(&row.map_err(failed("dynamodb:Scan"))?).transpose());
        }
        Ok(held)
    }

    fn update(
        &self,
        target: &GroupArn,
        expression: &str,
    ) -> aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder {
        self.dynamodb
            .update_item()
            .table_name(&self.table)
            .key("target", text(target))
            .update_expression(expression)
    }
}

/// What closing a swap does to the lease.
#[derive(Debug, Clone, Copy)]
pub enum Release<'a> {
    /// More swaps follow.
    Keep,
    /// The run is over.
    LetGo {
        /// What came of it, for whoever looks at the row.
        summary: &'a str,
    },
}

type Row = HashMap<String, AttributeValue>;

fn text(value: &impl ToString) -> AttributeValue {
    AttributeValue::S(value.to_string())
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn lost(error: CallError, lease: &Lease) -> SwapsError {
    if error.kind == Kind::ConditionFailed {
        return SwapsError::LeaseLost { target: lease.target.clone() };
    }
    error.into()
}

fn malformed(target: &impl ToString, problem: String) -> SwapsError {
    SwapsError::Malformed { target: target.to_string(), problem }
}

/// Reads a row; `None` if nobody holds it.
fn parse(row: &Row) -> Result<Option<Held>, SwapsError> {
    let key = row.get("target").and_then(|v| v.as_s().ok()).cloned().unwrap_or_default();
    if !row.contains_key("lease_owner") {
        return Ok(None);
    }
    let lease = Lease {
        target: field(&key, row, "target")?,
        asg_name: field(&key, row, "asg_name")?,
        account_id: field(&key, row, "account_id")?,
        region: field(&key, row, "region")?,
        owner: field(&key, row, "lease_owner")?,
        since: row
            .get("lease_since")
            .and_then(|v| v.as_n().ok()?.parse().ok())
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .ok_or_else(|| malformed(&key, "lease_since is missing or malformed".to_owned()))?,
    };
    let journal = parse_journal(&lease.target, row)?;
    Ok(Some(Held { lease, journal }))
}

fn field<T>(key: &str, row: &Row, name: &str) -> Result<T, SwapsError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let text = row
        .get(name)
        .and_then(|v| v.as_s().ok())
        .ok_or_else(|| malformed(&key, format!("{name} is missing or no text")))?;
    text.parse().map_err(|e: T::Err| malformed(&key, format!("{name}: {e}")))
}

fn parse_journal(target: &GroupArn, row: &Row) -> Result<Option<Journal>, SwapsError> {
    let Some(value) = row.get("journal") else { return Ok(None) };
    let text = value.as_s().map_err(|_| malformed(target, "journal is no text".to_owned()))?;
    serde_json::from_str(text).map(Some).map_err(|e| malformed(target, format!("journal: {e}")))
}
