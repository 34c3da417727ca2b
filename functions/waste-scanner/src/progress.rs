//! How far a scope's scan has come, and what it found: kept in the WasteResource table, under the
//! partition `summary`. It is the stored summary, and where a continued run goes on.

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spot_cloud::error::failed;
use spot_cloud::places::Place;
use spot_cloud::{CallError, Kind};
use spot_domain::waste::ResourceType;
use spot_domain::waste_report::ScopeReport;

use crate::finding::{LAST_SEEN, RESOURCE_TYPE, STATUS, number};
use crate::table::{WasteTable, key};

/// The partition of the reports.
const PARTITION: &str = "summary";
/// The progress as JSON (S).
const REPORT: &str = "report";

/// When the run began whose progress this is (N, epoch seconds): of two runs the newer one keeps.
const RUN_STARTED: &str = "run_started";

/// Where a scan goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// What was being listed.
    pub listing: ResourceType,
    /// EC2's token of the next page; `None` for the first.
    pub token: Option<String>,
    /// It has been listed to its end: what it did not see is still to be resolved.
    #[serde(default)]
    pub listed: bool,
}

impl Position {
    /// The beginning of a type.
    #[must_use]
    pub fn first(listing: ResourceType) -> Self {
        Self { listing, token: None, listed: false }
    }
}

/// What is kept of a scope.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// Nothing of this run.
    Nothing,
    /// How far this run has come.
    Ours(Progress),
    /// A newer run has begun here: it lists all of it, so that this one need not go on.
    Newers,
}

/// A scope's scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The run that it is part of, by its start in epoch seconds.
    pub run_started: i64,
    /// The parts of the listing of snapshots so far, each named by the microsecond in which it began. What
    /// an invocation wrote that was killed is in none of them: it is repeated from what was kept before.
    #[serde(default)]
    pub snapshot_parts: Vec<i64>,
    /// Where it goes on; `None` at its end.
    pub next: Option<Position>,
    /// What it found so far.
    pub report: ScopeReport,
}

impl Progress {
    /// Nothing done yet.
    #[must_use]
    pub fn new(run_started: i64, place: &Place) -> Self {
        let report = ScopeReport::new(place.account_id.clone(), place.region.clone());
        let next = Some(Position::first(ResourceType::ALL[0]));
        Self { run_started, snapshot_parts: Vec::new(), next, report }
    }

    /// Begins the next part of the listing of snapshots; its name.
    pub fn begin_snapshot_part(&mut self) -> i64 {
        let part = Timestamp::now().as_microsecond();
        self.snapshot_parts.push(part);
        part
    }

    /// Ends here, because a newer run has taken over what is left. What was seen to its end stands.
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
    /// Keeps a scope's progress, in place of what was kept before. False, and nothing is kept, if
    /// that is a newer run's.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn keep(&self, place: &Place, progress: &Progress) -> Result<bool, CallError> {
        let call = "dynamodb:PutItem";
        let report =
            serde_json::to_string(progress).map_err(|e| CallError::malformed(call, e.to_string()))?;
        let text = |text: &str| AttributeValue::S(text.to_owned());
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
            .item(LAST_SEEN, number(&Timestamp::now().as_second()))
            .item("total_monthly_waste_usd", number(&progress.report.total()))
            .item(REPORT, AttributeValue::S(report));
        match put.send().await.map_err(failed(call)) {
            Err(error) if error.kind == Kind::ConditionFailed => Ok(false),
            answer => answer.map(|_| true),
        }
    }

    /// What is kept, as the run that began at `run_started` sees it.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn kept(&self, place: &Place, run_started: i64) -> Result<Kept, CallError> {
        let answer = self
            .dynamodb
            .get_item()
            .table_name(&self.name)
            .set_key(Some(key(PARTITION, &place.key())))
            .consistent_read(true)
            .send()
            .await
            .map_err(failed("dynamodb:GetItem"))?;
        let report = answer.item.as_ref().and_then(|row| row.get(REPORT)?.as_s().ok());
        let progress = report.and_then(|report| serde_json::from_str::<Progress>(report).ok());
        Ok(match progress {
            Some(progress) if progress.run_started > run_started => Kept::Newers,
            Some(progress) if progress.run_started == run_started => Kept::Ours(progress),
            _ => Kept::Nothing,
        })
    }
}
