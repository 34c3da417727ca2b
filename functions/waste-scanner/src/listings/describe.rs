//! EC2's descriptions as the domain's values. A field that can't be read is an error: the resource must not
//! pass for one without the field.

use jiff::Timestamp;
use spot_domain::AccountId;
use spot_domain::waste::resources::{Address, Sharing, Snapshot, Tier, Volume};
use spot_listing::{Item, MalformedListing};

use super::images::Images;
use super::launches::Launches;
use super::locks::Locks;

/// The pool of the addresses that AWS lends. Every other pool is the customer's own.
const AMAZON_POOL: &str = "amazon";

/// Reads an address. An address of EC2-Classic has no allocation id and can't exist any more.
///
/// # Errors
/// The item lacks its id.
pub fn address(item: &Item) -> Result<Address, MalformedListing> {
    let associations = ["associationId", "instanceId", "networkInterfaceId"];
    Ok(Address {
        id: item.required("allocationId")?.to_owned(),
        public_ip: owned(item, "publicIp").unwrap_or_default(),
        is_associated: associations.iter().any(|path| item.text(path).is_some()),
        is_service_managed: item.has("serviceManaged"),
        is_own_range: item.text("customerOwnedIp").is_some()
            || item.text("publicIpv4Pool").is_some_and(|pool| pool != AMAZON_POOL),
        border_group: owned(item, "networkBorderGroup"),
        tags: item.tags().collect(),
    })
}

/// Reads a volume.
///
/// # Errors
/// The item lacks its id or size, or a figure can't be read.
pub fn volume(item: &Item) -> Result<Volume, MalformedListing> {
    Ok(Volume {
        id: item.required("volumeId")?.to_owned(),
        is_available: item.text("status") == Some("available"),
        volume_type: owned(item, "volumeType").unwrap_or_default(),
        size_gib: item.parse_required("size")?,
        iops: item.parse("iops")?,
        throughput_mibps: item.parse("throughput")?,
        created: item.parse::<Timestamp>("createTime")?,
        availability_zone: owned(item, "availabilityZone").unwrap_or_default(),
        is_service_managed: item.is("operator/managed")?,
        is_on_outpost: item.text("outpostArn").is_some(),
        tags: item.tags().collect(),
    })
}

/// Reads a snapshot.
///
/// # Errors
/// The item lacks its id or size, or a figure can't be read.
pub fn snapshot(
    item: &Item,
    owner: &AccountId,
    images: &Images,
    launches: &Launches,
    locks: &Locks,
) -> Result<Snapshot, MalformedListing> {
    let id = item.required("snapshotId")?;
    Ok(Snapshot {
        is_own_and_completed: item.text("status") == Some("completed")
            && item.text("ownerId") == Some(owner.as_str()),
        is_used_by_image: images.use_snapshot(id),
        is_used_by_launch: launches.use_snapshot(id),
        volume_id: owned(item, "volumeId"),
        volume_gib: item.parse_required("volumeSize")?,
        full_bytes: item.parse("fullSnapshotSizeInBytes")?,
        tier: match item.text("storageTier") {
            None | Some("standard") => Tier::Standard,
            Some("archive") => Tier::Archive,
            Some(_) => Tier::Unknown,
        },
        restored_until: item.parse::<Timestamp>("restoreExpiryTime")?,
        availability_zone: owned(item, "availabilityZone"),
        is_on_outpost: item.text("outpostArn").is_some(),
        binned_image: images.in_recycle_bin(item.text("description").unwrap_or_default()),
        lock: locks.of(id),
        sharing: Sharing::NotAsked,
        started: item.parse::<Timestamp>("startTime")?,
        tags: item.tags().collect(),
        id: id.to_owned(),
    })
}

fn owned(item: &Item, path: &str) -> Option<String> {
    item.text(path).map(str::to_owned)
}
