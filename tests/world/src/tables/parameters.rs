//! The parameters of a call. The world refuses a parameter that it does not know, and never ignores it.

use serde_json::Value;

use super::error::DynamoDbError;

/// The parameters that change nothing but statistics in the answer, which our code does not read.
const STATISTICS: [&str; 2] = ["ReturnConsumedCapacity", "ReturnItemCollectionMetrics"];

/// Checks that a call, or a part of one, has no other parameters.
pub(super) fn require_only(call: &Value, known: &[&str]) -> Result<(), DynamoDbError> {
    let names = call.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    match names
        .map(|(name, _)| name)
        .find(|name| !known.contains(&name.as_str()) && !STATISTICS.contains(&name.as_str()))
    {
        Some(name) => Err(DynamoDbError::NotInTheWorld(format!("parameter {name}"))),
        None => Ok(()),
    }
}

/// Returns a parameter that is a text.
pub(super) fn text<'a>(call: &'a Value, name: &str) -> Option<&'a str> {
    call.get(name).and_then(Value::as_str)
}

/// Returns the table's name; a table may also be named by its ARN.
pub(super) fn table_name(call: &Value) -> Result<&str, DynamoDbError> {
    let name = text(call, "TableName").unwrap_or_default();
    let name = name.rsplit_once(":table/").map_or(name, |(_, name)| name);
    if name.is_empty() {
        return Err(DynamoDbError::validation(
            "The parameter 'TableName' is required but was not present in the request",
        ));
    }
    Ok(name)
}

pub(super) fn is_consistent(call: &Value) -> bool {
    call.get("ConsistentRead").and_then(Value::as_bool).unwrap_or(false)
}

/// Returns a parameter that is one of these words; the first is the default.
pub(super) fn one_of<'a>(
    call: &'a Value,
    name: &str,
    words: &[&'static str],
) -> Result<&'a str, DynamoDbError> {
    let given = text(call, name).unwrap_or(words.first().copied().unwrap_or_default());
    if words.contains(&given) {
        return Ok(given);
    }
    Err(DynamoDbError::validation(format!(
        "1 validation error detected: Value '{given}' at '{name}' failed to satisfy constraint: Member must satisfy enum \
         value set: [{}]",
        words.join(", ")
    )))
}

/// Returns the elements of a list of 1 to `most`.
pub(super) fn list<'a>(list: &'a Value, name: &str, most: usize) -> Result<&'a [Value], DynamoDbError> {
    match list.as_array() {
        Some(list) if (1..=most).contains(&list.len()) => Ok(list),
        _ => Err(DynamoDbError::validation(format!(
            "1 validation error detected: Value at '{name}' failed to satisfy constraint: Member must have length less \
             than or equal to {most}, Member must have length greater than or equal to 1"
        ))),
    }
}
