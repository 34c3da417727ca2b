//! The InstanceAuth table: its attributes, and the reads and writes of its rows.
//!
//! Every write is conditional on the status and the flag that the decision was based on. So no write overwrites
//! another run's change, or the change of a person who edits a row.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem, Update};
use jiff::{SignedDuration, Timestamp};
use spot_cloud::error::{CallError, failed, unreadable};
use spot_cloud::retry::patiently;
use spot_cloud::scopes::AccountRegion;
use spot_cloud::tables::row::{self, Row, number, number_in, seconds, text, text_in, time_in, written};
use spot_domain::InstanceId;
use spot_domain::audit::enforcement::{AuthStatus, Record};
use spot_domain::audit::reminders::Notified;

const ACCOUNT_REGION: &str = "account_region";
const INSTANCE_ID: &str = "instance_id";
const AUTH_STATUS: &str = "auth_status";
const FLAGGED_AT: &str = "flagged_at";
const LAST_SEEN: &str = "last_seen";
const REASON: &str = "reason";
const NOTICE_DELAY: &str = "notice_delay_seconds";
const TOLD_AT: &str = "told_at";
const SEEN_BY: &str = "seen_by";
const TERMINATING_AT: &str = "terminating_at";

/// The key of the row with the notices about the runs themselves. The row belongs to no account and region, so
/// that no run takes it for an instance.
const RUNS: &str = "runs";
const TOLD: &str = "told";
/// The most causes in that row, far below the 400 KB of a row. Causes beyond them are announced every hour.
const MAX_TOLD: usize = 1_000;

/// DynamoDB's limit for one transaction.
pub const WRITES_AT_ONCE: usize = 100;

/// The pauses between the attempts at a write that conflicts with a transaction: the SDK does not repeat it.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(800)];

/// A row as the table returned it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub record: Record,
    /// The status and the flag as the table has them, if they could not be parsed.
    odd: Option<Box<(Option<AttributeValue>, Option<AttributeValue>)>>,
}

impl From<Record> for Stored {
    /// Returns a row that we have just written.
    fn from(record: Record) -> Self {
        Self { record, odd: None }
    }
}

/// The InstanceAuth table.
#[derive(Debug, Clone)]
pub struct AuthTable {
    dynamodb: aws_sdk_dynamodb::Client,
    table: String,
}

impl AuthTable {
    /// Returns the table of this name.
    #[must_use]
    pub fn new(dynamodb: aws_sdk_dynamodb::Client, table: String) -> Self {
        Self { dynamodb, table }
    }

    /// Returns the rows of an account and region, except for the cleared ones. A run treats an instance without a
    /// row and a cleared instance alike.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn load(&self, place: &AccountRegion) -> Result<HashMap<InstanceId, Stored>, CallError> {
        let mut rows = self
            .dynamodb
            .query()
            .table_name(&self.table)
            .key_condition_expression(format!("{ACCOUNT_REGION} = :place"))
            .expression_attribute_values(":place", text(&place.key()))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let mut loaded = HashMap::new();
        while let Some(row) = rows.next().await {
            let row = row.map_err(failed("dynamodb:Query"))?;
            let id = text_in(&row, INSTANCE_ID).and_then(|id| id.parse().ok());
            let Some(id) = id else {
                tracing::warn!(%place, "a row of InstanceAuth whose key is no instance id");
                continue;
            };
            let stored = parse(&row);
            if stored.record.status != Some(AuthStatus::Cleared) {
                loaded.insert(id, stored);
            }
        }
        Ok(loaded)
    }

    /// Returns the notices about the runs themselves. A malformed notice counts as not sent.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn told(&self) -> Result<Notified, CallError> {
        let query = self
            .dynamodb
            .query()
            .table_name(&self.table)
            .key_condition_expression(format!("{ACCOUNT_REGION} = :runs AND {INSTANCE_ID} = :told"))
            .expression_attribute_values(":runs", text(RUNS))
            .expression_attribute_values(":told", text(TOLD))
            .consistent_read(true);
        let row = query.send().await.map_err(failed("dynamodb:Query"))?.items.unwrap_or_default().pop();
        let causes = row.and_then(|mut row| row.remove(TOLD)).and_then(|told| told.as_m().ok().cloned());
        let parsed = causes.unwrap_or_default().into_iter().filter_map(|(cause, at)| {
            let seconds: i64 = at.as_n().ok()?.parse().ok()?;
            Some((cause, Timestamp::from_second(seconds).ok()?))
        });
        Ok(parsed.collect())
    }

    /// Records the notices about the runs themselves. A concurrent run may overwrite them: people then get a
    /// notice twice.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn note_told(&self, told: &Notified) -> Result<(), CallError> {
        let causes = told.iter().take(MAX_TOLD).map(|(cause, at)| (cause.clone(), seconds(at)));
        let update = self
            .dynamodb
            .update_item()
            .table_name(&self.table)
            .set_key(Some(row::key([(ACCOUNT_REGION, RUNS), (INSTANCE_ID, TOLD)])))
            .update_expression("SET #told = :told")
            .expression_attribute_names("#told", TOLD)
            .expression_attribute_values(":told", AttributeValue::M(causes.collect()));
        update.send().await.map_err(failed("dynamodb:UpdateItem")).map(drop)
    }

    /// Writes `new` over `old`; `None` stands for no row or a cleared one. Returns false if the row has changed
    /// since it was read: another writer has then decided, and this decision is void.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn write(
        &self,
        place: &AccountRegion,
        id: &InstanceId,
        old: Option<&Stored>,
        new: &Record,
    ) -> Result<bool, CallError> {
        let write = Write::of(old, new);
        let request = self
            .dynamodb
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(place, id)))
            .update_expression(write.update)
            .condition_expression(write.condition)
            .set_expression_attribute_names(Some(write.names))
            .set_expression_attribute_values(Some(write.values));
        // A transaction of another audit locks the row for some milliseconds.
        let conflicts = |error: &CallError| error.code == "TransactionConflictException";
        let send = || async { request.clone().send().await.map_err(failed("dynamodb:UpdateItem")) };
        written(patiently(&PAUSES, conflicts, send).await)
    }

    /// Writes up to [`WRITES_AT_ONCE`] rows as [`Self::write`] does. Either all are written, or none, and the
    /// method returns false.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn write_all<'a>(
        &self,
        place: &AccountRegion,
        writes: impl Iterator<Item = (&'a InstanceId, Option<&'a Stored>, &'a Record)>,
    ) -> Result<bool, CallError> {
        let call = "dynamodb:TransactWriteItems";
        let item = |(id, old, new)| {
            let write = Write::of(old, new);
            let update = Update::builder()
                .table_name(&self.table)
                .set_key(Some(key(place, id)))
                .update_expression(write.update)
                .condition_expression(write.condition)
                .set_expression_attribute_names(Some(write.names))
                .set_expression_attribute_values(Some(write.values));
            update.build().map(|update| TransactWriteItem::builder().update(update).build())
        };
        let items = writes.map(item).collect::<Result<Vec<_>, _>>();
        let items = items.map_err(unreadable(call))?;
        let request = self.dynamodb.transact_write_items().set_transact_items(Some(items));
        written(request.send().await.map_err(failed(call)))
    }
}

fn key(place: &AccountRegion, id: &InstanceId) -> Row {
    row::key([(ACCOUNT_REGION, &place.key()), (INSTANCE_ID, id.as_str())])
}

/// The expressions of one conditional write.
#[derive(Default)]
struct Write {
    update: String,
    condition: String,
    names: HashMap<String, String>,
    values: Row,
}

impl Write {
    fn of(old: Option<&Stored>, new: &Record) -> Self {
        let mut write = Self::default();
        write.set(new);
        write.unless_changed(old);
        write
    }

    /// Sets every attribute of the record, or removes the attribute if the record has no value for it.
    fn set(&mut self, record: &Record) {
        let attributes = [
            (AUTH_STATUS, record.status.map(status)),
            (FLAGGED_AT, record.flagged_at.map(seconds)),
            (LAST_SEEN, record.last_seen.map(seconds)),
            (REASON, Some(text(&record.reason))),
            (NOTICE_DELAY, record.notice_delay.map(|d| number(&d.as_secs()))),
            (TOLD_AT, record.told_at.map(seconds)),
            (SEEN_BY, record.seen_by.clone().map(AttributeValue::S)),
            (TERMINATING_AT, record.terminating_at.map(seconds)),
        ];
        let (mut sets, mut removes) = (Vec::new(), Vec::new());
        for (name, value) in attributes {
            self.names.insert(format!("#{name}"), name.to_owned());
            match value {
                Some(value) => {
                    sets.push(format!("#{name} = :{name}"));
                    self.values.insert(format!(":{name}"), value);
                }
                None => removes.push(format!("#{name}")),
            }
        }
        let remove =
            if removes.is_empty() { String::new() } else { format!(" REMOVE {}", removes.join(", ")) };
        self.update = format!("SET {}{remove}", sets.join(", "));
    }

    fn unless_changed(&mut self, old: Option<&Stored>) {
        let Some(old) = old else {
            self.condition = format!("attribute_not_exists(#{AUTH_STATUS}) OR #{AUTH_STATUS} = :cleared");
            self.values.insert(":cleared".to_owned(), status(AuthStatus::Cleared));
            return;
        };
        let (was_status, was_flagged_at) = match &old.odd {
            Some(odd) => (odd.0.clone(), odd.1.clone()),
            None => (old.record.status.map(status), old.record.flagged_at.map(seconds)),
        };
        let mut conditions = Vec::new();
        for (name, was) in [(AUTH_STATUS, was_status), (FLAGGED_AT, was_flagged_at)] {
            match was {
                Some(was) => {
                    conditions.push(format!("#{name} = :was_{name}"));
                    self.values.insert(format!(":was_{name}"), was);
                }
                None => conditions.push(format!("attribute_not_exists(#{name})")),
            }
        }
        self.condition = conditions.join(" AND ");
    }
}

fn status(status: AuthStatus) -> AttributeValue {
    text(status.as_str())
}

/// Parses a row. A malformed value reads as missing, which never counts as expired.
#[must_use]
pub fn parse(row: &Row) -> Stored {
    let (time, text) = (|name| time_in(row, name), |name| text_in(row, name));
    let record = Record {
        status: text(AUTH_STATUS).and_then(|status| status.parse().ok()),
        flagged_at: time(FLAGGED_AT),
        notice_delay: number_in(row, NOTICE_DELAY).map(SignedDuration::from_secs),
        told_at: time(TOLD_AT),
        last_seen: time(LAST_SEEN),
        seen_by: text(SEEN_BY).cloned(),
        terminating_at: time(TERMINATING_AT),
        reason: text(REASON).cloned().unwrap_or_default(),
    };
    let canonical = row.get(AUTH_STATUS) == record.status.map(status).as_ref()
        && row.get(FLAGGED_AT) == record.flagged_at.map(seconds).as_ref();
    let odd = (!canonical).then(|| Box::new((row.get(AUTH_STATUS).cloned(), row.get(FLAGGED_AT).cloned())));
    Stored { record, odd }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(flagged_at: AttributeValue) -> Row {
        HashMap::from([
            (AUTH_STATUS.to_owned(), AttributeValue::S("FLAGGED".into())),
            (FLAGGED_AT.to_owned(), flagged_at),
        ])
    }

    #[test]
    fn a_malformed_flag_reads_as_missing() {
        let n = |text: &str| AttributeValue::N(text.to_owned());
        let odd =
            [n("1e30"), n("12.5"), n("-99999999999999"), AttributeValue::S("1700000000".into()), n("x")];
        for value in odd {
            let stored = parse(&row(value.clone()));
            assert_eq!(stored.record.flagged_at, None, "{value:?}");
            assert_eq!(stored.odd.unwrap().1, Some(value));
        }
        let good = parse(&row(n("1700000000")));
        assert_eq!(good.record.flagged_at.unwrap().as_second(), 1_700_000_000);
        assert_eq!(good.odd, None);
    }

    #[test]
    fn an_unknown_status_is_no_status() {
        let row = HashMap::from([(AUTH_STATUS.to_owned(), AttributeValue::S("flagged".into()))]);
        assert_eq!(parse(&row).record.status, None);
    }
}
