//! The quota of a payload's size.

use std::collections::BTreeMap;
use std::io;

use serde_json::Value;

use super::TaskFailure;
use super::definition::names;

/// The most bytes of an input, a result or an output, and of what a state assigns: 256 KiB
/// (<https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>).
pub const PAYLOAD_BYTES: usize = 262_144;

/// Counts the bytes of JSON.
struct Bytes(usize);

impl io::Write for Bytes {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0 += buffer.len();
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns an error if the value has more bytes than a payload may have.
pub(super) fn within_limit(most: usize, value: &Value, name: &str) -> Result<(), TaskFailure> {
    counted_if_near(most, bytes_at_most(value), value, name)
}

/// Returns an error if the variables that a state assigns have more bytes than they may have.
pub(super) fn assigned_within_limit(
    most: usize,
    variables: &BTreeMap<String, Value>,
) -> Result<(), TaskFailure> {
    counted_if_near(most, members_at_most(variables), variables, "what the state assigns")
}

fn counted_if_near(
    most: usize,
    at_most: usize,
    value: &impl serde::Serialize,
    name: &str,
) -> Result<(), TaskFailure> {
    if at_most <= most {
        return Ok(());
    }
    let mut bytes = Bytes(0);
    match serde_json::to_writer(&mut bytes, value) {
        Ok(()) if bytes.0 <= most => Ok(()),
        Ok(()) => {
            let cause = format!("{name} has {} bytes, more than {most}", bytes.0);
            Err(TaskFailure::new(names::DATA_LIMIT_EXCEEDED, cause))
        }
        Err(error) => Err(TaskFailure::new(names::RUNTIME, error.to_string())),
    }
}

/// Returns a number that the bytes of the value's JSON do not exceed. Few payloads come so near to the quota that
/// they must be written to be counted.
fn bytes_at_most(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => LONGEST_NUMBER,
        Value::String(text) => text_at_most(text),
        Value::Array(items) => items.iter().map(bytes_at_most).sum::<usize>() + SIGNS,
        Value::Object(members) => members_at_most(members),
    }
}

fn members_at_most<'a>(members: impl IntoIterator<Item = (&'a String, &'a Value)>) -> usize {
    let each = |(name, member): (&String, &Value)| text_at_most(name) + bytes_at_most(member);
    members.into_iter().map(each).sum::<usize>() + SIGNS
}

fn text_at_most(text: &str) -> usize {
    LONGEST_ESCAPE * text.len() + SIGNS
}

/// `\u0000`.
const LONGEST_ESCAPE: usize = 6;
/// Two quotes or brackets, a comma and a colon.
const SIGNS: usize = 4;
/// A whole number has 20 bytes at most, and a float 24; a comma follows.
const LONGEST_NUMBER: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn json_is_never_longer_than_expected(texts: Vec<String>, number: f64, whole: i64) {
            let value = json!({ "texts": texts, "numbers": [number, whole, null, true], "\u{1}\"": {}, "escaped": "\0".repeat(1_000) });
            prop_assert!(value.to_string().len() <= bytes_at_most(&value));
        }
    }

    #[test]
    fn the_last_byte_counts() {
        let text = |bytes: usize| Value::String("a".repeat(bytes - 2));
        assert!(within_limit(PAYLOAD_BYTES, &text(PAYLOAD_BYTES), "it").is_ok());
        assert!(within_limit(PAYLOAD_BYTES, &text(PAYLOAD_BYTES + 1), "it").is_err());
        let fits = PAYLOAD_BYTES - r#"{"v":""}"#.len();
        let variables = |length| BTreeMap::from([("v".to_owned(), Value::String("a".repeat(length)))]);
        assert!(assigned_within_limit(PAYLOAD_BYTES, &variables(fits)).is_ok());
        assert!(assigned_within_limit(PAYLOAD_BYTES, &variables(fits + 1)).is_err());
    }
}
