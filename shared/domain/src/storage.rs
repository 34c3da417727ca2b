//! Addresses, volumes and snapshots as EC2 describes them, reduced to what the rules look at.

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
    /// Associated with an instance or a network interface.
    pub is_associated: bool,
    /// Managed by an AWS service.
    pub is_service_managed: bool,
    /// From a range that the owner brought along.
    pub is_own_range: bool,
    /// Where it is announced: the region, or one of its Local or Wavelength Zones.
    pub border_group: Option<String>,
    /// Its tags.
    pub tags: Tags,
}

/// A volume as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// `vol-…`.
    pub id: String,
    /// State `available`: attached to nothing.
    pub is_available: bool,
    /// `gp3`, `io2`, …
    pub volume_type: String,
    /// Provisioned size.
    pub size_gib: u32,
    /// Provisioned IOPS, where the type has them.
    pub iops: Option<u32>,
    /// Provisioned throughput, where the type has it.
    pub throughput_mibps: Option<u32>,
    /// When it was created. It may have been detached much later.
    pub created: Option<Timestamp>,
    /// Its zone.
    pub availability_zone: String,
    /// Managed by an AWS service.
    pub is_service_managed: bool,
    /// On the customer's own Outpost, which has prices of its own.
    pub is_on_outpost: bool,
    /// Its tags.
    pub tags: Tags,
}

/// Where a snapshot is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Incremental to the snapshots before it.
    Standard,
    /// A full copy of its own.
    Archive,
    /// A tier that this code does not know.
    Unknown,
}

/// What an image in the Recycle Bin has to do with a snapshot. EC2 does not name the snapshots of such an image; the
/// description that CreateImage and CopyImage give a snapshot names its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinnedImage {
    /// The description names none.
    None,
    /// The description names one.
    Named,
    /// The description names an image that is no longer registered, and the Recycle Bin could not be read.
    Unknown,
}

/// Returns the ids of images that a text names, such as
/// `Created by CreateImage(i-0abc…) for ami-0123456789abcdef0`.
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
    /// State `completed`, and this account's own.
    pub is_own_and_completed: bool,
    /// An image, disabled and deprecated ones included, refers to it.
    pub is_used_by_image: bool,
    /// The volume it was taken of.
    pub volume_id: Option<String>,
    /// The size of that volume.
    pub volume_gib: u32,
    /// All its blocks together, where AWS says: tighter than the volume's size.
    pub full_bytes: Option<u64>,
    /// Where it is stored.
    pub tier: Tier,
    /// The zone that keeps it; `None` for the region, which is the usual case.
    pub availability_zone: Option<String>,
    /// On the customer's own Outpost, which has prices of its own.
    pub is_on_outpost: bool,
    /// The image of the Recycle Bin that can't be restored without it, as far as its description tells.
    pub binned_image: BinnedImage,
    /// When it was taken.
    pub started: Option<Timestamp>,
    /// Its tags.
    pub tags: Tags,
}

impl Snapshot {
    /// The most GiB that it can be billed for; `None` where AWS names no size.
    #[must_use]
    pub fn size_gib(&self) -> Option<Decimal> {
        match self.full_bytes {
            Some(bytes) if bytes > 0 => Decimal::from(bytes).checked_div(Decimal::from(1_u64 << 30)),
            _ if self.volume_gib > 0 => Some(Decimal::from(self.volume_gib)),
            _ => None,
        }
    }

    /// The volume whose snapshots share blocks with this one. A copy's volume means nothing, and an
    /// archived snapshot shares nothing: each is a lineage of its own.
    #[must_use]
    pub fn lineage(&self) -> &str {
        match &self.volume_id {
            Some(volume) if volume != COPIED && self.tier == Tier::Standard => volume,
            _ => &self.id,
        }
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
            volume_id: Some("vol-1".to_owned()),
            volume_gib: 100,
            full_bytes: None,
            tier: Tier::Standard,
            availability_zone: None,
            is_on_outpost: false,
            binned_image: BinnedImage::None,
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
