//! The parser of an EC2 instance as AWS describes it. `docs/reference/fields` says what each field means for
//! a swap.

use std::collections::BTreeSet;

use aws_sdk_ec2::types as ec2;
use jiff::Timestamp;
use spot_domain::ids::{AzId, InstanceId};
use spot_domain::swap::belongings::{Belongings, Interface, Volume};
use spot_domain::swap::group::{Instance, InstanceState};
use spot_domain::swap::pricing::UsageOperation;
use spot_domain::tags::Tags;

use crate::error::CallError;
use crate::fields::filled;

pub(crate) const DESCRIBE: &str = "ec2:DescribeInstances";
/// Seconds after the launch until which a volume counts as one of the launch.
const LAUNCH_SECONDS: i64 = 60;
/// The owner of an address that AWS lends; an address of any other owner is kept.
const LENT_BY: &str = "amazon";

pub(crate) fn parse(instance: &ec2::Instance) -> Result<Instance, CallError> {
    let malformed =
        |what: &str| CallError::malformed(DESCRIBE, format!("instance {:?}: {what}", instance.instance_id()));
    let id: InstanceId = instance
        .instance_id()
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| malformed("no usable InstanceId"))?;
    let placement = instance.placement();
    Ok(Instance {
        state: state(instance.state().and_then(|s| s.name())),
        state_reason: instance
            .state_reason()
            .map(|r| format!("{}: {}", r.code().unwrap_or("?"), r.message().unwrap_or("?"))),
        is_spot: instance.instance_lifecycle() == Some(&ec2::InstanceLifecycleType::Spot),
        client_token: filled(instance.client_token()),
        launched_at: instance.launch_time().and_then(|time| Timestamp::from_second(time.secs()).ok()),
        instance_type: instance
            .instance_type()
            .and_then(|t| t.as_str().parse().ok())
            .ok_or_else(|| malformed("no usable InstanceType"))?,
        availability_zone: placement.and_then(|p| p.availability_zone()).unwrap_or_default().to_owned(),
        az_id: placement.and_then(|p| p.availability_zone_id()).and_then(|az| az.parse::<AzId>().ok()),
        usage_operation: usage_operation(instance),
        is_dedicated: placement.and_then(|p| p.tenancy()) == Some(&ec2::Tenancy::Dedicated),
        subnet_id: instance.subnet_id().map(str::to_owned),
        bound_to: bound_to(instance),
        operator: instance
            .operator()
            .filter(|o| o.managed() == Some(true))
            .map(|o| o.principal().unwrap_or("an AWS service").to_owned()),
        tags: tags(instance.tags()),
        belongings: belongings(instance),
        id,
    })
}

fn state(name: Option<&ec2::InstanceStateName>) -> InstanceState {
    match name {
        Some(ec2::InstanceStateName::Pending) => InstanceState::Pending,
        Some(ec2::InstanceStateName::Running) => InstanceState::Running,
        Some(ec2::InstanceStateName::Stopping | ec2::InstanceStateName::Stopped) => InstanceState::Stopped,
        _ => InstanceState::Dead,
    }
}

/// Returns the operation that the instance is billed for. EC2 gives both fields; if it gives the platform
/// alone, plain Linux is the one without a licence.
fn usage_operation(instance: &ec2::Instance) -> UsageOperation {
    match (instance.usage_operation(), instance.platform_details()) {
        (Some(operation), _) if !operation.is_empty() => UsageOperation::new(operation),
        (_, None | Some("Linux/UNIX")) => UsageOperation::linux(),
        (_, Some(other)) => UsageOperation::new(other),
    }
}

fn bound_to(instance: &ec2::Instance) -> Option<String> {
    if instance.placement().and_then(|p| p.tenancy()) == Some(&ec2::Tenancy::Host) {
        return Some("it runs on a dedicated host".to_owned());
    }
    if instance.outpost_arn().is_some_and(|arn| !arn.is_empty()) {
        return Some("it runs on an Outpost, where there is no Spot".to_owned());
    }
    let special = instance.instance_lifecycle().filter(|l| **l != ec2::InstanceLifecycleType::Spot);
    if let Some(lifecycle) = special {
        return Some(format!("its lifecycle is {}", lifecycle.as_str()));
    }
    let reservation = instance.capacity_reservation_id().or_else(|| instance.capacity_block_id())?;
    Some(format!("it runs in capacity reservation {reservation}"))
}

fn tags(tags: &[ec2::Tag]) -> Tags {
    tags.iter()
        .filter_map(|t| Some((t.key()?.to_owned(), t.value().unwrap_or_default().to_owned())))
        .collect()
}

fn belongings(instance: &ec2::Instance) -> Belongings {
    let interfaces = instance.network_interfaces();
    let is_off = |check: Option<bool>| check == Some(false);
    let is_marketplace =
        |code: &ec2::ProductCode| code.product_code_type() == Some(&ec2::ProductCodeValues::Marketplace);
    Belongings {
        image_id: instance.image_id().map(str::to_owned),
        root_device: instance.root_device_name().map(str::to_owned),
        volumes: instance.block_device_mappings().iter().filter_map(|m| volume(instance, m)).collect(),
        interfaces: interfaces.iter().map(interface).collect(),
        forwards_traffic: is_off(instance.source_dest_check())
            || interfaces.iter().any(|nic| is_off(nic.source_dest_check())),
        other: (!instance.secondary_interfaces().is_empty())
            .then(|| "it has secondary interfaces".to_owned()),
        vpc_id: instance.vpc_id().map(str::to_owned),
        addresses: addresses(instance),
        has_marketplace_software: instance.product_codes().iter().any(is_marketplace),
        by_address_in: None,
    }
}

fn volume(instance: &ec2::Instance, mapping: &ec2::InstanceBlockDeviceMapping) -> Option<Volume> {
    let ebs = mapping.ebs()?;
    let attached_after = ebs
        .attach_time()
        .zip(instance.launch_time())
        .map(|(at, launch)| at.secs().saturating_sub(launch.secs()));
    Some(Volume {
        id: ebs.volume_id()?.to_owned(),
        device: mapping.device_name().unwrap_or_default().to_owned(),
        is_deleted_on_termination: ebs.delete_on_termination() == Some(true),
        is_from_launch: attached_after.is_some_and(|seconds| seconds <= LAUNCH_SECONDS),
    })
}

fn interface(nic: &ec2::InstanceNetworkInterface) -> Interface {
    let of_addresses = nic.private_ip_addresses().iter().filter_map(|address| address.association());
    let mut associations = nic.association().into_iter().chain(of_addresses);
    Interface {
        id: nic.network_interface_id().unwrap_or_default().to_owned(),
        device_index: nic.attachment().and_then(|a| a.device_index()).unwrap_or(0),
        private_addresses: nic.private_ip_addresses().len(),
        ipv6_addresses: nic.ipv6_addresses().len(),
        has_prefixes: !nic.ipv4_prefixes().is_empty() || !nic.ipv6_prefixes().is_empty(),
        kept_address: associations.find_map(kept_address),
    }
}

/// Returns the address if its owner keeps it when the instance goes.
fn kept_address(association: &ec2::InstanceNetworkInterfaceAssociation) -> Option<String> {
    let is_lent = association.ip_owner_id().is_none_or(|owner| owner.is_empty() || owner == LENT_BY);
    let own = || filled(association.public_ip()).or_else(|| filled(association.carrier_ip()));
    let elastic = if is_lent { None } else { own() };
    elastic.or_else(|| filled(association.customer_owned_ip()))
}

fn addresses(instance: &ec2::Instance) -> BTreeSet<String> {
    let of = |nic: &ec2::InstanceNetworkInterface| {
        let v4 = nic.private_ip_addresses().iter().filter_map(|a| a.private_ip_address().map(str::to_owned));
        let v6 = nic.ipv6_addresses().iter().filter_map(|a| a.ipv6_address().map(str::to_owned));
        v4.chain(v6).collect::<Vec<_>>()
    };
    let own = instance.private_ip_address().map(str::to_owned);
    instance.network_interfaces().iter().flat_map(of).chain(own).collect()
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_types::DateTime;

    fn described() -> ec2::builders::InstanceBuilder {
        ec2::Instance::builder()
            .instance_id("i-0123456789abcdef0")
            .instance_type(ec2::InstanceType::M5Large)
            .launch_time(DateTime::from_secs(1_000))
    }

    fn with_address(owner: &str) -> Instance {
        let association = ec2::InstanceNetworkInterfaceAssociation::builder()
            .public_ip("203.0.113.7")
            .ip_owner_id(owner)
            .build();
        let address = ec2::InstancePrivateIpAddress::builder().association(association).build();
        let nic = ec2::InstanceNetworkInterface::builder().private_ip_addresses(address).build();
        parse(&described().network_interfaces(nic).build()).unwrap()
    }

    #[test]
    fn an_elastic_ip_is_told_from_an_address_that_aws_lends() {
        assert_eq!(with_address("amazon").belongings.interfaces[0].kept_address, None);
        let kept = with_address("123456789012").belongings.interfaces[0].kept_address.clone();
        assert_eq!(kept.as_deref(), Some("203.0.113.7"));
    }

    #[test]
    fn what_is_no_ordinary_on_demand_instance_is_bound() {
        let cases = [
            (described().outpost_arn("arn:aws:outposts:x"), "Outpost"),
            (described().instance_lifecycle(ec2::InstanceLifecycleType::Scheduled), "scheduled"),
            (described().instance_lifecycle(ec2::InstanceLifecycleType::CapacityBlock), "capacity-block"),
            (described().capacity_reservation_id("cr-1"), "cr-1"),
            (described().capacity_block_id("cb-1"), "cb-1"),
        ];
        for (instance, expected) in cases {
            let bound = parse(&instance.build()).unwrap().bound_to;
            assert!(bound.as_ref().is_some_and(|why| why.contains(expected)), "{expected}: {bound:?}");
        }
        assert_eq!(parse(&described().build()).unwrap().bound_to, None);
    }

    #[test]
    fn a_volume_that_came_later_is_told_from_one_of_the_launch() {
        let attached = |seconds| {
            let ebs = ec2::EbsInstanceBlockDevice::builder()
                .volume_id("vol-1")
                .attach_time(DateTime::from_secs(seconds))
                .build();
            let mapping = ec2::InstanceBlockDeviceMapping::builder().device_name("/dev/sdf").ebs(ebs).build();
            let instance = parse(&described().block_device_mappings(mapping).build()).unwrap();
            instance.belongings.volumes[0].is_from_launch
        };
        assert!(attached(1_002) && !attached(1_200));
    }

    #[test]
    fn what_is_billed_is_read() {
        let billed = |instance: ec2::builders::InstanceBuilder| {
            parse(&instance.build()).unwrap().usage_operation.as_str().to_owned()
        };
        assert_eq!(billed(described().usage_operation("RunInstances:0002")), "RunInstances:0002");
        assert_eq!(billed(described().platform_details("Linux/UNIX")), "RunInstances");
        assert_eq!(billed(described().platform_details("Windows BYOL")), "Windows BYOL");
    }
}
