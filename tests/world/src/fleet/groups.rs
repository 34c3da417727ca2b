//! Auto Scaling groups as they are: sizes, members, what they launch.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

/// The state of a member, as far as a plain group has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifecycleState {
    Pending,
    PendingWait,
    InService,
    TerminatingWait,
    Terminating,
    Detaching,
}

impl LifecycleState {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::PendingWait => "Pending:Wait",
            Self::InService => "InService",
            Self::TerminatingWait => "Terminating:Wait",
            Self::Terminating => "Terminating",
            Self::Detaching => "Detaching",
        }
    }

    /// Returns true if the group counts the member towards its desired capacity.
    #[must_use]
    pub fn is_counted(self) -> bool {
        matches!(self, Self::Pending | Self::PendingWait | Self::InService)
    }

    pub(super) fn is_terminating(self) -> bool {
        matches!(self, Self::Terminating | Self::TerminatingWait)
    }
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    pub instance_id: String,
    pub state: LifecycleState,
    /// The member is protected from scale-in.
    pub is_protected: bool,
    /// The member was attached, not launched by its group.
    pub is_attached: bool,
    /// The launch template that its group launched it from, by id and number.
    pub template: Option<(String, u32)>,
    /// AZRebalance has launched it beyond desired, and it is not in service yet.
    pub is_extra: bool,
    /// A health check has found it dead. It stays for its hooks, or because a suspended process keeps it.
    pub is_unhealthy: bool,
    /// The time of its next state. Earlier plans for it are void.
    pub(super) proceeds_at: Option<Timestamp>,
}

/// A lifecycle hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleHook {
    pub name: String,
    /// The hook runs at a launch; else at a termination.
    pub is_launching: bool,
    pub heartbeat_seconds: u32,
    /// Seconds after which the owner completes the hook; `None` if the heartbeat runs out.
    pub completed_after_seconds: Option<u32>,
}

impl LifecycleHook {
    /// Returns a hook at terminations that its owner completes after so many seconds.
    #[must_use]
    pub fn at_termination(completed_after_seconds: u32) -> Self {
        Self {
            name: "drain".to_owned(),
            is_launching: false,
            heartbeat_seconds: 300,
            completed_after_seconds: Some(completed_after_seconds),
        }
    }

    /// Returns a hook at terminations with this heartbeat, that its owner completes after 20 seconds; `None` for 0.
    #[must_use]
    pub fn with_heartbeat(heartbeat_seconds: u32) -> Option<Self> {
        (heartbeat_seconds > 0).then(|| Self { heartbeat_seconds, ..Self::at_termination(20) })
    }

    pub(super) fn waits_seconds(&self) -> u32 {
        self.completed_after_seconds.unwrap_or(u32::MAX).min(self.heartbeat_seconds)
    }

    /// The smaller of 48 hours and 100 heartbeats.
    /// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_LifecycleHook.html>
    pub(super) fn global_timeout_seconds(&self) -> u32 {
        self.heartbeat_seconds.saturating_mul(100).min(172_800)
    }
}

/// The source of a group's launches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupLaunch {
    /// A launch template, by id, with the version as its owner wrote it.
    Template { id: String, version: String },
    /// A launch configuration, by name.
    Configuration(String),
}

/// A scheduled action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledScaling {
    pub name: String,
    pub at: Timestamp,
    pub desired: u32,
}

/// A group as it is, whatever descriptions show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoScalingGroup {
    pub name: String,
    pub arn: String,
    pub created_at: Timestamp,
    pub min: u32,
    pub max: u32,
    pub desired: u32,
    /// In the order in which they joined.
    pub members: Vec<GroupMember>,
    pub suspended: BTreeSet<String>,
    pub subnet_ids: Vec<String>,
    /// Zone names.
    pub zones: Vec<String>,
    pub target_group_arns: Vec<String>,
    pub launch: GroupLaunch,
    /// The types of a mixed-instances policy; empty for a group without one.
    pub overrides: Vec<String>,
    /// `OnDemandPercentageAboveBaseCapacity` of the policy.
    pub on_demand_percentage: u32,
    /// Key → value, and if the group puts the tag on its instances.
    pub tags: BTreeMap<String, (String, bool)>,
    pub hooks: Vec<LifecycleHook>,
    /// The status of the instance refresh that there was last.
    pub refresh: Option<String>,
    pub scheduled: Vec<ScheduledScaling>,
    pub protects_new_members: bool,
    pub grace_seconds: u32,
    pub warm_up_seconds: Option<u32>,
    pub placement_group: Option<String>,
    /// `Delete in progress`
    pub is_being_deleted: bool,
    /// More elements of its description, as XML: the world shows them, and plays nothing of them.
    pub shows_besides: String,
    /// The time of the last scale-out by a policy.
    pub(super) scaled_out_at: Option<Timestamp>,
}

impl AutoScalingGroup {
    /// Returns the member with this id.
    #[must_use]
    pub fn member(&self, instance_id: &str) -> Option<&GroupMember> {
        self.members.iter().find(|member| member.instance_id == instance_id)
    }

    pub(super) fn member_mut(&mut self, instance_id: &str) -> Option<&mut GroupMember> {
        self.members.iter_mut().find(|member| member.instance_id == instance_id)
    }

    /// Returns the number of members that the group counts towards its desired capacity.
    #[must_use]
    pub fn counted(&self) -> u32 {
        let counted = self.members.iter().filter(|member| member.state.is_counted() && !member.is_extra);
        u32::try_from(counted.count()).unwrap_or(u32::MAX)
    }

    pub(super) fn is_suspended(&self, process: &str) -> bool {
        self.suspended.contains(process)
    }

    /// Returns the hooks that hold a member at a launch, or at a termination.
    pub(super) fn hooks_at(&self, launching: bool) -> impl Iterator<Item = &LifecycleHook> {
        self.hooks.iter().filter(move |hook| hook.is_launching == launching)
    }

    /// Returns the tags that the group puts on every instance.
    pub(super) fn propagated_tags(&self) -> BTreeMap<String, String> {
        let propagated = self.tags.iter().filter(|(_, (_, propagates))| *propagates);
        propagated.map(|(key, (value, _))| (key.clone(), value.clone())).collect()
    }

    /// Describes the sizes as AWS does in its refusals.
    pub(super) fn sizes(&self) -> String {
        format!("min-size={}, max-size={}, and desired-size={}", self.min, self.max, self.desired)
    }
}
