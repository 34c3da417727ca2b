//! The output of an execution of the loop: the report of a group's run, of a node's swap or of a lab instance's swap.
//!
//! The parser promises: no panic. What is no report is a failed run, never one that goes on. The words of a failure name the
//! field, and fit into a row.

use group_watcher::executions::of_output;
use serde_json::Value;
use spot_domain::watch::back_off::RunEnd;
use spot_domain::words::LONGEST;
use spot_fuzz::Target;

use crate::promise;

const UNREADABLE: &str = "its report can't be read: ";
/// The fields of the three reports.
const FIELDS: [&str; 27] = [
    "asg_name",
    "account_id",
    "region",
    "swapped",
    "skipped",
    "rolled_back",
    "remarks",
    "remaining",
    "executions_needed",
    "continuation",
    "skipped_more",
    "gate",
    "ended_by",
    "planned",
    "instance_id",
    "new_instance_id",
    "kept_instance_id",
    "cluster_name",
    "outcome",
    "reason",
    "detail",
    "evicted",
    "blocked",
    "warnings",
    "plan",
    "losses",
    "not_looked_at",
];

#[test]
fn output() {
    let words = &["REFUSED", "ROLLED_BACK", "BROUGHT_BACK", "PLANNED", "GATE_BLIND", "STEP_FAILED", "blind"];
    Target { name: "output", samples: &[], words, cases: 3_000 }.fuzz(check);
}

fn check(bytes: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(bytes);
    let end = of_output(&text);
    let (RunEnd::Failed(words) | RunEnd::NothingSwapped(words)) = &end else {
        let is_report = serde_json::from_str::<Value>(&text).is_ok_and(|report| report.is_object());
        return promise(is_report, || format!("{text} is no object and means {end:?}"));
    };
    promise(words.chars().count() <= LONGEST + 1, || format!("a detail of {} bytes", words.len()))?;
    let Some(error) = words.strip_prefix(UNREADABLE) else { return Ok(()) };
    let is_object = serde_json::from_str::<Value>(&text).is_ok_and(|report| report.is_object());
    let names_its_field = FIELDS.iter().any(|field| error.starts_with(field));
    promise(!is_object || names_its_field, || format!("the error names no field: {error}"))
}

#[test]
fn the_samples_are_read() {
    for (sample, expected) in [
        (include_str!("../corpus/output/group.json"), RunEnd::GoesOn),
        (include_str!("../corpus/output/node.json"), RunEnd::GoesOn),
        (include_str!("../corpus/output/lab.json"), RunEnd::Replaced),
    ] {
        assert_eq!(of_output(sample), expected);
    }
}
