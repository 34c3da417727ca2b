//! The Groups table: what the loop remembers of each group and lab instance, which of its executions run, and where its
//! next sweep begins.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::{SignedDuration, Timestamp};
use spot_cloud::error::{CallError, failed};
use spot_cloud::scopes::AccountRegion;
use spot_cloud::tables::row::{Row, key, number, number_in, seconds, text, text_in, time_in, written};
use spot_domain::watch::back_off::Past;
use spot_domain::watch::{Deferral, Deferred};
use spot_domain::{ExecutionArn, InstanceId};

use crate::answer::{Name, Started, Subject};

mod turn;

const UPDATE: &str = "dynamodb:UpdateItem";
const SCAN: &str = "dynamodb:Scan";
/// The key: that of a [`Subject`], [`RUNNING`] or [`turn::TURN`] (S).
const GROUP: &str = "group";
/// The key of the one row that lists the executions of the loop that run.
const RUNNING: &str = "running";
/// The attribute of that row (SS).
const EXECUTIONS: &str = "executions";
/// A row that nobody has written to for so long is deleted.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The loop's memory of one group or lab instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// The failed runs, and the pause after the last run.
    pub past: Past,
    /// The deferral that was told last; absent after a start.
    pub told: Option<Told>,
    /// The execution that was started last.
    pub execution: Option<ExecutionArn>,
    /// The start of that execution.
    pub started_at: Option<Timestamp>,
    /// The members that it might swap, as a text that differs for others.
    pub members_of_run: Option<String>,
    /// The instance that it swaps: a node of the group, or the lab instance itself.
    pub instance_id: Option<InstanceId>,
}

/// A deferral that was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The deferral.
    pub deferred: Deferred,
    /// The time when it was told.
    pub at: Timestamp,
    /// The look that it comes from, if sweeps take that for granted.
    pub seen: Option<Seen>,
}

/// A look that sweeps take for granted: until a time, and for the same members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The time until which it holds.
    pub until: Timestamp,
    /// The members that may be swapped, as a text that differs for others.
    pub members: String,
}

/// Everything that the table holds.
#[derive(Debug, Default)]
pub struct Memories {
    /// By the key of the subject. The error names the attribute that can't be read.
    pub rows: BTreeMap<String, Result<Memory, String>>,
    /// The executions of the loop that run, as far as is known.
    pub running: BTreeSet<ExecutionArn>,
    /// The place after which the sweep begins.
    pub begin_after: Option<AccountRegion>,
}

/// The table.
#[derive(Debug, Clone)]
pub struct GroupsTable {
    dynamodb: aws_sdk_dynamodb::Client,
    name: String,
}

impl GroupsTable {
    #[must_use]
    pub fn new(dynamodb: aws_sdk_dynamodb::Client, name: String) -> Self {
        Self { dynamodb, name }
    }

    /// Reads the whole table.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn load(&self) -> Result<Memories, CallError> {
        let scan = self.dynamodb.scan().table_name(&self.name).consistent_read(true);
        let mut rows = scan.into_paginator().items().send();
        let mut memories = Memories::default();
        while let Some(row) = rows.next().await {
            let row = row.map_err(failed(SCAN))?;
            match text_in(&row, GROUP).map(String::as_str) {
                Some(RUNNING) => memories.running = running(&row),
                Some(turn::TURN) => memories.begin_after = turn::place(&row),
                Some(key) => drop(memories.rows.insert(key.to_owned(), parse(&row))),
                None => {}
            }
        }
        Ok(memories)
    }

    /// Counts an execution among those that run; returns false if `most` others run already. The same execution counts
    /// once.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn count_in(&self, execution: &ExecutionArn, most: u32) -> Result<bool, CallError> {
        let answer = self
            .update(RUNNING, "ADD #executions :set")
            .condition_expression(
                "attribute_not_exists(#executions) OR size(#executions) < :most OR contains(#executions, :one)",
            )
            .expression_attribute_names("#executions", EXECUTIONS)
            .expression_attribute_values(":set", AttributeValue::Ss(vec![execution.to_string()]))
            .expression_attribute_values(":one", text(execution))
            .expression_attribute_values(":most", number(&most))
            .send()
            .await;
        written(answer.map_err(failed(UPDATE)))
    }

    /// Counts executions out that run no more.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn count_out(&self, executions: Vec<String>) -> Result<(), CallError> {
        if executions.is_empty() {
            return Ok(());
        }
        let update = self
            .update(RUNNING, "DELETE #executions :set")
            .expression_attribute_names("#executions", EXECUTIONS)
            .expression_attribute_values(":set", AttributeValue::Ss(executions));
        update.send().await.map_err(failed(UPDATE)).map(drop)
    }

    /// Notes the start of an execution.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn note_start(
        &self,
        started: &Started,
        members: &str,
        now: Timestamp,
    ) -> Result<(), CallError> {
        let (set, remove) = match (&started.node, &started.subject.name) {
            (Some(_), _) => (", instance_id = :node", ""),
            (None, Name::Group { .. }) => ("", ", instance_id"),
            (None, Name::Instance { .. }) => ("", ""),
        };
        let what = format!("execution = :execution, started_at = :now, run_members = :members{set}");
        let mut update = self
            .update_subject(&started.subject, &what, &format!("REMOVE {DEFERRED}{remove}"), now)
            .expression_attribute_values(":execution", text(&started.execution_arn))
            .expression_attribute_values(":members", text(members))
            .expression_attribute_values(":now", seconds(now));
        if let Some(node) = &started.node {
            update = update.expression_attribute_values(":node", text(node));
        }
        update.send().await.map_err(failed(UPDATE)).map(drop)
    }

    /// Notes what follows from the end of the execution that was started last. If another has been started since, nothing
    /// is noted.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn note_end(
        &self,
        key: &str,
        execution: &ExecutionArn,
        past: &Past,
        now: Timestamp,
    ) -> Result<(), CallError> {
        let pause = past.pause.as_ref();
        let until = pause.and_then(|pause| pause.not_before);
        let mut expression =
            "SET failures = :failures, last_ended_at = :now, expires_at = :expires".to_owned();
        expression += if pause.is_some() { ", pause_reason = :reason, pause_detail = :detail" } else { "" };
        expression += match (pause, until) {
            (Some(_), Some(_)) => ", pause_until = :until",
            (Some(_), None) => " REMOVE pause_until",
            (None, _) => " REMOVE pause_reason, pause_detail, pause_until",
        };
        let mut update = self
            .update(key, &expression)
            .condition_expression("execution = :execution")
            .expression_attribute_values(":execution", text(execution))
            .expression_attribute_values(":failures", number(&past.failures))
            .expression_attribute_values(":now", seconds(now))
            .expression_attribute_values(":expires", expiry(now));
        if let Some(pause) = pause {
            update = update
                .expression_attribute_values(":reason", text(pause.reason.code()))
                .expression_attribute_values(":detail", text(&pause.detail));
        }
        if let Some(until) = until {
            update = update.expression_attribute_values(":until", seconds(until));
        }
        written(update.send().await.map_err(failed(UPDATE))).map(drop)
    }

    /// Notes a deferral.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn note_deferral(
        &self,
        subject: &Subject,
        told: &Told,
        now: Timestamp,
    ) -> Result<(), CallError> {
        let seen = told.seen.as_ref();
        let optional = [
            ("not_before", ":until", told.deferred.not_before),
            ("look_after", ":look", seen.map(|seen| seen.until)),
        ];
        let (there, gone): (Vec<_>, Vec<_>) = optional.iter().partition(|(_, _, time)| time.is_some());
        let set: Vec<_> = there.iter().map(|(name, value, _)| format!(", {name} = {value}")).collect();
        let (set, gone) = (set.concat(), gone.iter().map(|(name, ..)| *name).collect::<Vec<_>>());
        let remove = if gone.is_empty() { String::new() } else { format!("REMOVE {}", gone.join(", ")) };
        let what =
            format!("reason = :reason, detail = :detail, told_at = :told, look_members = :members{set}");
        let mut update = self
            .update_subject(subject, &what, &remove, now)
            .expression_attribute_values(":reason", text(told.deferred.reason.code()))
            .expression_attribute_values(":detail", text(&told.deferred.detail))
            .expression_attribute_values(":told", seconds(told.at))
            .expression_attribute_values(":members", text(seen.map_or("", |seen| &seen.members)));
        for (_, value, time) in optional {
            if let Some(time) = time {
                update = update.expression_attribute_values(value, seconds(time));
            }
        }
        update.send().await.map_err(failed(UPDATE)).map(drop)
    }

    /// Forgets a deferral: there is nothing to swap any more.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn forget_deferral(&self, key: &str) -> Result<(), CallError> {
        let update = self.update(key, &format!("REMOVE {DEFERRED}"));
        update.send().await.map_err(failed(UPDATE)).map(drop)
    }

    /// Returns the update that sets `what` beside the name of the subject.
    fn update_subject(
        &self,
        subject: &Subject,
        what: &str,
        remove: &str,
        now: Timestamp,
    ) -> UpdateItemFluentBuilder {
        let name = match subject.name {
            Name::Group { .. } => "asg_name",
            Name::Instance { .. } => "instance_id",
        };
        let set = format!("SET {name} = :name, {PLACED}, {what} {remove}");
        self.update(&subject.key, set.trim_end())
            .expression_attribute_names("#region", "region")
            .expression_attribute_values(":name", text(&subject.name.as_str()))
            .expression_attribute_values(":account", text(&subject.place.account_id))
            .expression_attribute_values(":region", text(&subject.place.region))
            .expression_attribute_values(":expires", expiry(now))
    }

    fn update(&self, subject: &str, expression: &str) -> UpdateItemFluentBuilder {
        let update = self.dynamodb.update_item().table_name(&self.name);
        update.set_key(Some(key([(GROUP, subject)]))).update_expression(expression)
    }
}

const PLACED: &str = "account_id = :account, #region = :region, expires_at = :expires";
const DEFERRED: &str = "reason, detail, not_before, look_after, look_members, told_at";

fn expiry(now: Timestamp) -> AttributeValue {
    seconds(now.checked_add(KEPT_FOR).unwrap_or(Timestamp::MAX))
}

fn running(row: &Row) -> BTreeSet<ExecutionArn> {
    let arns = row.get(EXECUTIONS).and_then(|set| set.as_ss().ok());
    arns.into_iter().flatten().filter_map(|arn| arn.parse().ok()).collect()
}

/// Reads the row of a group or lab instance. A row that can't be read starts nothing.
///
/// # Errors
/// The error begins with the attribute that can't be read.
pub fn parse(row: &Row) -> Result<Memory, String> {
    Ok(Memory {
        past: Past {
            failures: optional(row, "failures", number_in)?.unwrap_or(0),
            pause: deferred(row, "pause_reason", "pause_detail", "pause_until")?,
        },
        told: told(row)?,
        execution: parsed(row, "execution")?,
        started_at: optional(row, "started_at", time_in)?,
        members_of_run: told_text(row, "run_members")?,
        instance_id: parsed(row, "instance_id")?,
    })
}

fn told(row: &Row) -> Result<Option<Told>, String> {
    let Some(deferred) = deferred(row, "reason", "detail", "not_before")? else { return Ok(None) };
    let at = optional(row, "told_at", time_in)?.ok_or("told_at is missing")?;
    let until = optional(row, "look_after", time_in)?;
    let members = told_text(row, "look_members")?.unwrap_or_default();
    Ok(Some(Told { deferred, at, seen: until.map(|until| Seen { until, members }) }))
}

fn deferred(row: &Row, reason: &str, detail: &str, until: &str) -> Result<Option<Deferred>, String> {
    let Some(code) = told_text(row, reason)? else { return Ok(None) };
    let known = Deferral::ALL.iter().find(|known| known.code() == code);
    Ok(Some(Deferred {
        reason: *known.ok_or_else(|| format!("{reason}: {code:?} is unknown"))?,
        detail: told_text(row, detail)?.unwrap_or_default(),
        not_before: optional(row, until, time_in)?,
    }))
}

fn parsed<T>(row: &Row, name: &str) -> Result<Option<T>, String>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let text = told_text(row, name)?;
    text.map(|text| text.parse()).transpose().map_err(|error: T::Err| format!("{name}: {error}"))
}

fn told_text(row: &Row, name: &str) -> Result<Option<String>, String> {
    optional(row, name, |row, name| text_in(row, name).cloned())
}

/// Reads an attribute that may be absent; one that is there must be readable.
fn optional<T>(row: &Row, name: &str, read: impl Fn(&Row, &str) -> Option<T>) -> Result<Option<T>, String> {
    if !row.contains_key(name) {
        return Ok(None);
    }
    read(row, name).map(Some).ok_or_else(|| format!("{name} is malformed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pairs: &[(&str, AttributeValue)]) -> Row {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn a_row_is_read_as_it_was_written_and_a_malformed_one_is_no_empty_one() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let full = row(&[
            ("failures", number(&2)),
            ("pause_reason", text("BACKING_OFF")),
            ("pause_detail", text("why")),
            ("pause_until", seconds(at(5))),
            ("reason", text("WINDOW_CLOSED")),
            ("detail", text("closed")),
            ("told_at", seconds(at(3))),
            ("execution", text("arn:aws:states:us-east-1:123456789012:execution:swap:run-1")),
            ("started_at", seconds(at(1))),
        ]);
        let memory = parse(&full).unwrap();
        assert_eq!(memory.past.failures, 2);
        assert_eq!(memory.past.pause, Some(Deferred::until(Deferral::BackingOff, "why", at(5))));
        let told = memory.told.unwrap();
        assert_eq!((told.deferred, told.at), (Deferred::new(Deferral::WindowClosed, "closed"), at(3)));
        assert_eq!(parse(&Row::new()), Ok(Memory::default()));
        for (name, value) in [
            ("failures", text("two")),
            ("failures", number(&-1)),
            ("pause_reason", text("BORED")),
            ("pause_until", text("soon")),
            ("execution", text("run-1")),
            ("told_at", text("now")),
            ("instance_id", number(&1)),
        ] {
            let mut bad = full.clone();
            bad.insert(name.to_owned(), value);
            assert!(parse(&bad).unwrap_err().contains(name), "{name}");
        }
    }
}
