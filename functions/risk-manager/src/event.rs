//! The events of the risk manager, parsed at the edge.
//!
//! The shapes are documented at
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html> and
//! `…/rebalance-recommendations.html`. The event has the zone's name instead of its id, and no instance type: both
//! are looked up.

use std::str::FromStr;

use aws_lambda_events::eventbridge::EventBridgeEvent;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use spot_domain::events::{DRILL_SOURCE, EC2_SOURCE, OwnEvent, SOURCE};
use spot_domain::ids::{InstanceId, MalformedText};
use spot_domain::words::Cause;

use crate::error::RiskError;
use crate::hub::report::{self, Report};
use crate::interruption::{Interruption, invalid, not_in_the_future, notice, read};

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
    if is_task(&event) {
        return task(event);
    }
    let event: EventBridgeEvent = read(None, event)?;
    let account_id = stamped("account", event.account)?;
    let region = stamped("region", event.region)?;
    if event.source == SOURCE && event.detail_type == OwnEvent::SpotPoolInterrupted.detail_type() {
        let report = report::parse(event.detail, account_id)?;
        check_drill(report.is_drill, allow_drills)?;
        return Ok(Incoming::Report(report));
    }
    let notice = notice("detail-type", &event.detail_type)?;
    let time = event.time.ok_or_else(|| missing("time"))?;
    let occurred = Timestamp::from_millisecond(time.timestamp_millis());
    let occurred = occurred.map_err(|error| invalid("time", Cause::of(error)))?;
    not_in_the_future("time", occurred)?;
    let is_drill = event.source == DRILL_SOURCE;
    check_drill(is_drill, allow_drills)?;
    if !is_drill && event.source != EC2_SOURCE {
        return Err(invalid("source", format!("{:?} is foreign: expected {EC2_SOURCE}", event.source)));
    }
    let NoticeDetail { instance_id } = read(Some("detail"), event.detail)?;
    Ok(Incoming::Interruption(Interruption { notice, account_id, region, instance_id, occurred, is_drill }))
}

/// Returns true for the event of a schedule, also if its one field is misspelt: the error then names that field.
fn is_task(event: &Value) -> bool {
    event.get("task").is_some() || event.is_object() && !spot_cloud::input::is_event(event)
}

/// Parses the event of a schedule.
fn task(event: Value) -> Result<Incoming, RiskError> {
    let Task { task } = serde_json::from_value(event).map_err(|e| invalid("task", Cause::of(e)))?;
    match task.as_str() {
        "clean-up" => Ok(Incoming::CleanUp),
        "measure" => Ok(Incoming::Measure),
        other => Err(invalid("task", format!("{other:?} is unknown: expected \"clean-up\" or \"measure\""))),
    }
}

/// Parses a field that AWS stamps on every event. A made-up event may lack it.
fn stamped<T>(field: &'static str, text: Option<String>) -> Result<T, RiskError>
where
    T: FromStr<Err = MalformedText>,
{
    let text = text.ok_or_else(|| missing(field))?;
    text.parse().map_err(|error: MalformedText| invalid(field, Cause::of(error)))
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

#[cfg(test)]
mod tests;
