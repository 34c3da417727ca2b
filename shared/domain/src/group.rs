//! An Auto Scaling group and its instances as we observed them, and which groups we don't touch.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::belongings::Belongings;
use crate::ids::{AzId, GroupArn, GroupName, InstanceId, InstanceType};
use crate::journal::SwapId;
use crate::money::Usd;
use crate::pricing::UsageOperation;
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
    /// The launch template that it came from.
    pub template_id: Option<String>,
    /// The image, where an override named it.
    pub image_id: Option<String>,
}

impl Member {
    /// Serves, as far as the group knows.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.state == MemberState::InService && self.healthy
    }
}

/// What the group launches from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LaunchSource {
    /// A launch template; the version is `$Latest`, `$Default` or a number.
    Template {
        /// `lt-…`
        id: String,
        /// As the group names it.
        version: String,
    },
    /// A launch template that the group knows by its name.
    NamedTemplate {
        /// The template's name.
        name: String,
        /// As the group names it.
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

/// An override of a mixed-instances policy: an instance type, and what its launches differ by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The instance type.
    pub instance_type: InstanceType,
    /// The template of this type alone; `None`, the policy's.
    pub template: Option<LaunchSource>,
    /// The image of this type alone; `None`, the template's.
    pub image_id: Option<String>,
}

/// Instance types by attributes (`InstanceRequirements`): as far as they name types.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// Patterns such as `m5.*`, of which one must match; empty, every type is allowed.
    pub allowed: Vec<String>,
    /// Patterns of which none may match.
    pub excluded: Vec<String>,
}

impl Requirements {
    /// Returns true if the lists let the type through. Only AWS knows what the attributes say of it.
    #[must_use]
    pub fn lets_through(&self, instance_type: &InstanceType) -> bool {
        let is_listed = |list: &[String]| list.iter().any(|pattern| matches(pattern, instance_type.as_str()));
        (self.allowed.is_empty() || is_listed(&self.allowed)) && !is_listed(&self.excluded)
    }
}

/// A pattern of `InstanceRequirements`: `*` stands for any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((begin, rest)) => text.strip_prefix(begin).is_some_and(|tail| {
            tail.char_indices().map(|(at, _)| at).chain([tail.len()]).any(|at| matches(rest, &tail[at..]))
        }),
    }
}

/// The launch of one instance type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Launch {
    /// The template or configuration.
    pub source: LaunchSource,
    /// The image, where the type's override names one.
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
    /// The overrides of its policy that name a type, in their order.
    pub overrides: Vec<Override>,
    /// The lists of types of its overrides by attributes, taken together; `None` without such an override.
    pub requirements: Option<Requirements>,
    /// The launches of its overrides by attributes, if one of them has a template or image of its own.
    pub requirement_launches: Vec<Launch>,
    /// The subnets that it launches into; empty, the default ones of its zones.
    pub subnet_ids: Vec<String>,
    /// The names of its zones.
    pub availability_zones: Vec<String>,
    /// The placement group that its instances are in.
    pub placement_group: Option<String>,
    /// Seconds from InService until an instance counts as ready: `DefaultInstanceWarmup`, else
    /// `HealthCheckGracePeriod`.
    pub warm_up_seconds: u32,
    /// An instance whose terminating hook is abandoned stays, out of the group's capacity and on the bill
    /// (`TerminateHookAbandon`).
    pub retains_abandoned: bool,
    /// The most that its owner pays for a Spot instance an hour (`SpotMaxPrice`).
    pub spot_max_price: Option<Usd>,
    /// `OnDemandBaseCapacity`.
    pub on_demand_base: u32,
    /// `OnDemandPercentageAboveBaseCapacity`, if a mixed-instances policy sets one.
    pub on_demand_percentage: Option<u32>,
    /// Its tags.
    pub tags: Tags,
    /// The tags among them that it puts on every instance, attached ones too.
    pub propagated_tags: Tags,
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

    /// Returns what the group would launch for an instance of this type today.
    #[must_use]
    pub fn launch_of(&self, instance_type: &InstanceType) -> Option<Launch> {
        let by_type = self.overrides.iter().find(|o| o.instance_type == *instance_type);
        let own = by_type.and_then(|o| o.template.clone());
        let source = own.or_else(|| self.launch_source.clone())?;
        Some(Launch { source, image_id: by_type.and_then(|o| o.image_id.clone()) })
    }

    /// Why no instance of this group can be swapped: as it is configured, or while it is busy.
    #[must_use]
    pub fn unsupported_or_busy(&self) -> Option<String> {
        self.unsupported().or_else(|| self.busy_with.clone())
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

    /// How many On-Demand instances the owner wants to keep of `desired`. A percentage of 100 is the API's
    /// default, which nobody chose: it counts as no wish.
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
    /// The ClientToken of its launch: EC2 sets it once, and nobody can change it.
    pub client_token: Option<String>,
    /// Its type.
    pub instance_type: InstanceType,
    /// Its zone's name in this account.
    pub availability_zone: String,
    /// Its zone's id, where EC2 gives one.
    pub az_id: Option<AzId>,
    /// The operating system and licence that it is billed for.
    pub usage_operation: UsageOperation,
    /// Its tenancy is `dedicated`.
    pub is_dedicated: bool,
    /// Its subnet.
    pub subnet_id: Option<String>,
    /// Dedicated host, or bound to a capacity reservation: in words.
    pub bound_to: Option<String>,
    /// The AWS service that operates it.
    pub operator: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// Its belongings.
    pub belongings: Belongings,
}

impl Instance {
    /// Says why it came to its state, in EC2's words.
    #[must_use]
    pub fn why_it_stopped(&self) -> &str {
        self.state_reason.as_deref().unwrap_or("no reason given")
    }

    /// Returns what it is billed for, if prices of its kind are known: shared tenancy, no software of the
    /// Marketplace.
    #[must_use]
    pub fn billed_as(&self) -> Option<UsageOperation> {
        let is_known = !self.is_dedicated && !self.belongings.has_marketplace_software;
        is_known.then(|| self.usage_operation.clone())
    }

    /// Returns true if a launch of this swap made it: it is Spot (nothing else is launched), and has the swap's ClientToken.
    #[must_use]
    pub fn was_launched_by(&self, swap: &SwapId) -> bool {
        self.is_spot && self.client_token.as_deref().is_some_and(|token| swap.has_token(token))
    }

    /// Starting or running: it costs, and may come to serve.
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        matches!(self.state, InstanceState::Pending | InstanceState::Running)
    }
}

#[cfg(test)]
pub(crate) mod tests;
