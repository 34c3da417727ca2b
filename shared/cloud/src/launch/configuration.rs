//! Launch configurations: AWS's older way to say what a group launches. EC2 can't launch from one, so that a
//! launch request repeats each of its fields.

use aws_sdk_autoscaling::types as asg;
use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types as ec2;
use spot_domain::Usd;
use spot_domain::swap::belongings::Given;

use crate::auto_scaling::described_group::price;
use crate::ec2::listing::{Page, next_token};
use crate::error::{CallError, failed};
use crate::fields::filled;

const DESCRIBE: &str = "autoscaling:DescribeLaunchConfigurations";
/// The most launch configurations in one answer.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DescribeLaunchConfigurations.html>
const PER_PAGE: i32 = 100;

/// Describes one launch configuration.
///
/// # Errors
/// The call fails, or there is none of this name.
pub async fn describe(
    client: &aws_sdk_autoscaling::Client,
    name: &str,
) -> Result<asg::LaunchConfiguration, CallError> {
    let answer = client
        .describe_launch_configurations()
        .launch_configuration_names(name)
        .send()
        .await
        .map_err(failed(DESCRIBE))?;
    answer.launch_configurations.and_then(|found| found.into_iter().next()).ok_or_else(|| {
        CallError::malformed(DESCRIBE, format!("launch configuration {name:?} does not exist"))
    })
}

/// Lists a page of the snapshots that launch configurations name: each launch makes volumes of them.
///
/// # Errors
/// The call fails, or the next page has the token of this one.
pub async fn snapshot_page(
    client: &aws_sdk_autoscaling::Client,
    token: Option<&str>,
) -> Result<Page<Box<str>>, CallError> {
    let request = client.describe_launch_configurations().max_records(PER_PAGE);
    let request = request.set_next_token(token.map(str::to_owned));
    let answer = request.send().await.map_err(failed(DESCRIBE))?;
    let mappings = answer.launch_configurations().iter().flat_map(|found| found.block_device_mappings());
    let items = mappings.filter_map(|mapping| mapping.ebs()?.snapshot_id().map(Box::from)).collect();
    Ok(Page { items, next: next_token(DESCRIBE, token, filled(answer.next_token()))? })
}

/// Returns what a launch configuration gives to each instance, and the most that it pays for Spot, in US
/// dollars an hour.
///
/// # Errors
/// The reason for which the configuration can't be launched as Spot, in words.
pub fn given(source: &asg::LaunchConfiguration) -> Result<(Given, Option<Usd>), String> {
    let name = source.launch_configuration_name().unwrap_or_default();
    let refused = |why: String| format!("launch configuration {name:?}: {why}");
    if source.placement_tenancy() == Some("host") {
        return Err(refused("its tenancy is a dedicated host".to_owned()));
    }
    if let Some(group) = source.security_groups().iter().find(|group| !group.starts_with("sg-")) {
        return Err(refused(format!(
            "it names security group {group:?} by name, which EC2 refuses beside a subnet"
        )));
    }
    let devices = source.block_device_mappings().iter().filter_map(|m| m.device_name().map(str::to_owned));
    let given = Given {
        instance_type: source.instance_type().and_then(|kind| kind.parse().ok()),
        is_dedicated: source.placement_tenancy() == Some("dedicated"),
        devices: devices.collect(),
        ..Given::default()
    };
    Ok((given, price("SpotPrice", source.spot_price()).map_err(refused)?))
}

/// Repeats the launch configuration in a launch request, in `subnet_id` and in the group's placement group.
#[must_use]
pub fn apply(
    request: RunInstancesFluentBuilder,
    source: &asg::LaunchConfiguration,
    subnet_id: &str,
    placement_group: Option<&str>,
) -> RunInstancesFluentBuilder {
    let mut request = request
        .set_image_id(filled(source.image_id()))
        .set_key_name(filled(source.key_name()))
        .set_kernel_id(filled(source.kernel_id()))
        .set_ramdisk_id(filled(source.ramdisk_id()))
        .set_user_data(filled(source.user_data()))
        .set_ebs_optimized(source.ebs_optimized());
    for mapping in source.block_device_mappings() {
        request = request.block_device_mappings(block_device(mapping));
    }
    if let Some(profile) = filled(source.iam_instance_profile()) {
        let by = ec2::IamInstanceProfileSpecification::builder();
        let by = if profile.starts_with("arn:") { by.arn(profile) } else { by.name(profile) };
        request = request.iam_instance_profile(by.build());
    }
    if let Some(enabled) = source.instance_monitoring().and_then(|m| m.enabled()) {
        request = request.monitoring(ec2::RunInstancesMonitoringEnabled::builder().enabled(enabled).build());
    }
    if let Some(options) = source.metadata_options() {
        request = request.metadata_options(metadata_options(options));
    }
    let tenancy = filled(source.placement_tenancy()).map(|tenancy| ec2::Tenancy::from(tenancy.as_str()));
    if tenancy.is_some() || placement_group.is_some() {
        let placement =
            ec2::Placement::builder().set_tenancy(tenancy).set_group_name(placement_group.map(str::to_owned));
        request = request.placement(placement.build());
    }
    let groups = source.security_groups().to_vec();
    // EC2 takes the wish for a public address only inside a network interface.
    if let Some(public) = source.associate_public_ip_address() {
        let nic = ec2::InstanceNetworkInterfaceSpecification::builder()
            .device_index(0)
            .delete_on_termination(true)
            .associate_public_ip_address(public)
            .set_groups((!groups.is_empty()).then_some(groups))
            .subnet_id(subnet_id);
        return request.network_interfaces(nic.build());
    }
    request.set_security_group_ids((!groups.is_empty()).then_some(groups)).subnet_id(subnet_id)
}

fn block_device(mapping: &asg::BlockDeviceMapping) -> ec2::BlockDeviceMapping {
    let ebs = mapping.ebs().map(|ebs| {
        ec2::EbsBlockDevice::builder()
            .set_delete_on_termination(ebs.delete_on_termination())
            .set_encrypted(ebs.encrypted())
            .set_iops(ebs.iops())
            .set_snapshot_id(ebs.snapshot_id().map(str::to_owned))
            .set_throughput(ebs.throughput())
            .set_volume_size(ebs.volume_size())
            .set_volume_type(ebs.volume_type().map(ec2::VolumeType::from))
            .build()
    });
    ec2::BlockDeviceMapping::builder()
        .set_device_name(mapping.device_name().map(str::to_owned))
        .set_virtual_name(mapping.virtual_name().map(str::to_owned))
        .set_no_device(mapping.no_device().filter(|no| *no).map(|_| String::new()))
        .set_ebs(ebs)
        .build()
}

fn metadata_options(options: &asg::InstanceMetadataOptions) -> ec2::InstanceMetadataOptionsRequest {
    ec2::InstanceMetadataOptionsRequest::builder()
        .set_http_tokens(options.http_tokens().map(|t| ec2::HttpTokensState::from(t.as_str())))
        .set_http_endpoint(
            options.http_endpoint().map(|e| ec2::InstanceMetadataEndpointState::from(e.as_str())),
        )
        .set_http_put_response_hop_limit(options.http_put_response_hop_limit())
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_launched_as_spot_is_refused_by_name() {
        let configuration = || asg::LaunchConfiguration::builder().launch_configuration_name("web");
        let bad = [
            (configuration().placement_tenancy("host"), "dedicated host"),
            (configuration().security_groups("web"), "\"web\" by name"),
            (configuration().spot_price("cheap"), "SpotPrice"),
        ];
        for (source, expected) in bad {
            let why = given(&source.build()).unwrap_err();
            assert!(why.contains(expected) && why.contains("\"web\""), "{why}");
        }
        let good = configuration().security_groups("sg-1").spot_price("0.05").build();
        assert_eq!(given(&good).unwrap().1.unwrap().to_string(), "0.05");
    }
}
