//! An Auto Scaling group and its instances as we observed them, and which groups we don't touch.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{AzId, GroupArn, GroupName, InstanceId, InstanceType};
use crate::tags::Tags;

/// The process that we suspend while a group is N+1: it reacts to the imbalance of an attach, and
/// has terminated both the old and the new instance of a group of one (spoptimize #2).
pub const AZ_REBALANCE: &str = "AZRebalance";

/// Where an instance stands in its group (`LifecycleState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// `Pending`, `Pending:Wait`, `Pending:Proceed`.
    Pending,
    /// Serving, and counted.
    InService,
    /// `Detaching`, `Detached`, `Terminated`, `Terminating` and its sub-states: on its way out.
    Leaving,
    /// Anything else, also what AWS invents tomorrow: unsafe to touch.
    Other,
}

impl MemberState {
    /// Reads AWS's spelling; what it doesn't know is [`MemberState::Other`].
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "Pending" | "Pending:Wait" | "Pending:Proceed" => Self::Pending,
            "InService" => Self::InService,
            "Detaching" | "Detached" | "Terminated" => Self::Leaving,
            other if other.starts_with("Terminating") => Self::Leaving,
            _ => Self::Other,
        }
    }
}

/// An instance as its group sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The instance.
    pub id: InstanceId,
    /// Where it stands.
    pub state: MemberState,
    /// `HealthStatus` is `Healthy`.
    pub healthy: bool,
    /// Protected from scale-in.
    pub protected: bool,
}

impl Member {
    /// Serves, as far as the group knows.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.state == MemberState::InService && self.healthy
    }
}

/// What the group launches from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LaunchSource {
    /// A launch template; the version is `$Latest`, `$Default` or a number.
    Template {
        /// `lt-…`
        id: String,
        /// As the group names it.
        version: String,
    },
    /// A launch configuration, by name.
    Configuration(String),
}

/// A group, whole enough to decide about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// Its ARN.
    pub arn: GroupArn,
    /// MinSize.
    pub min: u32,
    /// MaxSize.
    pub max: u32,
    /// DesiredCapacity.
    pub desired: u32,
    /// Its instances.
    pub members: Vec<Member>,
    /// Suspended processes, whoever suspended them.
    pub suspended: BTreeSet<String>,
    /// Target groups it registers its instances with.
    pub target_group_arns: Vec<String>,
    /// What it launches from; `None` where we can't tell.
    pub launch_source: Option<LaunchSource>,
    /// The instance types of its own overrides, in their order.
    pub override_types: Vec<InstanceType>,
    /// `OnDemandBaseCapacity`.
    pub on_demand_base: u32,
    /// `OnDemandPercentageAboveBaseCapacity`, if a mixed-instances policy sets one.
    pub on_demand_percentage: Option<u32>,
    /// Its tags.
    pub tags: Tags,
    /// What makes it a group that we don't touch, in words (weights, an operator, …).
    pub obstacles: Vec<String>,
    /// What makes it a group that we don't touch *now* (being deleted, …).
    pub busy_with: Option<String>,
}

impl Group {
    /// The member with this id.
    #[must_use]
    pub fn member(&self, id: &InstanceId) -> Option<&Member> {
        self.members.iter().find(|member| &member.id == id)
    }

    /// How many members serve.
    #[must_use]
    pub fn in_service(&self) -> u32 {
        u32::try_from(self.members.iter().filter(|m| m.serves()).count()).unwrap_or(u32::MAX)
    }

    /// Why no instance of this group can be swapped, ever as it is configured.
    #[must_use]
    pub fn unsupported(&self) -> Option<String> {
        if let Some(obstacle) = self.obstacles.first() {
            return Some(obstacle.clone());
        }
        // Attach fails while Launch is suspended; without Terminate the owner wants nothing to
        // leave; without AddToLoadBalancer the newcomer is InService yet never registered.
        let blocking = ["Launch", "Terminate", "AddToLoadBalancer"];
        if let Some(process) = blocking.iter().find(|p| self.suspended.contains(**p)) {
            return Some(format!("its process {process} is suspended; resume it and start again"));
        }
        if self.launch_source.is_none() {
            return Some("it has neither a launch template nor a launch configuration".to_owned());
        }
        None
    }

    /// How many On-Demand instances the owner wants to keep. A percentage of 100 is the API's
    /// default, which nobody chose: it counts as no wish.
    #[must_use]
    pub fn on_demand_floor(&self, min_on_demand: u32) -> u32 {
        let above_base = self.desired.saturating_sub(self.on_demand_base);
        let share = match self.on_demand_percentage {
            Some(percent) if percent < 100 => (u64::from(above_base) * u64::from(percent)).div_ceil(100),
            _ => 0,
        };
        let policy = self.on_demand_base.saturating_add(u32::try_from(share).unwrap_or(u32::MAX));
        policy.max(min_on_demand)
    }
}

/// What EC2 says an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceState {
    /// Starting.
    Pending,
    /// Running; a Spot instance stays so for two minutes after its interruption notice.
    Running,
    /// Stopping or stopped.
    Stopped,
    /// Shutting down or terminated: it will not come back.
    Dead,
}

/// An instance as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The instance.
    pub id: InstanceId,
    /// What it is doing.
    pub state: InstanceState,
    /// Why it came to that state, in EC2's words, where EC2 gives a reason.
    pub state_reason: Option<String>,
    /// Lifecycle is `spot`.
    pub is_spot: bool,
    /// Its type.
    pub instance_type: InstanceType,
    /// Its zone's name in this account.
    pub availability_zone: String,
    /// Its zone's id, where EC2 gives one.
    pub az_id: Option<AzId>,
    /// Whether it runs Linux without a licence to pay for, the only case we have prices for.
    pub is_plain_linux: bool,
    /// Its subnet.
    pub subnet_id: Option<String>,
    /// Dedicated host, or bound to a capacity reservation: in words.
    pub bound_to: Option<String>,
    /// The AWS service that operates it.
    pub operator: Option<String>,
    /// Its tags.
    pub tags: Tags,
}

impl Instance {
    /// Starting or running: it costs, and may come to serve.
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        matches!(self.state, InstanceState::Pending | InstanceState::Running)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn id(n: u32) -> InstanceId {
        format!("i-{n:017x}").parse().unwrap()
    }

    pub(crate) fn member(n: u32) -> Member {
        Member { id: id(n), state: MemberState::InService, healthy: true, protected: false }
    }

    pub(crate) fn group_of(members: u32) -> Group {
        Group {
            name: "web".parse().unwrap(),
            arn: "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:u:autoScalingGroupName/web"
                .parse()
                .unwrap(),
            min: 0,
            max: members + 2,
            desired: members,
            members: (0..members).map(member).collect(),
            suspended: BTreeSet::new(),
            target_group_arns: vec![],
            launch_source: Some(LaunchSource::Template { id: "lt-1".into(), version: "1".into() }),
            override_types: vec![],
            on_demand_base: 0,
            on_demand_percentage: None,
            tags: Tags::new(),
            obstacles: vec![],
            busy_with: None,
        }
    }

    #[test]
    fn a_state_that_aws_invents_tomorrow_is_unsafe() {
        assert_eq!(MemberState::parse("Pending:Wait"), MemberState::Pending);
        assert_eq!(MemberState::parse("Terminating:Retained"), MemberState::Leaving);
        for unknown in ["Standby", "EnteringStandby", "Warmed:Running", "ReplacingRootVolume", ""] {
            assert_eq!(MemberState::parse(unknown), MemberState::Other, "{unknown}");
        }
    }

    #[test]
    fn the_floor_is_base_plus_share_or_the_tag() {
        let mut group = group_of(10);
        assert_eq!(group.on_demand_floor(0), 0);
        assert_eq!(group.on_demand_floor(3), 3);
        group.on_demand_base = 2;
        group.on_demand_percentage = Some(100);
        assert_eq!(group.on_demand_floor(0), 2);
        group.on_demand_percentage = Some(30);
        assert_eq!(group.on_demand_floor(0), 5); // 2 + ceil(8 × 30 %)
    }

    #[test]
    fn suspended_launch_is_refused_with_the_way_out() {
        let mut group = group_of(1);
        assert_eq!(group.unsupported(), None);
        group.suspended.insert("Launch".into());
        assert!(group.unsupported().unwrap().contains("Launch is suspended; resume it"));
        group.suspended = BTreeSet::from([AZ_REBALANCE.to_owned(), "AlarmNotification".to_owned()]);
        assert_eq!(group.unsupported(), None);
    }
}
