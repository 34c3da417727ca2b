//! Placeholders of expressions: `#name` for an attribute's name, and `:value` for a value.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.ExpressionAttributeNames.html>

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::attribute::{Attribute, AttributeMap, map};
use super::error::DynamoDbError;

const NAMES: &str = "ExpressionAttributeNames";
const VALUES: &str = "ExpressionAttributeValues";

/// The placeholders of one call, and which of them its expressions use.
#[derive(Debug, Default)]
pub struct Placeholders {
    names: BTreeMap<String, String>,
    values: AttributeMap,
    used: BTreeSet<String>,
}

impl Placeholders {
    /// Reads the placeholders of a call, or of one write of a transaction.
    ///
    /// # Errors
    /// A map is empty, or a placeholder or its value is malformed.
    pub fn of(call: &Value) -> Result<Self, DynamoDbError> {
        let mut read = Self::default();
        for (placeholder, name) in given(call, NAMES, '#')?.into_iter().flatten() {
            let name = name.as_str().filter(|name| !name.is_empty());
            let name = name
                .ok_or_else(|| DynamoDbError::validation(format!("{NAMES}: {placeholder} names nothing")))?;
            read.names.insert(placeholder.clone(), name.to_owned());
        }
        if let Some(values) = given(call, VALUES, ':')? {
            read.values = map(values)?;
        }
        Ok(read)
    }

    /// Returns the name that a placeholder stands for.
    pub(super) fn name(&mut self, kind: &str, placeholder: String) -> Result<String, DynamoDbError> {
        let Some(name) = self.names.get(&placeholder).cloned() else {
            let problem = "An expression attribute name used in the document path is not defined";
            return Err(invalid(kind, format!("{problem}; attribute name: {placeholder}")));
        };
        self.used.insert(placeholder);
        Ok(name)
    }

    /// Returns the value that a placeholder stands for.
    pub(super) fn value(&mut self, kind: &str, placeholder: String) -> Result<Attribute, DynamoDbError> {
        let Some(value) = self.values.get(&placeholder).cloned() else {
            let problem = "An expression attribute value used in expression is not defined";
            return Err(invalid(kind, format!("{problem}; attribute value: {placeholder}")));
        };
        self.used.insert(placeholder);
        Ok(value)
    }

    /// Checks that the expressions, which are all parsed by now, use each placeholder.
    ///
    /// # Errors
    /// A placeholder is unused.
    pub fn require_all_used(&self) -> Result<(), DynamoDbError> {
        let unused = |names: &mut dyn Iterator<Item = &String>| {
            names.filter(|name| !self.used.contains(*name)).cloned().collect::<Vec<_>>().join(", ")
        };
        for (of, unused) in
            [(NAMES, unused(&mut self.names.keys())), (VALUES, unused(&mut self.values.keys()))]
        {
            if !unused.is_empty() {
                let problem = format!("Value provided in {of} unused in expressions: keys: {{{unused}}}");
                return Err(DynamoDbError::Validation(problem));
            }
        }
        Ok(())
    }
}

/// Returns the fault of an expression, as DynamoDB introduces it.
pub(super) fn invalid(kind: &str, problem: impl std::fmt::Display) -> DynamoDbError {
    DynamoDbError::Validation(format!("Invalid {kind}: {problem}"))
}

fn given<'a>(
    call: &'a Value,
    field: &str,
    sign: char,
) -> Result<Option<&'a Map<String, Value>>, DynamoDbError> {
    let given = match call.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_object(),
    };
    let given = given.ok_or_else(|| DynamoDbError::validation(format!("{field} is no map")))?;
    if given.is_empty() {
        return Err(DynamoDbError::validation(format!("{field} must not be empty")));
    }
    let is_word =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match given.keys().find(|name| !name.strip_prefix(sign).is_some_and(is_word)) {
        Some(bad) => Err(DynamoDbError::validation(format!(
            "{field} contains invalid key: Syntax error; key: \"{bad}\""
        ))),
        None => Ok(Some(given)),
    }
}
