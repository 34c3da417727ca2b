//! The stored progress of a scan, as an older release or a person may have changed it.
//!
//! The parser promises: no panic. Progress that is read is written as it was, and tells its total. What is no JSON object of
//! that form is no progress: the scan of the scope begins anew.

use serde_json::Value;
use spot_fuzz::Target;
use waste_scanner::table::progress::ScanProgress;

use crate::promise;

#[test]
fn progress() {
    let words = &["elastic-ip", "snapshot", "OPTED_OUT", "recycle-bin", "overtaken", "lineages"];
    Target { name: "progress", samples: &[], words, cases: 3_000 }.fuzz(check);
}

fn check(bytes: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(bytes);
    let Ok(mut progress) = serde_json::from_str::<ScanProgress>(&text) else { return Ok(()) };
    let once = serde_json::to_value(&progress).map_err(|error| error.to_string())?;
    let again = serde_json::from_value::<ScanProgress>(once.clone())
        .map_err(|error| format!("{once} is refused: {error}"))?;
    promise(serde_json::to_value(&again).unwrap() == once, || format!("{once} reads back as {again:?}"))?;
    let kept = |of: &ScanProgress| (of.run_started, of.next.clone(), of.snapshot_parts.clone());
    promise(kept(&again) == kept(&progress), || format!("{progress:?} goes on as {again:?}"))?;
    let _ = progress.report.total();
    let is_over = progress.next.is_none();
    progress.overtaken();
    promise(progress.next.is_none(), || format!("{progress:?} goes on"))?;
    promise(is_over || progress.report.overtaken, || format!("{progress:?} looks complete"))
}

#[test]
fn the_sample_is_read() {
    let sample = include_str!("../corpus/progress/under-way.json");
    let progress: ScanProgress = serde_json::from_str(sample).unwrap();
    assert!(progress.next.is_some() && serde_json::from_str::<Value>(sample).is_ok());
}
