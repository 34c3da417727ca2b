//! Reads the Settings table.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use spot_domain::settings::{BadOverride, Settings, Value, scopes};
use spot_domain::{AccountId, Region};

use crate::clients::{BadEnvironment, Stack, variable};
use crate::error::{CallError, failed};

/// Why no settings could be had. Nothing is done without them.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// An override that can't be applied.
    #[error(transparent)]
    Override(#[from] BadOverride),
    /// The table did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The stack is set up wrong.
    #[error(transparent)]
    Environment(#[from] BadEnvironment),
}

/// The settings for an account and region: the defaults, then each scope's overrides, nearest last.
///
/// # Errors
/// A bad override, or the table does not answer.
pub async fn load(stack: &Stack, account: &AccountId, region: &Region) -> Result<Settings, SettingsError> {
    let table: String = variable("SETTINGS_TABLE")?;
    let scopes = scopes(account, region);
    let keys = scopes.iter().map(|scope| [("scope".to_owned(), AttributeValue::S(scope.clone()))].into());
    let request = KeysAndAttributes::builder()
        .set_keys(Some(keys.collect()))
        .consistent_read(true)
        .build()
        .map_err(|e| CallError::malformed("dynamodb:BatchGetItem", e.to_string()))?;
    let answer = stack
        .dynamodb
        .batch_get_item()
        .request_items(&table, request)
        .send()
        .await
        .map_err(failed("dynamodb:BatchGetItem"))?;
    if answer.unprocessed_keys().is_some_and(|keys| !keys.is_empty()) {
        let message = "the Settings table is throttled".to_owned();
        return Err(CallError {
            kind: crate::Kind::Retry,
            ..CallError::malformed("dynamodb:BatchGetItem", message)
        }
        .into());
    }
    let rows = answer.responses.and_then(|mut tables| tables.remove(&table)).ok_or_else(|| {
        CallError::malformed("dynamodb:BatchGetItem", "the answer does not mention the Settings table")
    })?;
    let mut settings = Settings::default();
    for scope in &scopes {
        let is_scope = |row: &&Row| row.get("scope").and_then(|v| v.as_s().ok()) == Some(scope);
        if let Some(row) = rows.iter().find(is_scope) {
            settings = settings.with(scope, &overrides(row))?;
        }
    }
    Ok(settings)
}

type Row = std::collections::HashMap<String, AttributeValue>;

fn overrides(row: &Row) -> BTreeMap<String, Value> {
    row.iter()
        .filter(|(field, _)| *field != "scope")
        .map(|(field, value)| (field.clone(), parse(value)))
        .collect()
}

fn parse(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::N(number) => number.parse().map_or(Value::Other, Value::Number),
        AttributeValue::S(text) => Value::Text(text.clone()),
        AttributeValue::Bool(b) => Value::Bool(*b),
        _ => Value::Other,
    }
}
