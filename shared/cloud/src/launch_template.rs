//! Launch templates: which version a group means, and what of it a launch has to say again.

use aws_sdk_ec2::types as ec2;
use serde::{Deserialize, Serialize};

use crate::error::{CallError, failed};

const DESCRIBE: &str = "ec2:DescribeLaunchTemplateVersions";

/// A template as it was when the run began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedTemplate {
    /// `lt-…`
    pub id: String,
    /// The number that `$Latest` or `$Default` stood for.
    pub version: String,
    /// Its network interfaces. Where it has some, the subnet must be given inside them: EC2 refuses
    /// a subnet beside them.
    pub network_interfaces: Vec<NetworkInterface>,
}

/// A network interface of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// Why a template can't be launched as Spot, in words, or the template.
pub type Resolution = Result<ResolvedTemplate, String>;

/// Resolves one version of a template.
///
/// # Errors
/// The call fails, or the version does not exist.
pub async fn resolve(client: &aws_sdk_ec2::Client, id: &str, version: &str) -> Result<Resolution, CallError> {
    let answer = client
        .describe_launch_template_versions()
        .launch_template_id(id)
        .versions(version)
        .send()
        .await
        .map_err(failed(DESCRIBE))?;
    let found = answer.launch_template_versions().first().ok_or_else(|| {
        CallError::malformed(DESCRIBE, format!("launch template {id} has no version {version}"))
    })?;
    let number = found
        .version_number()
        .ok_or_else(|| CallError::malformed(DESCRIBE, format!("launch template {id}: no version number")))?;
    let data = found.launch_template_data();
    if let Some(obstacle) = data.and_then(obstacle) {
        return Ok(Err(format!("launch template {id}, version {number}: {obstacle}")));
    }
    let network_interfaces =
        data.map(|d| d.network_interfaces().iter().map(NetworkInterface::from).collect());
    Ok(Ok(ResolvedTemplate {
        id: id.to_owned(),
        version: number.to_string(),
        network_interfaces: network_interfaces.unwrap_or_default(),
    }))
}

fn obstacle(data: &ec2::ResponseLaunchTemplateData) -> Option<&'static str> {
    if data.instance_market_options().is_some() {
        return Some("it sets InstanceMarketOptions itself");
    }
    if data.placement().and_then(|p| p.tenancy()) == Some(&ec2::Tenancy::Host) {
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

/// What of an interface can't be said again for another instance, or is not carried over here.
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
        }
    }
}

impl NetworkInterface {
    /// The same interface in `subnet_id`, for a launch.
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
            .subnet_id(subnet_id)
            .build()
    }
}
