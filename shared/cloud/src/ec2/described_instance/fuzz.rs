//! The fuzz target `instance`: an EC2 instance with absent and odd fields.
//!
//! The parser promises: no panic. An instance with an id and a type is read, and any other is refused by the name of the
//! field. Nothing that AWS does not say speaks for a swap: a volume without its times did not come with the launch.

use serde_json::Value;
use spot_domain::ids::InstanceType;
use spot_fuzz::Target;

use super::*;
use crate::sample::{flag, is_usable, list, part, promise, text, time, whole};

#[test]
fn instance() {
    let words = &["spot", "scheduled", "host", "dedicated", "amazon", "marketplace", "RunInstances:0002"];
    Target { name: "instance", samples: &[], words, cases: 2_000 }.fuzz(check);
}

fn check(bytes: &[u8]) -> Result<(), String> {
    let Ok(sample) = serde_json::from_slice::<Value>(bytes) else { return Ok(()) };
    let fields = [
        ("InstanceId", is_usable::<InstanceId>(&sample, "InstanceId")),
        ("InstanceType", is_usable::<InstanceType>(&sample, "InstanceType")),
    ];
    let bad = fields.iter().find(|(_, is_usable)| !is_usable).map(|(field, _)| *field);
    match (parse(&described(&sample)), bad) {
        (Ok(read), None) => holds(&read, &sample),
        (Err(error), Some(field)) => {
            promise(error.is_malformed() && error.to_string().contains(field), || {
                format!("the error does not name {field}: {error}")
            })
        }
        (read, bad) => Err(format!("{bad:?} is unusable, and it is read as {read:?}")),
    }
}

fn holds(read: &Instance, sample: &Value) -> Result<(), String> {
    let told = |field| text(sample, field);
    promise(told("InstanceId").as_deref() == Some(read.id.as_str()), || format!("it is called {}", read.id))?;
    let lifecycle = told("InstanceLifecycle");
    promise(read.is_spot == (lifecycle.as_deref() == Some("spot")), || {
        format!("{lifecycle:?} is read as Spot: {}", read.is_spot)
    })?;
    promise(lifecycle.is_none() || read.is_spot || read.bound_to.is_some(), || {
        format!("{lifecycle:?} binds it to nothing")
    })?;
    let is_managed = part(sample, "Operator", |of| flag(of, "Managed")).flatten() == Some(true);
    promise(read.operator.is_some() == is_managed, || format!("its operator is {:?}", read.operator))?;
    let keys = list(sample, "Tags", |tag| text(tag, "Key")).unwrap_or_default();
    promise(keys.iter().flatten().all(|key| read.tags.contains_key(key)), || {
        format!("of {keys:?} it bears {:?}", read.tags)
    })?;
    let interfaces = list(sample, "NetworkInterfaces", |_| ()).unwrap_or_default().len();
    promise(read.belongings.interfaces.len() == interfaces, || {
        format!("{interfaces} interfaces are read as {:?}", read.belongings.interfaces)
    })?;
    let volumes: Vec<_> =
        read.belongings.volumes.iter().map(|volume| (volume.id.clone(), volume.is_from_launch)).collect();
    promise(volumes == expected_volumes(sample), || format!("its volumes are {volumes:?}"))
}

/// Returns the id of each volume, and whether it came with the launch.
fn expected_volumes(sample: &Value) -> Vec<(String, bool)> {
    let seconds = |of: &Value, field: &str| of.get(field).and_then(Value::as_i64).map(i128::from);
    let launched = seconds(sample, "LaunchTime");
    let one = |ebs: &Value| {
        let gap = seconds(ebs, "AttachTime").zip(launched).map(|(at, launch)| at - launch);
        Some((text(ebs, "VolumeId")?, gap.is_some_and(|gap| gap <= i128::from(LAUNCH_SECONDS))))
    };
    let all = list(sample, "BlockDeviceMappings", |mapping| part(mapping, "Ebs", one).flatten());
    all.unwrap_or_default().into_iter().flatten().collect()
}

fn described(sample: &Value) -> ec2::Instance {
    let told = |field| text(sample, field);
    ec2::Instance::builder()
        .set_instance_id(told("InstanceId"))
        .set_instance_type(told("InstanceType").as_deref().map(ec2::InstanceType::from))
        .set_instance_lifecycle(told("InstanceLifecycle").as_deref().map(ec2::InstanceLifecycleType::from))
        .set_state(part(sample, "State", state_of))
        .set_state_reason(part(sample, "StateReason", reason_of))
        .set_launch_time(time(sample, "LaunchTime"))
        .set_placement(part(sample, "Placement", placement_of))
        .set_operator(part(sample, "Operator", operator_of))
        .set_tags(list(sample, "Tags", tag_of))
        .set_network_interfaces(list(sample, "NetworkInterfaces", interface_of))
        .set_block_device_mappings(list(sample, "BlockDeviceMappings", mapping_of))
        .set_product_codes(list(sample, "ProductCodes", product_of))
        .set_client_token(told("ClientToken"))
        .set_usage_operation(told("UsageOperation"))
        .set_platform_details(told("PlatformDetails"))
        .set_outpost_arn(told("OutpostArn"))
        .set_capacity_reservation_id(told("CapacityReservationId"))
        .set_private_ip_address(told("PrivateIpAddress"))
        .set_source_dest_check(flag(sample, "SourceDestCheck"))
        .build()
}

fn state_of(sample: &Value) -> ec2::InstanceState {
    let name = text(sample, "Name");
    ec2::InstanceState::builder().set_name(name.as_deref().map(ec2::InstanceStateName::from)).build()
}

fn reason_of(sample: &Value) -> ec2::StateReason {
    ec2::StateReason::builder().set_code(text(sample, "Code")).set_message(text(sample, "Message")).build()
}

fn placement_of(sample: &Value) -> ec2::Placement {
    ec2::Placement::builder()
        .set_availability_zone(text(sample, "AvailabilityZone"))
        .set_availability_zone_id(text(sample, "AvailabilityZoneId"))
        .set_tenancy(text(sample, "Tenancy").as_deref().map(ec2::Tenancy::from))
        .build()
}

fn operator_of(sample: &Value) -> ec2::OperatorResponse {
    ec2::OperatorResponse::builder()
        .set_managed(flag(sample, "Managed"))
        .set_principal(text(sample, "Principal"))
        .build()
}

fn tag_of(sample: &Value) -> ec2::Tag {
    ec2::Tag::builder().set_key(text(sample, "Key")).set_value(text(sample, "Value")).build()
}

fn product_of(sample: &Value) -> ec2::ProductCode {
    let kind = text(sample, "ProductCodeType");
    ec2::ProductCode::builder()
        .set_product_code_type(kind.as_deref().map(ec2::ProductCodeValues::from))
        .build()
}

fn mapping_of(sample: &Value) -> ec2::InstanceBlockDeviceMapping {
    let ebs_of = |ebs: &Value| {
        ec2::EbsInstanceBlockDevice::builder()
            .set_volume_id(text(ebs, "VolumeId"))
            .set_attach_time(time(ebs, "AttachTime"))
            .set_delete_on_termination(flag(ebs, "DeleteOnTermination"))
            .build()
    };
    ec2::InstanceBlockDeviceMapping::builder()
        .set_device_name(text(sample, "DeviceName"))
        .set_ebs(part(sample, "Ebs", ebs_of))
        .build()
}

fn interface_of(sample: &Value) -> ec2::InstanceNetworkInterface {
    let attachment_of = |of: &Value| {
        ec2::InstanceNetworkInterfaceAttachment::builder().set_device_index(whole(of, "DeviceIndex")).build()
    };
    let address_of = |of: &Value| {
        ec2::InstancePrivateIpAddress::builder()
            .set_private_ip_address(text(of, "PrivateIpAddress"))
            .set_association(part(of, "Association", association_of))
            .build()
    };
    ec2::InstanceNetworkInterface::builder()
        .set_network_interface_id(text(sample, "NetworkInterfaceId"))
        .set_attachment(part(sample, "Attachment", attachment_of))
        .set_association(part(sample, "Association", association_of))
        .set_private_ip_addresses(list(sample, "PrivateIpAddresses", address_of))
        .set_source_dest_check(flag(sample, "SourceDestCheck"))
        .build()
}

fn association_of(sample: &Value) -> ec2::InstanceNetworkInterfaceAssociation {
    ec2::InstanceNetworkInterfaceAssociation::builder()
        .set_public_ip(text(sample, "PublicIp"))
        .set_ip_owner_id(text(sample, "IpOwnerId"))
        .set_carrier_ip(text(sample, "CarrierIp"))
        .build()
}
