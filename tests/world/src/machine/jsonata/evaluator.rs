//! The value of a tree.
//!
//! A path maps its steps over arrays. It flattens what it finds, and one finding is the finding itself
//! (<https://docs.jsonata.org/processing>, "Sequences").

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::operators::{apply, negate, truth};
use super::syntax::{Operator, PathStep, Syntax};
use super::{Bindings, Evaluated, EvaluationError};

impl Syntax {
    /// Returns the value of this part, or nothing.
    pub(super) fn evaluate<'a>(&'a self, bindings: &Bindings<'a>) -> Result<Evaluated<'a>, EvaluationError> {
        match self {
            Self::Literal(value) => Ok(Some(Cow::Borrowed(value))),
            Self::Variable(name) => Ok(bindings.variable(name)),
            Self::Block(inner) => inner.evaluate(bindings),
            Self::Path { head, indexes, steps } => path(head, indexes, steps, bindings),
            Self::Negation(operand) => negate(operand.evaluate(bindings)?),
            Self::Binary(Operator::And, left, right) => {
                let both = truth_of(left, bindings)? && truth_of(right, bindings)?;
                Ok(Some(Cow::Owned(Value::Bool(both))))
            }
            Self::Binary(Operator::Or, left, right) => {
                let either = truth_of(left, bindings)? || truth_of(right, bindings)?;
                Ok(Some(Cow::Owned(Value::Bool(either))))
            }
            Self::Binary(operator, left, right) => {
                let (left, right) = (left.evaluate(bindings)?, right.evaluate(bindings)?);
                Ok(apply(*operator, left.as_deref(), right.as_deref())?.map(Cow::Owned))
            }
            Self::Condition(condition, then, otherwise) => {
                match (truth_of(condition, bindings)?, otherwise) {
                    (true, _) => then.evaluate(bindings),
                    (false, Some(otherwise)) => otherwise.evaluate(bindings),
                    (false, None) => Ok(None),
                }
            }
            Self::Array(items) => array(items, bindings),
            Self::Object(fields) => object(fields, bindings),
            Self::Call(function, arguments) => {
                let arguments = arguments.iter().map(|argument| argument.evaluate(bindings));
                Ok(function.call(&arguments.collect::<Result<Vec<_>, _>>()?)?.map(Cow::Owned))
            }
        }
    }
}

/// Returns whether the value counts as true; nothing does not.
fn truth_of(node: &Syntax, bindings: &Bindings<'_>) -> Result<bool, EvaluationError> {
    Ok(node.evaluate(bindings)?.is_some_and(|value| truth(&value)))
}

fn path<'a>(
    head: &'a Syntax,
    indexes: &[i64],
    steps: &[PathStep],
    bindings: &Bindings<'a>,
) -> Result<Evaluated<'a>, EvaluationError> {
    let (start, steps) = match (head, steps) {
        // Without this, each `$states.result.next` would copy the whole input and result.
        (Syntax::Variable(name), [first, rest @ ..]) if name == "states" && indexes.is_empty() => {
            let field = bindings.states_field(&first.field).map(Cow::Borrowed);
            (pick(field, &first.indexes), rest)
        }
        _ => (pick(head.evaluate(bindings)?, indexes), steps),
    };
    let mut found = start;
    for (at, step) in steps.iter().enumerate() {
        let Some(input) = found else { return Ok(None) };
        found = take_step(input, step, at + 1 == steps.len());
    }
    Ok(found)
}

/// Returns what one step of a path finds in its input.
fn take_step<'a>(input: Cow<'a, Value>, step: &PathStep, last: bool) -> Evaluated<'a> {
    if !input.is_array() {
        return pick(field(input, &step.field), &step.indexes);
    }
    let items = match input.into_owned() {
        Value::Array(items) => items,
        other => vec![other],
    };
    let found =
        items.into_iter().filter_map(|item| pick(field(Cow::Owned(item), &step.field), &step.indexes));
    let mut found: Vec<Value> = found.map(Cow::into_owned).collect();
    if last && found.len() == 1 {
        return found.pop().map(Cow::Owned);
    }
    let flat: Vec<Value> = found.into_iter().flat_map(items_of).collect();
    if last { sequence(flat) } else { Some(Cow::Owned(Value::Array(flat))) }
}

fn items_of(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        other => vec![other],
    }
}

/// Returns a sequence as a value: nothing, its one item, or an array.
pub(super) fn sequence<'a>(mut items: Vec<Value>) -> Evaluated<'a> {
    match items.len() {
        0 => None,
        1 => items.pop().map(Cow::Owned),
        _ => Some(Cow::Owned(Value::Array(items))),
    }
}

/// Returns the field of an object, or of each object in an array.
pub(super) fn field<'a>(input: Cow<'a, Value>, name: &str) -> Evaluated<'a> {
    match input {
        Cow::Borrowed(Value::Object(map)) => map.get(name).map(Cow::Borrowed),
        Cow::Owned(Value::Object(mut map)) => map.remove(name).map(Cow::Owned),
        array if array.is_array() => {
            let mut found = Vec::new();
            gather(&array, name, &mut found);
            sequence(found)
        }
        _ => None,
    }
}

fn gather(input: &Value, name: &str, found: &mut Vec<Value>) {
    match input {
        Value::Array(items) => items.iter().for_each(|item| gather(item, name, found)),
        Value::Object(map) => found.extend(map.get(name).cloned().into_iter().flat_map(items_of)),
        _ => {}
    }
}

/// Returns the item at each position in turn. Positions below zero count from the end; what is no array has one item.
fn pick<'a>(found: Evaluated<'a>, indexes: &[i64]) -> Evaluated<'a> {
    indexes.iter().try_fold(found?, |value, index| {
        let Value::Array(items) = value.as_ref() else {
            return matches!(index, 0 | -1).then_some(value);
        };
        let at = if *index < 0 {
            items.len().checked_sub(usize::try_from(-index).ok()?)?
        } else {
            usize::try_from(*index).ok()?
        };
        items.get(at).cloned().map(Cow::Owned)
    })
}

/// Builds an array. An item that is an array is spread, unless it is written as one.
fn array<'a>(items: &'a [Syntax], bindings: &Bindings<'a>) -> Result<Evaluated<'a>, EvaluationError> {
    let mut array = Vec::new();
    for item in items {
        let Some(value) = item.evaluate(bindings)? else { continue };
        match item {
            Syntax::Array(_) => array.push(value.into_owned()),
            _ => array.extend(items_of(value.into_owned())),
        }
    }
    Ok(Some(Cow::Owned(Value::Array(array))))
}

/// Builds an object. A field whose key or value is nothing is left out.
fn object<'a>(
    fields: &'a [(Syntax, Syntax)],
    bindings: &Bindings<'a>,
) -> Result<Evaluated<'a>, EvaluationError> {
    let mut object = Map::new();
    for (key, value) in fields {
        let Some(key) = key.evaluate(bindings)? else { continue };
        let Value::String(key) = key.as_ref() else {
            return Err(EvaluationError(format!("T1003: the key {key} of an object is no string")));
        };
        let Some(value) = value.evaluate(bindings)? else { continue };
        if object.insert(key.clone(), value.into_owned()).is_some() {
            return Err(EvaluationError(format!("D1009: an object has the key {key:?} twice")));
        }
    }
    Ok(Some(Cow::Owned(Value::Object(object))))
}
