//! The answer of the group watcher.

use std::fmt;

use serde::Serialize;
use serde_json::json;
use spot_cloud::metrics::Figure;
use spot_cloud::scopes::AccountRegion;
use spot_cloud::tables::swaps::key_of_instance;
use spot_domain::metrics::Metric;
use spot_domain::swap::group::Group;
use spot_domain::watch::Deferred;
use spot_domain::{AccountId, ExecutionArn, GroupName, InstanceId, Region};

/// The result of one invocation.
#[derive(Debug, Default, Serialize)]
pub struct Answer {
    /// The number of enrolled groups and lab instances that were looked at.
    pub looked_at: usize,
    /// The executions that were started.
    pub started: Vec<Started>,
    /// The groups and lab instances that might be swapped, and are not swapped now.
    pub deferred: Vec<NotNow>,
    /// Lambda's time was up before all were looked at. The next sweep begins with the others.
    pub partial: bool,
    /// What could not be looked at or written down.
    pub failed: Vec<Failure>,
    /// The enabled regions that a service control policy denies, and that nobody names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_watched: Vec<AccountRegion>,
}

impl Answer {
    /// Returns the figures of a sweep for CloudWatch.
    #[must_use]
    pub fn figures(&self) -> [Figure; 2] {
        [
            (Metric::LoopFailures, json!(self.failed.len())),
            (Metric::LoopPartial, json!(u8::from(self.partial))),
        ]
    }
}

/// What the loop swaps, by its name and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subject {
    #[serde(flatten)]
    pub name: Name,
    #[serde(flatten)]
    pub place: AccountRegion,
    /// The key of its row in the Groups table, and of its lease in the Swaps table.
    #[serde(skip)]
    pub key: String,
}

/// The name of a group, or the id of a stand-alone instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Name {
    /// An Auto Scaling group.
    Group { asg_name: GroupName },
    /// An instance of a LAB account that is in no group.
    Instance { instance_id: InstanceId },
}

impl Subject {
    /// Returns the subject that a group is.
    #[must_use]
    pub fn of_group(group: &Group, place: &AccountRegion) -> Self {
        let name = Name::Group { asg_name: group.name.clone() };
        Self { name, place: place.clone(), key: group.arn.to_string() }
    }

    /// Returns the subject that an instance in no group is.
    #[must_use]
    pub fn of_instance(id: &InstanceId, place: &AccountRegion) -> Self {
        let key = key_of_instance(&place.account_id, &place.region, id);
        Self { name: Name::Instance { instance_id: id.clone() }, place: place.clone(), key }
    }
}

impl Name {
    /// Returns the name as AWS spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Group { asg_name } => asg_name.as_str(),
            Self::Instance { instance_id } => instance_id.as_str(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group { asg_name } => write!(f, "group {asg_name}"),
            Self::Instance { instance_id } => write!(f, "instance {instance_id}"),
        }
    }
}

/// An execution that was started.
#[derive(Debug, Clone, Serialize)]
pub struct Started {
    #[serde(flatten)]
    pub subject: Subject,
    pub execution_arn: ExecutionArn,
    /// The instance of the node that is swapped; absent for a swap of the whole group, or of a lab instance.
    #[serde(rename = "instance_id", skip_serializing_if = "Option::is_none")]
    pub node: Option<InstanceId>,
}

/// A group or lab instance that is not swapped now.
#[derive(Debug, Clone, Serialize)]
pub struct NotNow {
    #[serde(flatten)]
    pub subject: Subject,
    #[serde(flatten)]
    pub deferred: Deferred,
}

/// Something that failed. The run went on with the rest.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The account; absent if the stack's own tables or bus failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asg_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<InstanceId>,
    /// The problem in words.
    pub error: String,
}

impl Failure {
    /// Returns a failure of the stack itself.
    pub fn own(error: &impl ToString) -> Self {
        Self { account_id: None, region: None, asg_name: None, instance_id: None, error: error.to_string() }
    }

    /// Returns the failure of a place.
    pub fn at(place: &AccountRegion, error: &impl ToString) -> Self {
        Self {
            account_id: Some(place.account_id.clone()),
            region: Some(place.region.clone()),
            ..Self::own(error)
        }
    }

    /// Returns the failure of a group that is known by its name alone.
    pub fn of_group(place: &AccountRegion, asg_name: &str, error: &impl ToString) -> Self {
        Self { asg_name: Some(asg_name.to_owned()), ..Self::at(place, error) }
    }

    /// Returns the failure of a group or of a lab instance.
    pub fn of(subject: &Subject, error: &impl ToString) -> Self {
        match &subject.name {
            Name::Group { asg_name } => Self::of_group(&subject.place, asg_name.as_str(), error),
            Name::Instance { instance_id } => {
                Self { instance_id: Some(instance_id.clone()), ..Self::at(&subject.place, error) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use spot_domain::events::OwnEvent;

    use super::*;

    fn started(name: Name, node: Option<&str>) -> Started {
        let place = AccountRegion {
            account_id: "123456789012".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
        };
        let subject = Subject { name, place, key: "its key".to_owned() };
        let execution_arn = "arn:aws:states:us-east-1:123456789012:execution:swap:1".parse().unwrap();
        Started { subject, execution_arn, node: node.map(|id| id.parse().unwrap()) }
    }

    #[test]
    fn what_failed_and_what_was_left_over_is_counted() {
        let counted = |answer: &Answer| answer.figures().map(|(_, value)| value);
        assert_eq!(counted(&Answer::default()), [json!(0), json!(0)]);
        let failed = vec![Failure::own(&"one"), Failure::own(&"another")];
        let answer = Answer { failed, partial: true, ..Answer::default() };
        assert_eq!(counted(&answer), [json!(2), json!(1)]);
    }

    #[test]
    fn a_start_names_the_group_and_its_node_or_the_lab_instance() {
        let group = || Name::Group { asg_name: "web".parse().unwrap() };
        let instance = Name::Instance { instance_id: "i-0123456789abcdef0".parse().unwrap() };
        let declared: BTreeSet<_> = OwnEvent::SwapStarted.declared().fields().map(str::to_owned).collect();
        for (started, asg_name, instance_id) in [
            (started(group(), None), json!("web"), json!(null)),
            (started(group(), Some("i-0123456789abcdef1")), json!("web"), json!("i-0123456789abcdef1")),
            (started(instance, None), json!(null), json!("i-0123456789abcdef0")),
        ] {
            let text = serde_json::to_string(&started).unwrap();
            assert!(text.matches("instance_id").count() <= 1, "{text}");
            let shape: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&shape["asg_name"], &shape["instance_id"]), (&asg_name, &instance_id), "{text}");
            let fields: BTreeSet<_> = shape.as_object().unwrap().keys().cloned().collect();
            assert!(fields.is_subset(&declared), "{text}");
        }
    }
}
