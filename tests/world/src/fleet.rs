//! EC2, Auto Scaling and Elastic Load Balancing of one account and region, as far as the swap of a group or an instance needs them.
//!
//! A changing call takes effect at once and whole; its later effects come with the time ([`Fleet::pass`]). Each choice
//! of AWS is a method that a schedule calls, such as [`Fleet::group_acts`]. A stale description is the answer of an
//! earlier clone. The behaviour agrees with `tests/local_aws/endpoint`; each open question of AWS is one of the
//! [`AwsHabits`].

mod agenda;
mod auto_scaling;
mod belongings;
mod catalog;
mod choices;
mod descriptions;
mod ec2;
mod groups;
mod habits;
mod images;
mod instances;
mod launches;
mod leaving;
mod load_balancing;
mod membership;
mod parameters;
mod scenes;
mod sizes;
mod standalone;
mod stops;
mod strangers;
mod volumes;
mod xml;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::wire::{ApiAnswer, ApiCall, Service};

pub use belongings::ElasticIp;
pub use catalog::{Catalog, LaunchConfiguration, LaunchTemplate, TemplateVersion, Zone};
pub use choices::GroupActivity;
pub use groups::{
    AutoScalingGroup, GroupLaunch, GroupMember, LifecycleHook, LifecycleState, ScheduledScaling,
};
pub use habits::{AwsHabits, SetBesidePolicy};
pub use images::{ImageState, OwnImage, OwnImages, Snapshot};
pub use instances::{Ec2Instance, Ec2State, EndOfInstance, SpotRequest};
pub use launches::PoolRefusal;
pub use load_balancing::{RegisteredTarget, TargetGroup, TargetPhase};
pub use scenes::GroupSpec;
pub use standalone::InstanceSpec;
pub use volumes::FreeVolume;

use agenda::DueChange;
use launches::PastLaunch;
use xml::ApiError;

/// The instances, groups and target groups of one account and region.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// Delays, and one side of each open question.
    pub habits: AwsHabits,
    account: String,
    region: String,
    /// Shared by all clones until it changes.
    catalog: Arc<Catalog>,
    /// The refusals of launches that a schedule has asked for.
    refusals: Vec<PoolRefusal>,
    instances: BTreeMap<String, Ec2Instance>,
    /// By ClientToken and zone.
    launches: BTreeMap<(String, String), PastLaunch>,
    spot_requests: BTreeMap<String, SpotRequest>,
    groups: BTreeMap<String, AutoScalingGroup>,
    target_groups: BTreeMap<String, TargetGroup>,
    /// By allocation id.
    addresses: BTreeMap<String, ElasticIp>,
    own_images: OwnImages,
    /// Members whose leaving no description shows yet.
    leaving_unseen: BTreeSet<String>,
    /// The public images whose instances leave their volume behind.
    keeping_images: BTreeSet<String>,
    /// By id.
    free_volumes: BTreeMap<String, FreeVolume>,
    /// By time, then in the order in which the changes were planned.
    agenda: BTreeMap<(Timestamp, u64), DueChange>,
    /// The last number of an id or of a planned change.
    counter: u64,
}

impl Fleet {
    /// Returns an empty account in a region of three zones.
    #[must_use]
    pub fn new(account: &str, region: &str, habits: AwsHabits) -> Self {
        Self {
            habits,
            account: account.to_owned(),
            region: region.to_owned(),
            catalog: Arc::new(Catalog::of_region(region)),
            refusals: Vec::new(),
            instances: BTreeMap::new(),
            launches: BTreeMap::new(),
            spot_requests: BTreeMap::new(),
            groups: BTreeMap::new(),
            target_groups: BTreeMap::new(),
            addresses: BTreeMap::new(),
            own_images: OwnImages::default(),
            leaving_unseen: BTreeSet::new(),
            keeping_images: BTreeSet::new(),
            free_volumes: BTreeMap::new(),
            agenda: BTreeMap::new(),
            counter: 0,
        }
    }

    /// Returns the id of the account.
    #[must_use]
    pub fn account_id(&self) -> &str {
        &self.account
    }

    /// Carries out a call, after all changes that are due by then. A call that the world does not play is refused.
    pub fn carry_out(&mut self, call: &ApiCall, now: Timestamp) -> ApiAnswer {
        self.pass(now);
        if let Some(answer) = self.read(call, now) {
            return answer;
        }
        let answered = match call.service {
            Service::Ec2 => self.change_ec2(call, now),
            Service::AutoScaling => self.change_auto_scaling(call, now),
            Service::ElasticLoadBalancing => self.change_load_balancing(call, now),
            other => Err(ApiError::not_played(&format!("service {other}"))),
        };
        xml::answer(call, answered)
    }

    /// Answers a call that changes nothing, as the fleet is, without the changes that are due; `None` for a changing call.
    #[must_use]
    pub fn read(&self, call: &ApiCall, now: Timestamp) -> Option<ApiAnswer> {
        let answered = match call.service {
            Service::Ec2 => self.read_ec2(call, now)?,
            Service::AutoScaling => self.read_auto_scaling(call)?,
            Service::ElasticLoadBalancing => self.read_load_balancing(call, now)?,
            Service::Pricing if call.action == "GetProducts" => return Some(self.price_list(call)),
            _ => return None,
        };
        Some(xml::answer(call, answered))
    }

    /// Returns a group.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&AutoScalingGroup> {
        self.groups.get(name)
    }

    /// Returns all groups, by name.
    #[must_use]
    pub fn groups(&self) -> &BTreeMap<String, AutoScalingGroup> {
        &self.groups
    }

    /// Returns all instances that EC2 has not forgotten, by id.
    #[must_use]
    pub fn instances(&self) -> &BTreeMap<String, Ec2Instance> {
        &self.instances
    }

    /// Returns all target groups, by ARN.
    #[must_use]
    pub fn target_groups(&self) -> &BTreeMap<String, TargetGroup> {
        &self.target_groups
    }

    /// Returns all Elastic IPs, by allocation id.
    #[must_use]
    pub fn addresses(&self) -> &BTreeMap<String, ElasticIp> {
        &self.addresses
    }

    /// Returns zones, prices and templates.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Returns zones, prices and templates, for a change by their owner or by AWS.
    pub fn catalog_mut(&mut self) -> &mut Catalog {
        Arc::make_mut(&mut self.catalog)
    }

    /// Returns the members of a group that serve: in service, running, and healthy in every target group.
    #[must_use]
    pub fn serving(&self, group: &str) -> Vec<&str> {
        let Some(group) = self.groups.get(group) else { return Vec::new() };
        let serves = |member: &&GroupMember| {
            member.state == LifecycleState::InService
                && self.runs(&member.instance_id)
                && self.is_healthy_in(&group.target_group_arns, &member.instance_id)
        };
        group.members.iter().filter(serves).map(|member| member.instance_id.as_str()).collect()
    }

    /// Returns the most items of a page: the smaller of the call's wish and AWS's habit.
    fn page_size(&self, call: &ApiCall, parameter: &str) -> Result<Option<usize>, ApiError> {
        let asked = parameters::number(call, parameter)?.and_then(|most| usize::try_from(most).ok());
        Ok(asked.into_iter().chain(self.habits.page_size).min())
    }
}
