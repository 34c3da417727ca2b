//! What is waste: an address that nothing uses, a volume that nothing has attached for long, an old
//! snapshot that no image needs. Values in, verdicts out.
//!
//! What an AWS service or the owner's opt-out tag claims is left alone, and counted. What can't be
//! judged (no date) is never waste.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ebs_prices::{Price, PriceBook};
use crate::ids::Region;
use crate::settings::Settings;
use crate::storage::{Address, Snapshot, Volume};
use crate::tags::Tags;

/// AWS Backup writes this tag on what it keeps.
const BACKUP_TAG: &str = "aws:backup:source-resource";
/// Data Lifecycle Manager writes this tag on what it keeps.
const DLM_TAG: &str = "aws:dlm:lifecycle-policy-id";

/// The kinds of resource that are looked at, in EC2's words.
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
    /// All of them, in the order of a scan.
    pub const ALL: [Self; 3] = [Self::ElasticIp, Self::Volume, Self::Snapshot];

    /// The name, as keys and reports spell it.
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

/// Why something that looks like waste is not ours to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LeftAlone {
    /// Its owner tagged it so.
    OptedOut,
    /// An AWS service manages it.
    ServiceManaged,
    /// AWS Backup keeps it.
    AwsBackup,
    /// Data Lifecycle Manager keeps it.
    LifecycleManager,
    /// An address of the owner's own range: it costs nothing.
    OwnAddressRange,
    /// AWS did not say how old it is.
    AgeUnknown,
}

/// What the rules say of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It costs, and serves nobody.
    Waste,
    /// It would be waste, but for this.
    LeftAlone(LeftAlone),
    /// In use, or too young to tell.
    Fine,
}

/// The rules for one account and region, at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Ages and the opt-out tag.
    pub settings: &'a Settings,
    /// The region.
    pub region: &'a Region,
    /// Its prices.
    pub prices: &'a PriceBook,
    /// When the run began: ages count up to here, so that every page is judged alike.
    pub now: Timestamp,
}

impl Rules<'_> {
    /// An address is waste as soon as nothing uses it: EC2 does not tell since when.
    #[must_use]
    pub fn address(&self, address: &Address) -> Verdict {
        if address.is_associated {
            return Verdict::Fine;
        }
        let claims = [
            (address.is_service_managed, LeftAlone::ServiceManaged),
            (self.is_opted_out(&address.tags), LeftAlone::OptedOut),
            (address.is_own_range, LeftAlone::OwnAddressRange),
        ];
        unless_claimed(&claims)
    }

    /// A volume is waste when it is `available` and was created more than the minimum age ago.
    #[must_use]
    pub fn volume(&self, volume: &Volume) -> Verdict {
        if !volume.is_available || self.is_young(volume.created, self.settings.volume_min_age_days) {
            return Verdict::Fine;
        }
        let claims = [
            (volume.is_service_managed, LeftAlone::ServiceManaged),
            (self.is_opted_out(&volume.tags), LeftAlone::OptedOut),
            (volume.tags.contains_key(BACKUP_TAG), LeftAlone::AwsBackup),
            (volume.created.is_none(), LeftAlone::AgeUnknown),
        ];
        unless_claimed(&claims)
    }

    /// A snapshot is waste when it is our own, older than the minimum age, and used by no image.
    #[must_use]
    pub fn snapshot(&self, snapshot: &Snapshot) -> Verdict {
        if !snapshot.is_own_and_completed
            || snapshot.is_used_by_image
            || self.is_young(snapshot.started, self.settings.snapshot_min_age_days)
        {
            return Verdict::Fine;
        }
        let claims = [
            (snapshot.tags.contains_key(BACKUP_TAG), LeftAlone::AwsBackup),
            (snapshot.tags.contains_key(DLM_TAG), LeftAlone::LifecycleManager),
            (self.is_opted_out(&snapshot.tags), LeftAlone::OptedOut),
            (snapshot.started.is_none(), LeftAlone::AgeUnknown),
        ];
        unless_claimed(&claims)
    }

    /// What the address costs a month.
    #[must_use]
    pub fn address_price(&self, address: &Address) -> Option<Price> {
        let is_regional = address.border_group.as_deref().is_none_or(|group| group == self.region.as_str());
        self.prices.idle_address().filter(|_| is_regional)
    }

    /// What the volume costs a month. Local Zones and Outposts have prices that no source knows.
    #[must_use]
    pub fn volume_price(&self, volume: &Volume) -> Option<Price> {
        let zone = volume.availability_zone.strip_prefix(self.region.as_str());
        let is_regional = zone.is_some_and(|letter| letter.len() == 1) && !volume.is_on_outpost;
        self.prices.volume(volume).filter(|_| is_regional)
    }

    /// What the snapshot costs a month at most.
    #[must_use]
    pub fn snapshot_price(&self, snapshot: &Snapshot) -> Option<Price> {
        self.prices.snapshot(snapshot).filter(|_| !snapshot.is_local)
    }

    /// Not more than `days` old. A date in the future is young.
    fn is_young(&self, born: Option<Timestamp>, days: u32) -> bool {
        let least = SignedDuration::from_hours(24 * i64::from(days));
        born.is_some_and(|born| self.now.duration_since(born) <= least)
    }

    /// Any value but `false` opts out, as for swaps.
    fn is_opted_out(&self, tags: &Tags) -> bool {
        self.settings.opts_out(tags)
    }
}

fn unless_claimed(claims: &[(bool, LeftAlone)]) -> Verdict {
    claims.iter().find(|(claimed, _)| *claimed).map_or(Verdict::Waste, |(_, why)| Verdict::LeftAlone(*why))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::tests::{NOW, address, snapshot, volume};

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
            assert_eq!(rules.address(&address()), Verdict::Waste);
            assert_eq!(rules.address(&Address { is_associated: true, ..address() }), Verdict::Fine);
            let managed = Address { is_service_managed: true, ..address() };
            assert_eq!(rules.address(&managed), Verdict::LeftAlone(LeftAlone::ServiceManaged));
            let own = Address { is_own_range: true, ..address() };
            assert_eq!(rules.address(&own), Verdict::LeftAlone(LeftAlone::OwnAddressRange));
            let kept = Address { tags: tagged("spot-optimizer:opt-out", "true"), ..address() };
            assert_eq!(rules.address(&kept), Verdict::LeftAlone(LeftAlone::OptedOut));
            let not_kept = Address { tags: tagged("spot-optimizer:opt-out", "false"), ..address() };
            assert_eq!(rules.address(&not_kept), Verdict::Waste);
        });
    }

    #[test]
    fn ages_at_the_boundary_are_not_yet_waste() {
        with_rules(|rules| {
            let volume_of = |age| Volume { created: Some(at(NOW - age)), ..volume() };
            assert_eq!(rules.volume(&volume_of(7 * DAY)), Verdict::Fine);
            assert_eq!(rules.volume(&volume_of(7 * DAY + 1)), Verdict::Waste);
            let snapshot_of = |age| Snapshot { started: Some(at(NOW - age)), ..snapshot() };
            assert_eq!(rules.snapshot(&snapshot_of(30 * DAY)), Verdict::Fine);
            assert_eq!(rules.snapshot(&snapshot_of(30 * DAY + 1)), Verdict::Waste);
        });
    }

    #[test]
    fn what_aws_or_its_owner_claims_is_left_alone() {
        with_rules(|rules| {
            let tagged_snapshot = |key| rules.snapshot(&Snapshot { tags: tagged(key, "x"), ..snapshot() });
            assert_eq!(tagged_snapshot(BACKUP_TAG), Verdict::LeftAlone(LeftAlone::AwsBackup));
            assert_eq!(tagged_snapshot(DLM_TAG), Verdict::LeftAlone(LeftAlone::LifecycleManager));
            assert_eq!(tagged_snapshot("spot-optimizer:opt-out"), Verdict::LeftAlone(LeftAlone::OptedOut));
            let managed = Volume { is_service_managed: true, ..volume() };
            assert_eq!(rules.volume(&managed), Verdict::LeftAlone(LeftAlone::ServiceManaged));
            let undated = Volume { created: None, ..volume() };
            assert_eq!(rules.volume(&undated), Verdict::LeftAlone(LeftAlone::AgeUnknown));
        });
    }

    #[test]
    fn what_serves_is_fine() {
        with_rules(|rules| {
            assert_eq!(rules.volume(&Volume { is_available: false, ..volume() }), Verdict::Fine);
            assert_eq!(rules.snapshot(&Snapshot { is_used_by_image: true, ..snapshot() }), Verdict::Fine);
            let foreign = Snapshot { is_own_and_completed: false, ..snapshot() };
            assert_eq!(rules.snapshot(&foreign), Verdict::Fine);
        });
    }

    #[test]
    fn zones_and_outposts_outside_the_regions_price_are_unknown() {
        with_rules(|rules| {
            let in_zone = |zone: &str| Volume { availability_zone: zone.to_owned(), ..volume() };
            assert!(rules.volume_price(&in_zone("us-east-1f")).is_some());
            assert_eq!(rules.volume_price(&in_zone("us-east-1-bos-1a")), None);
            assert_eq!(rules.volume_price(&Volume { is_on_outpost: true, ..volume() }), None);
            assert_eq!(rules.snapshot_price(&Snapshot { is_local: true, ..snapshot() }), None);
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
            let expected = if age > i64::from(days) * DAY { Verdict::Waste } else { Verdict::Fine };
            let born = Some(at(NOW - age));
            prop_assert_eq!(rules.volume(&Volume { created: born, ..volume() }), expected);
            prop_assert_eq!(rules.snapshot(&Snapshot { started: born, ..snapshot() }), expected);
        }
    }
}
