//! Elastic IPs: the instance that has one, and the move to another.

use aws_sdk_ec2::types as ec2;
use spot_domain::ids::InstanceId;
use spot_domain::swap::recovery::lab::AddressAt;

use crate::error::{CallError, Kind, failed};

const DESCRIBE: &str = "ec2:DescribeAddresses";

/// Returns the allocation ids of the Elastic IPs that an instance has.
///
/// # Errors
/// The call fails.
pub async fn of(client: &aws_sdk_ec2::Client, id: &InstanceId) -> Result<Vec<String>, CallError> {
    let filter = ec2::Filter::builder().name("instance-id").values(id.as_str()).build();
    let answer = client.describe_addresses().filters(filter).send().await.map_err(failed(DESCRIBE))?;
    Ok(answer.addresses().iter().filter_map(|a| a.allocation_id().map(str::to_owned)).collect())
}

/// Returns which of a swap's two instances has the address.
///
/// # Errors
/// The call fails.
pub async fn whereabouts(
    client: &aws_sdk_ec2::Client,
    allocation_id: &str,
    old: &InstanceId,
    newcomer: Option<&InstanceId>,
) -> Result<AddressAt, CallError> {
    let answer = client.describe_addresses().allocation_ids(allocation_id).send().await;
    let answer = match answer.map_err(failed(DESCRIBE)) {
        Err(error) if error.kind == Kind::NotFound => return Ok(AddressAt::Elsewhere), // released
        answer => answer?,
    };
    let Some(address) = answer.addresses().first() else { return Ok(AddressAt::Elsewhere) };
    Ok(match address.instance_id().filter(|id| !id.is_empty()) {
        Some(id) if id == old.as_str() => AddressAt::Old,
        Some(id) if newcomer.is_some_and(|newcomer| newcomer.as_str() == id) => AddressAt::Newcomer,
        None if address.association_id().is_none_or(str::is_empty) => AddressAt::Nobody,
        _ => AddressAt::Elsewhere,
    })
}

/// Associates the address with an instance, whichever instance has it now.
///
/// One call does so: at no time is the address without an instance. A repeated call changes nothing.
///
/// # Errors
/// The call fails.
pub async fn give(
    client: &aws_sdk_ec2::Client,
    allocation_id: &str,
    to: &InstanceId,
) -> Result<(), CallError> {
    client
        .associate_address()
        .allocation_id(allocation_id)
        .instance_id(to.as_str())
        .allow_reassociation(true)
        .send()
        .await
        .map(drop)
        .map_err(failed("ec2:AssociateAddress"))
}
