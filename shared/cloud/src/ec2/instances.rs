//! EC2 instances: the calls that describe, check, start, stop and terminate them.

use std::collections::BTreeMap;

use aws_sdk_ec2::operation::describe_instance_attribute::DescribeInstanceAttributeOutput;
use aws_sdk_ec2::types as ec2;
use spot_domain::ids::{AzId, InstanceId};
use spot_domain::swap::group::{Instance, InstanceState};
use spot_domain::swap::journal::SwapId;
use spot_domain::tags::{MANAGED_BY, SWAP_TAG};

use crate::ec2::described_instance::{DESCRIBE, parse};
use crate::error::{CallError, Kind, failed};

/// The most ids in one call: EC2 takes at most 200 values of filters (`FilterLimitExceeded`).
const IDS_PER_CALL: usize = 200;
/// How the status codes begin of the Spot requests whose instance EC2 reclaims.
const TAKEN_BACK: [&str; 3] = ["marked-for-", "instance-terminated-", "instance-stopped-"];

/// Describes instances by id. Instances that EC2 does not know are absent from the answer.
///
/// The request uses a filter, so that one unknown id does not fail the others.
///
/// # Errors
/// The call fails.
pub async fn describe(
    client: &aws_sdk_ec2::Client,
    ids: &[InstanceId],
) -> Result<BTreeMap<InstanceId, Instance>, CallError> {
    let mut instances = BTreeMap::new();
    for ids in ids.chunks(IDS_PER_CALL) {
        let filter = filter("instance-id", ids.iter().map(ToString::to_string));
        instances.extend(described(client, [filter]).await?.into_iter().map(|i| (i.id.clone(), i)));
    }
    Ok(instances)
}

/// Returns the running instances that bear the tag, whatever its value.
///
/// # Errors
/// The call fails.
pub async fn running_with_tag(client: &aws_sdk_ec2::Client, key: &str) -> Result<Vec<Instance>, CallError> {
    let filters = [("tag-key", key), ("instance-state-name", "running")];
    described(client, filters.map(|(name, value)| filter(name, [value.to_owned()]))).await
}

/// The instances that are related to a swap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Launched {
    /// The launches of the swap, dead or alive: by the swap's ClientToken for their market.
    pub by_swap: Vec<Instance>,
    /// Instances that bear the swap's tag, and that the swap did not launch. Such instances belong to their
    /// owners alone.
    pub only_tagged: Vec<InstanceId>,
}

/// Returns the instances that the swap launched.
///
/// The search by ClientToken finds them even if the tag was removed. The search by tag finds instances that
/// only claim to be the swap's.
///
/// # Errors
/// A call fails.
pub async fn launched_by(client: &aws_sdk_ec2::Client, swap: &SwapId) -> Result<Launched, CallError> {
    let by_token = launches_of(client, swap).await?;
    let by_tag = described(client, [filter(&format!("tag:{SWAP_TAG}"), [swap.to_string()])]).await?;
    let found: BTreeMap<InstanceId, Instance> =
        by_token.into_iter().chain(by_tag).map(|instance| (instance.id.clone(), instance)).collect();
    let (by_swap, others): (Vec<_>, Vec<_>) =
        found.into_values().partition(|instance| instance.was_launched_by(swap));
    let only_tagged: Vec<_> = others
        .into_iter()
        .filter(|instance| instance.tags.get(SWAP_TAG).is_some_and(|id| id == swap.as_str()))
        .map(|instance| instance.id)
        .collect();
    if !only_tagged.is_empty() {
        tracing::warn!(swap_id = %swap, ?only_tagged, "bear the tag of the swap, and were not launched by it");
    }
    Ok(Launched { by_swap, only_tagged })
}

/// Returns all instances that launches of the swap made, dead or alive: their ClientTokens prove it.
///
/// # Errors
/// The call fails.
pub async fn launches_of(client: &aws_sdk_ec2::Client, swap: &SwapId) -> Result<Vec<Instance>, CallError> {
    // Values of filters take wildcards: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html>
    let mut launched = described(client, [filter("client-token", [format!("{swap}-*")])]).await?;
    launched.retain(|instance| instance.was_launched_by(swap));
    Ok(launched)
}

fn filter(name: &str, values: impl IntoIterator<Item = String>) -> ec2::Filter {
    ec2::Filter::builder().name(name).set_values(Some(values.into_iter().collect())).build()
}

async fn described(
    client: &aws_sdk_ec2::Client,
    filters: impl IntoIterator<Item = ec2::Filter>,
) -> Result<Vec<Instance>, CallError> {
    let filters = filters.into_iter().collect();
    let mut pages = client.describe_instances().set_filters(Some(filters)).into_paginator().send();
    let mut instances = Vec::new();
    while let Some(page) = pages.next().await {
        for reservation in page.map_err(failed(DESCRIBE))?.reservations.unwrap_or_default() {
            for instance in reservation.instances.unwrap_or_default() {
                instances.push(parse(&instance)?);
            }
        }
    }
    Ok(instances)
}

/// Returns true if EC2 says that the instance runs.
///
/// # Errors
/// The call fails.
pub async fn is_running(client: &aws_sdk_ec2::Client, id: &InstanceId) -> Result<bool, CallError> {
    let described = describe(client, std::slice::from_ref(id)).await?;
    Ok(described.get(id).is_some_and(|instance| instance.state == InstanceState::Running))
}

/// Returns true if both status checks (system and instance) are `ok`. EC2 lists an instance only once it
/// runs: an empty answer means *not yet*.
///
/// # Errors
/// The call fails.
pub async fn passes_status_checks(client: &aws_sdk_ec2::Client, id: &InstanceId) -> Result<bool, CallError> {
    let answer = client
        .describe_instance_status()
        .instance_ids(id.as_str())
        .send()
        .await
        .map_err(failed("ec2:DescribeInstanceStatus"));
    let answer = match answer {
        Err(error) if error.kind == Kind::NotFound => return Ok(false),
        answer => answer?,
    };
    let ok = |summary: Option<&ec2::InstanceStatusSummary>| {
        summary.and_then(|s| s.status()) == Some(&ec2::SummaryStatus::Ok)
    };
    Ok(answer.instance_statuses().first().is_some_and(|s| ok(s.system_status()) && ok(s.instance_status())))
}

/// Returns those of these instances that EC2 is reclaiming, with the status code of their Spot request.
///
/// The function asks EC2, since the interruption notice may arrive late, or come from an account whose
/// notices poison nothing. Status codes:
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-request-status.html>
///
/// # Errors
/// The call fails.
pub async fn taken_back(
    client: &aws_sdk_ec2::Client,
    ids: &[InstanceId],
) -> Result<BTreeMap<InstanceId, String>, CallError> {
    let is_taken = |code: &String| TAKEN_BACK.iter().any(|begins| code.starts_with(begins));
    spot_requests(client, ids, |request| request.status?.code.filter(is_taken)).await
}

/// Returns the persistent Spot requests of these instances, by instance. Once such an instance is terminated, EC2
/// launches another one for its request.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-requests.html>
///
/// # Errors
/// The call fails.
pub async fn persistent_requests(
    client: &aws_sdk_ec2::Client,
    ids: &[InstanceId],
) -> Result<BTreeMap<InstanceId, String>, CallError> {
    let is_persistent =
        |request: &ec2::SpotInstanceRequest| request.r#type == Some(ec2::SpotInstanceType::Persistent);
    spot_requests(client, ids, |request| {
        is_persistent(&request).then_some(request.spot_instance_request_id).flatten()
    })
    .await
}

/// Reads the Spot requests of these instances, by instance.
async fn spot_requests(
    client: &aws_sdk_ec2::Client,
    ids: &[InstanceId],
    read: impl Fn(ec2::SpotInstanceRequest) -> Option<String>,
) -> Result<BTreeMap<InstanceId, String>, CallError> {
    let mut found = BTreeMap::new();
    for ids in ids.chunks(IDS_PER_CALL) {
        let of_instances = filter("instance-id", ids.iter().map(ToString::to_string));
        let mut pages =
            client.describe_spot_instance_requests().filters(of_instances).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed("ec2:DescribeSpotInstanceRequests"))?;
            found.extend(page.spot_instance_requests.unwrap_or_default().into_iter().filter_map(|request| {
                let id = request.instance_id.as_deref()?.parse().ok()?;
                Some((id, read(request)?))
            }));
        }
    }
    Ok(found)
}

/// Returns true if `DisableApiTermination` is on: such an instance could be detached but never terminated.
///
/// # Errors
/// The call fails.
pub async fn is_termination_protected(
    client: &aws_sdk_ec2::Client,
    id: &InstanceId,
) -> Result<bool, CallError> {
    let answer = attribute(client, id, ec2::InstanceAttributeName::DisableApiTermination).await?;
    Ok(answer.disable_api_termination().and_then(|v| v.value()).unwrap_or(false))
}

/// Returns true if `DisableApiStop` is on. Stop protection keeps an instance from being terminated by the
/// API, too. <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-stop-protection.html>
///
/// # Errors
/// The call fails.
pub async fn is_stop_protected(client: &aws_sdk_ec2::Client, id: &InstanceId) -> Result<bool, CallError> {
    let answer = attribute(client, id, ec2::InstanceAttributeName::DisableApiStop).await?;
    Ok(answer.disable_api_stop().and_then(|v| v.value()).unwrap_or(false))
}

async fn attribute(
    client: &aws_sdk_ec2::Client,
    id: &InstanceId,
    attribute: ec2::InstanceAttributeName,
) -> Result<DescribeInstanceAttributeOutput, CallError> {
    let request = client.describe_instance_attribute().instance_id(id.as_str()).attribute(attribute);
    request.send().await.map_err(failed("ec2:DescribeInstanceAttribute"))
}

/// Restores our mark on an instance that a swap launched: the attach writes the group's own tag of that key
/// over it.
///
/// # Errors
/// The call fails.
pub async fn mark_as_ours(client: &aws_sdk_ec2::Client, id: &InstanceId) -> Result<(), CallError> {
    let tag = ec2::Tag::builder().key(MANAGED_BY.0).value(MANAGED_BY.1).build();
    let answer = client.create_tags().resources(id.as_str()).tags(tag).send().await;
    answer.map(drop).map_err(failed("ec2:CreateTags"))
}

/// Terminates one instance. An instance that is gone already counts as terminated.
///
/// # Errors
/// The call fails, or the instance is protected.
pub async fn terminate(client: &aws_sdk_ec2::Client, id: &InstanceId) -> Result<(), CallError> {
    let answer = client
        .terminate_instances()
        .instance_ids(id.as_str())
        .send()
        .await
        .map_err(failed("ec2:TerminateInstances"));
    match answer {
        Err(error) if error.kind == Kind::NotFound => Ok(()),
        answer => answer.map(drop),
    }
}

/// Stops one instance. An instance that is stopped already counts as stopped.
///
/// # Errors
/// The call fails, or the instance is protected.
pub async fn stop(client: &aws_sdk_ec2::Client, id: &InstanceId) -> Result<(), CallError> {
    let answer = client.stop_instances().instance_ids(id.as_str()).send().await;
    answer.map(drop).map_err(failed("ec2:StopInstances"))
}

/// Starts one instance. While the instance is still stopping, EC2 refuses. The refusal is no error here: the
/// next observation shows the instance's state.
///
/// # Errors
/// The call fails; there may be no capacity for the instance.
pub async fn start(client: &aws_sdk_ec2::Client, id: &InstanceId) -> Result<(), CallError> {
    let answer = client.start_instances().instance_ids(id.as_str()).send().await;
    match answer.map_err(failed("ec2:StartInstances")) {
        Err(error) if error.code == "IncorrectInstanceState" => Ok(()),
        answer => answer.map(drop),
    }
}

/// Returns zone ids by zone name in this account, for EC2 answers that lack the id.
///
/// # Errors
/// The call fails.
pub async fn zones(client: &aws_sdk_ec2::Client) -> Result<BTreeMap<String, AzId>, CallError> {
    let answer =
        client.describe_availability_zones().send().await.map_err(failed("ec2:DescribeAvailabilityZones"))?;
    let pair =
        |zone: &ec2::AvailabilityZone| Some((zone.zone_name()?.to_owned(), zone.zone_id()?.parse().ok()?));
    Ok(answer.availability_zones().iter().filter_map(pair).collect())
}
