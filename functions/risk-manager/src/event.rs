//! The events of the risk manager, parsed at the edge.
//!
//! The shapes are documented at
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html> and
//! `…/rebalance-recommendations.html`. The event has the zone's name instead of its id, and no instance type: both
//! are looked up.

use std::str::FromStr;

use aws_lambda_events::eventbridge::EventBridgeEvent;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use spot_domain::events::{AwsEvent, DRILL_SOURCE, EC2_SOURCE, OwnEvent, SOURCE};
use spot_domain::ids::{AccountId, InstanceId, MalformedText, Region};

use crate::error::RiskError;
use crate::report::{self, Report};

/// The most time that an event's clock may be ahead of ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The notice that AWS sends about a Spot instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The instance will be interrupted in two minutes.
    InterruptionWarning,
    /// The instance is at elevated risk of an interruption.
    RebalanceRecommendation,
}

impl Notice {
    /// Returns the event's `detail-type`, which is stored as the cause.
    #[must_use]
    pub const fn detail_type(self) -> &'static str {
        match self {
            Self::InterruptionWarning => AwsEvent::InterruptionWarning.detail_type(),
            Self::RebalanceRecommendation => AwsEvent::RebalanceRecommendation.detail_type(),
        }
    }
}

/// A Spot instance that is being interrupted, or soon may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interruption {
    pub notice: Notice,
    /// The account that AWS stamped on the event.
    pub account_id: AccountId,
    /// The region that AWS stamped on the event.
    pub region: Region,
    pub instance_id: InstanceId,
    /// The time of the event itself.
    pub occurred: Timestamp,
    /// Set for a drill, which is no real notice.
    pub is_drill: bool,
}

/// An event that can reach the function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A notice from AWS itself.
    Interruption(Interruption),
    /// A notice in a member's account, which reached the hub's bus.
    Report(Report),
    /// The daily schedule.
    CleanUp,
    /// The hourly schedule.
    Measure,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    task: String,
}

/// The detail of both notices. The event's `instance-action` changes nothing for the pool.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct NoticeDetail {
    instance_id: InstanceId,
}

/// Parses an event.
///
/// # Errors
/// [`RiskError::InvalidEvent`] names the field.
pub fn parse(event: Value, allow_drills: bool) -> Result<Incoming, RiskError> {
    if event.get("task").is_some() {
        return task(event);
    }
    let event: EventBridgeEvent = read(None, event)?;
    let account_id = stamped("account", event.account)?;
    let region = stamped("region", event.region)?;
    if event.source == SOURCE && event.detail_type == OwnEvent::SpotPoolInterrupted.detail_type() {
        let report = report::parse(event.detail, account_id, region)?;
        check_drill(report.is_drill, allow_drills)?;
        return Ok(Incoming::Report(report));
    }
    let notice = notice("detail-type", &event.detail_type)?;
    let time = event.time.ok_or_else(|| missing("time"))?;
    let occurred = Timestamp::from_millisecond(time.timestamp_millis());
    let occurred = occurred.map_err(|error| invalid("time", error.to_string()))?;
    not_in_the_future("time", occurred)?;
    let is_drill = event.source == DRILL_SOURCE;
    check_drill(is_drill, allow_drills)?;
    if !is_drill && event.source != EC2_SOURCE {
        return Err(invalid("source", format!("{:?} is foreign: expected {EC2_SOURCE}", event.source)));
    }
    let NoticeDetail { instance_id } = read(Some("detail"), event.detail)?;
    Ok(Incoming::Interruption(Interruption { notice, account_id, region, instance_id, occurred, is_drill }))
}

/// Parses the event of a schedule.
fn task(event: Value) -> Result<Incoming, RiskError> {
    let Task { task } = serde_json::from_value(event).map_err(|e| invalid("task", e.to_string()))?;
    match task.as_str() {
        "clean-up" => Ok(Incoming::CleanUp),
        "measure" => Ok(Incoming::Measure),
        other => Err(invalid("task", format!("{other:?} is unknown: expected \"clean-up\" or \"measure\""))),
    }
}

/// Parses the event itself, or the part of it at the field `at`.
pub(crate) fn read<T: DeserializeOwned>(at: Option<&'static str>, part: Value) -> Result<T, RiskError> {
    // Serde would parse a struct from an array too, by position.
    if !part.is_object() {
        return Err(invalid(at.unwrap_or("event"), "must be a JSON object".to_owned()));
    }
    serde_path_to_error::deserialize(part).map_err(|error| {
        let problem = error.inner().to_string();
        let inside = Some(error.path().to_string()).filter(|path| path != ".");
        let missing = problem.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let path: Vec<&str> = [at, inside.as_deref(), missing].into_iter().flatten().collect();
        invalid(if path.is_empty() { "event".to_owned() } else { path.join(".") }, problem)
    })
}

/// Parses a field that AWS stamps on every event. A made-up event may lack it.
fn stamped<T>(field: &'static str, text: Option<String>) -> Result<T, RiskError>
where
    T: FromStr<Err = MalformedText>,
{
    let text = text.ok_or_else(|| missing(field))?;
    text.parse().map_err(|error: MalformedText| invalid(field, error.to_string()))
}

fn missing(field: &'static str) -> RiskError {
    invalid(field, "missing: AWS stamps it on every event".to_owned())
}

fn check_drill(is_drill: bool, allow_drills: bool) -> Result<(), RiskError> {
    if is_drill && !allow_drills {
        let problem = "drills are not allowed: the stack's parameter AllowDrills is false";
        return Err(invalid("source", problem.to_owned()));
    }
    Ok(())
}

/// Refuses a time in the future. An event may be late, but not early: its poison would last longer than the
/// settings say.
pub(crate) fn not_in_the_future(field: &'static str, time: Timestamp) -> Result<(), RiskError> {
    if time > Timestamp::now() + CLOCK_SKEW {
        return Err(invalid(field, format!("{time} lies in the future")));
    }
    Ok(())
}

pub(crate) fn notice(field: &'static str, detail_type: &str) -> Result<Notice, RiskError> {
    [Notice::InterruptionWarning, Notice::RebalanceRecommendation]
        .into_iter()
        .find(|notice| notice.detail_type() == detail_type)
        .ok_or_else(|| invalid(field, format!("{detail_type:?} is not handled here")))
}

pub(crate) fn invalid(field: impl Into<String>, problem: String) -> RiskError {
    RiskError::InvalidEvent { field: field.into(), problem }
}

#[cfg(test)]
mod tests;
