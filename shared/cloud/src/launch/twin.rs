//! Twins: launch requests that repeat another instance. An instance that a twin could not repeat is left
//! alone.
//!
//! The instance is read by the last look before the launch, and only its id travels through the state machine. User
//! data may hold secrets, and an execution's history is no place for those.

use std::fmt;

use aws_sdk_ec2::operation::describe_instance_attribute::DescribeInstanceAttributeOutput as Attribute;
use aws_sdk_ec2::types as ec2;
use spot_domain::ids::InstanceId;
use spot_domain::swap::lab::Original;

use crate::ec2::described_instance;
use crate::error::{CallError, Kind, failed};

mod launch;
mod traits;
mod volumes;

pub use launch::apply;

const DESCRIBE: &str = "ec2:DescribeInstances";
const ATTRIBUTE: &str = "ec2:DescribeInstanceAttribute";
const TYPES: &str = "ec2:DescribeInstanceTypes";

/// The instance whose twin is launched.
#[derive(Debug, Clone)]
pub struct Twin {
    /// The instance, as the last look before the launch has found it.
    pub source: Box<TwinSource>,
    /// The image that was captured of the instance; `None` for the instance's own AMI.
    pub image_id: Option<String>,
}

/// The instance that a twin is made from, with everything that the launch repeats.
#[derive(Clone)]
pub struct TwinSource {
    instance: ec2::Instance,
    /// The user data in Base64, as RunInstances takes it.
    user_data: Option<String>,
    /// The CPU credits of a burstable type, `standard` or `unlimited`: the account's default may cost more
    /// than Spot saves.
    credits: Option<String>,
    /// The effect of a shutdown from within: `stop` or `terminate`.
    at_shutdown: Option<String>,
    /// The instance's EBS volumes.
    volumes: Vec<ec2::Volume>,
    /// The instance's type.
    kind: Option<ec2::InstanceTypeInfo>,
}

/// Its user data may hold secrets.
impl fmt::Debug for TwinSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TwinSource").field("instance", &self.instance.instance_id()).finish_non_exhaustive()
    }
}

/// Observes an instance before its swap; `None` if EC2 does not know it. Target groups are not read here.
///
/// # Errors
/// A call fails.
pub async fn examine(client: &aws_sdk_ec2::Client, id: &InstanceId) -> Result<Option<Original>, CallError> {
    let Some(source) = describe(client, id).await? else { return Ok(None) };
    observe(client, id, &source).await.map(Some)
}

/// Observes a described instance as [`examine`] does. Its protections are read now.
///
/// # Errors
/// A call fails.
pub async fn observe(
    client: &aws_sdk_ec2::Client,
    id: &InstanceId,
    source: &TwinSource,
) -> Result<Original, CallError> {
    let termination = attribute_of(client, id, ec2::InstanceAttributeName::DisableApiTermination).await?;
    let stop = attribute_of(client, id, ec2::InstanceAttributeName::DisableApiStop).await?;
    let instance = &source.instance;
    let known = described_instance::parse(instance)?;
    Ok(Original {
        termination_protected: termination.and_then(|a| a.disable_api_termination?.value()).unwrap_or(false),
        stop_protected: stop.and_then(|a| a.disable_api_stop?.value()).unwrap_or(false),
        root_is_instance_store: instance.root_device_type() == Some(&ec2::DeviceType::InstanceStore),
        has_instance_store: has_instance_store(source)?,
        irreproducible: traits::irreproducible(source),
        unhealthy_in: None,
        traits: traits::of(source),
        volumes: volumes::of(source, &known),
        has_user_data: source.user_data.is_some(),
        left_behind: traits::left_behind(instance),
        instance: known,
    })
}

/// Reads the instance that a twin is made from; `None` if EC2 does not know it.
///
/// # Errors
/// A call fails.
pub async fn describe(
    client: &aws_sdk_ec2::Client,
    id: &InstanceId,
) -> Result<Option<TwinSource>, CallError> {
    let Some(instance) = instance(client, id).await? else { return Ok(None) };
    let user_data = attribute_of(client, id, ec2::InstanceAttributeName::UserData).await?;
    let at_shutdown =
        attribute_of(client, id, ec2::InstanceAttributeName::InstanceInitiatedShutdownBehavior).await?;
    Ok(Some(TwinSource {
        user_data: user_data.and_then(|a| a.user_data?.value).filter(|data| !data.is_empty()),
        at_shutdown: at_shutdown.and_then(|a| a.instance_initiated_shutdown_behavior?.value),
        credits: credits(client, id, &instance).await?,
        volumes: described_volumes(client, &instance).await?,
        kind: kind(client, &instance).await?,
        instance,
    }))
}

async fn described_volumes(
    client: &aws_sdk_ec2::Client,
    instance: &ec2::Instance,
) -> Result<Vec<ec2::Volume>, CallError> {
    let mappings = instance.block_device_mappings().iter();
    let ids: Vec<String> = mappings.filter_map(|m| m.ebs()?.volume_id().map(str::to_owned)).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    // The request uses a filter, not ids: a volume that its owner has just deleted must not fail the call.
    let filter = ec2::Filter::builder().name("volume-id").set_values(Some(ids)).build();
    let pages = client.describe_volumes().filters(filter).into_paginator().items().send();
    pages.collect::<Result<Vec<_>, _>>().await.map_err(failed("ec2:DescribeVolumes"))
}

/// Returns true for types whose CPU credits are a matter of choice: t2, t3, t4g and their like.
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

/// Returns an attribute; `None` if the instance is gone by now.
async fn attribute_of(
    client: &aws_sdk_ec2::Client,
    id: &InstanceId,
    attribute: ec2::InstanceAttributeName,
) -> Result<Option<Attribute>, CallError> {
    let request = client.describe_instance_attribute().instance_id(id.as_str()).attribute(attribute);
    match request.send().await.map_err(failed(ATTRIBUTE)) {
        Err(error) if error.kind == Kind::NotFound => Ok(None),
        answer => answer.map(Some),
    }
}

/// Returns the instance's type. Only the type holds the default number of cores and the instance-store
/// volumes.
async fn kind(
    client: &aws_sdk_ec2::Client,
    instance: &ec2::Instance,
) -> Result<Option<ec2::InstanceTypeInfo>, CallError> {
    let Some(kind) = instance.instance_type() else { return Ok(None) };
    let answer =
        client.describe_instance_types().instance_types(kind.clone()).send().await.map_err(failed(TYPES))?;
    Ok(answer.instance_types.and_then(|kinds| kinds.into_iter().next()))
}

fn has_instance_store(source: &TwinSource) -> Result<bool, CallError> {
    let Some(name) = source.instance.instance_type() else { return Ok(true) };
    let kind = source.kind.as_ref();
    kind.and_then(ec2::InstanceTypeInfo::instance_storage_supported)
        .ok_or_else(|| CallError::malformed(TYPES, format!("{name} is not described")))
}
