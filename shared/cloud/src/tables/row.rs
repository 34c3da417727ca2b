//! A row of a table and its values, as DynamoDB spells them.

use std::collections::HashMap;
use std::str::FromStr;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

use crate::error::{CallError, Kind};

/// A row, or the key of one: the values by their names.
pub type Row = HashMap<String, AttributeValue>;

/// Returns a text (S).
pub fn text(text: &(impl ToString + ?Sized)) -> AttributeValue {
    AttributeValue::S(text.to_string())
}

/// Returns a number (N).
pub fn number(number: &impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Returns the time in epoch seconds (N), which DynamoDB's TTL requires: milliseconds would never expire.
#[must_use]
pub fn seconds(time: Timestamp) -> AttributeValue {
    number(&time.as_second())
}

/// Returns the key of a row, which consists of texts.
#[must_use]
pub fn key<const N: usize>(parts: [(&str, &str); N]) -> Row {
    parts.into_iter().map(|(name, part)| (name.to_owned(), text(part))).collect()
}

/// Maps `#name` to each name, for expressions: `status` and others are reserved words of DynamoDB's.
#[must_use]
pub fn names<const N: usize>(names: [&str; N]) -> HashMap<String, String> {
    names.into_iter().map(|name| (format!("#{name}"), name.to_owned())).collect()
}

/// Returns the text of this name; `None` if it is absent or no text.
#[must_use]
pub fn text_in<'a>(row: &'a Row, name: &str) -> Option<&'a String> {
    row.get(name)?.as_s().ok()
}

/// Returns the number of this name; `None` if it is absent, or no number that a `T` can hold.
#[must_use]
pub fn number_in<T: FromStr>(row: &Row, name: &str) -> Option<T> {
    row.get(name)?.as_n().ok()?.parse().ok()
}

/// Returns the time of this name, of epoch seconds; `None` if it is absent or malformed.
#[must_use]
pub fn time_in(row: &Row, name: &str) -> Option<Timestamp> {
    Timestamp::from_second(number_in(row, name)?).ok()
}

/// Returns true if a conditional write was done, and false if its condition did not hold.
///
/// # Errors
/// The call failed for another reason.
pub fn written<T>(answer: Result<T, CallError>) -> Result<bool, CallError> {
    match answer {
        Err(error) if error.kind == Kind::ConditionFailed => Ok(false),
        answer => answer.map(|_| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_what_it_is_and_as_nothing_else() {
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        let row = Row::from([
            ("at".to_owned(), seconds(at)),
            ("name".to_owned(), text("1")),
            ("huge".to_owned(), number(&u64::MAX)),
            ("half".to_owned(), number(&0.5)),
        ]);
        assert_eq!((time_in(&row, "at"), number_in(&row, "at")), (Some(at), Some(1_700_000_000_u32)));
        assert_eq!((text_in(&row, "name").map(String::as_str), text_in(&row, "at")), (Some("1"), None));
        assert_eq!(number_in::<u32>(&row, "name"), None, "a text is no number");
        for name in ["huge", "half", "name", "absent"] {
            assert_eq!((time_in(&row, name), number_in::<u8>(&row, name)), (None, None), "{name}");
        }
    }

    #[test]
    fn only_a_condition_that_did_not_hold_is_no_write() {
        let failed = |kind| Err::<(), _>(CallError { kind, ..CallError::malformed("dynamodb:PutItem", "") });
        assert!(written(Ok(())).unwrap());
        assert!(!written(failed(Kind::ConditionFailed)).unwrap());
        assert_eq!(written(failed(Kind::Retry)).unwrap_err().kind, Kind::Retry);
    }
}
