//! The notices of EC2 about a Spot instance, and drills of them, parsed at the edge.
//!
//! The shapes are documented at
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html> and
//! `…/rebalance-recommendations.html`.

use std::str::FromStr;

use aws_lambda_events::eventbridge::EventBridgeEvent;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use spot_domain::events::{AwsEvent, DRILL_SOURCE, EC2_SOURCE};
use spot_domain::ids::MalformedText;
use spot_domain::{AccountId, InstanceId, Region};
use spot_swap::error::StepError;

/// What EC2 says of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// It ends in two minutes.
    Interruption,
    /// It is at elevated risk.
    Rebalance,
}

/// A notice about a Spot instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// What it says.
    pub announced: Announced,
    /// The account that AWS stamped on the event.
    pub account_id: AccountId,
    /// The region that AWS stamped on it.
    pub region: Region,
    /// The instance.
    pub instance_id: InstanceId,
    /// The time of the notice.
    pub occurred: Timestamp,
    /// Somebody plays an interruption.
    pub is_drill: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Detail {
    instance_id: InstanceId,
}

/// Parses an event.
///
/// # Errors
/// [`StepError::InvalidInput`] names the field.
pub fn parse(event: Value, allow_drills: bool) -> Result<Heard, StepError> {
    let event: EventBridgeEvent = read(None, event)?;
    let is_drill = event.source == DRILL_SOURCE;
    if is_drill && !allow_drills {
        return Err(invalid("source", "drills are not allowed: the stack's parameter AllowDrills is false"));
    }
    if !is_drill && event.source != EC2_SOURCE {
        return Err(invalid("source", &format!("{:?} is foreign: expected {EC2_SOURCE}", event.source)));
    }
    let announced = announced(&event.detail_type)?;
    let time = event.time.ok_or_else(|| missing("time"))?;
    let occurred = Timestamp::from_millisecond(time.timestamp_millis());
    let Detail { instance_id } = read(Some("detail"), event.detail)?;
    Ok(Heard {
        announced,
        account_id: stamped("account", event.account)?,
        region: stamped("region", event.region)?,
        instance_id,
        occurred: occurred.map_err(|error| invalid("time", &error.to_string()))?,
        is_drill,
    })
}

fn announced(detail_type: &str) -> Result<Announced, StepError> {
    if detail_type == AwsEvent::InterruptionWarning.detail_type() {
        Ok(Announced::Interruption)
    } else if detail_type == AwsEvent::RebalanceRecommendation.detail_type() {
        Ok(Announced::Rebalance)
    } else {
        Err(invalid("detail-type", &format!("{detail_type:?} is not handled here")))
    }
}

fn read<T: serde::de::DeserializeOwned>(at: Option<&'static str>, value: Value) -> Result<T, StepError> {
    spot_cloud::input::parse(at, value).map_err(|bad| StepError::InvalidInput(bad.to_string().into()))
}

/// Parses a field that AWS stamps on every event. A made-up event may lack it.
fn stamped<T: FromStr<Err = MalformedText>>(field: &str, text: Option<String>) -> Result<T, StepError> {
    let text = text.ok_or_else(|| missing(field))?;
    text.parse().map_err(|error: MalformedText| invalid(field, &error.to_string()))
}

fn missing(field: &str) -> StepError {
    invalid(field, "missing: AWS stamps it on every event")
}

fn invalid(field: &str, problem: &str) -> StepError {
    StepError::InvalidInput(format!("{field}: {problem}").into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample(name: &str) -> Value {
        let path = format!("{}/../../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn both_notices_of_ec2_and_their_drills_are_heard() {
        let heard = parse(sample("spot-interruption-warning"), false).unwrap();
        assert_eq!((heard.announced, heard.is_drill), (Announced::Interruption, false));
        assert_eq!(heard.occurred.to_string(), "2026-11-20T10:15:00Z");
        assert_eq!(parse(sample("rebalance-recommendation"), false).unwrap().announced, Announced::Rebalance);
        assert!(parse(sample("drill-interruption-warning"), true).unwrap().is_drill);
        let refused = parse(sample("drill-interruption-warning"), false).unwrap_err();
        assert!(refused.to_string().starts_with("source: drills are not allowed"), "{refused}");
    }

    #[test]
    fn what_can_t_be_read_is_named_by_its_field() {
        for (field, value) in [
            ("source", json!("payments")),
            ("detail-type", json!("EC2 Instance State-change Notification")),
            ("account", json!("12")),
            ("region", Value::Null),
            ("time", Value::Null),
            ("detail", json!({"instance-id": "web-1"})),
        ] {
            let mut event = sample("spot-interruption-warning");
            event[field] = value;
            let error = parse(event, false).unwrap_err();
            assert_eq!(error.name(), "InvalidInput");
            assert!(error.to_string().starts_with(field), "{field}: {error}");
        }
    }
}
