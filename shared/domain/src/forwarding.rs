//! Interruptions are events of the account and region that they happen in. A rule of EventBridge there hands them to the
//! stack. What that rule is now decides if the gate can know of a place's interruptions.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::events::{AwsEvent, EC2_SOURCE};
use crate::ids::AccountId;

/// The treatment of a swap where the gate is blind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlindGate {
    /// The swap is refused before anything is launched.
    #[default]
    Refuse,
    /// The swap is made, and its report names the blind gate.
    Allow,
}

/// A rule of EventBridge, as `DescribeRule` and `ListTargetsByRule` tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub is_enabled: bool,
    pub pattern: Pattern,
    pub targets: Vec<Target>,
}

/// The conditions of a rule's pattern, all of which an event must meet: the field, and the whole texts of which it must
/// have one. A condition of another kind has no texts. A rule with a schedule has no conditions.
pub type Pattern = BTreeMap<String, BTreeSet<String>>;

/// A target of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub arn: String,
    /// The target gets the event as it is, not a part of it or another text.
    pub gets_whole_event: bool,
}

/// The reason why the stack does not hear of a place's interruptions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Blindness {
    /// The policy of the stack's bus names neither the account nor an organization.
    #[error(
        "the stack's bus takes no events of account {account_id}: name it in the stack's parameter ForwardingAccountIds, or its \
         organization in ForwardingOrganizationId"
    )]
    ShutOut {
        /// The account.
        account_id: AccountId,
    },
    /// No rule of the name exists.
    #[error("it has no rule {rule}: deploy account.yaml there")]
    NoRule {
        /// The rule that was looked for.
        rule: String,
    },
    /// The rule is switched off.
    #[error("its rule {rule} is disabled: enable it")]
    Disabled {
        /// The rule.
        rule: String,
    },
    /// The pattern leaves out some or all events of a type.
    #[error("its rule {rule} does not match every {detail_type:?}: deploy account.yaml there anew")]
    Unmatched {
        /// The rule.
        rule: String,
        /// The `detail-type` of the events.
        detail_type: &'static str,
    },
    /// The rule does not hand whole events to the stack.
    #[error("its rule {rule} does not hand whole events to {target}: deploy account.yaml there anew")]
    OtherTarget {
        /// The rule.
        rule: String,
        /// The ARN of the target that the rule lacks.
        target: String,
    },
    /// AWS refuses to describe the rule.
    #[error("its rule {rule} can't be looked at: {problem}")]
    Unreadable {
        /// The rule.
        rule: String,
        /// AWS's refusal.
        problem: String,
    },
}

impl Rule {
    /// Judges the rule of this name: it must hand every event of these kinds to the target, as AWS sent it.
    ///
    /// # Errors
    /// The first reason for which the rule may not do so.
    pub fn hands_over(&self, name: &str, notices: &[AwsEvent], target: &str) -> Result<(), Blindness> {
        let rule = || name.to_owned();
        if !self.is_enabled {
            return Err(Blindness::Disabled { rule: rule() });
        }
        let mut detail_types = notices.iter().map(|notice| notice.detail_type());
        if let Some(detail_type) = detail_types.find(|of| !matches_every(&self.pattern, of)) {
            return Err(Blindness::Unmatched { rule: rule(), detail_type });
        }
        if !self.targets.iter().any(|found| found.arn == target && found.gets_whole_event) {
            return Err(Blindness::OtherTarget { rule: rule(), target: target.to_owned() });
        }
        Ok(())
    }
}

/// Returns true if the pattern surely matches every event of EC2 of this type. A pattern with any further condition may
/// miss some. <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html>
fn matches_every(pattern: &Pattern, detail_type: &str) -> bool {
    !pattern.is_empty()
        && pattern.iter().all(|(field, texts)| match field.as_str() {
            "source" => texts.contains(EC2_SOURCE),
            "detail-type" => texts.contains(detail_type),
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUS: &str = "arn:aws:events:us-east-1:123456789012:event-bus/spot-optimizer-notices";
    const NOTICES: [AwsEvent; 2] = [AwsEvent::InterruptionWarning, AwsEvent::RebalanceRecommendation];
    const BOTH: [&str; 2] = [NOTICES[0].detail_type(), NOTICES[1].detail_type()];

    fn rule(conditions: &[(&str, &[&str])]) -> Rule {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let targets = vec![
            Target { arn: "arn:aws:sns:us-east-1:123456789012:pager".into(), gets_whole_event: false },
            Target { arn: BUS.into(), gets_whole_event: true },
        ];
        let pattern = conditions.iter().map(|(field, of)| ((*field).to_owned(), texts(of))).collect();
        Rule { is_enabled: true, pattern, targets }
    }

    fn usual() -> Rule {
        rule(&[("source", &["aws.ec2"]), ("detail-type", &BOTH)])
    }

    fn judged(rule: &Rule) -> String {
        let judged = rule.hands_over("notices", &NOTICES, BUS);
        judged.map_or_else(|blind| blind.to_string(), |()| "sees".to_owned())
    }

    #[test]
    fn a_rule_that_hands_over_every_notice_is_believed() {
        assert_eq!(judged(&usual()), "sees");
        assert_eq!(judged(&rule(&[("source", &["aws.ec2"])])), "sees");
        assert_eq!(judged(&rule(&[("detail-type", &BOTH)])), "sees");
        let more = ["EC2 Instance Launch Successful", BOTH[1], BOTH[0]];
        let sources = ["aws.autoscaling", "aws.ec2", "spot-optimizer.drill"];
        assert_eq!(judged(&rule(&[("source", &sources), ("detail-type", &more)])), "sees");
    }

    #[test]
    fn a_pattern_that_may_miss_a_notice_is_blind() {
        let source: (&str, &[&str]) = ("source", &["aws.ec2"]);
        for conditions in [
            vec![],
            vec![("source", [].as_slice())],
            vec![("source", ["aws.autoscaling"].as_slice())],
            vec![source, ("detail-type", &[])],
            vec![source, ("detail-type", &BOTH[..1])],
            vec![source, ("detail-type", &BOTH[1..])],
            vec![source, ("detail-type", &BOTH), ("detail", &[])],
            vec![source, ("detail-type", &BOTH), ("resources", &["arn"])],
            vec![source, ("$or", &[])],
        ] {
            assert!(judged(&rule(&conditions)).contains("does not match every"), "{conditions:?}");
        }
    }

    #[test]
    fn a_rule_may_leave_out_notices_that_poison_nothing() {
        let warnings = rule(&[("source", &["aws.ec2"]), ("detail-type", &BOTH[..1])]);
        assert!(judged(&warnings).contains("Rebalance Recommendation"));
        assert_eq!(warnings.hands_over("notices", &NOTICES[..1], BUS), Ok(()));
    }

    #[test]
    fn a_disabled_rule_and_one_with_another_target_are_blind() {
        assert_eq!(judged(&Rule { is_enabled: false, ..usual() }), "its rule notices is disabled: enable it");
        for (arn, gets_whole_event) in [(BUS, false), ("arn:aws:events:us-east-1:1:event-bus/other", true)] {
            let targets = vec![Target { arn: arn.into(), gets_whole_event }];
            assert!(judged(&Rule { targets, ..usual() }).contains(BUS), "{arn} {gets_whole_event}");
        }
        assert!(judged(&Rule { targets: vec![], ..usual() }).contains("does not hand whole events"));
    }
}
