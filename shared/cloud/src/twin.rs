//! A twin: what another instance is, said again in a launch request. Also what a twin could not have,
//! so that such an instance is left alone.
//!
//! The instance is read at the time of the launch, and nothing of it but its id travels through the
//! state machine: user data may hold secrets, and an execution's history is no place for those.

use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types as ec2;
use serde::{Deserialize, Serialize};
use spot_domain::ids::InstanceId;
use spot_domain::lab::Original;

use crate::described_instance;
use crate::error::{CallError, Kind, failed};
use crate::fields::filled;

const DESCRIBE: &str = "ec2:DescribeInstances";
const ATTRIBUTE: &str = "ec2:DescribeInstanceAttribute";
const TYPES: &str = "ec2:DescribeInstanceTypes";

/// Whose twin is launched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twin {
    /// The instance.
    pub of: InstanceId,
    /// The image that was captured of it; `None`, its own AMI.
    pub image_id: Option<String>,
}

/// What a twin is made from.
#[derive(Debug, Clone)]
pub struct Source {
    instance: ec2::Instance,
    /// Base64, as RunInstances takes it.
    user_data: Option<String>,
    /// `standard` or `unlimited`, for a burstable type: the account's default may cost more than Spot saves.
    credits: Option<String>,
}

/// An instance as a swap has to know it, with where it stands in its network.
#[derive(Debug, Clone)]
pub struct Examined {
    /// For the rules.
    pub original: Original,
    /// Its VPC.
    pub vpc_id: Option<String>,
    /// Its private IPv4 address.
    pub private_address: Option<String>,
}

/// Looks at an instance before its swap; `None` if EC2 does not know it. Which target groups it is in
/// is not looked at here.
///
/// # Errors
/// A call fails.
pub async fn examine(client: &aws_sdk_ec2::Client, id: &InstanceId) -> Result<Option<Examined>, CallError> {
    let Some(instance) = instance(client, id).await? else { return Ok(None) };
    let known = described_instance::parse(&instance)?;
    let is_on = |attribute| async move {
        match attribute_of(client, id, attribute).await {
            Err(error) if error.kind == Kind::NotFound => Ok(None),
            answer => answer.map(Some),
        }
    };
    let termination = is_on(ec2::InstanceAttributeName::DisableApiTermination).await?;
    let stop = is_on(ec2::InstanceAttributeName::DisableApiStop).await?;
    let original = Original {
        termination_protected: termination.and_then(|a| a.disable_api_termination?.value()).unwrap_or(false),
        stop_protected: stop.and_then(|a| a.disable_api_stop?.value()).unwrap_or(false),
        root_is_instance_store: instance.root_device_type() == Some(&ec2::DeviceType::InstanceStore),
        has_instance_store: has_instance_store(client, &instance).await?,
        irreproducible: irreproducible(&instance),
        unhealthy_in: None,
        instance: known,
    };
    Ok(Some(Examined { original, vpc_id: instance.vpc_id, private_address: instance.private_ip_address }))
}

/// Reads what the twin is made from.
///
/// # Errors
/// A call fails, or the instance is gone.
pub async fn describe(client: &aws_sdk_ec2::Client, id: &InstanceId) -> Result<Source, CallError> {
    let instance = instance(client, id)
        .await?
        .ok_or_else(|| CallError::malformed(DESCRIBE, format!("instance {id} is gone")))?;
    let user_data = attribute_of(client, id, ec2::InstanceAttributeName::UserData).await?;
    let user_data = user_data.user_data.and_then(|data| data.value).filter(|data| !data.is_empty());
    Ok(Source { credits: credits(client, id, &instance).await?, instance, user_data })
}

/// The types whose CPU credits are a matter of choice: t2, t3, t4g and their like.
fn is_burstable(kind: &ec2::InstanceType) -> bool {
    matches!(kind.as_str().as_bytes(), [b't', b'0'..=b'9', ..])
}

async fn credits(
    client: &aws_sdk_ec2::Client,
    id: &InstanceId,
    instance: &ec2::Instance,
) -> Result<Option<String>, CallError> {
    if !instance.instance_type().is_some_and(is_burstable) {
        return Ok(None);
    }
    let answer = client
        .describe_instance_credit_specifications()
        .instance_ids(id.as_str())
        .send()
        .await
        .map_err(failed("ec2:DescribeInstanceCreditSpecifications"))?;
    let said = answer.instance_credit_specifications().first();
    Ok(said.and_then(|said| said.cpu_credits().map(str::to_owned)))
}

async fn instance(client: &aws_sdk_ec2::Client, id: &InstanceId) -> Result<Option<ec2::Instance>, CallError> {
    let filter = ec2::Filter::builder().name("instance-id").values(id.as_str()).build();
    let answer = client.describe_instances().filters(filter).send().await.map_err(failed(DESCRIBE))?;
    let reservation = answer.reservations.and_then(|found| found.into_iter().next());
    Ok(reservation.and_then(|found| found.instances?.into_iter().next()))
}

async fn attribute_of(
    client: &aws_sdk_ec2::Client,
    id: &InstanceId,
    attribute: ec2::InstanceAttributeName,
) -> Result<aws_sdk_ec2::operation::describe_instance_attribute::DescribeInstanceAttributeOutput, CallError> {
    let request = client.describe_instance_attribute().instance_id(id.as_str()).attribute(attribute);
    request.send().await.map_err(failed(ATTRIBUTE))
}

/// Instances do not say which instance-store volumes they have; their types do.
async fn has_instance_store(
    client: &aws_sdk_ec2::Client,
    instance: &ec2::Instance,
) -> Result<bool, CallError> {
    let Some(kind) = instance.instance_type() else { return Ok(true) };
    let answer =
        client.describe_instance_types().instance_types(kind.clone()).send().await.map_err(failed(TYPES))?;
    let described = answer.instance_types().first();
    described
        .and_then(|kind| kind.instance_storage_supported())
        .ok_or_else(|| CallError::malformed(TYPES, format!("{kind} is not described")))
}

/// What the instance has and a twin could not have.
fn irreproducible(instance: &ec2::Instance) -> Option<String> {
    let why = |text: &str| Some(text.to_owned());
    let [interface] = instance.network_interfaces() else {
        let count = instance.network_interfaces().len();
        return Some(format!("it has {count} network interfaces: a twin has one"));
    };
    if interface.private_ip_addresses().len() > 1
        || !interface.ipv4_prefixes().is_empty()
        || !interface.ipv6_prefixes().is_empty()
    {
        return why("it has more than one private address, or address prefixes");
    }
    if interface.interface_type().is_some_and(|kind| kind != "interface") {
        return why("its network interface is of a special kind");
    }
    if instance.source_dest_check() == Some(false) {
        return why("its source/destination check is off: routes point at its network interface");
    }
    if instance.hibernation_options().and_then(|h| h.configured()) == Some(true) {
        return why("hibernation is configured");
    }
    if instance.enclave_options().and_then(|e| e.enabled()) == Some(true) {
        return why("Nitro Enclaves are enabled");
    }
    if instance.outpost_arn().is_some_and(|arn| !arn.is_empty()) {
        return why("it runs on an Outpost");
    }
    let lifecycle = instance.instance_lifecycle().filter(|l| **l != ec2::InstanceLifecycleType::Spot)?;
    Some(format!("its lifecycle is {}", lifecycle.as_str()))
}

/// Says the instance again in a launch request, in `subnet_id`. Its block devices are those of the
/// image.
#[must_use]
pub fn apply(
    request: RunInstancesFluentBuilder,
    source: &Source,
    twin: &Twin,
    subnet_id: &str,
) -> RunInstancesFluentBuilder {
    let old = &source.instance;
    let detailed = old
        .monitoring()
        .and_then(|m| m.state())
        .is_some_and(|state| matches!(state, ec2::MonitoringState::Enabled | ec2::MonitoringState::Pending));
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
        .set_credit_specification(
            source.credits.clone().map(|c| ec2::CreditSpecificationRequest::builder().cpu_credits(c).build()),
        )
        .network_interfaces(interface(old, subnet_id))
}

/// One interface, said in full: whether it gets a public address must not depend on what the subnet's
/// default is by now. An instance with an Elastic IP gets a public address until that moves, or it
/// could not reach what it needs to start.
fn interface(old: &ec2::Instance, subnet_id: &str) -> ec2::InstanceNetworkInterfaceSpecification {
    let groups: Vec<String> =
        old.security_groups().iter().filter_map(|g| g.group_id().map(str::to_owned)).collect();
    let has_ipv6 = old.network_interfaces().first().is_some_and(|nic| !nic.ipv6_addresses().is_empty());
    ec2::InstanceNetworkInterfaceSpecification::builder()
        .device_index(0)
        .delete_on_termination(true)
        .associate_public_ip_address(old.public_ip_address().is_some_and(|address| !address.is_empty()))
        .set_ipv6_address_count(has_ipv6.then_some(1))
        .set_groups((!groups.is_empty()).then_some(groups))
        .subnet_id(subnet_id)
        .build()
}

fn placement(old: &ec2::Instance) -> Option<ec2::Placement> {
    let placement = old.placement()?;
    let tenancy = placement.tenancy().filter(|t| **t == ec2::Tenancy::Dedicated).cloned();
    let group = placement.group_name().filter(|name| !name.is_empty()).map(str::to_owned);
    (tenancy.is_some() || group.is_some())
        .then(|| ec2::Placement::builder().set_tenancy(tenancy).set_group_name(group).build())
}

fn metadata_options(options: &ec2::InstanceMetadataOptionsResponse) -> ec2::InstanceMetadataOptionsRequest {
    ec2::InstanceMetadataOptionsRequest::builder()
        .set_http_tokens(options.http_tokens().cloned())
        .set_http_endpoint(options.http_endpoint().cloned())
        .set_http_put_response_hop_limit(options.http_put_response_hop_limit())
        .set_http_protocol_ipv6(options.http_protocol_ipv6().cloned())
        .set_instance_metadata_tags(options.instance_metadata_tags().cloned())
        .build()
}
