//! Traits of an instance: everything that a twin repeats, in words, so that two readings can be compared. The
//! file also names everything that a twin could not repeat.

use std::hash::{DefaultHasher, Hash, Hasher};

use aws_sdk_ec2::types as ec2;
use spot_domain::swap::lab::Traits;

use super::{TwinSource, launch};

/// Returns the property of the instance that a twin could not have, in words.
pub(super) fn irreproducible(source: &TwinSource) -> Option<String> {
    let instance = &source.instance;
    of_interfaces(instance).or_else(|| of_options(instance)).or_else(|| of_volumes(&source.volumes))
}

fn of_interfaces(instance: &ec2::Instance) -> Option<String> {
    let why = |text: &str| Some(text.to_owned());
    let [interface] = instance.network_interfaces() else {
        let count = instance.network_interfaces().len();
        return Some(format!("it has {count} network interfaces: a twin has one"));
    };
    if !instance.secondary_interfaces().is_empty() {
        return why("it has secondary interfaces");
    }
    if interface.private_ip_addresses().len() > 1
        || interface.ipv6_addresses().len() > 1
        || !interface.ipv4_prefixes().is_empty()
        || !interface.ipv6_prefixes().is_empty()
    {
        return why("it has more than one private address, or address prefixes");
    }
    if interface.interface_type().is_some_and(|kind| kind != "interface") {
        return why("its network interface is of a special kind");
    }
    let association = interface.association();
    if association.is_some_and(|held| held.carrier_ip().or(held.customer_owned_ip()).is_some()) {
        return why("it has a carrier or customer-owned address, which does not move");
    }
    if interface.operator().and_then(|operator| operator.managed()) == Some(true) {
        return why("an AWS service operates its network interface");
    }
    if instance.source_dest_check() == Some(false) || interface.source_dest_check() == Some(false) {
        return why("its source/destination check is off: routes point at its network interface");
    }
    None
}

fn of_options(instance: &ec2::Instance) -> Option<String> {
    let why = |text: &str| Some(text.to_owned());
    if instance.hibernation_options().and_then(|h| h.configured()) == Some(true) {
        return why("hibernation is configured");
    }
    if instance.enclave_options().and_then(|e| e.enabled()) == Some(true) {
        return why("Nitro Enclaves are enabled");
    }
    if instance.outpost_arn().is_some_and(|arn| !arn.is_empty()) {
        return why("it runs on an Outpost");
    }
    // Starting the instance again would need rights on the license configuration, too.
    // https://docs.aws.amazon.com/license-manager/latest/userguide/license-rules.html
    if let Some(license) = instance.licenses().first() {
        let arn = license.license_configuration_arn().unwrap_or_default();
        return Some(format!("it is counted under license configuration {arn}"));
    }
    let lifecycle = instance.instance_lifecycle().filter(|l| **l != ec2::InstanceLifecycleType::Spot)?;
    Some(format!("its lifecycle is {}", lifecycle.as_str()))
}

fn of_volumes(volumes: &[ec2::Volume]) -> Option<String> {
    volumes.iter().find_map(|volume| {
        let id = volume.volume_id().unwrap_or_default();
        if volume.multi_attach_enabled() == Some(true) {
            return Some(format!("volume {id} may be attached to other instances, too (Multi-Attach)"));
        }
        let operator = volume.operator().filter(|operator| operator.managed() == Some(true))?;
        Some(format!("volume {id} is operated by {}", operator.principal().unwrap_or("an AWS service")))
    })
}

/// Returns everything that no launch repeats and that causes no refusal, in words.
pub(super) fn left_behind(instance: &ec2::Instance) -> Vec<String> {
    let mut left = Vec::new();
    let kept = instance.network_interfaces().iter().find(|nic| {
        nic.attachment().and_then(|attachment| attachment.delete_on_termination()) == Some(false)
    });
    if let Some(id) = kept.and_then(|nic| nic.network_interface_id()) {
        left.push(format!("its network interface {id} was made to outlive it, and is not the new one's"));
    }
    let migration = instance.maintenance_options().and_then(|options| options.reboot_migration());
    if migration == Some(&ec2::InstanceRebootMigrationState::Disabled) {
        left.push("reboot migration is disabled, which no launch can ask for".to_owned());
    }
    left
}

/// Returns the traits. A trait is the same text until its owner changes it. Some traits can't change while
/// the instance runs, but it may be stopped and started in between.
pub(super) fn of(source: &TwinSource) -> Traits {
    let instance = &source.instance;
    let nics = instance.network_interfaces();
    let groups = instance.security_groups().iter();
    let ids = nics.iter().filter_map(|nic| nic.network_interface_id());
    let mut traits = Traits::new();
    let mut note = |name: &str, value: String| drop(traits.insert(name.to_owned(), value));
    note("security groups", listed(groups.filter_map(|group| group.group_id())));
    note("network interfaces", listed(ids));
    note("private addresses", listed(nics.iter().flat_map(addresses)));
    note("volumes", volumes_in_words(source));
    note("subnet", instance.subnet_id().unwrap_or_default().to_owned());
    let profile = instance.iam_instance_profile().and_then(|profile| profile.arn());
    note("instance profile", profile.unwrap_or_default().to_owned());
    note("metadata options", metadata_options(instance));
    let watched = instance.monitoring().and_then(|monitoring| monitoring.state());
    let watched = watched.is_some_and(launch::is_detailed);
    note("detailed monitoring", watched.to_string());
    note("placement", placement(instance));
    note("CPU options", format!("{:?}", launch::cpu_options(source)));
    note("host name options", format!("{:?}", instance.private_dns_name_options()));
    note("maintenance options", format!("{:?}", instance.maintenance_options()));
    note("network performance options", format!("{:?}", instance.network_performance_options()));
    note("EBS optimization", (instance.ebs_optimized() == Some(true)).to_string());
    note("options of its network interface", nics.first().map(interface_options).unwrap_or_default());
    note("shutdown behavior", source.at_shutdown.clone().unwrap_or_default());
    note("CPU credits", source.credits.clone().unwrap_or_default());
    // The trait holds a digest: user data may hold secrets, and a journal is no place for those.
    let mut digest = DefaultHasher::new();
    source.user_data.hash(&mut digest);
    note("user data", format!("{:016x}", digest.finish()));
    traits
}

fn listed<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let mut items: Vec<&str> = items.collect();
    items.sort_unstable();
    items.join(", ")
}

fn addresses(nic: &ec2::InstanceNetworkInterface) -> Vec<&str> {
    let v4 = nic.private_ip_addresses().iter().filter_map(|address| address.private_ip_address());
    v4.chain(nic.ipv6_addresses().iter().filter_map(|address| address.ipv6_address())).collect()
}

fn volumes_in_words(source: &TwinSource) -> String {
    let mappings = source.instance.block_device_mappings().iter();
    let mut said: Vec<String> = mappings
        .filter_map(|mapping| {
            let ebs = mapping.ebs()?;
            let id = ebs.volume_id()?;
            let volume = source.volumes.iter().find(|volume| volume.volume_id() == Some(id));
            let kind = volume.and_then(|v| v.volume_type()).map(|kind| kind.as_str()).unwrap_or_default();
            let size = volume.and_then(|v| v.size()).unwrap_or_default();
            let iops = volume.and_then(|v| v.iops()).unwrap_or_default();
            let throughput = volume.and_then(|v| v.throughput()).unwrap_or_default();
            let ends = if ebs.delete_on_termination() == Some(true) { "ends with it" } else { "outlives it" };
            let device = mapping.device_name().unwrap_or_default();
            Some(format!("{id} at {device} ({kind}, {size} GiB, {iops} IOPS, {throughput} MiB/s, {ends})"))
        })
        .collect();
    said.sort();
    said.join(", ")
}

fn metadata_options(instance: &ec2::Instance) -> String {
    let Some(options) = instance.metadata_options() else { return String::new() };
    // The state of the options is left out: it is `pending` for a moment after a launch.
    format!("{:?}", launch::metadata_options(options))
}

fn placement(instance: &ec2::Instance) -> String {
    format!("{:?}", launch::placement(instance))
}

fn interface_options(nic: &ec2::InstanceNetworkInterface) -> String {
    let attachment = nic.attachment();
    let express = attachment.and_then(|attachment| attachment.ena_srd_specification());
    let queues = attachment.and_then(|attachment| attachment.ena_queue_count());
    format!("{express:?} {queues:?} {:?}", nic.connection_tracking_configuration())
}
