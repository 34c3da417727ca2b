//! The fuzz targets `pattern` and `bus`: the pattern of a rule as its owner wrote it, and the ARN of the stack's bus.
//!
//! The parsers promise: no panic. A pattern has each of its fields, with the plain texts alone. A pattern with a condition
//! that is not known here is never taken for one that matches every notice. A bus bears its ARN and its own name.

use std::collections::BTreeSet;

use serde_json::Value;
use spot_fuzz::Target;

use super::{AwsEvent, Bus, Pattern, Rule};
use crate::sample::promise;

#[test]
fn pattern() {
    let words = &["prefix", "anything-but", "$or", "source", "detail-type", "detail"];
    Target { name: "pattern", samples: &[], words, cases: 3_000 }.fuzz(check);
}

fn check(bytes: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(bytes);
    let (read, json) = (super::pattern(&text), serde_json::from_str::<Value>(&text).unwrap_or_default());
    let expected: Pattern = match json.as_object() {
        Some(fields) => fields.iter().map(|(field, condition)| (field.clone(), texts(condition))).collect(),
        None => Pattern::new(),
    };
    promise(read == expected, || format!("{text} is read as {read:?}"))?;
    let is_known = |field: &String| ["source", "detail-type"].contains(&field.as_str());
    let may_match = !expected.is_empty() && expected.keys().all(is_known);
    promise(may_match || !matches_every_notice(read), || format!("{text} is taken to match every notice"))
}

fn texts(condition: &Value) -> BTreeSet<String> {
    let values = condition.as_array().into_iter().flatten();
    values.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn matches_every_notice(pattern: Pattern) -> bool {
    let targets = vec![super::Target { arn: "bus".to_owned(), gets_whole_event: true }];
    let rule = Rule { is_enabled: true, pattern, targets };
    rule.hands_over("notices", &[AwsEvent::InterruptionWarning], "bus").is_ok()
}

#[test]
fn bus() {
    Target { name: "bus", samples: &[], words: &[":event-bus/"], cases: 1_000 }.fuzz(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        match text.parse::<Bus>() {
            Ok(Bus { arn, name }) => promise(
                !name.is_empty() && arn == text && arn.ends_with(&format!(":event-bus/{name}")),
                || format!("{text:?} is read as {name:?}"),
            ),
            Err(error) => promise(error.to_string().contains("event bus"), || error.to_string()),
        }
    });
}
