//! The tags by which a group shows its last run, for whoever looks at the group alone.

pub use crate::own_tags::{LAST_ERROR_TAG, LAST_RUN_TAG};

use jiff::Timestamp;

use crate::swap::report::SwapReport;

/// The most characters of a tag's value.
const LONGEST: usize = 256;

/// The values of both tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunTags {
    /// [`LAST_RUN_TAG`].
    pub last_run: String,
    /// [`LAST_ERROR_TAG`].
    pub last_error: Option<String>,
}

impl RunTags {
    /// Returns the tags of a run that ends now.
    #[must_use]
    pub fn of(report: &SwapReport, now: Timestamp) -> Self {
        let counts = [
            ("swapped", report.swapped.len()),
            ("skipped", report.skipped.len() + report.skipped_more.values().sum::<usize>()),
            ("rolled back", report.rolled_back.len()),
            ("remaining", report.remaining),
        ];
        let counts = counts.map(|(what, count)| format!("{what} {count}")).join(" ");
        let seconds = Timestamp::from_second(now.as_second()).unwrap_or(now);
        // What ends a run may stand with its members alone.
        let left =
            report.rolled_back.iter().chain(report.skipped.iter().filter(|left| left.reason.ends_run()));
        let left = left.map(|left| format!("{} {} {}", left.instance_id, left.reason, left.detail)).next();
        let ended = || report.ended_by.as_ref().map(|ended| format!("{} {}", ended.reason, ended.detail));
        Self {
            last_run: value(&format!("{seconds} {counts}")),
            last_error: left.or_else(ended).map(|error| value(&error)),
        }
    }
}

/// Returns a text as every service takes it in a tag: letters, digits, spaces and `_.:/=+-@`.
/// <https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html>
fn value(text: &str) -> String {
    let is_taken = |c: char| c.is_alphanumeric() || " _.:/=+-@".contains(c);
    let taken: String = text.chars().map(|c| if is_taken(c) { c } else { ' ' }).take(LONGEST).collect();
    taken.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tags(more: &serde_json::Value) -> RunTags {
        let mut report = json!({"asg_name": "web", "account_id": "123456789012", "region": "us-east-1", "swapped": [],
            "skipped": [], "rolled_back": [], "remaining": 2, "skipped_more": {"ALREADY_SPOT": 3}});
        report.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let now = "2026-11-20T10:00:00.5Z".parse().unwrap();
        RunTags::of(&serde_json::from_value(report).unwrap(), now)
    }

    #[test]
    fn a_run_is_told_in_figures_and_its_first_error_in_words() {
        let left =
            |reason: &str| json!([{"instance_id": "i-0123456789abcdef0", "reason": reason, "detail": "a;b"}]);
        let quiet = tags(&json!({"skipped": left("NOT_CHEAPER")}));
        assert_eq!(quiet.last_run, "2026-11-20T10:00:00Z swapped 0 skipped 4 rolled back 0 remaining 2");
        assert_eq!(quiet.last_error, None);
        let error = |more| tags(&more).last_error.unwrap();
        let undone = json!({"rolled_back": left("ATTACH_REJECTED"), "ended_by": {"reason": "STEP_FAILED", "detail": "x"}});
        assert_eq!(error(undone), "i-0123456789abcdef0 ATTACH_REJECTED a b");
        assert_eq!(error(json!({"ended_by": {"reason": "STEP_FAILED", "detail": "(x)"}})), "STEP_FAILED  x");
        assert_eq!(
            error(json!({"skipped": left("GATE_UNREACHABLE")})),
            "i-0123456789abcdef0 GATE_UNREACHABLE a b"
        );
    }

    #[test]
    fn a_value_is_never_longer_than_a_tag_takes() {
        let detail = "é".repeat(1_000);
        let long =
            tags(&json!({"ended_by": {"reason": "STEP_FAILED", "detail": detail}})).last_error.unwrap();
        assert_eq!(long.chars().count(), LONGEST);
    }
}
