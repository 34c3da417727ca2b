//! The progress of a scope's scan, and its findings: stored in the WasteResource table, under the partition
//! `summary`. The row is the stored summary, and the position from which a continued run resumes.

use serde::{Deserialize, Serialize};
use spot_cloud::CallError;
use spot_cloud::error::{failed, unreadable};
use spot_cloud::scopes::AccountRegion;
use spot_cloud::tables::row::{number, text, text_in, written};
use spot_domain::clock;
use spot_domain::waste::report::ScopeReport;
use spot_domain::waste::rules::ResourceType;

use super::finding::{LAST_SEEN, RESOURCE_TYPE, STATUS};
use super::{WasteTable, key};

/// The partition of the reports.
const PARTITION: &str = "summary";
/// The progress as JSON (S).
const REPORT: &str = "report";

/// Start of the run whose progress the row holds (N, epoch seconds). Of two runs, the newer one keeps the
/// row.
const RUN_STARTED: &str = "run_started";

/// The position from which a scan resumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The type that was being listed.
    pub listing: ResourceType,
    /// EC2's token of the next page; `None` for the first.
    pub token: Option<String>,
    /// The type has been listed to its end. Findings that the listing did not see are still to be resolved.
    #[serde(default)]
    pub listed: bool,
}

impl Position {
    /// Returns the beginning of a type.
    #[must_use]
    pub fn first(listing: ResourceType) -> Self {
        Self { listing, token: None, listed: false }
    }
}

/// The stored progress of a scope, as a run sees it.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredProgress {
    /// Nothing of this run is stored.
    Nothing,
    /// The progress of this run.
    Ours(ScanProgress),
    /// A newer run has begun to list the whole scope, so that this run need not continue.
    Newer,
}

/// The scan of a scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanProgress {
    /// The run of the scan, by its start in epoch seconds.
    pub run_started: i64,
    /// The parts of the snapshots' listing so far, each named by the microsecond in which it began. The
    /// writes of a killed invocation are in none of them: the next invocation repeats them from the stored
    /// progress.
    #[serde(default)]
    pub snapshot_parts: Vec<i64>,
    /// The position from which the scan resumes; `None` at its end.
    pub next: Option<Position>,
    /// The findings so far.
    pub report: ScopeReport,
}

impl ScanProgress {
    /// Creates the progress of a scope that is not begun.
    #[must_use]
    pub fn new(run_started: i64, place: &AccountRegion) -> Self {
        let report = ScopeReport::new(place.account_id.clone(), place.region.clone());
        let next = Some(Position::first(ResourceType::ALL[0]));
        Self { run_started, snapshot_parts: Vec::new(), next, report }
    }

    /// Begins the next part of the snapshots' listing, and returns its name.
    pub fn begin_snapshot_part(&mut self) -> i64 {
        let part = clock::now().as_microsecond();
        self.snapshot_parts.push(part);
        part
    }

    /// Ends the scan of the scope, because a newer run has taken over its rest. Types that are listed to
    /// their end keep their results.
    pub fn overtaken(&mut self) {
        if self.next.take().is_some() {
            self.report.overtaken = true;
        }
    }

    fn status(&self) -> &'static str {
        match (&self.next, self.report.failed.is_empty()) {
            (Some(_), _) => "RUNNING",
            (None, true) => "COMPLETE",
            (None, false) => "PARTIAL",
        }
    }
}

impl WasteTable {
    /// Stores a scope's progress in place of the earlier one. Stores nothing and returns false if the stored
    /// progress is a newer run's.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn store(&self, place: &AccountRegion, progress: &ScanProgress) -> Result<bool, CallError> {
        let call = "dynamodb:PutItem";
        let report = serde_json::to_string(progress).map_err(unreadable(call))?;
        let put = self
            .dynamodb
            .put_item()
            .table_name(&self.name)
            .condition_expression("attribute_not_exists(#run) OR #run <= :run")
            .expression_attribute_names("#run", RUN_STARTED)
            .expression_attribute_values(":run", number(&progress.run_started))
            .set_item(Some(key(PARTITION, &place.key())))
            .item(RUN_STARTED, number(&progress.run_started))
            .item(RESOURCE_TYPE, text("summary"))
            .item(STATUS, text(progress.status()))
            .item(LAST_SEEN, number(&clock::now().as_second()))
            .item("total_monthly_waste_usd", number(&progress.report.total()))
            .item(REPORT, text(&report));
        written(put.send().await.map_err(failed(call)))
    }

    /// Returns the stored progress, as the run that began at `run_started` sees it.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn stored(&self, place: &AccountRegion, run_started: i64) -> Result<StoredProgress, CallError> {
        let answer = self
            .dynamodb
            .get_item()
            .table_name(&self.name)
            .set_key(Some(key(PARTITION, &place.key())))
            .consistent_read(true)
            .send()
            .await
            .map_err(failed("dynamodb:GetItem"))?;
        let report = answer.item.as_ref().and_then(|row| text_in(row, REPORT));
        let progress = report.and_then(|report| serde_json::from_str::<ScanProgress>(report).ok());
        Ok(match progress {
            Some(progress) if progress.run_started > run_started => StoredProgress::Newer,
            Some(progress) if progress.run_started == run_started => StoredProgress::Ours(progress),
            _ => StoredProgress::Nothing,
        })
    }
}
