//! Images of a swap: made of the old instance's EBS volumes, found again by the swap's tag (as are
//! their snapshots), and taken away; and what volumes its newcomer leaves.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types as ec2;
use spot_domain::ids::InstanceId;
use spot_domain::journal::SwapId;
use spot_domain::lab_recovery::LeftVolume;
use spot_domain::tags::{MANAGED_BY, SWAP_TAG};

use crate::error::{CallError, Kind, failed};

/// How far an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Its snapshots are being taken.
    Pending,
    /// Instances can be launched from it.
    Available,
    /// It will never be; in EC2's words.
    Failed(String),
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: String,
    /// How far it is.
    pub progress: Progress,
}

/// Asks for an image of the instance's EBS volumes, without a reboot: it holds what a power cut would
/// leave. The image and its snapshots bear the swap's tag from their first moment. The name is the
/// swap's, so that a second call is refused instead of making a second image.
///
/// # Errors
/// The call fails.
pub async fn capture(
    client: &aws_sdk_ec2::Client,
    id: &InstanceId,
    swap_id: &str,
) -> Result<String, CallError> {
    let call = "ec2:CreateImage";
    let tags = |kind| {
        let tag = |(key, value): (&str, &str)| ec2::Tag::builder().key(key).value(value).build();
        let tags = vec![tag(MANAGED_BY), tag((SWAP_TAG, swap_id))];
        ec2::TagSpecification::builder().resource_type(kind).set_tags(Some(tags)).build()
    };
    let answer = client
        .create_image()
        .instance_id(id.as_str())
        .name(format!("spot-optimizer-{swap_id}"))
        .description(format!("Disks of {id} for its swap; deleted at the end of it"))
        .no_reboot(true)
        .tag_specifications(tags(ec2::ResourceType::Image))
        .tag_specifications(tags(ec2::ResourceType::Snapshot))
        .send()
        .await
        .map_err(failed(call))?;
    answer
        .image_id()
        .map(str::to_owned)
        .ok_or_else(|| CallError::malformed(call, "the answer names no image"))
}

fn by_swap(swap_id: &str) -> ec2::Filter {
    ec2::Filter::builder().name(format!("tag:{SWAP_TAG}")).values(swap_id).build()
}

/// The images of a swap, in whatever state.
///
/// # Errors
/// The call fails.
pub async fn captured_by(client: &aws_sdk_ec2::Client, swap_id: &str) -> Result<Vec<Image>, CallError> {
    let mut pages =
        client.describe_images().owners("self").filters(by_swap(swap_id)).into_paginator().items().send();
    let mut images = Vec::new();
    while let Some(image) = pages.next().await {
        let image = image.map_err(failed("ec2:DescribeImages"))?;
        let Some(id) = image.image_id() else { continue };
        let progress = match image.state() {
            Some(ec2::ImageState::Available) => Progress::Available,
            Some(ec2::ImageState::Pending) | None => Progress::Pending,
            Some(state) => {
                let why = image.state_reason().and_then(|r| r.message()).unwrap_or("no reason given");
                Progress::Failed(format!("{}: {why}", state.as_str()))
            }
        };
        images.push(Image { id: id.to_owned(), progress });
    }
    Ok(images)
}

/// The snapshots of a swap's image.
///
/// # Errors
/// The call fails.
pub async fn snapshots_of(client: &aws_sdk_ec2::Client, swap_id: &str) -> Result<Vec<String>, CallError> {
    let mut pages = client
        .describe_snapshots()
        .owner_ids("self")
        .filters(by_swap(swap_id))
        .into_paginator()
        .items()
        .send();
    let mut ids = Vec::new();
    while let Some(snapshot) = pages.next().await {
        let snapshot = snapshot.map_err(failed("ec2:DescribeSnapshots"))?;
        ids.extend(snapshot.snapshot_id().map(str::to_owned));
    }
    Ok(ids)
}

/// Returns the volumes that came into being with a swap's newcomer and outlive it: free, or still attached to it.
/// They bear the swap's tag, and none is older than its run. An older one with that tag is somebody else's.
///
/// # Errors
/// The call fails.
pub async fn volumes_left_by(
    client: &aws_sdk_ec2::Client,
    swap_id: &SwapId,
    newcomer: Option<&InstanceId>,
) -> Result<Vec<LeftVolume>, CallError> {
    let Some(began) = swap_id.run_started() else { return Ok(Vec::new()) };
    let pages = client.describe_volumes().filters(by_swap(swap_id.as_str())).into_paginator().items().send();
    let found: Vec<_> = pages.collect::<Result<_, _>>().await.map_err(failed("ec2:DescribeVolumes"))?;
    let left = found.iter().filter(|v| v.create_time().is_some_and(|at| at.secs() >= began.as_second()));
    Ok(left.filter_map(|volume| left_volume(volume, newcomer)).collect())
}

fn left_volume(volume: &ec2::Volume, newcomer: Option<&InstanceId>) -> Option<LeftVolume> {
    let id = volume.volume_id()?.to_owned();
    match volume.attachments() {
        [] => (volume.state() == Some(&ec2::VolumeState::Available))
            .then_some(LeftVolume { id, is_attached: false }),
        [one] => {
            let is_its = one.instance_id() == newcomer.map(InstanceId::as_str) && one.instance_id().is_some();
            let goes_with_it = one.delete_on_termination() == Some(true);
            (is_its && !goes_with_it).then_some(LeftVolume { id, is_attached: true })
        }
        _ => None,
    }
}

/// Deletes a volume. One that is gone already is as good as deleted.
///
/// # Errors
/// The call fails.
pub async fn delete_volume(client: &aws_sdk_ec2::Client, id: &str) -> Result<(), CallError> {
    let answer = client.delete_volume().volume_id(id).send().await;
    match answer.map_err(failed("ec2:DeleteVolume")) {
        Err(error) if error.kind == Kind::NotFound => Ok(()),
        answer => answer.map(drop),
    }
}

/// Deregisters an image. One that is gone already is as good as deregistered.
///
/// # Errors
/// The call fails.
pub async fn deregister(client: &aws_sdk_ec2::Client, id: &str) -> Result<(), CallError> {
    let answer = client.deregister_image().image_id(id).send().await;
    match answer.map_err(failed("ec2:DeregisterImage")) {
        Err(error) if error.kind == Kind::NotFound || error.code == "InvalidAMIID.Unavailable" => Ok(()),
        answer => answer.map(drop),
    }
}

/// Deletes a snapshot. One that is gone already is as good as deleted.
///
/// # Errors
/// The call fails.
pub async fn delete_snapshot(client: &aws_sdk_ec2::Client, id: &str) -> Result<(), CallError> {
    let answer = client.delete_snapshot().snapshot_id(id).send().await;
    match answer.map_err(failed("ec2:DeleteSnapshot")) {
        Err(error) if error.kind == Kind::NotFound => Ok(()),
        answer => answer.map(drop),
    }
}

/// The device names in the block device mappings of images, by image id. An image that is gone or hidden by now
/// is absent.
///
/// # Errors
/// The call fails.
pub async fn devices(
    client: &aws_sdk_ec2::Client,
    ids: BTreeSet<String>,
) -> Result<BTreeMap<String, BTreeSet<String>>, CallError> {
    let filter = ec2::Filter::builder().name("image-id").set_values(Some(ids.into_iter().collect())).build();
    let call = "ec2:DescribeImages";
    let mut images =
        client.describe_images().include_deprecated(true).filters(filter).into_paginator().items().send();
    let mut found = BTreeMap::new();
    while let Some(image) = images.next().await {
        let image = image.map_err(failed(call))?;
        let names =
            image.block_device_mappings().iter().filter_map(|m| m.device_name().map(str::to_owned)).collect();
        found.extend(image.image_id.map(|id| (id, names)));
    }
    Ok(found)
}
