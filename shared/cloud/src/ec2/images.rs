//! The image of a swap (made of the old instance's EBS volumes), its snapshots, and the volumes that a
//! newcomer leaves. A resource that bears the swap's tag need not be the swap's: any caller can write a tag,
//! and backup policies copy it.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types as ec2;
use jiff::Timestamp;
use spot_domain::ids::InstanceId;
use spot_domain::swap::journal::SwapId;
use spot_domain::swap::lab::TaggedSnapshot;
use spot_domain::swap::recovery::lab::LeftVolume;
use spot_domain::tags::{MANAGED_BY, SWAP_TAG};

use crate::error::{CallError, Kind, failed};

/// The progress of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageProgress {
    /// EC2 is taking the image's snapshots.
    Pending,
    /// Instances can be launched from the image.
    Available,
    /// The image will never be available; the reason in EC2's words.
    Failed(String),
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The image's id.
    pub id: String,
    /// The image's progress.
    pub progress: ImageProgress,
    /// The snapshots in its block device mappings.
    pub snapshots: BTreeSet<String>,
}

/// Creates an image of the instance's EBS volumes, without a reboot: the image holds what a power cut would
/// leave.
///
/// The image and its snapshots bear the swap's tag from their first moment. The name is the swap's, so that
/// EC2 refuses a second call instead of making a second image.
///
/// # Errors
/// The call fails.
pub async fn capture(
    client: &aws_sdk_ec2::Client,
    id: &InstanceId,
    swap: &SwapId,
) -> Result<String, CallError> {
    let call = "ec2:CreateImage";
    let tags = |kind| {
        let tag = |(key, value): (&str, &str)| ec2::Tag::builder().key(key).value(value).build();
        let tags = vec![tag(MANAGED_BY), tag((SWAP_TAG, swap.as_str()))];
        ec2::TagSpecification::builder().resource_type(kind).set_tags(Some(tags)).build()
    };
    let answer = client
        .create_image()
        .instance_id(id.as_str())
        .name(swap.image_name())
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

fn by_tag(swap: &SwapId) -> ec2::Filter {
    ec2::Filter::builder().name(format!("tag:{SWAP_TAG}")).values(swap.as_str()).build()
}

/// Returns the image that the swap made of the old instance, in any state.
///
/// Two things identify the image: its name, which EC2 takes once and never changes, and its source instance,
/// which only CreateImage sets. <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Image.html>
///
/// # Errors
/// The call fails.
pub async fn captured_by(
    client: &aws_sdk_ec2::Client,
    swap: &SwapId,
    old: &InstanceId,
) -> Result<Option<Image>, CallError> {
    let by_name = ec2::Filter::builder().name("name").values(swap.image_name()).build();
    let found = images(client, by_name).await?;
    let is_ours = |image: &ec2::Image| {
        image.name() == Some(swap.image_name().as_str()) && image.source_instance_id() == Some(old.as_str())
    };
    Ok(found.iter().filter(|image| is_ours(image)).find_map(parse))
}

/// Returns the images that bear the swap's tag, whichever party made them.
///
/// # Errors
/// The call fails.
pub async fn tagged_images(client: &aws_sdk_ec2::Client, swap: &SwapId) -> Result<Vec<String>, CallError> {
    Ok(images(client, by_tag(swap)).await?.into_iter().filter_map(|image| image.image_id).collect())
}

async fn images(client: &aws_sdk_ec2::Client, filter: ec2::Filter) -> Result<Vec<ec2::Image>, CallError> {
    let pages = client.describe_images().owners("self").filters(filter).into_paginator().items().send();
    pages.collect::<Result<_, _>>().await.map_err(failed("ec2:DescribeImages"))
}

fn parse(image: &ec2::Image) -> Option<Image> {
    let progress = match image.state() {
        Some(ec2::ImageState::Available) => ImageProgress::Available,
        Some(ec2::ImageState::Pending) | None => ImageProgress::Pending,
        Some(state) => {
            let why = image.state_reason().and_then(|r| r.message()).unwrap_or("no reason given");
            ImageProgress::Failed(format!("{}: {why}", state.as_str()))
        }
    };
    let mapped = image.block_device_mappings().iter().filter_map(|mapping| mapping.ebs()?.snapshot_id());
    Some(Image { id: image.image_id()?.to_owned(), progress, snapshots: mapped.map(str::to_owned).collect() })
}

/// Returns the snapshots that bear the swap's tag, whichever party made them.
///
/// # Errors
/// The call fails.
pub async fn tagged_snapshots(
    client: &aws_sdk_ec2::Client,
    swap: &SwapId,
) -> Result<Vec<TaggedSnapshot>, CallError> {
    let pages =
        client.describe_snapshots().owner_ids("self").filters(by_tag(swap)).into_paginator().items().send();
    let found: Vec<_> = pages.collect::<Result<_, _>>().await.map_err(failed("ec2:DescribeSnapshots"))?;
    let snapshot = |snapshot: ec2::Snapshot| {
        Some(TaggedSnapshot {
            id: snapshot.snapshot_id?,
            description: snapshot.description.unwrap_or_default(),
            started: snapshot.start_time.and_then(|at| Timestamp::from_second(at.secs()).ok()),
        })
    };
    Ok(found.into_iter().filter_map(snapshot).collect())
}

/// The volumes that bear the tag of a swap whose newcomer no longer runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volumes {
    /// Volumes of the newcomer's launch that outlive the newcomer: free, or still attached to it.
    pub left: Vec<LeftVolume>,
    /// Volumes without a proof that the newcomer was launched with them.
    pub only_tagged: Vec<String>,
}

/// Returns the volumes that a newcomer leaves.
///
/// `launched_with` are the volumes that the journal holds. A volume that is older than the swap's run counts
/// as another party's all the same.
///
/// # Errors
/// The call fails.
pub async fn volumes_left_by(
    client: &aws_sdk_ec2::Client,
    swap: &SwapId,
    newcomer: Option<&InstanceId>,
    launched_with: &BTreeSet<String>,
) -> Result<Volumes, CallError> {
    let pages = client.describe_volumes().filters(by_tag(swap)).into_paginator().items().send();
    let found: Vec<_> = pages.collect::<Result<_, _>>().await.map_err(failed("ec2:DescribeVolumes"))?;
    let began = swap.run_started().map_or(i64::MAX, |began| began.as_second());
    let mut volumes = Volumes::default();
    for volume in &found {
        let Some(id) = volume.volume_id() else { continue };
        let is_younger = volume.create_time().is_some_and(|at| at.secs() >= began);
        // The newcomer may still be shutting down, and the volume outlive it.
        let goes_with_it = volume.attachments().iter().any(|one| {
            one.instance_id() == newcomer.map(InstanceId::as_str)
                && one.delete_on_termination() != Some(false)
        });
        if is_younger && launched_with.contains(id) {
            volumes.left.extend(left_volume(volume, newcomer));
        } else if !goes_with_it {
            volumes.only_tagged.push(id.to_owned());
        }
    }
    Ok(volumes)
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

/// Deletes a volume. A volume that is gone already counts as deleted.
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

/// Deregisters an image. An image that is gone already counts as deregistered.
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

/// Deletes a snapshot. A snapshot that is gone already counts as deleted.
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

/// Returns the device names in the block device mappings of images, by image id. An image that is gone or
/// hidden by now is absent.
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
