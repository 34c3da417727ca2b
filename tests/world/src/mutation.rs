//! Changes of an input: each value of it × each change that its type allows.

use serde_json::{Value, json};

use crate::scene::{ACCOUNT, LAB_ACCOUNT, REGION};

/// The name of a field that no input has.
const UNKNOWN: &str = "unexpected_field";
/// Longer than any name or ARN of AWS.
const LONG: usize = 10_000;

/// The way to a value: one step into an object or an array.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
}

/// A change of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The value is missing.
    Missing,
    /// The field has another name.
    Misspelt,
    /// The value is `null`.
    Null,
    /// The value is of another JSON type.
    OtherType,
    /// The value stands in an array.
    InArray,
    /// The object has one field more.
    OneMore,
    /// The text is empty.
    Empty,
    /// The text is very long.
    Long,
    /// The text is in the other case.
    OtherCase,
    /// The text names another account.
    OtherAccount,
    /// The text names another region.
    OtherRegion,
    /// The ARN is of another partition.
    OtherPartition,
    /// The number is below zero.
    Negative,
    /// The number is the largest of 64 bits.
    Huge,
    /// The number is no whole one.
    Fraction,
}

impl Change {
    /// Every change.
    pub const ALL: [Self; 15] = [
        Self::Missing,
        Self::Misspelt,
        Self::Null,
        Self::OtherType,
        Self::InArray,
        Self::OneMore,
        Self::Empty,
        Self::Long,
        Self::OtherCase,
        Self::OtherAccount,
        Self::OtherRegion,
        Self::OtherPartition,
        Self::Negative,
        Self::Huge,
        Self::Fraction,
    ];

    /// Returns true if the change makes something else of the value at this step.
    fn concerns(self, value: &Value, at: &Step) -> bool {
        match (self, at) {
            (Self::Missing, _) => true,
            (Self::Misspelt, Step::Field(name)) => !name.is_empty(),
            (Self::Misspelt, Step::Index(_)) => false,
            _ => self.of(value).is_some_and(|changed| changed != *value),
        }
    }

    /// Returns the changed value; `None` if the change is none of a value of this type.
    fn of(self, value: &Value) -> Option<Value> {
        match (self, value) {
            (Self::Null, _) => Some(Value::Null),
            (Self::OtherType, value) => Some(other_type(value)),
            (Self::InArray, value) => Some(json!([value])),
            (Self::OneMore, Value::Object(fields)) => {
                let mut more = fields.clone();
                more.insert(UNKNOWN.to_owned(), json!("1"));
                Some(more.into())
            }
            (Self::Empty, Value::String(_)) => Some(json!("")),
            (Self::Long, Value::String(_)) => Some(json!("x".repeat(LONG))),
            (Self::OtherCase, Value::String(text)) => Some(json!(other_case(text))),
            (Self::OtherAccount, Value::String(text)) => {
                Some(json!(text.replace(ACCOUNT, "999999999999").replace(LAB_ACCOUNT, "999999999999")))
            }
            (Self::OtherRegion, Value::String(text)) => Some(json!(text.replace(REGION, "eu-west-1"))),
            (Self::OtherPartition, Value::String(text)) => {
                Some(json!(text.replace("arn:aws:", "arn:aws-cn:")))
            }
            (Self::Negative, Value::Number(_)) => Some(json!(-1)),
            (Self::Huge, Value::Number(_)) => Some(json!(u64::MAX)),
            (Self::Fraction, Value::Number(_)) => Some(json!(0.5)),
            _ => None,
        }
    }
}

/// A change of one value of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// The change.
    pub change: Change,
    path: Vec<Step>,
}

impl Mutation {
    /// Returns every mutation that changes this input.
    #[must_use]
    pub fn each(input: &Value) -> Vec<Self> {
        let mut all = Vec::new();
        walk(input, &mut Vec::new(), &mut all);
        all
    }

    /// Returns the changed input; `None` if nothing changes.
    #[must_use]
    pub fn of(&self, input: &Value) -> Option<Value> {
        let mut changed = input.clone();
        let (last, above) = self.path.split_last()?;
        let mut container = &mut changed;
        for step in above {
            container = match step {
                Step::Field(name) => container.get_mut(name)?,
                Step::Index(index) => container.get_mut(*index)?,
            };
        }
        self.makes(container, last)?;
        (changed != *input).then_some(changed)
    }

    /// Returns true if an error names the changed field, or the one that it is in.
    #[must_use]
    pub fn is_named_in(&self, error: &str) -> bool {
        let fields = self.path.iter().rev().filter_map(|step| match step {
            Step::Field(name) => Some(name.as_str()),
            Step::Index(_) => None,
        });
        let extra = (self.change == Change::OneMore).then_some(UNKNOWN);
        fields.take(2).chain(extra).any(|name| is_in(error, name))
    }

    fn makes(&self, container: &mut Value, at: &Step) -> Option<()> {
        match (self.change, container, at) {
            (Change::Missing, Value::Object(fields), Step::Field(name)) => fields.remove(name).map(drop),
            (Change::Missing, Value::Array(values), Step::Index(index)) => {
                (*index < values.len()).then(|| drop(values.remove(*index)))
            }
            (Change::Misspelt, Value::Object(fields), Step::Field(name)) => {
                let value = fields.remove(name)?;
                let shorter: String = name.chars().take(name.chars().count().saturating_sub(1)).collect();
                fields.insert(shorter, value);
                Some(())
            }
            (change, Value::Object(fields), Step::Field(name)) => {
                let value = fields.get_mut(name)?;
                *value = change.of(value)?;
                Some(())
            }
            (change, Value::Array(values), Step::Index(index)) => {
                let value = values.get_mut(*index)?;
                *value = change.of(value)?;
                Some(())
            }
            _ => None,
        }
    }
}

/// Returns true if a text has this name as a word of its own: `id` is not in `invalid`.
fn is_in(text: &str, name: &str) -> bool {
    let is_of_word = |letter: char| letter.is_alphanumeric() || "_-".contains(letter);
    if name.chars().all(is_of_word) {
        text.split(|letter: char| !is_of_word(letter)).any(|word| word == name)
    } else {
        text.contains(name)
    }
}

fn walk(value: &Value, path: &mut Vec<Step>, all: &mut Vec<Mutation>) {
    let children: Vec<(Step, &Value)> = match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (Step::Field(name.clone()), value)).collect()
        }
        Value::Array(values) => {
            values.iter().enumerate().map(|(index, value)| (Step::Index(index), value)).collect()
        }
        _ => return,
    };
    for (step, child) in children {
        let changes = Change::ALL.into_iter().filter(|change| change.concerns(child, &step));
        path.push(step.clone());
        all.extend(changes.map(|change| Mutation { change, path: path.clone() }));
        walk(child, path, all);
        path.pop();
    }
}

fn other_type(value: &Value) -> Value {
    match value {
        Value::Null => json!([true]),
        Value::Bool(_) => json!("yes"),
        Value::Number(_) => json!("seven"),
        Value::String(_) => json!(7),
        Value::Array(_) => json!({"0": 1}),
        Value::Object(_) => json!("text"),
    }
}

fn other_case(text: &str) -> String {
    let swapped = |letter: char| {
        if letter.is_ascii_uppercase() { letter.to_ascii_lowercase() } else { letter.to_ascii_uppercase() }
    };
    text.chars().map(swapped).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn made(change: Change, input: &Value) -> Vec<Value> {
        let all = Mutation::each(input);
        all.iter().filter(|it| it.change == change).map(|it| it.of(input).unwrap()).collect()
    }

    #[test]
    fn each_value_is_changed_in_each_way_of_its_type() {
        let input = json!({"name": "web", "sizes": [1]});
        assert_eq!(
            made(Change::Missing, &input),
            [json!({"sizes": [1]}), json!({"name": "web"}), json!({"name": "web", "sizes": []}),]
        );
        assert_eq!(made(Change::OtherCase, &input), [json!({"name": "WEB", "sizes": [1]})]);
        assert_eq!(made(Change::Fraction, &input), [json!({"name": "web", "sizes": [0.5]})]);
        assert_eq!(
            made(Change::Misspelt, &input),
            [json!({"nam": "web", "sizes": [1]}), json!({"name": "web", "size": [1]}),]
        );
        assert_eq!(made(Change::OtherAccount, &input), Vec::<Value>::new(), "it names none");
        assert!(Mutation::each(&json!({"of": {}})).iter().any(|it| it.change == Change::OneMore));
    }

    #[test]
    fn an_error_names_the_field_or_the_one_above_it() {
        let input = json!({"detail": {"ids": ["i-1"]}});
        let all = Mutation::each(&input);
        let inner = all.iter().find(|it| it.path.len() == 3).unwrap();
        assert!(inner.is_named_in("ids[0]: invalid type") && inner.is_named_in("detail: is missing"));
        assert!(!inner.is_named_in("invalid type: null") && !inner.is_named_in("the details"));
    }
}
