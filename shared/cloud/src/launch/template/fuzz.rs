//! The fuzz target `template`: the data of a launch template with absent and odd fields.
//!
//! The parser promises: no panic. A template that names what one instance alone can have is refused. A template that is
//! taken is repeated as it is: every interface at its place, in the subnet of the launch, and every device.

use serde_json::Value;
use spot_fuzz::Target;

use super::*;
use crate::sample::{flag, list, part, promise, text, whole};

#[test]
fn template() {
    let words =
        &["host", "dedicated", "stop", "volume", "capacity-reservations-only", "InstanceMarketOptions"];
    Target { name: "template", samples: &[], words, cases: 2_000 }.fuzz(check);
}

fn check(bytes: &[u8]) -> Result<(), String> {
    let Ok(sample) = serde_json::from_slice::<Value>(bytes) else { return Ok(()) };
    let data = data_of(&sample);
    let obstacle = obstacle(&data);
    promise(obstacle.is_some() || !must_be_refused(&sample), || "it is taken".to_owned())?;
    let read = parse("lt-1", 7, &data);
    promise((read.id.as_str(), read.version.as_str()) == ("lt-1", "7"), || format!("{read:?}"))?;
    let indexes = list(&sample, "NetworkInterfaces", |nic| whole(nic, "DeviceIndex")).unwrap_or_default();
    let launched: Vec<_> = read.network_interfaces.iter().map(|nic| nic.in_subnet("subnet-1")).collect();
    let repeated: Vec<_> = launched.iter().map(|nic| (nic.device_index(), nic.subnet_id())).collect();
    let expected: Vec<_> = indexes.iter().map(|index| (*index, Some("subnet-1"))).collect();
    promise(repeated == expected, || format!("{indexes:?} is repeated as {repeated:?}"))?;
    let given = indexes.iter().all(|index| read.given.interfaces.contains(&index.unwrap_or(0)));
    promise(given, || format!("{indexes:?} is given as {:?}", read.given))?;
    let devices = list(&sample, "BlockDeviceMappings", |mapping| text(mapping, "DeviceName"));
    let devices = devices.unwrap_or_default();
    promise(devices.iter().flatten().all(|device| read.given.devices.contains(device)), || {
        format!("{devices:?} is given as {:?}", read.given)
    })?;
    let protected = flag(&sample, "DisableApiTermination") == Some(true);
    promise(read.not_for_spot.protections().contains(&"DisableApiTermination") == protected, || {
        format!("{:?}", read.not_for_spot)
    })
}

/// Says if the template names a host, an address or an interface, or a market of its own.
fn must_be_refused(sample: &Value) -> bool {
    let names_its_own = |nic: &Value| {
        ["NetworkInterfaceId", "PrivateIpAddress"].iter().any(|field| text(nic, field).is_some())
    };
    let is_on_host = |placement: &Value| {
        text(placement, "Tenancy").as_deref() == Some("host")
            || text(placement, "HostId").is_some_and(|host| !host.is_empty())
    };
    list(sample, "NetworkInterfaces", names_its_own).is_some_and(|nics| nics.contains(&true))
        || part(sample, "Placement", is_on_host) == Some(true)
        || part(sample, "InstanceMarketOptions", |_| ()).is_some()
        || list(sample, "SecurityGroups", |_| ()).is_some_and(|groups| !groups.is_empty())
}

fn data_of(sample: &Value) -> ec2::ResponseLaunchTemplateData {
    let market_of = |_: &Value| ec2::LaunchTemplateInstanceMarketOptions::builder().build();
    let device_of = |of: &Value| {
        ec2::LaunchTemplateBlockDeviceMapping::builder().set_device_name(text(of, "DeviceName")).build()
    };
    let name_of = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    let hibernation_of = |of: &Value| {
        ec2::LaunchTemplateHibernationOptions::builder().set_configured(flag(of, "Configured")).build()
    };
    let shutdown = text(sample, "InstanceInitiatedShutdownBehavior");
    ec2::ResponseLaunchTemplateData::builder()
        .set_instance_market_options(part(sample, "InstanceMarketOptions", market_of))
        .set_block_device_mappings(list(sample, "BlockDeviceMappings", device_of))
        .set_network_interfaces(list(sample, "NetworkInterfaces", interface_of))
        .set_placement(part(sample, "Placement", placement_of))
        .set_tag_specifications(list(sample, "TagSpecifications", tags_of))
        .set_security_groups(list(sample, "SecurityGroups", name_of))
        .set_hibernation_options(part(sample, "HibernationOptions", hibernation_of))
        .set_disable_api_termination(flag(sample, "DisableApiTermination"))
        .set_disable_api_stop(flag(sample, "DisableApiStop"))
        .set_instance_initiated_shutdown_behavior(shutdown.as_deref().map(ec2::ShutdownBehavior::from))
        .build()
}

fn interface_of(sample: &Value) -> TemplateInterface {
    TemplateInterface::builder()
        .set_device_index(whole(sample, "DeviceIndex"))
        .set_network_card_index(whole(sample, "NetworkCardIndex"))
        .set_network_interface_id(text(sample, "NetworkInterfaceId"))
        .set_private_ip_address(text(sample, "PrivateIpAddress"))
        .set_ipv6_address_count(whole(sample, "Ipv6AddressCount"))
        .set_ipv4_prefix_count(whole(sample, "Ipv4PrefixCount"))
        .set_groups(list(sample, "Groups", |group| group.as_str().unwrap_or_default().to_owned()))
        .set_associate_public_ip_address(flag(sample, "AssociatePublicIpAddress"))
        .build()
}

fn placement_of(sample: &Value) -> ec2::LaunchTemplatePlacement {
    ec2::LaunchTemplatePlacement::builder()
        .set_tenancy(text(sample, "Tenancy").as_deref().map(ec2::Tenancy::from))
        .set_host_id(text(sample, "HostId"))
        .set_group_name(text(sample, "GroupName"))
        .set_availability_zone(text(sample, "AvailabilityZone"))
        .set_partition_number(whole(sample, "PartitionNumber"))
        .build()
}

fn tags_of(sample: &Value) -> ec2::LaunchTemplateTagSpecification {
    let tag_of =
        |of: &Value| ec2::Tag::builder().set_key(text(of, "Key")).set_value(text(of, "Value")).build();
    ec2::LaunchTemplateTagSpecification::builder()
        .set_resource_type(text(sample, "ResourceType").as_deref().map(ec2::ResourceType::from))
        .set_tags(list(sample, "Tags", tag_of))
        .build()
}
