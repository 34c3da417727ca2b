//! The input of the group watcher, parsed at the edge: the schedule's, a person's, or a launch event of Auto Scaling.
//!
//! The shape of the event: <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-event-reference.html>

use std::str::FromStr;

use aws_lambda_events::eventbridge::EventBridgeEvent;
use serde::Deserialize;
use serde_json::Value;
use spot_cloud::input::BadInput;
use spot_domain::events::{AUTO_SCALING_SOURCE, AwsEvent};
use spot_domain::ids::MalformedText;
use spot_domain::words::Cause;
use spot_domain::{AccountId, GroupName, InstanceId, Region};

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Every enrolled group, in every account and region.
    Sweep,
    /// One group.
    Group {
        /// The group.
        asg_name: GroupName,
        /// Its account; absent, the stack's own.
        account_id: Option<AccountId>,
        /// Its region; absent, the stack's own.
        region: Option<Region>,
        /// The instance that the group has launched, if a launch is the cause.
        launched: Option<InstanceId>,
    },
}

impl Request {
    /// Returns true if the request comes from a launch.
    #[must_use]
    pub const fn is_launch(&self) -> bool {
        matches!(self, Self::Group { launched: Some(_), .. })
    }
}

/// Unknown fields are refused: a misspelt `asg_name` must not sweep everything.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    asg_name: Option<GroupName>,
    account_id: Option<AccountId>,
    region: Option<Region>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LaunchDetail {
    auto_scaling_group_name: GroupName,
    #[serde(rename = "EC2InstanceId")]
    instance_id: InstanceId,
}

/// Parses the input.
///
/// # Errors
/// [`BadInput`] names the field.
pub fn parse(input: Value) -> Result<Request, BadInput> {
    if spot_cloud::input::is_event(&input) {
        return launch(input);
    }
    let Input { asg_name, account_id, region } = spot_cloud::input::parse(None, input)?;
    match asg_name {
        Some(asg_name) => Ok(Request::Group { asg_name, account_id, region, launched: None }),
        None if account_id.is_some() || region.is_some() => {
            Err(bad("asg_name", "is missing: account_id and region say where the group of this name is"))
        }
        None => Ok(Request::Sweep),
    }
}

fn launch(input: Value) -> Result<Request, BadInput> {
    let event: EventBridgeEvent = spot_cloud::input::parse(None, input)?;
    let expected = AwsEvent::InstanceLaunched.detail_type();
    if event.detail_type != expected {
        return Err(bad("detail-type", format!("{:?} is unknown: expected {expected:?}", event.detail_type)));
    }
    if event.source != AUTO_SCALING_SOURCE {
        return Err(bad("source", format!("{:?} is foreign: expected {AUTO_SCALING_SOURCE}", event.source)));
    }
    let (account_id, region) = (stamped("account", event.account)?, stamped("region", event.region)?);
    let LaunchDetail { auto_scaling_group_name: asg_name, instance_id } =
        spot_cloud::input::parse(Some("detail"), event.detail)?;
    Ok(Request::Group {
        asg_name,
        account_id: Some(account_id),
        region: Some(region),
        launched: Some(instance_id),
    })
}

/// Parses a field that AWS stamps on every event. A made-up event may lack it.
fn stamped<T: FromStr<Err = MalformedText>>(field: &str, text: Option<String>) -> Result<T, BadInput> {
    let text = text.ok_or_else(|| bad(field, "is missing: AWS stamps it on every event"))?;
    text.parse().map_err(|error: MalformedText| bad(field, error.to_string()))
}

fn bad(field: &str, problem: impl Into<String>) -> BadInput {
    BadInput { field: field.to_owned(), problem: Cause::from(problem.into()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../events/instance-launched.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn every_input_is_read() {
        let group = |account_id: Option<&str>, region: Option<&str>, launched: Option<&str>| Request::Group {
            asg_name: "web".parse().unwrap(),
            account_id: account_id.map(|id| id.parse().unwrap()),
            region: region.map(|region| region.parse().unwrap()),
            launched: launched.map(|id| id.parse().unwrap()),
        };
        assert_eq!(parse(json!({})).unwrap(), Request::Sweep);
        assert_eq!(parse(json!({"asg_name": "web"})).unwrap(), group(None, None, None));
        let there = json!({"asg_name": "web", "account_id": "123456789012", "region": "eu-west-1"});
        assert_eq!(parse(there).unwrap(), group(Some("123456789012"), Some("eu-west-1"), None));
        let launched = group(Some("123456789012"), Some("us-east-1"), Some("i-0123456789abcdef0"));
        assert_eq!(parse(sample()).unwrap(), launched);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../events/group-watcher-sweep.json");
        let sweep = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(parse(sweep).unwrap(), Request::Sweep);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let with = |field: &str, value: Value| {
            let mut event = sample();
            event[field] = value;
            event
        };
        let detail = json!({"AutoScalingGroupName": "web"});
        let without_type = json!({"source": "aws.autoscaling", "detail": detail});
        for (input, expected) in [
            (json!({"asgname": "web"}), "unknown field `asgname`"),
            (json!({"region": "us-east-1"}), "asg_name: is missing"),
            (json!({"asg_name": ""}), "asg_name: Auto Scaling group name"),
            (json!([]), "input: must be a JSON object"),
            (with("detail-type", json!("EC2 Instance Terminate Successful")), "detail-type: "),
            (with("source", json!("spot-optimizer")), "source: \"spot-optimizer\" is foreign"),
            (with("account", json!("12")), "account: account id"),
            (with("region", Value::Null), "region: is missing"),
            (without_type, "detail-type: missing field"),
            (with("detail", detail), "detail.EC2InstanceId: missing field"),
        ] {
            let error = parse(input.clone()).unwrap_err().to_string();
            assert!(error.contains(expected), "{input}: {error}");
        }
    }
}
