//! The fields of a sample for the fuzz targets of AWS's shapes: JSON with AWS's own names. A field of another type than the
//! shape has counts as absent, as in an answer.

use aws_smithy_types::DateTime;
use serde_json::Value;

pub(crate) fn text(of: &Value, field: &str) -> Option<String> {
    of.get(field)?.as_str().map(str::to_owned)
}

pub(crate) fn flag(of: &Value, field: &str) -> Option<bool> {
    of.get(field)?.as_bool()
}

pub(crate) fn whole(of: &Value, field: &str) -> Option<i32> {
    i32::try_from(of.get(field)?.as_i64()?).ok()
}

/// Reads a time in epoch seconds.
pub(crate) fn time(of: &Value, field: &str) -> Option<DateTime> {
    of.get(field)?.as_i64().map(DateTime::from_secs)
}

pub(crate) fn part<T>(of: &Value, field: &str, read: impl FnOnce(&Value) -> T) -> Option<T> {
    of.get(field).filter(|part| part.is_object()).map(read)
}

pub(crate) fn list<T>(of: &Value, field: &str, read: impl Fn(&Value) -> T) -> Option<Vec<T>> {
    Some(of.get(field)?.as_array()?.iter().map(read).collect())
}

/// Returns true if the field has a text that is a `T`.
pub(crate) fn is_usable<T: std::str::FromStr>(of: &Value, field: &str) -> bool {
    text(of, field).is_some_and(|text| text.parse::<T>().is_ok())
}

/// Fails the case unless the promise holds.
pub(crate) fn promise(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}
