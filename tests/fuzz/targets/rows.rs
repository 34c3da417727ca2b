//! Rows of DynamoDB: leases and journals (Swaps), settings, accounts, poisoned pools, sightings, the loop's memory, and the
//! audit's flags.
//!
//! The parsers promise: no panic. A row is read, or an error names the row and the attribute. A lease lies under the
//! key that it gives, and a journal under a lease that it fits. An account whose row has a misspelt attribute is not visited.
//! A flag that can't be read counts as missing.

use aws_sdk_dynamodb::types::AttributeValue;
use group_watcher::table;
use jiff::{SignedDuration, Timestamp};
use risk_manager::hub::sightings;
use security_enforcer::auth_table;
use serde_json::Value;
use spot_cloud::tables::accounts::{self, AccountError};
use spot_cloud::tables::risk_pools;
use spot_cloud::tables::row::{Row, number_in, text_in, time_in};
use spot_cloud::tables::swaps::{self, SwapsError};
use spot_domain::audit::enforcement::{AuditRun, Record, Rules, due, grace_ends};
use spot_domain::settings::Settings;
use spot_fuzz::Target;

use crate::promise;

/// The attributes of the loop's memory that are read.
const MEMORY_FIELDS: [&str; 14] = [
    "failures",
    "pause_reason",
    "pause_detail",
    "pause_until",
    "reason",
    "detail",
    "not_before",
    "told_at",
    "look_after",
    "look_members",
    "execution",
    "started_at",
    "run_members",
    "instance_id",
];

#[test]
fn rows() {
    let words = &["revision", "Undoing", "Capturing", "NULL", "replaced", "launched_into", "enable"];
    Target { name: "rows", samples: &[], words, cases: 4_000 }.fuzz(check);
}

fn check(bytes: &[u8]) -> Result<(), String> {
    let Ok(Value::Object(attributes)) = serde_json::from_slice(bytes) else { return Ok(()) };
    // DynamoDB refuses what is no value of its own.
    let row: Row =
        attributes.iter().filter_map(|(name, value)| Some((name.clone(), stored(value)?))).collect();
    swap(&row)?;
    settings(&row)?;
    account(&row)?;
    poison(&row)?;
    sighting(&row)?;
    memory(&row)?;
    flag(&row)
}

/// Returns a value as DynamoDB stores it.
fn stored(value: &Value) -> Option<AttributeValue> {
    let (kind, value) = value.as_object().filter(|fields| fields.len() == 1)?.iter().next()?;
    let texts =
        || value.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
    Some(match kind.as_str() {
        "S" => AttributeValue::S(value.as_str()?.to_owned()),
        "N" => AttributeValue::N(value.as_str().filter(|text| text.parse::<f64>().is_ok())?.to_owned()),
        "BOOL" => AttributeValue::Bool(value.as_bool()?),
        "NULL" => AttributeValue::Null(true),
        "SS" => AttributeValue::Ss(texts()?),
        "L" => AttributeValue::L(value.as_array()?.iter().map(stored).collect::<Option<_>>()?),
        "M" => AttributeValue::M(
            value.as_object()?.iter().map(|(k, v)| Some((k.clone(), stored(v)?))).collect::<Option<_>>()?,
        ),
        _ => return None,
    })
}

fn swap(row: &Row) -> Result<(), String> {
    let key = row.get("target").and_then(|v| v.as_s().ok());
    match swaps::parse(row) {
        Ok(None) => {
            promise(!row.contains_key("lease_owner"), || "a row with an owner counts as free".to_owned())
        }
        Ok(Some(held)) => {
            promise(key == Some(&held.lease.key()), || {
                format!("{key:?} holds the lease {}", held.lease.key())
            })?;
            let Some(journal) = held.journal else { return Ok(()) };
            promise(held.lease.contradicts(&journal).is_none(), || {
                format!("{journal:?} under {:?}", held.lease)
            })?;
            let written = serde_json::to_string(&journal).map_err(|error| error.to_string())?;
            let read = serde_json::from_str(&written).map_err(|error| format!("{written}: {error}"))?;
            promise(journal == read, || format!("{journal:?} reads back as {read:?}"))
        }
        Err(SwapsError::Malformed { target, problem }) => {
            promise(key.cloned().unwrap_or_default() == target, || format!("{key:?} is called {target:?}"))?;
            let attributes =
                ["leased", "account_id", "region", "lease_owner", "lease_since", "revision", "journal"];
            let named = attributes.iter().any(|attribute| problem.to_string().contains(attribute));
            promise(named, || format!("the error names no attribute: {problem}"))
        }
        Err(other) => Err(format!("not an error of the row: {other:?}")),
    }
}

fn settings(row: &Row) -> Result<(), String> {
    let overrides = spot_cloud::tables::settings::overrides(row);
    match Settings::default().with("global", &overrides) {
        Ok(settings) => {
            let read = serde_json::from_value::<Settings>(serde_json::to_value(&settings).unwrap());
            promise(read.as_ref().ok() == Some(&settings), || {
                format!("{settings:?} reads back as {read:?}")
            })?;
            let _ = (
                settings.poison_for(),
                settings.rebalance_poison_for(),
                settings.grace(),
                settings.audit_gap(),
            );
            Ok(())
        }
        Err(error) => {
            promise(row.contains_key(&error.field), || format!("{error} names no attribute of the row"))
        }
    }
}

fn account(row: &Row) -> Result<(), String> {
    let (id, home) = ("111111111111".parse().unwrap(), "us-east-1".parse().unwrap());
    let read = accounts::read(&id, row, &home);
    let error = read.as_ref().err().map(ToString::to_string).unwrap_or_default();
    match read {
        Ok(account) => {
            promise(!row.contains_key("enable"), || format!("{row:?} is visited"))?;
            let role = account.access.role.is_some_and(|role| role.arn.contains("111111111111"));
            promise(role, || format!("{row:?} opens another account"))?;
            let says = |name| row.get(name).is_some_and(|v| v == &AttributeValue::Bool(true));
            let terminates = account.auto_terminate == says("auto_terminate");
            promise(terminates, || format!("{row:?}: auto_terminate is {}", account.auto_terminate))
        }
        Err(AccountError::Disabled(_)) => {
            promise(row.contains_key("enabled"), || format!("{row:?} is disabled"))
        }
        Err(AccountError::Malformed { field, .. }) => {
            let is_named = error.contains(&format!("{field:?}"));
            promise(is_named, || format!("the error names no attribute: {error}"))?;
            // Only these two must be there.
            let is_there =
                row.contains_key(&field) || ["environment_type", "role_arn"].contains(&field.as_str());
            promise(is_there, || format!("{error}, and the row has no {field}"))
        }
        Err(other) => Err(format!("not an error of the row: {other:?}")),
    }
}

fn poison(row: &Row) -> Result<(), String> {
    match risk_pools::parse("us-east-1#use1-az6#m5.large", row) {
        Ok(poison) => {
            let is_poisoned = row.get(risk_pools::IS_POISONED).and_then(|v| v.as_bool().ok());
            promise(is_poisoned == Some(&poison.is_poisoned), || format!("{row:?} reads as {poison:?}"))
        }
        Err(error) => promise(
            [risk_pools::IS_POISONED, risk_pools::POISON_EXPIRES_AT].contains(&error.attribute),
            || format!("{error} names no attribute"),
        ),
    }
}

fn sighting(row: &Row) -> Result<(), String> {
    match sightings::parse(row) {
        Ok((account, until)) => {
            let told =
                (text_in(row, "account_id") == Some(&account), time_in(row, "expires_at") == Some(until));
            promise(told == (true, true), || format!("{row:?} reads as {account} until {until}"))
        }
        Err("account_id") => {
            promise(text_in(row, "account_id").is_none(), || format!("{row:?} has an account"))
        }
        Err(attribute) => {
            let is_bad = attribute == "expires_at" && time_in(row, "expires_at").is_none();
            promise(is_bad, || format!("{attribute} is no fault of {row:?}"))
        }
    }
}

fn memory(row: &Row) -> Result<(), String> {
    match table::parse(row) {
        Ok(memory) => {
            let failures = number_in::<u32>(row, "failures").unwrap_or(0);
            promise(memory.past.failures == failures, || format!("{row:?} reads as {memory:?}"))?;
            let is_paused = row.contains_key("pause_reason");
            promise(memory.past.pause.is_some() == is_paused, || format!("{row:?} reads as {memory:?}"))?;
            let execution = memory.execution.as_ref().map(ToString::to_string);
            promise(execution.as_ref() == text_in(row, "execution"), || {
                format!("{row:?} reads as {memory:?}")
            })
        }
        Err(error) => {
            let named = MEMORY_FIELDS.iter().find(|field| error.starts_with(*field));
            promise(named.is_some(), || format!("the error names no attribute: {error}"))
        }
    }
}

fn flag(row: &Row) -> Result<(), String> {
    let record = auth_table::parse(row).record;
    promise(record.flagged_at == time_in(row, "flagged_at"), || format!("{row:?} reads as {record:?}"))?;
    let status = record.status.map(|status| status.as_str());
    promise(status.is_none_or(|read| text_in(row, "auth_status").is_some_and(|told| told == read)), || {
        format!("{row:?} reads as {record:?}")
    })?;
    let delay = record.notice_delay.map(|delay| delay.as_secs());
    promise(delay == number_in::<i64>(row, "notice_delay_seconds"), || {
        format!("{row:?} reads as {record:?}")
    })?;
    is_due_by_its_flag_alone(&record)
}

/// Feeds the clock of the audit. Whatever a row holds, its sums don't overflow, and nothing is due without a flag.
fn is_due_by_its_flag_alone(record: &Record) -> Result<(), String> {
    let run = AuditRun { at: Timestamp::from_second(1_800_000_000).unwrap(), run: "run-1".to_owned() };
    let rules =
        Rules { grace: Settings::default().grace(), run_before_within: SignedDuration::from_hours(2) };
    let is_due = due(record, &run, rules).is_ok();
    let ended = grace_ends(record, rules.grace).is_some_and(|ends| ends <= run.at);
    promise(!is_due || ended, || format!("{record:?} is due"))
}
