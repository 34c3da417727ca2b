//! The rule of an account and region that hands its Spot notices to the stack, looked at where it lies.
//!
//! The same name holds in every place: that of the stack's bus for the notices of others. In the stack's own account and
//! region the rule invokes the risk manager; everywhere else `account.yaml` makes it, and its target is the bus.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_eventbridge::types::RuleState;
use spot_domain::events::AwsEvent;
use spot_domain::forwarding::{Blindness, Pattern, Rule, Target};
use spot_domain::ids::MalformedText;
use spot_domain::{AccountId, Region};

use crate::clients::Stack;
use crate::environment::{BadEnvironment, optional, variable};
use crate::error::{CallError, Kind, failed};

const BUS: &str = "NOTICES_BUS_ARN";
const ORGANIZATION: &str = "FORWARDING_ORGANIZATION_ID";
const ACCOUNTS: &str = "FORWARDING_ACCOUNT_IDS";

/// The rule that a place must have: its name, and the target that it must hand the notices to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeededRule {
    pub name: String,
    /// The target's ARN.
    pub target: String,
    /// The account whose events the stack's bus does not take, if that is so.
    pub shut_out: Option<AccountId>,
}

impl NeededRule {
    /// Returns the rule that an account and region must have for this stack.
    ///
    /// # Errors
    /// A variable that the template sets is missing or malformed.
    pub fn of(stack: &Stack, account_id: &AccountId, region: &Region) -> Result<Self, BadEnvironment> {
        let Bus { arn, name } = variable(BUS)?;
        let is_own = account_id == &stack.account_id && region == &stack.region;
        let told = |name| optional(name).unwrap_or_default();
        let (organization, accounts) = (told(ORGANIZATION), told(ACCOUNTS));
        let is_named = accounts.split(',').any(|named| named.trim() == account_id.as_str());
        // Nobody but its administrator can say if an account is in the organization.
        let is_admitted = account_id == &stack.account_id || is_named || !organization.is_empty();
        let target = if is_own { variable("RISK_MANAGER_ARN")? } else { arn };
        Ok(Self { name, target, shut_out: (!is_admitted).then(|| account_id.clone()) })
    }

    /// Returns the reason for which the rule does not hand over these notices; `None` if it does. `config` opens the
    /// place. The function makes two calls.
    ///
    /// # Errors
    /// A call fails in a way that may pass. What AWS refuses for good makes a place blind.
    pub async fn blindness(
        &self,
        config: &SdkConfig,
        notices: &[AwsEvent],
    ) -> Result<Option<Blindness>, CallError> {
        if let Some(account_id) = &self.shut_out {
            return Ok(Some(Blindness::ShutOut { account_id: account_id.clone() }));
        }
        let rule = || self.name.clone();
        match self.look(config).await {
            Ok(found) => Ok(found.hands_over(&self.name, notices, &self.target).err()),
            Err(error) => match error.kind {
                Kind::Retry => Err(error),
                Kind::NotFound => Ok(Some(Blindness::NoRule { rule: rule() })),
                _ => Ok(Some(Blindness::Unreadable { rule: rule(), problem: error.to_string() })),
            },
        }
    }

    async fn look(&self, config: &SdkConfig) -> Result<Rule, CallError> {
        let client = aws_sdk_eventbridge::Client::new(config);
        let rule = client.describe_rule().name(&self.name).send();
        // A rule has five targets at most, and a page holds a hundred.
        let targets = client.list_targets_by_rule().rule(&self.name).send();
        let (rule, targets) = tokio::join!(rule, targets);
        let rule = rule.map_err(failed("events:DescribeRule"))?;
        let targets = targets.map_err(failed("events:ListTargetsByRule"))?;
        let is_enabled = matches!(
            rule.state(),
            Some(RuleState::Enabled | RuleState::EnabledWithAllCloudtrailManagementEvents)
        );
        let target = |target: &aws_sdk_eventbridge::types::Target| Target {
            arn: target.arn().to_owned(),
            gets_whole_event: target.input().is_none()
                && target.input_path().is_none()
                && target.input_transformer().is_none(),
        };
        Ok(Rule {
            is_enabled,
            pattern: rule.event_pattern().map(pattern).unwrap_or_default(),
            targets: targets.targets().iter().map(target).collect(),
        })
    }
}

/// Reads a pattern. One that can't be read matches nothing that we know of, like one without conditions.
fn pattern(text: &str) -> Pattern {
    let conditions: BTreeMap<String, serde_json::Value> = serde_json::from_str(text).unwrap_or_default();
    let texts = |condition: &serde_json::Value| {
        let values = condition.as_array().map(Vec::as_slice).unwrap_or_default();
        values.iter().filter_map(serde_json::Value::as_str).map(str::to_owned).collect()
    };
    conditions.iter().map(|(field, condition)| (field.clone(), texts(condition))).collect()
}

/// The stack's bus for the notices of other accounts and regions.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bus {
    arn: String,
    name: String,
}

impl std::str::FromStr for Bus {
    type Err = MalformedText;

    fn from_str(arn: &str) -> Result<Self, Self::Err> {
        match arn.split_once(":event-bus/") {
            Some((_, name)) if !name.is_empty() => Ok(Self { arn: arn.to_owned(), name: name.to_owned() }),
            _ => {
                let (kind, expected) = ("event bus", "its ARN");
                Err(MalformedText { kind, given: arn.chars().take(80).collect(), expected })
            }
        }
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_pattern_is_read_with_its_plain_texts_and_each_of_its_fields() {
        let text =
            r#"{"source": ["aws.ec2", {"prefix": "aws."}], "detail": {"state": ["running"]}, "time": "x"}"#;
        let read = pattern(text);
        let fields: Vec<_> = read.keys().map(String::as_str).collect();
        assert_eq!(fields, ["detail", "source", "time"]);
        assert_eq!(read["source"].iter().collect::<Vec<_>>(), ["aws.ec2"]);
        assert!(read["detail"].is_empty() && read["time"].is_empty());
        for nothing in ["", "[]", "{}", "not JSON"] {
            assert!(pattern(nothing).is_empty(), "{nothing:?}");
        }
    }

    #[test]
    fn the_rule_has_the_name_of_the_bus() {
        let bus: Bus = "arn:aws:events:us-east-1:123456789012:event-bus/prod-notices".parse().unwrap();
        assert_eq!(bus.name, "prod-notices");
        assert!("prod-notices".parse::<Bus>().is_err());
    }
}
