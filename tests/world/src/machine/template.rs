//! JSON whose strings may be JSONata: `Arguments`, `Assign`, `Output` and the like.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::TaskFailure;
use super::definition::names;
use super::jsonata::{Bindings, Expression, ParseError};

/// JSON in which each string between `{%` and `%}` is an expression.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(super) enum Template {
    Literal(Value),
    Expression(Expression),
    Array(Vec<Template>),
    Object(BTreeMap<String, Template>),
}

/// The values that a state assigns to workflow variables.
pub(super) type Assign = BTreeMap<String, Template>;

impl Template {
    /// Returns the value.
    ///
    /// An expression whose value is nothing is an error, as JSON cannot represent it
    /// (<https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html>, "Handling errors").
    pub(super) fn evaluate(&self, bindings: &Bindings<'_>) -> Result<Value, TaskFailure> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Expression(expression) => match expression.evaluate(bindings) {
                Ok(Some(value)) => Ok(value),
                Ok(None) => Err(query_error(expression, "it returned nothing (undefined)")),
                Err(error) => Err(query_error(expression, &error.to_string())),
            },
            Self::Array(items) => items.iter().map(|item| item.evaluate(bindings)).collect(),
            Self::Object(fields) => Ok(Value::Object(evaluate_all(fields, bindings)?.into_iter().collect())),
        }
    }

    /// Returns the value of a template that must be a boolean, as a Condition must.
    pub(super) fn condition(&self, bindings: &Bindings<'_>) -> Result<bool, TaskFailure> {
        let value = self.evaluate(bindings)?;
        value.as_bool().ok_or_else(|| self.unfit(&value, "a boolean"))
    }

    /// Returns the value of a template that must be a string.
    pub(super) fn text(&self, bindings: &Bindings<'_>) -> Result<String, TaskFailure> {
        match self.evaluate(bindings)? {
            Value::String(text) => Ok(text),
            value => Err(self.unfit(&value, "a string")),
        }
    }

    /// Returns the value of a template that must be a whole number of seconds. The longest wait has 99,999,999
    /// (<https://docs.aws.amazon.com/step-functions/latest/dg/state-wait.html>).
    pub(super) fn seconds(&self, bindings: &Bindings<'_>) -> Result<u64, TaskFailure> {
        let value = self.evaluate(bindings)?;
        let seconds = value.as_u64().filter(|seconds| *seconds <= 99_999_999);
        seconds.ok_or_else(|| self.unfit(&value, "a whole number of seconds from 0 to 99,999,999"))
    }

    fn unfit(&self, value: &Value, expected: &str) -> TaskFailure {
        let cause = format!("{value} is not {expected}");
        match self {
            Self::Expression(expression) => query_error(expression, &cause),
            _ => TaskFailure::new(names::QUERY_EVALUATION_ERROR, cause),
        }
    }
}

/// Returns the values of several templates; all of them see the same variables.
pub(super) fn evaluate_all(
    templates: &BTreeMap<String, Template>,
    bindings: &Bindings<'_>,
) -> Result<BTreeMap<String, Value>, TaskFailure> {
    templates.iter().map(|(name, template)| Ok((name.clone(), template.evaluate(bindings)?))).collect()
}

/// Reads a template that is there, `null` too.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Template>, D::Error> {
    Template::deserialize(deserializer).map(Some)
}

fn query_error(expression: &Expression, problem: &str) -> TaskFailure {
    let text = expression.text();
    TaskFailure::new(names::QUERY_EVALUATION_ERROR, format!("the JSONata expression `{text}`: {problem}"))
}

impl TryFrom<Value> for Template {
    type Error = ParseError;

    fn try_from(value: Value) -> Result<Self, ParseError> {
        Ok(match value {
            Value::String(text) => match text.strip_prefix("{%").and_then(|text| text.strip_suffix("%}")) {
                Some(expression) => Self::Expression(Expression::parse(expression.trim())?),
                None => Self::Literal(Value::String(text)),
            },
            Value::Array(items) => {
                Self::Array(items.into_iter().map(Self::try_from).collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| Ok((name, Self::try_from(value)?)));
                Self::Object(fields.collect::<Result<_, ParseError>>()?)
            }
            other => Self::Literal(other),
        })
    }
}
