//! The launch request for a twin. `docs/reference/fields/twin.yaml` says how each member of the instance is
//! treated.

use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types as ec2;
use spot_domain::swap::lab::losses::volume_tags;
use spot_domain::tags::{SWAP_TAG, Tags, inherited};

use super::{Twin, TwinSource, volumes};
use crate::ec2::described_instance;
use crate::fields::filled;

/// Repeats the instance in a launch request, in `subnet_id`. `tags` are the twin's. The block devices are the
/// image's.
#[must_use]
pub fn apply(
    request: RunInstancesFluentBuilder,
    twin: &Twin,
    subnet_id: &str,
    tags: &Tags,
) -> RunInstancesFluentBuilder {
    let source = &*twin.source;
    let old = &source.instance;
    let detailed = old.monitoring().and_then(|m| m.state()).is_some_and(is_detailed);
    let profile = filled(old.iam_instance_profile().and_then(|p| p.arn()));
    request
        .set_image_id(twin.image_id.clone().or_else(|| filled(old.image_id())))
        .set_key_name(filled(old.key_name()))
        .set_kernel_id(filled(old.kernel_id()))
        .set_ramdisk_id(filled(old.ramdisk_id()))
        .set_user_data(source.user_data.clone())
        .set_ebs_optimized(old.ebs_optimized())
        .monitoring(ec2::RunInstancesMonitoringEnabled::builder().enabled(detailed).build())
        .set_iam_instance_profile(
            profile.map(|arn| ec2::IamInstanceProfileSpecification::builder().arn(arn).build()),
        )
        .set_metadata_options(old.metadata_options().map(metadata_options))
        .set_placement(placement(old))
        .set_cpu_options(cpu_options(source))
        .set_private_dns_name_options(old.private_dns_name_options().map(dns_name_options))
        .set_maintenance_options(maintenance(old))
        .set_network_performance_options(network_performance(old))
        .set_instance_initiated_shutdown_behavior(at_shutdown(source))
        .set_credit_specification(
            source.credits.clone().map(|c| ec2::CreditSpecificationRequest::builder().cpu_credits(c).build()),
        )
        .network_interfaces(interface(old, subnet_id))
        .tag_specifications(tags_of_volumes(source, twin, tags))
}

pub(super) fn is_detailed(state: &ec2::MonitoringState) -> bool {
    matches!(state, ec2::MonitoringState::Enabled | ec2::MonitoringState::Pending)
}

/// Returns the one set of tags that EC2 takes for all volumes of a launch. Our tags are among them, so that a
/// volume which outlives a newcomer is found.
fn tags_of_volumes(source: &TwinSource, twin: &Twin, of_instance: &Tags) -> ec2::TagSpecification {
    let swap_id = of_instance.get(SWAP_TAG).map(String::as_str).unwrap_or_default();
    let volumes = described_instance::parse(&source.instance).map(|known| volumes::of(source, &known));
    let own = volume_tags(&volumes.unwrap_or_default(), twin.image_id.is_some());
    let tags = inherited(&own, swap_id, None).into_iter();
    let tags = tags.map(|(key, value)| ec2::Tag::builder().key(key).value(value).build()).collect();
    ec2::TagSpecification::builder().resource_type(ec2::ResourceType::Volume).set_tags(Some(tags)).build()
}

/// Returns the CPU options that differ from those of the type. Many types take no options, not even their
/// own. <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/cpu-options-supported-instances-values.html>
pub(super) fn cpu_options(source: &TwinSource) -> Option<ec2::CpuOptionsRequest> {
    let options = source.instance.cpu_options()?;
    let usual = source.kind.as_ref().and_then(|kind| kind.v_cpu_info());
    let cores = options.core_count();
    let threads = options.threads_per_core();
    let is_usual = usual.is_some_and(|usual| {
        cores.is_none_or(|cores| usual.default_cores() == Some(cores))
            && threads.is_none_or(|threads| usual.default_threads_per_core() == Some(threads))
    });
    let enabled = ec2::AmdSevSnpSpecification::Enabled;
    let sev_snp = options.amd_sev_snp().filter(|said| **said == enabled).cloned();
    let enabled = ec2::NestedVirtualizationSpecification::Enabled;
    let nested = options.nested_virtualization().filter(|said| **said == enabled).cloned();
    let says_something = !is_usual && (cores.is_some() || threads.is_some());
    (says_something || sev_snp.is_some() || nested.is_some()).then(|| {
        ec2::CpuOptionsRequest::builder()
            .set_core_count(cores.filter(|_| says_something))
            .set_threads_per_core(threads.filter(|_| says_something))
            .set_amd_sev_snp(sev_snp)
            .set_nested_virtualization(nested)
            .build()
    })
}

/// Repeats the host name options. The subnet's defaults may differ by now.
fn dns_name_options(options: &ec2::PrivateDnsNameOptionsResponse) -> ec2::PrivateDnsNameOptionsRequest {
    ec2::PrivateDnsNameOptionsRequest::builder()
        .set_hostname_type(options.hostname_type().cloned())
        .set_enable_resource_name_dns_a_record(options.enable_resource_name_dns_a_record())
        .set_enable_resource_name_dns_aaaa_record(options.enable_resource_name_dns_aaaa_record())
        .build()
}

fn maintenance(old: &ec2::Instance) -> Option<ec2::InstanceMaintenanceOptionsRequest> {
    let recovery = old.maintenance_options()?.auto_recovery()?;
    (*recovery == ec2::InstanceAutoRecoveryState::Disabled)
        .then(|| ec2::InstanceMaintenanceOptionsRequest::builder().auto_recovery(recovery.clone()).build())
}

fn network_performance(old: &ec2::Instance) -> Option<ec2::InstanceNetworkPerformanceOptionsRequest> {
    let weighting = old.network_performance_options()?.bandwidth_weighting()?;
    (*weighting != ec2::InstanceBandwidthWeighting::Default).then(|| {
        ec2::InstanceNetworkPerformanceOptionsRequest::builder()
            .bandwidth_weighting(weighting.clone())
            .build()
    })
}

/// Returns the behaviour at a shutdown. A one-time Spot instance can't stop; `losses` names that.
fn at_shutdown(source: &TwinSource) -> Option<ec2::ShutdownBehavior> {
    let said = source.at_shutdown.as_deref().map(ec2::ShutdownBehavior::from);
    said.filter(|said| *said == ec2::ShutdownBehavior::Terminate)
}

/// Returns the one interface, with each field set: a public address must not depend on the subnet's present
/// default.
///
/// An instance with an Elastic IP gets a public address until the Elastic IP moves. Without one, the twin
/// could not reach what it needs to start.
fn interface(old: &ec2::Instance, subnet_id: &str) -> ec2::InstanceNetworkInterfaceSpecification {
    let groups: Vec<String> =
        old.security_groups().iter().filter_map(|g| g.group_id().map(str::to_owned)).collect();
    let nic = old.network_interfaces().first();
    let attachment = nic.and_then(|nic| nic.attachment());
    let ipv6 = nic.map(|nic| nic.ipv6_addresses()).unwrap_or_default();
    let has_primary_ipv6 = ipv6.iter().any(|address| address.is_primary_ipv6() == Some(true));
    ec2::InstanceNetworkInterfaceSpecification::builder()
        .device_index(0)
        .delete_on_termination(true)
        .set_description(nic.and_then(|nic| filled(nic.description())))
        .associate_public_ip_address(old.public_ip_address().is_some_and(|address| !address.is_empty()))
        .set_ipv6_address_count((!ipv6.is_empty()).then_some(1))
        .set_primary_ipv6(has_primary_ipv6.then_some(true))
        .set_ena_srd_specification(attachment.and_then(|a| a.ena_srd_specification()).and_then(ena_express))
        .set_ena_queue_count(attachment.and_then(|a| a.ena_queue_count()))
        .set_connection_tracking_specification(
            nic.and_then(|nic| nic.connection_tracking_configuration()).and_then(connection_tracking),
        )
        .set_groups((!groups.is_empty()).then_some(groups))
        .subnet_id(subnet_id)
        .build()
}

fn ena_express(of: &ec2::InstanceAttachmentEnaSrdSpecification) -> Option<ec2::EnaSrdSpecificationRequest> {
    let udp = of.ena_srd_udp_specification().and_then(|udp| udp.ena_srd_udp_enabled());
    let udp = udp.map(|on| ec2::EnaSrdUdpSpecificationRequest::builder().ena_srd_udp_enabled(on).build());
    (of.ena_srd_enabled() == Some(true)).then(|| {
        ec2::EnaSrdSpecificationRequest::builder()
            .ena_srd_enabled(true)
            .set_ena_srd_udp_specification(udp)
            .build()
    })
}

fn connection_tracking(
    of: &ec2::ConnectionTrackingSpecificationResponse,
) -> Option<ec2::ConnectionTrackingSpecificationRequest> {
    let timeouts = [of.tcp_established_timeout(), of.udp_timeout(), of.udp_stream_timeout()];
    timeouts.iter().any(Option::is_some).then(|| {
        ec2::ConnectionTrackingSpecificationRequest::builder()
            .set_tcp_established_timeout(of.tcp_established_timeout())
            .set_udp_timeout(of.udp_timeout())
            .set_udp_stream_timeout(of.udp_stream_timeout())
            .build()
    })
}

pub(super) fn placement(old: &ec2::Instance) -> Option<ec2::Placement> {
    let placement = old.placement()?;
    let tenancy = placement.tenancy().filter(|t| **t == ec2::Tenancy::Dedicated).cloned();
    let group = placement.group_name().filter(|name| !name.is_empty()).map(str::to_owned);
    let partition = placement.partition_number().filter(|number| *number > 0);
    (tenancy.is_some() || group.is_some()).then(|| {
        ec2::Placement::builder()
            .set_tenancy(tenancy)
            .set_group_name(group)
            .set_partition_number(partition)
            .build()
    })
}

pub(super) fn metadata_options(
    options: &ec2::InstanceMetadataOptionsResponse,
) -> ec2::InstanceMetadataOptionsRequest {
    ec2::InstanceMetadataOptionsRequest::builder()
        .set_http_tokens(options.http_tokens().cloned())
        .set_http_endpoint(options.http_endpoint().cloned())
        .set_http_put_response_hop_limit(options.http_put_response_hop_limit())
        .set_http_protocol_ipv6(options.http_protocol_ipv6().cloned())
        .set_instance_metadata_tags(options.instance_metadata_tags().cloned())
        .build()
}
