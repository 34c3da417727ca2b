//! Launch templates: the version that a group means, and the fields that a launch has to repeat.

use aws_sdk_ec2::types as ec2;
use spot_domain::swap::belongings::Given;

use crate::error::{CallError, failed};
use crate::fields::filled;

const DESCRIBE: &str = "ec2:DescribeLaunchTemplateVersions";

/// One version of a template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvedTemplate {
    /// `lt-…`
    pub id: String,
    /// The number that `$Latest` or `$Default` stands for now.
    pub version: String,
    /// The template's network interfaces. If it has some, the subnet must be given inside them: EC2 refuses a
    /// subnet beside them.
    pub network_interfaces: Vec<NetworkInterface>,
    /// The placement of the template's instances.
    pub placement: TemplatePlacement,
    /// Parameters that one-time Spot instances do not have.
    pub not_for_spot: NotForSpot,
    /// The reason for which the template can't be launched as Spot; On-Demand has nothing against it.
    pub not_as_spot: Option<&'static str>,
    /// The part of each instance that comes from the template: devices, interfaces, tags.
    pub given: Given,
}

/// The placement of a template, as far as a launch has to repeat it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplatePlacement {
    /// `default` or `dedicated`.
    pub tenancy: Option<ec2::Tenancy>,
    /// The partition of a partition placement group.
    pub partition_number: Option<i32>,
    /// The placement names a zone by its name.
    pub names_zone: bool,
    /// The placement names a zone by its id.
    pub names_zone_id: bool,
    /// The placement group, by name.
    pub group_name: Option<String>,
    /// The placement group, by id. EC2 allows no name beside it.
    pub group_id: Option<String>,
    /// The spread domain.
    pub spread_domain: Option<String>,
}

/// Parameters that a launch has to overrule: EC2 has neither protection nor a stop for one-time Spot
/// instances. <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingDisableAPITermination.html>
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NotForSpot {
    /// `DisableApiTermination` is on.
    pub termination_protection: bool,
    /// `DisableApiStop` is on.
    pub stop_protection: bool,
    /// `InstanceInitiatedShutdownBehavior` is `stop`.
    pub stops_at_shutdown: bool,
}

impl NotForSpot {
    /// Returns the fields of the template by which its instances can't be terminated.
    #[must_use]
    pub fn protections(self) -> Vec<&'static str> {
        let on = [
            (self.termination_protection, "DisableApiTermination"),
            (self.stop_protection, "DisableApiStop"),
        ];
        on.into_iter().filter(|(is_on, _)| *is_on).map(|(_, field)| field).collect()
    }
}

/// A network interface of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInterface {
    device_index: Option<i32>,
    network_card_index: Option<i32>,
    description: Option<String>,
    groups: Vec<String>,
    associate_public_ip_address: Option<bool>,
    associate_carrier_ip_address: Option<bool>,
    delete_on_termination: Option<bool>,
    interface_type: Option<String>,
    ipv6_address_count: Option<i32>,
    primary_ipv6: Option<bool>,
    ena_queue_count: Option<i32>,
}

/// A template, or the reason for which no swap can launch it, in words.
pub type Resolution = Result<ResolvedTemplate, String>;

/// A reference to a template, as the group names it.
#[derive(Debug, Clone, Copy)]
pub enum TemplateRef<'a> {
    /// `lt-…`
    Id(&'a str),
    /// The template's name in the account and region.
    Name(&'a str),
}

/// Resolves one version of a template.
///
/// # Errors
/// The call fails, or the version does not exist.
pub async fn resolve(
    client: &aws_sdk_ec2::Client,
    template: TemplateRef<'_>,
    version: &str,
) -> Result<Resolution, CallError> {
    let request = client.describe_launch_template_versions().versions(version);
    let (request, called) = match template {
        TemplateRef::Id(id) => (request.launch_template_id(id), id),
        TemplateRef::Name(name) => (request.launch_template_name(name), name),
    };
    let answer = request.send().await.map_err(failed(DESCRIBE))?;
    let found = answer.launch_template_versions().first().ok_or_else(|| {
        CallError::malformed(DESCRIBE, format!("launch template {called} has no version {version}"))
    })?;
    let id = found.launch_template_id().unwrap_or(called);
    let number = found
        .version_number()
        .ok_or_else(|| CallError::malformed(DESCRIBE, format!("launch template {id}: no version number")))?;
    let Some(data) = found.launch_template_data() else {
        return Err(CallError::malformed(DESCRIBE, format!("launch template {id}: no data")));
    };
    let is_managed = found.operator().is_some_and(|o| o.managed() == Some(true));
    if let Some(obstacle) = obstacle(data).or(is_managed.then_some("another AWS service manages it")) {
        return Ok(Err(format!("launch template {id}, version {number}: {obstacle}")));
    }
    Ok(Ok(parse(id, number, data)))
}

fn parse(id: &str, number: i64, data: &ec2::ResponseLaunchTemplateData) -> ResolvedTemplate {
    ResolvedTemplate {
        id: id.to_owned(),
        version: number.to_string(),
        network_interfaces: data.network_interfaces().iter().map(NetworkInterface::from).collect(),
        placement: data.placement().map(placement).unwrap_or_default(),
        not_for_spot: NotForSpot {
            termination_protection: data.disable_api_termination() == Some(true),
            stop_protection: data.disable_api_stop() == Some(true),
            stops_at_shutdown: data.instance_initiated_shutdown_behavior()
                == Some(&ec2::ShutdownBehavior::Stop),
        },
        not_as_spot: (data.hibernation_options().and_then(|h| h.configured()) == Some(true))
            .then_some("it configures hibernation, which a one-time Spot instance does not have"),
        given: given(data),
    }
}

fn placement(placement: &ec2::LaunchTemplatePlacement) -> TemplatePlacement {
    TemplatePlacement {
        tenancy: placement.tenancy().cloned(),
        partition_number: placement.partition_number(),
        names_zone: filled(placement.availability_zone()).is_some(),
        names_zone_id: filled(placement.availability_zone_id()).is_some(),
        group_name: filled(placement.group_name()),
        group_id: filled(placement.group_id()),
        spread_domain: filled(placement.spread_domain()),
    }
}

fn given(data: &ec2::ResponseLaunchTemplateData) -> Given {
    let of_instances =
        data.tag_specifications().iter().filter(|s| s.resource_type() == Some(&ec2::ResourceType::Instance));
    let interfaces = data.network_interfaces();
    Given {
        instance_type: data.instance_type().and_then(|kind| kind.as_str().parse().ok()),
        is_dedicated: data.placement().and_then(|p| p.tenancy()) == Some(&ec2::Tenancy::Dedicated),
        devices: data
            .block_device_mappings()
            .iter()
            .filter_map(|m| m.device_name().map(str::to_owned))
            .collect(),
        interfaces: interfaces.iter().map(|nic| nic.device_index().unwrap_or(0)).collect(),
        ipv6_addresses: interfaces
            .iter()
            .filter_map(|nic| usize::try_from(nic.ipv6_address_count()?).ok())
            .max()
            .unwrap_or(0),
        tag_keys: of_instances
            .flat_map(|s| s.tags())
            .filter_map(|tag| tag.key().map(str::to_owned))
            .collect(),
    }
}

fn obstacle(data: &ec2::ResponseLaunchTemplateData) -> Option<&'static str> {
    if data.instance_market_options().is_some() {
        return Some("it sets InstanceMarketOptions itself");
    }
    if data.instance_requirements().is_some() {
        return Some("it selects types by InstanceRequirements, which RunInstances does not take");
    }
    if !data.secondary_interfaces().is_empty() {
        return Some("it has secondary interfaces, whose subnets are not carried over");
    }
    if !data.security_groups().is_empty() {
        return Some(
            "it names its security groups by name, which EC2 refuses beside a subnet; use SecurityGroupIds",
        );
    }
    if data.placement().is_some_and(is_on_host) {
        return Some("its tenancy is a dedicated host");
    }
    let reservation = data.capacity_reservation_specification();
    let only = reservation.and_then(|r| r.capacity_reservation_preference()).map(|p| p.as_str());
    if only == Some("capacity-reservations-only")
        || reservation.is_some_and(|r| r.capacity_reservation_target().is_some())
    {
        return Some("it launches into a capacity reservation only");
    }
    data.network_interfaces().iter().find_map(interface_obstacle)
}

/// Returns true if the tenancy is `host`. A host, a group of hosts or an affinity to one means that tenancy,
/// also without saying so.
fn is_on_host(placement: &ec2::LaunchTemplatePlacement) -> bool {
    placement.tenancy() == Some(&ec2::Tenancy::Host)
        || filled(placement.host_id()).is_some()
        || filled(placement.host_resource_group_arn()).is_some()
        || placement.affinity() == Some("host")
}

/// Returns the part of an interface that can't be repeated for another instance, or is not carried over here.
fn interface_obstacle(nic: &TemplateInterface) -> Option<&'static str> {
    if nic.network_interface_id().is_some() {
        return Some("it names an existing network interface, which only one instance can have");
    }
    if nic.private_ip_address().is_some()
        || !nic.private_ip_addresses().is_empty()
        || !nic.ipv6_addresses().is_empty()
    {
        return Some("it sets the addresses of its network interface, which only one instance can have");
    }
    let prefixes = !nic.ipv4_prefixes().is_empty() || !nic.ipv6_prefixes().is_empty();
    let counts =
        nic.secondary_private_ip_address_count().or(nic.ipv4_prefix_count()).or(nic.ipv6_prefix_count());
    if prefixes || counts.is_some() {
        return Some(
            "its network interfaces set secondary addresses or prefixes, which are not carried over",
        );
    }
    if nic.ena_srd_specification().is_some() || nic.connection_tracking_specification().is_some() {
        return Some(
            "its network interfaces set ENA Express or connection tracking, which are not carried over",
        );
    }
    None
}

type TemplateInterface = ec2::LaunchTemplateInstanceNetworkInterfaceSpecification;

impl From<&TemplateInterface> for NetworkInterface {
    fn from(nic: &TemplateInterface) -> Self {
        Self {
            device_index: nic.device_index(),
            network_card_index: nic.network_card_index(),
            description: nic.description().map(str::to_owned),
            groups: nic.groups().to_vec(),
            associate_public_ip_address: nic.associate_public_ip_address(),
            associate_carrier_ip_address: nic.associate_carrier_ip_address(),
            delete_on_termination: nic.delete_on_termination(),
            interface_type: nic.interface_type().map(str::to_owned),
            ipv6_address_count: nic.ipv6_address_count(),
            primary_ipv6: nic.primary_ipv6(),
            ena_queue_count: nic.ena_queue_count(),
        }
    }
}

impl NetworkInterface {
    /// Returns the same interface in `subnet_id`, for a launch.
    #[must_use]
    pub fn in_subnet(&self, subnet_id: &str) -> ec2::InstanceNetworkInterfaceSpecification {
        ec2::InstanceNetworkInterfaceSpecification::builder()
            .set_device_index(self.device_index)
            .set_network_card_index(self.network_card_index)
            .set_description(self.description.clone())
            .set_groups((!self.groups.is_empty()).then(|| self.groups.clone()))
            .set_associate_public_ip_address(self.associate_public_ip_address)
            .set_associate_carrier_ip_address(self.associate_carrier_ip_address)
            .set_delete_on_termination(self.delete_on_termination)
            .set_interface_type(self.interface_type.clone())
            .set_ipv6_address_count(self.ipv6_address_count)
            .set_primary_ipv6(self.primary_ipv6)
            .set_ena_queue_count(self.ena_queue_count)
            .subnet_id(subnet_id)
            .build()
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    type Data = ec2::builders::ResponseLaunchTemplateDataBuilder;

    fn data() -> Data {
        ec2::ResponseLaunchTemplateData::builder().image_id("ami-1")
    }

    #[test]
    fn a_template_that_is_no_spot_template_is_refused_by_name() {
        let requirements = ec2::InstanceRequirements::builder().build();
        let secondary = ec2::LaunchTemplateInstanceSecondaryInterfaceSpecification::builder().build();
        let market = ec2::LaunchTemplateInstanceMarketOptions::builder().build();
        let placed =
            |placement: ec2::builders::LaunchTemplatePlacementBuilder| data().placement(placement.build());
        let placement = ec2::LaunchTemplatePlacement::builder;
        let cases: Vec<(Data, &str)> = vec![
            (data().instance_market_options(market), "InstanceMarketOptions"),
            (data().instance_requirements(requirements), "InstanceRequirements"),
            (data().secondary_interfaces(secondary), "secondary interfaces"),
            (data().security_groups("web"), "SecurityGroupIds"),
            (placed(placement().tenancy(ec2::Tenancy::Host)), "dedicated host"),
            (placed(placement().host_id("h-1")), "dedicated host"),
            (placed(placement().host_resource_group_arn("arn:x")), "dedicated host"),
            (placed(placement().affinity("host")), "dedicated host"),
        ];
        for (data, expected) in cases {
            assert!(obstacle(&data.build()).is_some_and(|why| why.contains(expected)), "{expected}");
        }
        assert_eq!(obstacle(&placed(placement().tenancy(ec2::Tenancy::Dedicated)).build()), None);
    }

    #[test]
    fn hibernation_stands_against_spot_alone() {
        let configured = |on| ec2::LaunchTemplateHibernationOptions::builder().configured(on).build();
        let of = |on| data().hibernation_options(configured(on)).build();
        assert_eq!((obstacle(&of(true)), obstacle(&of(false))), (None, None));
        assert!(parse("lt-1", 3, &of(true)).not_as_spot.unwrap().contains("hibernation"));
        assert_eq!(parse("lt-1", 3, &of(false)).not_as_spot, None);
    }

    #[test]
    fn what_the_template_gives_is_known() {
        let device = ec2::LaunchTemplateBlockDeviceMapping::builder().device_name("/dev/sdb").build();
        let tags = ec2::LaunchTemplateTagSpecification::builder()
            .resource_type(ec2::ResourceType::Instance)
            .tags(ec2::Tag::builder().key("team").value("web").build())
            .build();
        let of_volumes = ec2::LaunchTemplateTagSpecification::builder()
            .resource_type(ec2::ResourceType::Volume)
            .tags(ec2::Tag::builder().key("backup").value("yes").build())
            .build();
        let data =
            data().block_device_mappings(device).tag_specifications(tags).tag_specifications(of_volumes);
        let given = given(&data.instance_type(ec2::InstanceType::T3Small).build());
        assert_eq!(given.instance_type.unwrap().as_str(), "t3.small");
        assert!(!given.is_dedicated);
        assert_eq!(given.devices.into_iter().collect::<Vec<_>>(), ["/dev/sdb"]);
        assert_eq!(given.tag_keys.into_iter().collect::<Vec<_>>(), ["team"]);
        assert!(given.interfaces.is_empty());
    }

    #[test]
    fn a_dedicated_tenancy_is_known_since_its_price_is_not() {
        let of = |tenancy| ec2::LaunchTemplatePlacement::builder().tenancy(tenancy).build();
        assert!(given(&data().placement(of(ec2::Tenancy::Dedicated)).build()).is_dedicated);
        assert!(!given(&data().placement(of(ec2::Tenancy::Default)).build()).is_dedicated);
    }

    #[test]
    fn what_spot_does_not_have_is_overruled() {
        let data = data()
            .disable_api_termination(true)
            .disable_api_stop(true)
            .instance_initiated_shutdown_behavior(ec2::ShutdownBehavior::Stop);
        let overruled = parse("lt-1", 3, &data.build()).not_for_spot;
        assert!(overruled.termination_protection && overruled.stop_protection && overruled.stops_at_shutdown);
        assert_eq!(overruled.protections(), ["DisableApiTermination", "DisableApiStop"]);
        assert!(parse("lt-1", 3, &self::data().build()).not_for_spot.protections().is_empty());
    }
}
