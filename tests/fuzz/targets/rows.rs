//! Rows of DynamoDB: leases and journals (Swaps), settings, accounts, poisoned pools.
//!
//! The parsers promise: no panic. A row is read, or an error names the row and the attribute. A lease lies under the
//! key that it gives, and a journal under a lease that it fits.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::Value;
use spot_cloud::tables::accounts::{self, AccountError};
use spot_cloud::tables::risk_pools;
use spot_cloud::tables::row::Row;
use spot_cloud::tables::swaps::{self, SwapsError};
use spot_domain::settings::Settings;
use spot_fuzz::Target;

use crate::promise;

#[test]
fn rows() {
    let words = &["revision", "Undoing", "Capturing", "NULL", "replaced", "launched_into"];
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
    poison(&row)
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
    match accounts::read(&id, row, &home) {
        Ok(account) => {
            let role = account.access.role.is_some_and(|role| role.arn.contains("111111111111"));
            promise(role, || format!("{row:?} opens another account"))?;
            let says = |name| row.get(name).is_some_and(|v| v == &AttributeValue::Bool(true));
            let terminates = account.auto_terminate == says("auto_terminate");
            promise(terminates, || format!("{row:?}: auto_terminate is {}", account.auto_terminate))
        }
        Err(AccountError::Disabled(_)) => {
            promise(row.contains_key("enabled"), || format!("{row:?} is disabled"))
        }
        Err(AccountError::Malformed { problem, .. }) => {
            promise(!problem.to_string().is_empty(), || "no problem".to_owned())
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
