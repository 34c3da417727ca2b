//! The functions.
//!
//! Rules: <https://docs.jsonata.org/string-functions>, <https://docs.jsonata.org/array-functions>,
//! <https://docs.jsonata.org/object-functions>, <https://docs.jsonata.org/boolean-functions>. `$parse` is of Step
//! Functions: <https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html>.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::evaluator::{field, sequence};
use super::operators::{number, text, truth};
use super::{Evaluated, EvaluationError};

/// A function that expressions may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Append,
    Boolean,
    Contains,
    Count,
    Exists,
    Keys,
    Length,
    Lookup,
    Merge,
    Not,
    Number,
    Parse,
    String,
    Substring,
    Type,
}

impl Function {
    /// Returns the function of this name, without the `$`.
    pub(super) fn find(name: &str) -> Option<Self> {
        Some(match name {
            "append" => Self::Append,
            "boolean" => Self::Boolean,
            "contains" => Self::Contains,
            "count" => Self::Count,
            "exists" => Self::Exists,
            "keys" => Self::Keys,
            "length" => Self::Length,
            "lookup" => Self::Lookup,
            "merge" => Self::Merge,
            "not" => Self::Not,
            "number" => Self::Number,
            "parse" => Self::Parse,
            "string" => Self::String,
            "substring" => Self::Substring,
            "type" => Self::Type,
            _ => return None,
        })
    }

    /// Returns whether the function takes so many arguments.
    pub(super) fn takes(self, arguments: usize) -> bool {
        let range: RangeInclusive<usize> = match self {
            Self::Append | Self::Contains | Self::Lookup => 2..=2,
            Self::Substring => 2..=3,
            _ => 1..=1,
        };
        range.contains(&arguments)
    }

    /// Calls the function.
    pub(super) fn call(self, arguments: &[Evaluated<'_>]) -> Result<Option<Value>, EvaluationError> {
        let argument = |at: usize| arguments.get(at).and_then(Option::as_deref);
        match self {
            Self::Count => return Ok(Some(Value::from(argument(0).map_or(0, count)))),
            Self::Exists => return Ok(Some(Value::Bool(argument(0).is_some()))),
            Self::Append => return Ok(append(argument(0), argument(1))),
            Self::Parse => return parse(argument(0)).map(Some),
            _ => {}
        }
        // Of nothing, the others make nothing.
        let Some(first) = argument(0) else { return Ok(None) };
        Ok(Some(match self {
            Self::Boolean => Value::Bool(truth(first)),
            Self::Not => Value::Bool(!truth(first)),
            Self::String => Value::String(text(first)?),
            Self::Type => Value::from(type_of(first)),
            Self::Number => to_number(first)?,
            Self::Length => Value::from(string(first)?.chars().count()),
            Self::Contains => {
                Value::Bool(string(first)?.contains(string(argument(1).unwrap_or(&Value::Null))?))
            }
            Self::Substring => Value::String(substring(string(first)?, argument(1), argument(2))?),
            Self::Merge => merge(first)?,
            Self::Lookup => {
                let Some(key) = argument(1) else { return Ok(None) };
                return Ok(field(Cow::Borrowed(first), string(key)?).map(Cow::into_owned));
            }
            _ => return Ok(sequence(keys(first)).map(Cow::into_owned)),
        }))
    }
}

/// Returns the string, or the error of an argument of another type.
fn string(value: &Value) -> Result<&str, EvaluationError> {
    value
        .as_str()
        .ok_or_else(|| EvaluationError(format!("T0410: the argument {value} of a function is no string")))
}

fn count(value: &Value) -> usize {
    value.as_array().map_or(1, Vec::len)
}

fn append(left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
    let items = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    match (left, right) {
        (Some(left), Some(right)) => Some(Value::Array([items(left), items(right)].concat())),
        (one, other) => one.or(other).cloned(),
    }
}

fn parse(value: Option<&Value>) -> Result<Value, EvaluationError> {
    let value = value.ok_or_else(|| EvaluationError("T0410: $parse has nothing to parse".to_owned()))?;
    serde_json::from_str(string(value)?).map_err(|error| EvaluationError(format!("$parse: {error}")))
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn to_number(value: &Value) -> Result<Value, EvaluationError> {
    match value {
        Value::Number(_) => Ok(value.clone()),
        Value::Bool(value) => Ok(Value::from(u8::from(*value))),
        Value::String(text) => {
            // JSON allows blanks around a number, `$number` does not.
            let read = serde_json::from_str::<f64>(if text.trim() == text { text } else { "" });
            read.map_err(|_| EvaluationError(format!("D3030: {text:?} is no number"))).and_then(number)
        }
        other => Err(EvaluationError(format!("T0410: $number takes no {}", type_of(other)))),
    }
}

/// Cuts by characters. A start below zero counts from the end.
fn substring(text: &str, start: Option<&Value>, length: Option<&Value>) -> Result<String, EvaluationError> {
    let whole = |value: &Value| {
        value
            .as_i64()
            .ok_or_else(|| EvaluationError(format!("T0410: $substring takes whole numbers, not {value}")))
    };
    let count = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let start = whole(start.unwrap_or(&Value::from(0)))?;
    let from = if start < 0 { (count + start).max(0) } else { start };
    let until = length.map(whole).transpose()?.map_or(count, |length| from.saturating_add(length.max(0)));
    let size = |value: i64| usize::try_from(value).unwrap_or_default();
    Ok(text.chars().take(size(until)).skip(size(from)).collect())
}

fn merge(value: &Value) -> Result<Value, EvaluationError> {
    let mut merged = Map::new();
    for item in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
        let Value::Object(fields) = item else {
            return Err(EvaluationError(format!("T0412: $merge takes an array of objects, not {item}")));
        };
        merged.extend(fields.clone());
    }
    Ok(Value::Object(merged))
}

fn keys(value: &Value) -> Vec<Value> {
    let mut names: Vec<Value> = Vec::new();
    let mut add = |fields: &Map<String, Value>| {
        for name in fields.keys() {
            if !names.iter().any(|known| known == name.as_str()) {
                names.push(Value::from(name.as_str()));
            }
        }
    };
    match value {
        Value::Object(fields) => add(fields),
        Value::Array(items) => items.iter().filter_map(Value::as_object).for_each(add),
        _ => {}
    }
    names
}
