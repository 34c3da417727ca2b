//! The pool that an instance was launched into. EC2 describes an instance for about an hour after its end,
//! and its Spot request for four:
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotInstanceRequests.html>

use spot_domain::ids::{AzId, InstanceId, InstanceType};
use spot_domain::{Pool, Region};

use crate::ec2::instances;
use crate::error::{CallError, failed};

const REQUESTS: &str = "ec2:DescribeSpotInstanceRequests";

/// EC2's answer about an instance's pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The instance is Spot, in this pool.
    Pool(Pool),
    /// The instance is not Spot.
    NotSpot,
    /// The instance is Spot, in a zone whose id is not known.
    ZoneUnknown(String),
    /// EC2 describes neither the instance nor its Spot request.
    Gone,
}

/// Looks up the pool of an instance. The function asks for the instance first, and for its Spot request if
/// EC2 has forgotten the instance.
///
/// # Errors
/// A call fails, or an answer can't be read.
pub async fn of_instance(
    client: &aws_sdk_ec2::Client,
    region: &Region,
    id: &InstanceId,
) -> Result<Lookup, CallError> {
    let described = instances::describe(client, std::slice::from_ref(id)).await?;
    let launched = match described.get(id) {
        Some(instance) if !instance.is_spot => return Ok(Lookup::NotSpot),
        Some(instance) => TypeAndZone {
            instance_type: instance.instance_type.clone(),
            zone: instance.availability_zone.clone(),
            az_id: instance.az_id.clone(),
        },
        None => match spot_request(client, id).await? {
            Some(launched) => launched,
            None => return Ok(Lookup::Gone),
        },
    };
    let TypeAndZone { instance_type, zone, az_id } = launched;
    let az_id = match az_id {
        Some(az_id) => Some(az_id),
        None => instances::zones(client).await?.remove(&zone),
    };
    let pool = |az_id| Lookup::Pool(Pool { region: region.clone(), az_id, instance_type });
    Ok(az_id.map_or(Lookup::ZoneUnknown(zone), pool))
}

/// Type and zone of an instance.
struct TypeAndZone {
    instance_type: InstanceType,
    zone: String,
    az_id: Option<AzId>,
}

/// Returns the Spot request's view of the instance that it launched; `None` if there is no such request.
async fn spot_request(
    client: &aws_sdk_ec2::Client,
    id: &InstanceId,
) -> Result<Option<TypeAndZone>, CallError> {
    let filter = aws_sdk_ec2::types::Filter::builder().name("instance-id").values(id.as_str()).build();
    let answer =
        client.describe_spot_instance_requests().filters(filter).send().await.map_err(failed(REQUESTS))?;
    let Some(request) = answer.spot_instance_requests().first() else { return Ok(None) };
    let malformed =
        |what: &str| CallError::malformed(REQUESTS, format!("the request of {id} names no {what}"));
    let instance_type = request
        .launch_specification()
        .and_then(|launched| launched.instance_type()?.as_str().parse().ok())
        .ok_or_else(|| malformed("instance type"))?;
    let az_id = request.launched_availability_zone_id().and_then(|az_id| az_id.parse().ok());
    let zone = request.launched_availability_zone().unwrap_or_default().to_owned();
    if zone.is_empty() && az_id.is_none() {
        return Err(malformed("zone"));
    }
    Ok(Some(TypeAndZone { instance_type, zone, az_id }))
}
