//! Addresses, volumes and snapshots as EC2 describes them, reduced to the fields that the rules read.

use jiff::Timestamp;
use rust_decimal::Decimal;

use crate::tags::Tags;

/// The `VolumeId` of every copied snapshot: it names no volume.
const COPIED: &str = "vol-ffffffff";

/// An Elastic IP address as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `eipalloc-…`.
    pub id: String,
    /// The address itself.
    pub public_ip: String,
    /// The address is associated with an instance or a network interface.
    pub is_associated: bool,
    /// An AWS service manages the address.
    pub is_service_managed: bool,
    /// The address is from a range that the owner brought along.
    pub is_own_range: bool,
    /// The place where the address is announced: the region, or one of its Local or Wavelength Zones.
    pub border_group: Option<String>,
    /// The resource's tags.
    pub tags: Tags,
}

/// A volume as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// `vol-…`.
    pub id: String,
    /// The state is `available`: the volume is attached to nothing.
    pub is_available: bool,
    /// `gp3`, `io2`, …
    pub volume_type: String,
    /// Provisioned size.
    pub size_gib: u32,
    /// Provisioned IOPS, if the type has them.
    pub iops: Option<u32>,
    /// Provisioned throughput, if the type has it.
    pub throughput_mibps: Option<u32>,
    /// The time of creation. The volume may have been detached much later.
    pub created: Option<Timestamp>,
    /// The volume's zone.
    pub availability_zone: String,
    /// An AWS service manages the volume.
    pub is_service_managed: bool,
    /// The volume is on the customer's own Outpost, which has prices of its own.
    pub is_on_outpost: bool,
    /// The resource's tags.
    pub tags: Tags,
}

/// The storage tier of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Incremental to the snapshots before it.
    Standard,
    /// A full copy of its own.
    Archive,
    /// A tier that this code does not know.
    Unknown,
}

/// The relation of a snapshot to an image in the Recycle Bin.
///
/// EC2 does not name the snapshots of such an image. CreateImage and CopyImage name the image in the
/// description of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinnedImage {
    /// The description names no such image.
    None,
    /// The description names such an image.
    Named,
    /// The description names an image that is no longer registered, and the Recycle Bin could not be read.
    Unknown,
}

/// The lock of a snapshot. A locked snapshot can't be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// The snapshot is not locked, or its lock has expired.
    None,
    /// The snapshot is locked, in whatever mode.
    Locked,
    /// The locks could not be listed.
    Unknown,
}

/// The sharing of a snapshot with other accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// EC2 was not asked. EC2 is asked only for what would be waste.
    NotAsked,
    /// No other account may make a volume of the snapshot.
    Private,
    /// Another account, or everybody, may make a volume of the snapshot.
    Shared,
    /// EC2 did not say it.
    Unknown,
}

/// Returns the ids of the images that a text names, such as `Created by CreateImage(i-0abc…) for
/// ami-0123456789abcdef0`.
pub fn images_named(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("ami-").filter_map(|(at, stem)| {
        let rest = text.get(at..)?;
        let digits = rest.get(stem.len()..)?.bytes().take_while(u8::is_ascii_hexdigit).count();
        (digits >= 8).then(|| rest.get(..stem.len() + digits)).flatten()
    })
}

/// A snapshot as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// `snap-…`.
    pub id: String,
    /// The state is `completed`, and the snapshot is this account's own.
    pub is_own_and_completed: bool,
    /// An image refers to the snapshot; disabled and deprecated images count.
    pub is_used_by_image: bool,
    /// A launch template or a launch configuration names the snapshot: each launch makes a volume of it.
    pub is_used_by_launch: bool,
    /// The volume that the snapshot was taken of.
    pub volume_id: Option<String>,
    /// The size of that volume.
    pub volume_gib: u32,
    /// The size of all blocks together, if AWS reports it: tighter than the volume's size.
    pub full_bytes: Option<u64>,
    /// The storage tier of the snapshot.
    pub tier: Tier,
    /// The time until which an archived snapshot is restored, if it is so for a time. Until then, AWS bills
    /// both tiers.
    pub restored_until: Option<Timestamp>,
    /// The zone that keeps the snapshot; `None` for the region, which is the usual case.
    pub availability_zone: Option<String>,
    /// The snapshot is on the customer's own Outpost, which has prices of its own.
    pub is_on_outpost: bool,
    /// The image in the Recycle Bin that can't be restored without the snapshot, as far as the description
    /// names one.
    pub binned_image: BinnedImage,
    /// The lock of the snapshot.
    pub lock: Lock,
    /// The sharing of the snapshot.
    pub sharing: Sharing,
    /// The time when the snapshot was taken.
    pub started: Option<Timestamp>,
    /// The resource's tags.
    pub tags: Tags,
}

impl Snapshot {
    /// Returns the most GiB that the snapshot can be billed for; `None` if AWS names no size.
    #[must_use]
    pub fn size_gib(&self) -> Option<Decimal> {
        match self.full_bytes {
            Some(bytes) if bytes > 0 => Decimal::from(bytes).checked_div(Decimal::from(1_u64 << 30)),
            _ if self.volume_gib > 0 => Some(Decimal::from(self.volume_gib)),
            _ => None,
        }
    }

    /// Returns the volume whose snapshots share blocks with this one.
    ///
    /// A copy's volume means nothing, and an archived snapshot shares nothing, also while it is restored for a
    /// time. Each of those is a lineage of its own.
    #[must_use]
    pub fn lineage(&self) -> &str {
        match &self.volume_id {
            Some(volume) if volume != COPIED && self.is_incremental() => volume,
            _ => &self.id,
        }
    }

    /// Returns true unless the snapshot is in the archive, also if it is restored for a time.
    fn is_incremental(&self) -> bool {
        self.tier == Tier::Standard && self.restored_until.is_none()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const NOW: i64 = 1_800_000_000;

    pub(crate) fn volume() -> Volume {
        Volume {
            id: "vol-1".to_owned(),
            is_available: true,
            volume_type: "gp3".to_owned(),
            size_gib: 100,
            iops: Some(3_000),
            throughput_mibps: Some(125),
            created: Some(Timestamp::from_second(NOW - 100 * 86_400).unwrap()),
            availability_zone: "us-east-1a".to_owned(),
            is_service_managed: false,
            is_on_outpost: false,
            tags: Tags::new(),
        }
    }

    pub(crate) fn snapshot() -> Snapshot {
        Snapshot {
            id: "snap-1".to_owned(),
            is_own_and_completed: true,
            is_used_by_image: false,
            is_used_by_launch: false,
            volume_id: Some("vol-1".to_owned()),
            volume_gib: 100,
            full_bytes: None,
            tier: Tier::Standard,
            restored_until: None,
            availability_zone: None,
            is_on_outpost: false,
            binned_image: BinnedImage::None,
            lock: Lock::None,
            sharing: Sharing::NotAsked,
            started: Some(Timestamp::from_second(NOW - 100 * 86_400).unwrap()),
            tags: Tags::new(),
        }
    }

    pub(crate) fn address() -> Address {
        Address {
            id: "eipalloc-1".to_owned(),
            public_ip: "198.51.100.1".to_owned(),
            is_associated: false,
            is_service_managed: false,
            is_own_range: false,
            border_group: Some("us-east-1".to_owned()),
            tags: Tags::new(),
        }
    }

    #[test]
    fn copies_and_archives_are_lineages_of_their_own() {
        assert_eq!(snapshot().lineage(), "vol-1");
        assert_eq!(Snapshot { volume_id: Some(COPIED.to_owned()), ..snapshot() }.lineage(), "snap-1");
        assert_eq!(Snapshot { tier: Tier::Archive, ..snapshot() }.lineage(), "snap-1");
        assert_eq!(Snapshot { volume_id: None, ..snapshot() }.lineage(), "snap-1");
        let restored_until = Some(Timestamp::from_second(NOW).unwrap());
        assert_eq!(Snapshot { restored_until, ..snapshot() }.lineage(), "snap-1");
    }

    #[test]
    fn the_images_of_a_description_are_found() {
        let found = |text| images_named(text).collect::<Vec<_>>();
        let made = "Created by CreateImage(i-0123456789abcdef0) for ami-0123456789abcdef0";
        assert_eq!(found(made), ["ami-0123456789abcdef0"]);
        let copied =
            "Copied for DestinationAmi ami-0a0b0c0d from SourceAmi ami-00000001 for SourceSnapshot snap-1.";
        assert_eq!(found(copied), ["ami-0a0b0c0d", "ami-00000001"]);
        for none in ["", "nightly", "ami-", "ami-xyz", "for ami-12", "größe ami-é"] {
            assert!(found(none).is_empty(), "{none}");
        }
    }
}
