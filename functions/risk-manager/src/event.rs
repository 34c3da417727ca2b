//! What reaches the risk manager, parsed at the edge.
//!
//! Shapes: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html>
//! and `…/rebalance-recommendations.html`. The AZ in the event is a name, and the instance type is
//! not in it at all: both are looked up.

use aws_lambda_events::eventbridge::EventBridgeEvent;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use spot_domain::ids::{AccountId, InstanceId, Region};

use crate::error::RiskError;
use crate::report::{self, Report};

/// The source of drills: AWS refuses `PutEvents` with a source of its own.
pub const DRILL_SOURCE: &str = "spot-optimizer.drill";
/// How far the clock of an event may be ahead of ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What AWS tells of a Spot instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// It will be interrupted in two minutes.
    InterruptionWarning,
    /// It is at elevated risk.
    RebalanceRecommendation,
}

impl Notice {
    /// The event's `detail-type`, stored as the cause.
    #[must_use]
    pub const fn detail_type(self) -> &'static str {
        match self {
            Self::InterruptionWarning => "EC2 Spot Instance Interruption Warning",
            Self::RebalanceRecommendation => "EC2 Instance Rebalance Recommendation",
        }
    }
}

/// A Spot instance that is being interrupted, or soon may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interruption {
    /// Which of the two.
    pub notice: Notice,
    /// The account that AWS stamped on the event.
    pub account_id: AccountId,
    /// The region that AWS stamped on the event.
    pub region: Region,
    /// The instance.
    pub instance_id: InstanceId,
    /// The event's own time.
    pub occurred: Timestamp,
    /// A drill, not the real thing.
    pub is_drill: bool,
}

/// What can reach the function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// An interruption.
    Interruption(Interruption),
    /// An interruption in a member's account, on the hub's bus.
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

/// Parses an event.
///
/// # Errors
/// [`RiskError::InvalidEvent`] names the field.
pub fn parse(event: Value, allow_drills: bool) -> Result<Incoming, RiskError> {
    if event.get("task").is_some() {
        let task: Task = serde_json::from_value(event).map_err(|e| invalid("task", e.to_string()))?;
        return match task.task.as_str() {
            "clean-up" => Ok(Incoming::CleanUp),
            "measure" => Ok(Incoming::Measure),
            other => {
                Err(invalid("task", format!("{other:?} is unknown: expected \"clean-up\" or \"measure\"")))
            }
        };
    }
    let field = |name: &'static str| {
        event
            .get(name)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| invalid(name, "missing or no text".into()))
    };
    let source = field("source")?;
    let detail_type = field("detail-type")?;
    let account_id = field("account")?.parse().map_err(|e| malformed("account", &e))?;
    let region = field("region")?.parse().map_err(|e| malformed("region", &e))?;
    let parsed = |event| {
        serde_json::from_value::<EventBridgeEvent<Value>>(event).map_err(|e| invalid("event", e.to_string()))
    };
    if source == report::SOURCE && detail_type == report::DETAIL_TYPE {
        let report = report::parse(parsed(event)?, account_id, region)?;
        check_drill(report.is_drill, allow_drills)?;
        return Ok(Incoming::Report(report));
    }
    let notice = notice("detail-type", &detail_type)?;
    let occurred: Timestamp =
        field("time")?.parse().map_err(|e: jiff::Error| invalid("time", e.to_string()))?;
    not_in_the_future("time", occurred)?;
    let is_drill = source == DRILL_SOURCE;
    check_drill(is_drill, allow_drills)?;
    if !is_drill && source != "aws.ec2" {
        return Err(invalid("source", format!("{source:?} is foreign: expected aws.ec2")));
    }
    let instance_id = parsed(event)?
        .detail
        .get("instance-id")
        .and_then(Value::as_str)
        .ok_or_else(|| invalid("detail.instance-id", "missing or no text".into()))?
        .parse()
        .map_err(|e| malformed("detail.instance-id", &e))?;
    Ok(Incoming::Interruption(Interruption { notice, account_id, region, instance_id, occurred, is_drill }))
}

fn check_drill(is_drill: bool, allow_drills: bool) -> Result<(), RiskError> {
    if is_drill && !allow_drills {
        let problem = "drills are not allowed: the stack's parameter AllowDrills is false";
        return Err(invalid("source", problem.to_owned()));
    }
    Ok(())
}

/// An event may be late, but not early: its poison would last longer than the settings say.
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

pub(crate) fn invalid(field: &'static str, problem: String) -> RiskError {
    RiskError::InvalidEvent { field, problem }
}

fn malformed(field: &'static str, error: &spot_domain::ids::Malformed) -> RiskError {
    invalid(field, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str) -> Value {
        let path = format!("{}/../../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn the_sample_events_are_read() {
        let Incoming::Interruption(real) = parse(sample("spot-interruption-warning"), false).unwrap() else {
            panic!("not an interruption");
        };
        assert_eq!(real.notice, Notice::InterruptionWarning);
        assert_eq!(real.instance_id.as_str(), "i-0b662ef9931388ba0");
        assert!(!real.is_drill);
        let Incoming::Interruption(rebalance) = parse(sample("rebalance-recommendation"), false).unwrap()
        else {
            panic!("not an interruption");
        };
        assert_eq!(rebalance.notice, Notice::RebalanceRecommendation);
        assert_eq!(parse(sample("risk-clean-up"), false).unwrap(), Incoming::CleanUp);
        assert_eq!(parse(sample("risk-measure"), false).unwrap(), Incoming::Measure);
        let Incoming::Report(report) = parse(sample("spot-pool-interrupted"), false).unwrap() else {
            panic!("not a report");
        };
        assert_eq!(report.pool.to_string(), "us-east-1#use1-az6#m5.large");
        assert!(report.is_spot && !report.is_drill);
    }

    #[test]
    fn a_drill_counts_only_where_the_stack_allows_it() {
        assert!(parse(sample("drill-interruption-warning"), true).is_ok());
        let error = parse(sample("drill-interruption-warning"), false).unwrap_err().to_string();
        assert!(error.contains("AllowDrills"), "{error}");
        let mut report = sample("spot-pool-interrupted");
        report["detail"]["is-drill"] = true.into();
        assert!(parse(report.clone(), true).is_ok());
        assert!(parse(report, false).unwrap_err().to_string().contains("AllowDrills"));
    }

    #[test]
    fn a_malformed_event_names_its_field() {
        let broken: [(&str, Value, &str); 9] = [
            ("source", "aws.s3".into(), "source"),
            ("source", Value::Null, "source"),
            ("detail-type", "EC2 Instance State-change Notification".into(), "detail-type"),
            ("account", "12".into(), "account"),
            ("region", "Narnia".into(), "region"),
            ("time", "yesterday".into(), "time"),
            ("time", "2999-01-01T00:00:00Z".into(), "time"),
            ("detail", serde_json::json!({}), "detail.instance-id"),
            ("detail", serde_json::json!({"instance-id": "web-1"}), "detail.instance-id"),
        ];
        for (field, value, expected) in broken {
            let mut event = sample("spot-interruption-warning");
            event[field] = value;
            let error = parse(event, true).unwrap_err();
            assert_eq!(error.name(), "InvalidEvent");
            assert!(error.to_string().starts_with(&format!("field {expected:?}")), "{error}");
        }
        let reports: [(&str, Value, &str); 6] = [
            ("pool", "us-east-1#us-east-1a#m5.large".into(), "detail"),
            ("pool", "eu-west-1#euw1-az1#m5.large".into(), "detail.pool"),
            ("notice", "EC2 Instance State-change Notification".into(), "detail.notice"),
            ("occurred", "2999-01-01T00:00:00Z".into(), "detail.occurred"),
            ("instance-id", "web-1".into(), "detail"),
            ("instance-lifecycle", Value::Null, "detail"),
        ];
        for (field, value, expected) in reports {
            let mut event = sample("spot-pool-interrupted");
            event["detail"][field] = value;
            let error = parse(event, true).unwrap_err();
            assert!(error.to_string().starts_with(&format!("field {expected:?}")), "{error}");
        }
        for event in [Value::Null, serde_json::json!([]), serde_json::json!({"task": "wipe"})] {
            assert!(parse(event, true).is_err());
        }
    }
}
