//! Attributes of items, as DynamoDB types and measures them. Binary attributes are not in the world: no table of the
//! stack has one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::error::DynamoDbError;
use super::number::Number;

/// The attributes of an item or of a map, by their names.
pub type AttributeMap = BTreeMap<String, Attribute>;

/// A typed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    S(String),
    N(Number),
    Bool(bool),
    Null,
    Ss(BTreeSet<String>),
    Ns(BTreeSet<Number>),
    L(Vec<Attribute>),
    M(AttributeMap),
}

impl Attribute {
    /// Reads `{"S": "text"}` and the like.
    ///
    /// # Errors
    /// The value is of no type or of several, or it breaks a rule of its type.
    pub fn from_json(value: &Value) -> Result<Self, DynamoDbError> {
        let fields = value.as_object().filter(|fields| fields.len() == 1);
        let Some((kind, value)) = fields.and_then(|fields| fields.iter().next()) else {
            let problem =
                "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes";
            return Err(DynamoDbError::validation(problem));
        };
        match (kind.as_str(), value) {
            ("S", Value::String(text)) => Ok(Self::S(text.clone())),
            ("N", Value::String(text)) => number(text).map(Self::N),
            ("BOOL", Value::Bool(flag)) => Ok(Self::Bool(*flag)),
            ("NULL", Value::Bool(true)) => Ok(Self::Null),
            ("NULL", Value::Bool(false)) => {
                Err(DynamoDbError::invalid("Null attribute value types must have the value of true"))
            }
            ("SS", Value::Array(texts)) => set(texts, "string", |text| Ok(text.to_owned())).map(Self::Ss),
            ("NS", Value::Array(texts)) => set(texts, "number", number).map(Self::Ns),
            ("L", Value::Array(values)) => {
                values.iter().map(Self::from_json).collect::<Result<_, _>>().map(Self::L)
            }
            ("M", Value::Object(fields)) => map(fields).map(Self::M),
            ("B" | "BS", _) => Err(DynamoDbError::NotInTheWorld("binary attribute".to_owned())),
            _ => Err(DynamoDbError::validation(format!("a value of type {kind} is malformed: {value}"))),
        }
    }

    /// Returns the value as DynamoDB writes it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::S(text) => json!({"S": text}),
            Self::N(number) => json!({"N": number.to_string()}),
            Self::Bool(flag) => json!({"BOOL": flag}),
            Self::Null => json!({"NULL": true}),
            Self::Ss(texts) => json!({"SS": texts}),
            Self::Ns(numbers) => json!({"NS": numbers.iter().map(Number::to_string).collect::<Vec<_>>()}),
            Self::L(values) => json!({"L": values.iter().map(Self::to_json).collect::<Vec<_>>()}),
            Self::M(fields) => json!({"M": to_json(fields)}),
        }
    }

    /// Returns the name of the type.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::S(_) => "S",
            Self::N(_) => "N",
            Self::Bool(_) => "BOOL",
            Self::Null => "NULL",
            Self::Ss(_) => "SS",
            Self::Ns(_) => "NS",
            Self::L(_) => "L",
            Self::M(_) => "M",
        }
    }

    /// Returns the text of an S.
    #[must_use]
    pub fn as_s(&self) -> Option<&str> {
        if let Self::S(text) = self { Some(text) } else { None }
    }

    /// Returns the number of an N.
    #[must_use]
    pub fn as_n(&self) -> Option<Number> {
        if let Self::N(number) = self { Some(*number) } else { None }
    }

    /// Returns the size that the function `size` gives; `None` for a type that has none.
    #[must_use]
    pub fn count(&self) -> Option<usize> {
        match self {
            Self::S(text) => Some(text.len()),
            Self::Ss(texts) => Some(texts.len()),
            Self::Ns(numbers) => Some(numbers.len()),
            Self::L(values) => Some(values.len()),
            Self::M(fields) => Some(fields.len()),
            Self::N(_) | Self::Bool(_) | Self::Null => None,
        }
    }

    /// Returns the bytes that DynamoDB counts for the value.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::S(text) => text.len(),
            Self::N(number) => number.size(),
            Self::Bool(_) | Self::Null => 1,
            Self::Ss(texts) => texts.iter().map(String::len).sum(),
            Self::Ns(numbers) => numbers.iter().map(|number| number.size()).sum(),
            Self::L(values) => 3 + values.iter().map(|value| 1 + value.size()).sum::<usize>(),
            Self::M(fields) => 3 + fields.len() + size(fields),
        }
    }
}

/// Reads an item, a key or a map.
///
/// # Errors
/// A value is malformed.
pub fn map(fields: &Map<String, Value>) -> Result<AttributeMap, DynamoDbError> {
    fields.iter().map(|(name, value)| Ok((name.clone(), Attribute::from_json(value)?))).collect()
}

/// Returns an item, a key or a map as DynamoDB writes it.
#[must_use]
pub fn to_json(fields: &AttributeMap) -> Value {
    fields.iter().map(|(name, value)| (name.clone(), value.to_json())).collect::<Map<_, _>>().into()
}

/// Returns the bytes that DynamoDB counts for an item.
#[must_use]
pub fn size(fields: &AttributeMap) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.size()).sum()
}

fn number(text: &str) -> Result<Number, DynamoDbError> {
    text.parse().map_err(|error: super::number::BadNumber| DynamoDbError::validation(error.to_string()))
}

fn set<T: Ord>(
    values: &[Value],
    kind: &str,
    read: impl Fn(&str) -> Result<T, DynamoDbError>,
) -> Result<BTreeSet<T>, DynamoDbError> {
    if values.is_empty() {
        return Err(DynamoDbError::invalid(format!("An {kind} set  may not be empty")));
    }
    let malformed = || DynamoDbError::validation(format!("a member of a {kind} set is no text"));
    let read = values.iter().map(|value| read(value.as_str().ok_or_else(malformed)?));
    let set = read.collect::<Result<BTreeSet<T>, _>>()?;
    if set.len() < values.len() {
        let given = Value::from(values);
        return Err(DynamoDbError::invalid(format!("Input collection {given} contains duplicates.")));
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_value_is_written_as_it_was_read_but_for_the_zeros_and_the_order_of_sets() {
        for value in [
            json!({"S": ""}),
            json!({"N": "1.5"}),
            json!({"BOOL": false}),
            json!({"NULL": true}),
            json!({"L": [{"S": "a"}, {"M": {"b": {"SS": ["x", "y"]}}}]}),
        ] {
            assert_eq!(Attribute::from_json(&value).unwrap().to_json(), value);
        }
        let set = Attribute::from_json(&json!({"NS": ["10", "2.0", "-1"]})).unwrap();
        assert_eq!(set.to_json(), json!({"NS": ["-1", "2", "10"]}));
    }

    #[test]
    fn a_malformed_value_is_refused() {
        for (value, problem) in [
            (json!({}), "is empty, must contain exactly one"),
            (json!({"S": "a", "N": "1"}), "is empty, must contain exactly one"),
            (json!("a"), "is empty, must contain exactly one"),
            (json!({"N": "x"}), "cannot be converted to a numeric value"),
            (json!({"N": 1}), "malformed"),
            (json!({"SS": []}), "may not be empty"),
            (json!({"SS": ["a", "a"]}), "duplicates"),
            (json!({"NS": ["1", "1.0"]}), "duplicates"),
            (json!({"NULL": false}), "must have the value of true"),
            (json!({"M": {"a": {"N": "x"}}}), "cannot be converted"),
        ] {
            let error = Attribute::from_json(&value).unwrap_err();
            assert!(
                matches!(&error, DynamoDbError::Validation(told) if told.contains(problem)),
                "{value}: {error}"
            );
        }
        let binary = Attribute::from_json(&json!({"B": "AA=="})).unwrap_err();
        assert_eq!(binary.answer().status, 501);
    }

    #[test]
    fn the_size_of_an_item_is_that_of_its_names_and_values() {
        let item = json!({"ab": {"S": "é"}, "n": {"N": "1234"}, "l": {"L": [{"BOOL": true}]}, "m": {"M": {"k": {"NULL": true}}}});
        // ab + é, n + two bytes for four digits and one, l + 3 + 1 + 1, m + 3 + 1 + k + 1.
        assert_eq!(size(&map(item.as_object().unwrap()).unwrap()), (2 + 2) + (1 + 3) + (1 + 5) + (1 + 6));
    }
}
