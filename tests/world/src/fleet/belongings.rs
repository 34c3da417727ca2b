//! What an instance has: its volume, its network interface, its Elastic IP. And what its type has.

use jiff::Timestamp;

use crate::fleet::Fleet;
use crate::fleet::catalog::{ROOT_DEVICE, VPC};
use crate::fleet::ec2::{unknown_filter, unknown_instance};
use crate::fleet::instances::{Ec2Instance, Ec2State};
use crate::fleet::parameters::{is_true, plays_only, required};
use crate::fleet::xml::{Answered, ApiError, Xml};
use crate::wire::ApiCall;

/// An Elastic IP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElasticIp {
    /// `eipalloc-…`
    pub allocation_id: String,
    pub public_ip: String,
    /// The instance that has it.
    pub instance_id: Option<String>,
}

impl ElasticIp {
    fn association_id(&self) -> Option<String> {
        let number = self.instance_id.as_ref()?.trim_start_matches("i-");
        Some(format!("eipassoc-{number}"))
    }
}

impl Fleet {
    /// Returns the instance that has an Elastic IP.
    #[must_use]
    pub fn address_holder(&self, allocation_id: &str) -> Option<&str> {
        self.addresses.get(allocation_id)?.instance_id.as_deref()
    }

    fn address_of(&self, instance_id: &str) -> Option<&ElasticIp> {
        self.addresses.values().find(|address| address.instance_id.as_deref() == Some(instance_id))
    }

    /// Writes the volume and the network interface of an instance, which it has since its launch, and its address.
    pub(super) fn write_belongings(&self, xml: &mut Xml, instance: &Ec2Instance) {
        let number = instance.number();
        let address = self.address_of(&instance.id);
        xml.text("subnetId", &instance.subnet_id);
        xml.text("vpcId", VPC);
        xml.text("privateIpAddress", instance.private_ip());
        xml.optional("ipAddress", address.map(|address| &address.public_ip));
        xml.text("sourceDestCheck", true);
        xml.list("blockDeviceMapping", "item", [ROOT_DEVICE], |xml, device| {
            xml.text("deviceName", device);
            xml.within("ebs", |xml| {
                xml.text("volumeId", instance.volume_id());
                xml.time("attachTime", instance.launched_at);
                xml.text("deleteOnTermination", !instance.keeps_volume);
            });
        });
        xml.list("networkInterfaceSet", "item", [number], |xml, number| {
            xml.text("networkInterfaceId", format!("eni-{number}"));
            xml.text("sourceDestCheck", true);
            self.write_association(xml, address);
            xml.within("attachment", |xml| {
                xml.text("deviceIndex", 0);
                xml.text("deleteOnTermination", true);
            });
            xml.list("privateIpAddressesSet", "item", [instance.private_ip()], |xml, private| {
                xml.text("privateIpAddress", private);
                xml.text("primary", true);
                self.write_association(xml, address);
            });
        });
    }

    fn write_association(&self, xml: &mut Xml, address: Option<&ElasticIp>) {
        let Some(address) = address else { return };
        xml.within("association", |xml| {
            xml.text("publicIp", &address.public_ip);
            xml.text("ipOwnerId", &self.account);
        });
    }

    pub(super) fn describe_addresses(&self, call: &ApiCall) -> Answered {
        let (asked, filters) = (call.list("AllocationId"), call.filters());
        if let Some(unknown) = asked.iter().find(|id| !self.addresses.contains_key(**id)) {
            return Err(unknown_address(unknown));
        }
        if let Some((other, _)) = filters.iter().find(|(name, _)| name != "instance-id") {
            return Err(unknown_filter(other));
        }
        let is_shown = |address: &&ElasticIp| {
            let holder = address.instance_id.as_deref().unwrap_or_default();
            let is_asked = asked.is_empty() || asked.contains(&address.allocation_id.as_str());
            is_asked && filters.iter().all(|(_, ids)| ids.iter().any(|id| id == holder))
        };
        let mut xml = Xml::default();
        xml.list("addressesSet", "item", self.addresses.values().filter(is_shown), |xml, address| {
            xml.text("publicIp", &address.public_ip);
            xml.text("allocationId", &address.allocation_id);
            xml.text("domain", "vpc");
            xml.optional("associationId", address.association_id());
            xml.optional("instanceId", address.instance_id.as_ref());
        });
        Ok(xml)
    }

    /// Moves an Elastic IP. An instance that is pending or has ended takes none; a repeated call changes nothing.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AssociateAddress.html>
    pub(super) fn associate_address(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        plays_only(call, &["AllocationId", "InstanceId", "AllowReassociation"])?;
        let (allocation, id) = (required(call, "AllocationId")?, required(call, "InstanceId")?);
        let instance = self.visible(id, now).ok_or_else(|| unknown_instance(id))?;
        if instance.state == Ec2State::Pending || instance.state.is_ending() {
            let state = instance.state.name();
            let text = format!("The {state} instance '{id}' is not in a valid state for this operation.");
            return Err(ApiError::new("InvalidInstanceID", text));
        }
        let address = self.addresses.get(allocation).ok_or_else(|| unknown_address(allocation))?;
        let is_elsewhere = address.instance_id.as_deref().is_some_and(|holder| holder != id);
        if is_elsewhere && !is_true(call, "AllowReassociation") {
            let text = format!("resource {allocation} is already associated with another instance");
            return Err(ApiError::new("Resource.AlreadyAssociated", text));
        }
        self.lets_go_of_address(id);
        let mut xml = Xml::default();
        if let Some(address) = self.addresses.get_mut(allocation) {
            address.instance_id = Some(id.to_owned());
            xml.text("return", true);
            xml.optional("associationId", address.association_id());
        }
        Ok(xml)
    }

    /// Frees the Elastic IP of an instance that is terminated, or that gets another one.
    pub(super) fn lets_go_of_address(&mut self, id: &str) {
        for address in self.addresses.values_mut() {
            if address.instance_id.as_deref() == Some(id) {
                address.instance_id = None;
            }
        }
    }
}

/// Describes types by name. Those of the catalog have two virtual processors, and no instance store.
pub(super) fn describe_instance_types(call: &ApiCall) -> Xml {
    let mut xml = Xml::default();
    xml.list("instanceTypeSet", "item", call.list("InstanceType"), |xml, name| {
        xml.text("instanceType", name);
        xml.text("instanceStorageSupported", false);
        xml.within("vCpuInfo", |xml| {
            xml.text("defaultVCpus", 2);
            xml.text("defaultCores", 1);
            xml.text("defaultThreadsPerCore", 2);
        });
    });
    xml
}

fn unknown_address(allocation_id: &str) -> ApiError {
    let text = format!("The allocation ID '{allocation_id}' does not exist");
    ApiError::new("InvalidAllocationID.NotFound", text)
}
