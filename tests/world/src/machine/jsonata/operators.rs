//! The operators on values.
//!
//! Rules: <https://docs.jsonata.org/comparison-operators>, <https://docs.jsonata.org/numeric-operators>,
//! <https://docs.jsonata.org/boolean-operators>, <https://docs.jsonata.org/other-operators>.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::syntax::Operator;
use super::{Evaluated, EvaluationError};

/// The whole numbers up to this one have an exact `f64`.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Applies an operator other than `and` and `or`, whose right operand may stay unevaluated.
pub(super) fn apply(
    operator: Operator,
    left: Option<&Value>,
    right: Option<&Value>,
) -> Result<Option<Value>, EvaluationError> {
    use Operator as O;
    let value = match operator {
        O::Equal => Value::Bool(matches!((left, right), (Some(left), Some(right)) if equal(left, right))),
        O::NotEqual => Value::Bool(matches!((left, right), (Some(left), Some(right)) if !equal(left, right))),
        O::In => Value::Bool(matches!((left, right), (Some(left), Some(right)) if contains(left, right))),
        O::Concatenate => Value::String(text_or_empty(left)? + &text_or_empty(right)?),
        O::Less | O::LessOrEqual | O::Greater | O::GreaterOrEqual => {
            return Ok(compare(operator, left, right)?.map(Value::Bool));
        }
        _ => return arithmetic(operator, left, right),
    };
    Ok(Some(value))
}

/// Returns the number with its sign turned.
pub(super) fn negate(operand: Evaluated<'_>) -> Result<Evaluated<'_>, EvaluationError> {
    let Some(operand) = operand else { return Ok(None) };
    let value =
        operand.as_f64().ok_or_else(|| EvaluationError(format!("D1002: {operand} cannot be negated")))?;
    number(-value).map(|value| Some(Cow::Owned(value)))
}

/// Returns whether the value counts as true (<https://docs.jsonata.org/boolean-functions>, `$boolean`).
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => items.iter().any(truth),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// Returns whether two values are the same; numbers are by value, whatever their spelling.
pub(super) fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, value)| right.get(key).is_some_and(|other| equal(value, other)))
        }
        _ => left == right,
    }
}

fn contains(item: &Value, list: &Value) -> bool {
    match list {
        Value::Array(items) => items.iter().any(|other| equal(item, other)),
        other => equal(item, other),
    }
}

fn compare(
    operator: Operator,
    left: Option<&Value>,
    right: Option<&Value>,
) -> Result<Option<bool>, EvaluationError> {
    let written = operator.written();
    for operand in [left, right].into_iter().flatten() {
        if !operand.is_string() && !operand.is_number() {
            return Err(EvaluationError(format!(
                "T2010: `{written}` compares numbers or strings, not {operand}"
            )));
        }
    }
    let (Some(left), Some(right)) = (left, right) else { return Ok(None) };
    let ordering = match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (Value::String(left), Value::String(right)) => Some(left.encode_utf16().cmp(right.encode_utf16())),
        _ => return Err(EvaluationError(format!("T2009: {left} `{written}` {right} are of two types"))),
    };
    Ok(ordering.map(|ordering| match operator {
        Operator::Less => ordering == Ordering::Less,
        Operator::LessOrEqual => ordering != Ordering::Greater,
        Operator::Greater => ordering == Ordering::Greater,
        _ => ordering != Ordering::Less,
    }))
}

fn arithmetic(
    operator: Operator,
    left: Option<&Value>,
    right: Option<&Value>,
) -> Result<Option<Value>, EvaluationError> {
    let written = operator.written();
    let operand = |code: &str, value: Option<&Value>| match value {
        None => Ok(None),
        Some(value) => value
            .as_f64()
            .map(Some)
            .ok_or_else(|| EvaluationError(format!("{code}: {value} beside `{written}` is no number"))),
    };
    let (left, right) = (operand("T2001", left)?, operand("T2002", right)?);
    let (Some(left), Some(right)) = (left, right) else { return Ok(None) };
    number(match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        Operator::Divide => left / right,
        _ => left % right,
    })
    .map(Some)
}

/// Returns a number as JSON, a whole one without a fraction.
#[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53 fits")]
pub(super) fn number(value: f64) -> Result<Value, EvaluationError> {
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return Ok(Value::from(value as i64));
    }
    Number::from_f64(value)
        .map(Value::Number)
        .ok_or_else(|| EvaluationError(format!("D1001: the number {value} is out of range")))
}

fn text_or_empty(value: Option<&Value>) -> Result<String, EvaluationError> {
    value.map_or(Ok(String::new()), text)
}

/// Returns the value as a string (<https://docs.jsonata.org/string-functions>, `$string`).
pub(super) fn text(value: &Value) -> Result<String, EvaluationError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        value => Ok(rounded(value)?.to_string()),
    }
}

/// Returns the value with each number in 15 significant digits, as jsonata-js writes them.
fn rounded(value: &Value) -> Result<Value, EvaluationError> {
    Ok(match value {
        Value::Number(plain) => {
            let value = plain.as_f64().unwrap_or_default();
            number(format!("{value:.14e}").parse().unwrap_or(value))?
        }
        Value::Array(items) => Value::Array(items.iter().map(rounded).collect::<Result<_, _>>()?),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| Ok((key.clone(), rounded(value)?)));
            Value::Object(fields.collect::<Result<_, EvaluationError>>()?)
        }
        other => other.clone(),
    })
}
