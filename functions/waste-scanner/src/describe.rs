//! EC2's descriptions as the domain's values. `None` means: no id, so nothing that can be reported.

use aws_sdk_ec2::types as ec2;
use jiff::Timestamp;
use spot_domain::AccountId;
use spot_domain::storage::{Address, Snapshot, Tier, Volume};
use spot_domain::tags::Tags;

use crate::listings::UsedSnapshots;

/// The pool of the addresses that AWS lends; every other one is the customer's own.
const AMAZON_POOL: &str = "amazon";

/// An address. One of EC2-Classic has no allocation id and can't exist any more.
#[must_use]
pub fn address(found: ec2::Address) -> Option<Address> {
    Some(Address {
        id: found.allocation_id?,
        public_ip: found.public_ip.unwrap_or_default(),
        is_associated: [found.association_id, found.instance_id, found.network_interface_id]
            .into_iter()
            .flatten()
            .any(|id| !id.is_empty()),
        is_service_managed: found.service_managed.is_some(),
        is_own_range: found.customer_owned_ip.is_some_and(|ip| !ip.is_empty())
            || found.public_ipv4_pool.is_some_and(|pool| !pool.is_empty() && pool != AMAZON_POOL),
        border_group: found.network_border_group.filter(|group| !group.is_empty()),
        tags: tags(found.tags),
    })
}

/// A volume.
#[must_use]
pub fn volume(found: ec2::Volume) -> Option<Volume> {
    Some(Volume {
        is_available: found.state == Some(ec2::VolumeState::Available),
        volume_type: found.volume_type.map(|t| t.as_str().to_owned()).unwrap_or_default(),
        size_gib: unsigned(found.size).unwrap_or_default(),
        iops: unsigned(found.iops),
        throughput_mibps: unsigned(found.throughput),
        created: found.create_time.and_then(|time| timestamp(&time)),
        availability_zone: found.availability_zone.unwrap_or_default(),
        is_service_managed: found.operator.is_some_and(|o| o.managed == Some(true)),
        is_on_outpost: found.outpost_arn.is_some_and(|arn| !arn.is_empty()),
        tags: tags(found.tags),
        id: found.volume_id?,
    })
}

/// A snapshot.
#[must_use]
pub fn snapshot(found: ec2::Snapshot, owner: &AccountId, used: &UsedSnapshots) -> Option<Snapshot> {
    let id = found.snapshot_id?;
    Some(Snapshot {
        is_own_and_completed: found.state == Some(ec2::SnapshotState::Completed)
            && found.owner_id.as_deref() == Some(owner.as_str()),
        is_used_by_image: used.contains(id.as_str()),
        volume_id: found.volume_id.filter(|id| !id.is_empty()),
        volume_gib: unsigned(found.volume_size).unwrap_or_default(),
        full_bytes: found.full_snapshot_size_in_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        tier: match found.storage_tier {
            None | Some(ec2::StorageTier::Standard) => Tier::Standard,
            Some(ec2::StorageTier::Archive) => Tier::Archive,
            Some(_) => Tier::Unknown,
        },
        is_local: [found.outpost_arn, found.availability_zone].into_iter().flatten().any(|x| !x.is_empty()),
        started: found.start_time.and_then(|time| timestamp(&time)),
        tags: tags(found.tags),
        id,
    })
}

fn unsigned(number: Option<i32>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok())
}

fn timestamp(time: &aws_sdk_ec2::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::from_second(time.secs()).ok()
}

fn tags(tags: Option<Vec<ec2::Tag>>) -> Tags {
    let tags = tags.unwrap_or_default().into_iter();
    tags.filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default()))).collect()
}
