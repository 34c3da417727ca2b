//! A stand-alone instance for a beginning: On-Demand, in no group, with its traffic.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::fleet::Fleet;
use crate::fleet::belongings::ElasticIp;
use crate::fleet::habits::AwsHabits;
use crate::fleet::instances::Ec2State;
use crate::fleet::launches::InstanceLaunch;
use crate::fleet::load_balancing::{RegisteredTarget, TargetGroup, TargetPhase};

/// The age of the instance.
const AGE: SignedDuration = SignedDuration::from_hours(1);
const IMAGE: &str = "ami-0a000001";
/// Another instance of the owner, which nobody looks at.
const OTHER_INSTANCE: &str = "i-0bbbbbbbbbbbbbbbb";
const DEREGISTRATION_DELAY: SignedDuration = SignedDuration::from_secs(60);

/// A stand-alone instance, as a scene asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceSpec {
    pub has_address: bool,
    /// The number of target groups that it is registered in.
    pub target_groups: u8,
    /// Its AMI says of its volume that it outlives its instance. So does an image that is made of it.
    pub volume_outlives: bool,
}

impl Fleet {
    /// Returns an account that has this instance alone. It has run, and was healthy in its target groups, for an hour.
    #[must_use]
    pub fn with_instance(account: &str, spec: &InstanceSpec, habits: AwsHabits, now: Timestamp) -> Self {
        let mut fleet = Self::new(account, "us-east-1", habits);
        let Some(zone) = fleet.catalog.zones.first().cloned() else { return fleet };
        let launch = InstanceLaunch {
            instance_type: "m5.large".to_owned(),
            image_id: IMAGE.to_owned(),
            zone,
            is_spot: false,
            max_price: None,
            client_token: String::new(),
            tags: BTreeMap::from([("Name".to_owned(), "lab".to_owned())]),
            disable_api_termination: false,
            disable_api_stop: false,
            placement_group: None,
            volume_tags: BTreeMap::from([("backup".to_owned(), "daily".to_owned())]),
        };
        if spec.volume_outlives {
            fleet.keeping_images.insert(IMAGE.to_owned());
        }
        let id = fleet.launch(launch, now - AGE).id;
        if let Some(instance) = fleet.instances.get_mut(&id) {
            instance.state = Ec2State::Running;
        }
        if spec.has_address {
            fleet.add_address(Some(&id));
        }
        for number in 1..=spec.target_groups {
            fleet.registers_from_the_beginning(&format!("lab-{number}"), &id);
        }
        fleet
    }

    /// Adds the account's Elastic IP, free or of an instance. Returns its allocation id.
    pub fn add_address(&mut self, holder: Option<&str>) -> String {
        let allocation_id = "eipalloc-0a000000000000001".to_owned();
        let address = ElasticIp {
            allocation_id: allocation_id.clone(),
            public_ip: "198.51.100.7".to_owned(),
            instance_id: holder.map(str::to_owned),
        };
        self.addresses.insert(allocation_id.clone(), address);
        allocation_id
    }

    /// Lets the owner give an Elastic IP to an instance, or to another one of his that is not in the scene. Returns the
    /// instance, if that changes anything.
    pub fn owner_moves_address(&mut self, allocation_id: &str, to: Option<&str>) -> Option<String> {
        let to = to.unwrap_or(OTHER_INSTANCE);
        let address = self.addresses.get_mut(allocation_id)?;
        let is_new = address.instance_id.as_deref() != Some(to);
        is_new.then(|| address.instance_id.insert(to.to_owned()).clone())
    }

    /// Lets the owner take an instance out of its target groups. Returns those that it was in.
    pub fn owner_deregisters(&mut self, id: &str, now: Timestamp) -> Vec<String> {
        let is_in = |group: &&TargetGroup| {
            group.targets.get(id).is_some_and(|target| target.phase != TargetPhase::Draining)
        };
        let groups: Vec<String> =
            self.target_groups.values().filter(is_in).map(|group| group.arn.clone()).collect();
        for arn in &groups {
            self.deregister(arn, id, now);
        }
        groups
    }

    /// Lets the owner register an instance in a new target group of his. Returns its ARN.
    pub fn owner_registers_elsewhere(&mut self, id: &str) -> String {
        self.registers_from_the_beginning("of-the-owner", id)
    }

    fn registers_from_the_beginning(&mut self, name: &str, id: &str) -> String {
        let arn = format!(
            "arn:aws:elasticloadbalancing:{}:{}:targetgroup/{name}/0a0000000000000a",
            self.region, self.account
        );
        let target = RegisteredTarget { phase: TargetPhase::Healthy, proceeds_at: None };
        let group = TargetGroup {
            arn: arn.clone(),
            name: name.to_owned(),
            targets: BTreeMap::from([(id.to_owned(), target)]),
            deregistration_delay: DEREGISTRATION_DELAY,
            is_in_use: true,
        };
        self.target_groups.insert(arn.clone(), group);
        arn
    }
}
