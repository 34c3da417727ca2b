//! The rules of waste: an address that nothing uses, a volume long unattached, an old snapshot that neither
//! an image nor a launch needs. Values in, verdicts out.
//!
//! A resource that an AWS service or the owner's opt-out tag claims is left alone, and counted. A resource
//! that can't be judged (no date) is never waste.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ids::Region;
use crate::money::Usd;
use crate::own_tags::like_opt_out;
use crate::settings::Settings;
use crate::tags::Tags;
use crate::waste::keepers::keeper;
pub use crate::waste::left_alone::LeftAlone;
use crate::waste::prices::{Price, PriceBook};
use crate::waste::resources::{Address, BinnedImage, Lock, Sharing, Snapshot, Volume};

/// The kinds of resource that are scanned, in EC2's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceType {
    /// An Elastic IP address.
    ElasticIp,
    /// An EBS volume.
    Volume,
    /// An EBS snapshot.
    Snapshot,
}

impl ResourceType {
    /// All types, in the order of a scan.
    pub const ALL: [Self; 3] = [Self::ElasticIp, Self::Volume, Self::Snapshot];

    /// Returns the name, as keys and reports spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ElasticIp => "elastic-ip",
            Self::Volume => "volume",
            Self::Snapshot => "snapshot",
        }
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The verdict of the rules on a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WasteVerdict {
    /// The resource costs, and serves nobody.
    Waste,
    /// The resource would be waste, but for this reason.
    LeftAlone(LeftAlone),
    /// The resource is in use, or too young to judge.
    Fine,
}

/// The rules for one account and region, at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Ages and the opt-out tag.
    pub settings: &'a Settings,
    /// The region of the scan.
    pub region: &'a Region,
    /// The region's prices.
    pub prices: &'a PriceBook,
    /// The time when the run began. Ages count up to this time, so that every page is judged alike.
    pub now: Timestamp,
}

impl Rules<'_> {
    /// Judges an address. An address is waste as soon as nothing uses it: EC2 does not report since when.
    #[must_use]
    pub fn address(&self, address: &Address) -> WasteVerdict {
        if address.is_associated {
            return WasteVerdict::Fine;
        }
        let own_range = address.is_own_range.then_some(LeftAlone::OwnAddressRange);
        unless(self.claim(address.is_service_managed, &address.tags).or(own_range))
    }

    /// Judges a volume. A volume is waste if it is `available` and was created more than the minimum age ago.
    #[must_use]
    pub fn volume(&self, volume: &Volume) -> WasteVerdict {
        if !volume.is_available || self.is_young(volume.created, self.settings.volume_min_age_days) {
            return WasteVerdict::Fine;
        }
        let undated = volume.created.is_none().then_some(LeftAlone::AgeUnknown);
        unless(self.claim(volume.is_service_managed, &volume.tags).or(undated))
    }

    /// Judges a snapshot. A snapshot is waste if it is our own, older than the minimum age, and used by no
    /// image. A snapshot that a launch makes volumes of is left alone, and so is one that is locked or shared.
    ///
    /// A snapshot is judged before EC2 is asked for its sharing. If it would be waste, it is judged again.
    #[must_use]
    pub fn snapshot(&self, snapshot: &Snapshot) -> WasteVerdict {
        if !snapshot.is_own_and_completed
            || snapshot.is_used_by_image
            || self.is_young(snapshot.started, self.settings.snapshot_min_age_days)
        {
            return WasteVerdict::Fine;
        }
        let binned = match snapshot.binned_image {
            BinnedImage::None => None,
            BinnedImage::Named => Some(LeftAlone::ImageInRecycleBin),
            BinnedImage::Unknown => Some(LeftAlone::RecycleBinUnknown),
        };
        let launched = snapshot.is_used_by_launch.then_some(LeftAlone::LaunchSource);
        let locked = (snapshot.lock == Lock::Locked).then_some(LeftAlone::Locked);
        let shared = (snapshot.sharing == Sharing::Shared).then_some(LeftAlone::Shared);
        let undated = snapshot.started.is_none().then_some(LeftAlone::AgeUnknown);
        unless(self.claim(false, &snapshot.tags).or(launched).or(binned).or(locked).or(undated).or(shared))
    }

    /// Returns the system or owner that claims a resource by its tags, or by AWS's flag that a service
    /// manages it.
    fn claim(&self, is_service_managed: bool, tags: &Tags) -> Option<LeftAlone> {
        let opted_out = self.settings.opts_out(tags) || like_opt_out(tags, self.settings).is_some();
        let claims = [
            (is_service_managed, LeftAlone::ServiceManaged),
            (opted_out, LeftAlone::OptedOut),
            (self.settings.storage_marks.iter().any(|mark| mark.is_on(tags)), LeftAlone::OwnerMarked),
        ];
        claims.into_iter().find(|(claimed, _)| *claimed).map(|(_, why)| why).or_else(|| keeper(tags))
    }

    /// Returns what the address costs a month: nothing, if it is of the owner's own range.
    #[must_use]
    pub fn address_price(&self, address: &Address) -> Option<Price> {
        let is_regional = address.border_group.as_deref().is_none_or(|group| group == self.region.as_str());
        let price = self.prices.idle_address().filter(|_| is_regional)?;
        Some(if address.is_own_range { Price { monthly: Usd::default(), ..price } } else { price })
    }

    /// Returns what the volume costs a month. No source knows the prices of Local Zones and Outposts.
    #[must_use]
    pub fn volume_price(&self, volume: &Volume) -> Option<Price> {
        let is_regional = self.is_regional(&volume.availability_zone) && !volume.is_on_outpost;
        self.prices.volume(volume).filter(|_| is_regional)
    }

    /// Returns what the snapshot's storage costs a month at most. No source knows the prices of Local Zones and
    /// Outposts.
    #[must_use]
    pub fn snapshot_price(&self, snapshot: &Snapshot) -> Option<Price> {
        let is_in_region = snapshot.availability_zone.as_deref().is_none_or(|zone| self.is_regional(zone));
        self.prices.snapshot(snapshot, self.now).filter(|_| is_in_region && !snapshot.is_on_outpost)
    }

    /// Returns true for a zone of the region itself: its name is the region's and one letter.
    fn is_regional(&self, zone: &str) -> bool {
        let letter = zone.strip_prefix(self.region.as_str());
        letter.is_some_and(|letter| letter.len() == 1 && letter.bytes().all(|b| b.is_ascii_lowercase()))
    }

    /// Returns true if the resource is at most `days` old. A date in the future counts as young.
    fn is_young(&self, born: Option<Timestamp>, days: u32) -> bool {
        let least = SignedDuration::from_hours(24 * i64::from(days));
        born.is_some_and(|born| self.now.duration_since(born) <= least)
    }
}

fn unless(claim: Option<LeftAlone>) -> WasteVerdict {
    claim.map_or(WasteVerdict::Waste, WasteVerdict::LeftAlone)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::owner_marks::OwnerMark;
    use crate::waste::resources::tests::{NOW, address, snapshot, volume};

    const DAY: i64 = 86_400;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn tagged(key: &str, value: &str) -> Tags {
        Tags::from([(key.to_owned(), value.to_owned())])
    }

    fn with_rules<T>(judge: impl FnOnce(Rules<'_>) -> T) -> T {
        let region = "us-east-1".parse().unwrap();
        let prices = PriceBook::shipped(&region);
        let settings = Settings::default();
        judge(Rules { settings: &settings, region: &region, prices: &prices, now: at(NOW) })
    }

    #[test]
    fn an_address_is_waste_once_nothing_uses_it() {
        with_rules(|rules| {
            assert_eq!(rules.address(&address()), WasteVerdict::Waste);
            assert_eq!(rules.address(&Address { is_associated: true, ..address() }), WasteVerdict::Fine);
            let managed = Address { is_service_managed: true, ..address() };
            assert_eq!(rules.address(&managed), WasteVerdict::LeftAlone(LeftAlone::ServiceManaged));
            let own = Address { is_own_range: true, ..address() };
            assert_eq!(rules.address(&own), WasteVerdict::LeftAlone(LeftAlone::OwnAddressRange));
            assert_eq!(rules.address_price(&own).unwrap().monthly, Usd::default());
            let kept = Address { tags: tagged("spot-optimizer:opt-out", "true"), ..address() };
            assert_eq!(rules.address(&kept), WasteVerdict::LeftAlone(LeftAlone::OptedOut));
            let not_kept = Address { tags: tagged("spot-optimizer:opt-out", "false"), ..address() };
            assert_eq!(rules.address(&not_kept), WasteVerdict::Waste);
            let not_kept = Address { tags: tagged("spot-optimizer:opt_out", "false"), ..address() };
            assert_eq!(rules.address(&not_kept), WasteVerdict::Waste);
        });
    }

    #[test]
    fn ages_at_the_boundary_are_not_yet_waste() {
        with_rules(|rules| {
            let volume_of = |age| Volume { created: Some(at(NOW - age)), ..volume() };
            assert_eq!(rules.volume(&volume_of(7 * DAY)), WasteVerdict::Fine);
            assert_eq!(rules.volume(&volume_of(7 * DAY + 1)), WasteVerdict::Waste);
            let snapshot_of = |age| Snapshot { started: Some(at(NOW - age)), ..snapshot() };
            assert_eq!(rules.snapshot(&snapshot_of(30 * DAY)), WasteVerdict::Fine);
            assert_eq!(rules.snapshot(&snapshot_of(30 * DAY + 1)), WasteVerdict::Waste);
        });
    }

    #[test]
    fn what_aws_or_its_owner_claims_is_left_alone() {
        with_rules(|rules| {
            for (key, why) in [
                ("aws:backup:source-resource", LeftAlone::AwsBackup),
                ("AWSElasticDisasterRecoveryManaged", LeftAlone::DisasterRecovery),
                ("CSIVolumeSnapshotName", LeftAlone::Kubernetes),
                ("velero.io/backup", LeftAlone::Velero),
                ("spot-optimizer:opt-out", LeftAlone::OptedOut),
                ("spot-optimizer:opt_out", LeftAlone::OptedOut),
                ("spot-optimiser:opt-out", LeftAlone::OptedOut),
            ] {
                let tags = tagged(key, "x");
                let verdicts = [
                    rules.snapshot(&Snapshot { tags: tags.clone(), ..snapshot() }),
                    rules.volume(&Volume { tags: tags.clone(), ..volume() }),
                    rules.address(&Address { tags, ..address() }),
                ];
                assert_eq!(verdicts, [WasteVerdict::LeftAlone(why); 3], "{key}");
            }
            let managed = Volume { is_service_managed: true, ..volume() };
            assert_eq!(rules.volume(&managed), WasteVerdict::LeftAlone(LeftAlone::ServiceManaged));
            let undated = Volume { created: None, ..volume() };
            assert_eq!(rules.volume(&undated), WasteVerdict::LeftAlone(LeftAlone::AgeUnknown));
        });
    }

    #[test]
    fn an_owners_own_mark_keeps_storage_and_a_near_miss_does_not() {
        let region = "us-east-1".parse().unwrap();
        let storage_marks =
            ["legal-hold", "backup/*", "tier=gold"].map(|mark| OwnerMark::parse(mark).unwrap());
        let settings = Settings { storage_marks: storage_marks.to_vec(), ..Settings::default() };
        let prices = PriceBook::default();
        let rules = Rules { settings: &settings, region: &region, prices: &prices, now: at(NOW) };
        let judge = |key, value| rules.volume(&Volume { tags: tagged(key, value), ..volume() });
        for (key, value) in [("legal-hold", "2031"), ("backup/plan", "a"), ("tier", "gold")] {
            assert_eq!(judge(key, value), WasteVerdict::LeftAlone(LeftAlone::OwnerMarked), "{key}");
        }
        for (key, value) in [("legal-hold", ""), ("Legal-Hold", "2031"), ("backup", "a"), ("tier", "silver")]
        {
            assert_eq!(judge(key, value), WasteVerdict::Waste, "{key}");
        }
    }

    #[test]
    fn a_snapshot_that_an_image_in_the_recycle_bin_needs_is_left_alone() {
        with_rules(|rules| {
            let judge = |binned_image| rules.snapshot(&Snapshot { binned_image, ..snapshot() });
            assert_eq!(judge(BinnedImage::None), WasteVerdict::Waste);
            assert_eq!(judge(BinnedImage::Named), WasteVerdict::LeftAlone(LeftAlone::ImageInRecycleBin));
            assert_eq!(judge(BinnedImage::Unknown), WasteVerdict::LeftAlone(LeftAlone::RecycleBinUnknown));
        });
    }

    #[test]
    fn a_snapshot_that_a_launch_makes_volumes_of_is_left_alone() {
        with_rules(|rules| {
            let launched = Snapshot { is_used_by_launch: true, ..snapshot() };
            assert_eq!(rules.snapshot(&launched), WasteVerdict::LeftAlone(LeftAlone::LaunchSource));
            let young = Snapshot { started: Some(at(NOW - 30 * DAY)), ..launched.clone() };
            assert_eq!(rules.snapshot(&young), WasteVerdict::Fine);
            let kept = Snapshot { tags: tagged("spot-optimizer:opt-out", "true"), ..launched };
            assert_eq!(rules.snapshot(&kept), WasteVerdict::LeftAlone(LeftAlone::OptedOut));
        });
    }

    #[test]
    fn a_locked_or_shared_snapshot_is_left_alone_and_what_is_unknown_is_waste() {
        with_rules(|rules| {
            let judge = |lock, sharing| rules.snapshot(&Snapshot { lock, sharing, ..snapshot() });
            for sharing in [Sharing::NotAsked, Sharing::Private, Sharing::Unknown] {
                assert_eq!(judge(Lock::None, sharing), WasteVerdict::Waste, "{sharing:?}");
                assert_eq!(judge(Lock::Unknown, sharing), WasteVerdict::Waste, "{sharing:?}");
                assert_eq!(judge(Lock::Locked, sharing), WasteVerdict::LeftAlone(LeftAlone::Locked));
            }
            assert_eq!(judge(Lock::None, Sharing::Shared), WasteVerdict::LeftAlone(LeftAlone::Shared));
            let young = Some(at(NOW - 30 * DAY));
            let young = Snapshot { lock: Lock::Locked, started: young, ..snapshot() };
            assert_eq!(rules.snapshot(&young), WasteVerdict::Fine);
        });
    }

    #[test]
    fn what_serves_is_fine() {
        with_rules(|rules| {
            assert_eq!(rules.volume(&Volume { is_available: false, ..volume() }), WasteVerdict::Fine);
            assert_eq!(
                rules.snapshot(&Snapshot { is_used_by_image: true, ..snapshot() }),
                WasteVerdict::Fine
            );
            let foreign = Snapshot { is_own_and_completed: false, ..snapshot() };
            assert_eq!(rules.snapshot(&foreign), WasteVerdict::Fine);
        });
    }

    #[test]
    fn zones_and_outposts_outside_the_regions_price_are_unknown() {
        with_rules(|rules| {
            let in_zone = |zone: &str| Volume { availability_zone: zone.to_owned(), ..volume() };
            assert!(rules.volume_price(&in_zone("us-east-1f")).is_some());
            assert_eq!(rules.volume_price(&in_zone("us-east-1-bos-1a")), None);
            assert_eq!(rules.volume_price(&Volume { is_on_outpost: true, ..volume() }), None);
            let kept_in = |zone: &str| {
                rules.snapshot_price(&Snapshot { availability_zone: Some(zone.to_owned()), ..snapshot() })
            };
            assert!(kept_in("us-east-1a").is_some(), "a zone of the region");
            for elsewhere in ["us-east-1-bos-1a", "us-east-1", "us-west-2a", "us-east-11", "us-east-1-wl1"] {
                assert_eq!(kept_in(elsewhere), None, "{elsewhere}");
                assert_eq!(rules.volume_price(&in_zone(elsewhere)), None, "{elsewhere}");
            }
            assert_eq!(rules.snapshot_price(&Snapshot { is_on_outpost: true, ..snapshot() }), None);
            let wavelength = Address { border_group: Some("us-east-1-wl1".to_owned()), ..address() };
            assert_eq!(rules.address_price(&wavelength), None);
        });
    }

    proptest! {
        #[test]
        fn only_more_than_the_minimum_age_is_waste(age in -400 * DAY..400 * DAY, days in 0_u32..400) {
            let region = "us-east-1".parse().unwrap();
            let settings = Settings { volume_min_age_days: days, snapshot_min_age_days: days, ..Settings::default() };
            let prices = PriceBook::default();
            let rules = Rules { settings: &settings, region: &region, prices: &prices, now: at(NOW) };
            let expected = if age > i64::from(days) * DAY { WasteVerdict::Waste } else { WasteVerdict::Fine };
            let born = Some(at(NOW - age));
            prop_assert_eq!(rules.volume(&Volume { created: born, ..volume() }), expected);
            prop_assert_eq!(rules.snapshot(&Snapshot { started: born, ..snapshot() }), expected);
        }
    }
}
