//! An Auto Scaling group and its instances as we observed them, and the rules that exclude a group.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{AzId, GroupArn, GroupName, InstanceId, InstanceType};
use crate::money::Usd;
use crate::swap::belongings::Belongings;
use crate::swap::journal::SwapId;
use crate::swap::market::Market;
use crate::swap::pricing::UsageOperation;
use crate::tags::{GROUP_NAME_TAG, Tags};

/// The process that we suspend while a group is N+1.
///
/// AZRebalance reacts to the imbalance of an attach. In a group of one, it has terminated both the old and
/// the new instance (spoptimize #2).
pub const AZ_REBALANCE: &str = "AZRebalance";

/// The most members of a group that a run begins with: the journal names each of them. Step
/// Functions hands 256 KiB from one step to the next, and ends an execution with more than that without its `Catch`.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
pub const MOST_MEMBERS: usize = 4_000;

/// The most members of a group that a run in progress launches for. The group has grown meanwhile: by what its owner asks for,
/// by a newcomer, and by members that are still leaving. No swap is undone for its group's size.
pub const MOST_MEMBERS_IN_A_RUN: usize = 4_500;

/// The most members of a group in which the replacement of an interrupted one comes first. An answer hands on its journal,
/// its settings and nothing else that grows. At 22 bytes a member, the journal takes 180 KB of Step Functions' 256 KiB and of
/// the 400 KB of a row in DynamoDB.
pub const MOST_MEMBERS_OF_ANSWER: usize = 8_000;

/// The scaling process that notices a member's death.
pub const HEALTH_CHECK: &str = "HealthCheck";

/// The state of an instance in its group (`LifecycleState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// `Pending`, `Pending:Wait`, `Pending:Proceed`.
    Pending,
    /// The instance serves, and counts.
    InService,
    /// The instance is on its way out: `Detaching`, `Detached`, `Terminated`, `Terminating` and its
    /// sub-states.
    Leaving,
    /// Its owner has taken the instance out of service: it does not count towards desired.
    /// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-enter-exit-standby.html>
    Standby,
    /// Any other state, also one that AWS adds later: unsafe to touch.
    Other,
}

impl MemberState {
    /// Parses AWS's spelling. An unknown state is [`MemberState::Other`].
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "Pending" | "Pending:Wait" | "Pending:Proceed" => Self::Pending,
            "InService" => Self::InService,
            "Detaching" | "Detached" | "Terminated" => Self::Leaving,
            other if other.starts_with("Terminating") => Self::Leaving,
            "Standby" | "EnteringStandby" => Self::Standby,
            _ => Self::Other,
        }
    }
}

/// An instance as its group describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The instance.
    pub id: InstanceId,
    /// The state of the instance in the group.
    pub state: MemberState,
    /// `HealthStatus` is `Healthy`.
    pub healthy: bool,
    /// The instance is protected from scale-in.
    pub protected: bool,
    /// The launch template that the instance came from.
    pub template_id: Option<String>,
    /// The image, if an override named one.
    pub image_id: Option<String>,
}

impl Member {
    /// Returns true if the instance serves, as far as the group knows.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.state == MemberState::InService && self.healthy
    }
}

/// The template or configuration that the group launches from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LaunchSource {
    /// A launch template, by id.
    Template {
        /// `lt-…`
        id: String,
        /// The version as the group names it: `$Latest`, `$Default` or a number.
        version: String,
    },
    /// A launch template that the group knows by its name.
    NamedTemplate {
        /// The template's name.
        name: String,
        /// The version as the group names it.
        version: String,
    },
    /// A launch configuration, by name.
    Configuration(String),
}

impl std::fmt::Display for LaunchSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Template { id, version } => write!(f, "launch template {id}, version {version}"),
            Self::NamedTemplate { name, version } => write!(f, "launch template {name:?}, version {version}"),
            Self::Configuration(name) => write!(f, "launch configuration {name:?}"),
        }
    }
}

/// An override of a mixed-instances policy: an instance type, and the settings that apply to its launches
/// alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The instance type.
    pub instance_type: InstanceType,
    /// The template of this type alone; `None` for the policy's.
    pub template: Option<LaunchSource>,
    /// The image of this type alone; `None` for the template's.
    pub image_id: Option<String>,
}

/// Instance types selected by attributes (`InstanceRequirements`), as far as the requirements name types.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// Patterns such as `m5.*`, of which one must match; empty if every type is allowed.
    pub allowed: Vec<String>,
    /// Patterns of which none may match.
    pub excluded: Vec<String>,
}

impl Requirements {
    /// Returns true if the lists let the type through. Only AWS knows if its attributes match.
    #[must_use]
    pub fn lets_through(&self, instance_type: &InstanceType) -> bool {
        let is_listed = |list: &[String]| list.iter().any(|pattern| matches(pattern, instance_type.as_str()));
        (self.allowed.is_empty() || is_listed(&self.allowed)) && !is_listed(&self.excluded)
    }
}

/// Matches a pattern of `InstanceRequirements`: `*` stands for any run of characters.
///
/// Each part between two asterisks is taken where it comes first, which leaves the most to the parts behind it. So nothing
/// is tried twice, however many asterisks an owner writes.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else { return pattern == text };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    let inner = text.strip_prefix(begin).and_then(|tail| tail.strip_suffix(end));
    inner.is_some_and(|inner| {
        let mut parts = middle.split('*');
        parts.try_fold(inner, |tail, part| tail.split_once(part).map(|(_, behind)| behind)).is_some()
    })
}

/// The launch of one instance type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Launch {
    /// The template or configuration.
    pub source: LaunchSource,
    /// The image, if the type's override names one.
    pub image_id: Option<String>,
}

impl std::fmt::Display for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.image_id {
            Some(image_id) => write!(f, "{} with image {image_id}", self.source),
            None => self.source.fmt(f),
        }
    }
}

/// A group, with everything that a decision needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The group's name.
    pub name: GroupName,
    /// The group's ARN.
    pub arn: GroupArn,
    /// MinSize.
    pub min: u32,
    /// MaxSize.
    pub max: u32,
    /// DesiredCapacity.
    pub desired: u32,
    /// The group's instances.
    pub members: Vec<Member>,
    /// Suspended processes, whichever party suspended them.
    pub suspended: BTreeSet<String>,
    /// Target groups with which the group registers its instances.
    pub target_group_arns: Vec<String>,
    /// The template or configuration that the group launches from; `None` if AWS names neither.
    pub launch_source: Option<LaunchSource>,
    /// The overrides that name a type, in their order.
    pub overrides: Vec<Override>,
    /// The lists of types of the overrides by attributes, taken together; `None` without such an override.
    pub requirements: Option<Requirements>,
    /// The launches of the overrides by attributes, if one of them has a template or image of its own.
    pub requirement_launches: Vec<Launch>,
    /// The subnets that the group launches into; empty for the default subnets of its zones.
    pub subnet_ids: Vec<String>,
    /// The names of its zones.
    pub availability_zones: Vec<String>,
    /// The placement group that its instances are in.
    pub placement_group: Option<String>,
    /// Seconds from InService until an instance counts as ready: `DefaultInstanceWarmup`, else
    /// `HealthCheckGracePeriod`.
    pub warm_up_seconds: u32,
    /// The group itself launches a replacement when EC2 recommends to replace a Spot member (`CapacityRebalance`).
    pub capacity_rebalance: bool,
    /// The group retains an instance whose terminating hook is abandoned (`TerminateHookAbandon`). Such an
    /// instance is out of the group's capacity and still on the bill.
    pub retains_abandoned: bool,
    /// The most that the owner pays for a Spot instance, in US dollars an hour (`SpotMaxPrice`).
    pub spot_max_price: Option<Usd>,
    /// `OnDemandBaseCapacity`.
    pub on_demand_base: u32,
    /// `OnDemandPercentageAboveBaseCapacity`, if a mixed-instances policy sets one.
    pub on_demand_percentage: Option<u32>,
    /// The group's tags.
    pub tags: Tags,
    /// The tags that the group puts on every instance, attached ones too.
    pub propagated_tags: Tags,
    /// Properties that make us refuse the group, in words (weights, an operator, …).
    pub obstacles: Vec<String>,
    /// The activity that makes us refuse the group for now, in words (being deleted, …).
    pub busy_with: Option<String>,
}

impl Group {
    /// Returns the member with this id.
    #[must_use]
    pub fn member(&self, id: &InstanceId) -> Option<&Member> {
        self.members.iter().find(|member| &member.id == id)
    }

    /// Returns the number of members that serve.
    #[must_use]
    pub fn in_service(&self) -> u32 {
        u32::try_from(self.members.iter().filter(|m| m.serves()).count()).unwrap_or(u32::MAX)
    }

    /// Says if the group notices the death of a member: its owner has not suspended its health checks.
    #[must_use]
    pub fn notices_deaths(&self) -> bool {
        !self.suspended.contains(HEALTH_CHECK)
    }

    /// Returns the members that count as serving, and that EC2 shows as stopped or ended: a group notices a death some minutes
    /// late. A member that EC2 does not describe counts as the group says: EC2 forgets a death after an hour, and the group marks the
    /// member unhealthy long before. While HealthCheck is suspended, every member counts as the group says: nobody replaces one.
    #[must_use]
    pub fn died_unseen(&self, instances: &BTreeMap<InstanceId, Instance>) -> Vec<InstanceId> {
        let is_dead =
            |member: &Member| instances.get(&member.id).is_some_and(|instance| !instance.is_alive());
        let dead = self.members.iter().filter(|member| member.serves() && is_dead(member));
        dead.filter(|_| self.notices_deaths()).map(|member| member.id.clone()).collect()
    }

    /// Says if another member may come to serve beside the newcomer: one starts, or one of these does not serve as yet. If it
    /// never will, its replacement may.
    #[must_use]
    pub fn others_may_serve(&self, newcomer: Option<&InstanceId>, not_serving: &[InstanceId]) -> bool {
        let may_serve =
            |member: &Member| member.state == MemberState::Pending || not_serving.contains(&member.id);
        self.members.iter().any(|member| Some(&member.id) != newcomer && may_serve(member))
    }

    /// Returns what the group would launch for an instance of this type today.
    #[must_use]
    pub fn launch_of(&self, instance_type: &InstanceType) -> Option<Launch> {
        let by_type = self.overrides.iter().find(|o| o.instance_type == *instance_type);
        let own = by_type.and_then(|o| o.template.clone());
        let source = own.or_else(|| self.launch_source.clone())?;
        Some(Launch { source, image_id: by_type.and_then(|o| o.image_id.clone()) })
    }

    /// Returns why no instance of this group can be swapped: its configuration, or its present activity.
    #[must_use]
    pub fn unsupported_or_busy(&self) -> Option<String> {
        self.unsupported().or_else(|| self.busy_with.clone())
    }

    /// Returns why no instance of this group can ever be swapped, as the group is configured.
    #[must_use]
    pub fn unsupported(&self) -> Option<String> {
        if let Some(obstacle) = self.obstacles.first() {
            return Some(obstacle.clone());
        }
        // Attach fails while Launch is suspended. Suspending Terminate says that the owner wants no instance
        // to leave. Without AddToLoadBalancer, the newcomer is InService and never registered.
        let blocking = ["Launch", "Terminate", "AddToLoadBalancer"];
        if let Some(process) = blocking.iter().find(|p| self.suspended.contains(**p)) {
            return Some(format!("its process {process} is suspended; resume it and start again"));
        }
        if self.launch_source.is_none() {
            return Some("it has neither a launch template nor a launch configuration".to_owned());
        }
        None
    }

    /// Returns why the group has too many members to note them all, in a journal that names this number `at_most`.
    #[must_use]
    pub fn too_large(&self, at_most: usize) -> Option<String> {
        let members = self.members.len();
        (members > at_most)
            .then(|| format!("it has {members} members, and the journal names {at_most} at most"))
    }

    /// Returns how many On-Demand instances of `desired` the owner keeps.
    ///
    /// A percentage of 100 is the API's default, which no owner chose: it sets no floor.
    #[must_use]
    pub fn on_demand_floor(&self, desired: u32, min_on_demand: u32) -> u32 {
        let above_base = desired.saturating_sub(self.on_demand_base);
        let share = match self.on_demand_percentage {
            Some(percent) if percent < 100 => (u64::from(above_base) * u64::from(percent)).div_ceil(100),
            _ => 0,
        };
        let policy = self.on_demand_base.saturating_add(u32::try_from(share).unwrap_or(u32::MAX));
        policy.max(min_on_demand)
    }
}

/// The state of an instance in EC2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceState {
    /// The instance starts.
    Pending,
    /// The instance runs. A Spot instance stays in this state for two minutes after its interruption notice.
    Running,
    /// The instance stops or is stopped.
    Stopped,
    /// The instance shuts down or is terminated: it will not come back.
    Dead,
}

/// An instance as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The instance.
    pub id: InstanceId,
    /// The instance's state.
    pub state: InstanceState,
    /// The reason for the state, in EC2's words, if EC2 gives one.
    pub state_reason: Option<String>,
    /// The lifecycle is `spot`.
    pub is_spot: bool,
    /// The ClientToken of the launch. EC2 sets it once, and no caller can change it.
    pub client_token: Option<String>,
    /// The time of the launch, or of the last start, if EC2 gives one.
    pub launched_at: Option<Timestamp>,
    /// The instance's type.
    pub instance_type: InstanceType,
    /// The zone's name in this account.
    pub availability_zone: String,
    /// The zone's id, if EC2 gives one.
    pub az_id: Option<AzId>,
    /// The operating system and licence that the instance is billed for.
    pub usage_operation: UsageOperation,
    /// The tenancy is `dedicated`.
    pub is_dedicated: bool,
    /// The instance's subnet.
    pub subnet_id: Option<String>,
    /// The dedicated host or capacity reservation that the instance is bound to, in words.
    pub bound_to: Option<String>,
    /// The AWS service that operates the instance.
    pub operator: Option<String>,
    /// The instance's tags.
    pub tags: Tags,
    /// The instance's belongings.
    pub belongings: Belongings,
}

impl Instance {
    /// Returns the reason for the state, in EC2's words.
    #[must_use]
    pub fn why_it_stopped(&self) -> &str {
        self.state_reason.as_deref().unwrap_or("no reason given")
    }

    /// Returns the operation that the instance is billed for, if prices of its kind are known: shared
    /// tenancy, no Marketplace software.
    #[must_use]
    pub fn billed_as(&self) -> Option<UsageOperation> {
        let is_known = !self.is_dedicated && !self.belongings.has_marketplace_software;
        is_known.then(|| self.usage_operation.clone())
    }

    /// Returns true if the instance carries the tag that Auto Scaling puts on a member of this group.
    #[must_use]
    pub fn has_group_tag(&self, group: &GroupName) -> bool {
        self.tags.get(GROUP_NAME_TAG).is_some_and(|name| name == group.as_str())
    }

    /// Returns the market that the instance was bought in.
    #[must_use]
    pub const fn market(&self) -> Market {
        if self.is_spot { Market::Spot } else { Market::OnDemand }
    }

    /// Returns true if a launch of this swap made the instance: it has the swap's ClientToken for its market.
    #[must_use]
    pub fn was_launched_by(&self, swap: &SwapId) -> bool {
        swap.launched(self.market(), self.client_token.as_deref())
    }

    /// Returns true if the instance starts or runs: it costs, and may come to serve.
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        matches!(self.state, InstanceState::Pending | InstanceState::Running)
    }
}

#[cfg(test)]
pub(crate) mod tests;
