//! The monthly price of storage and addresses: exact decimals, per region, each with its source and date. A
//! price that no source knows is `None`: never zero, never a guess.
//!
//! Sources are laid over each other: the Price List API where it answers, the shipped table below it. A price
//! made of several rates bears the weakest source and the oldest date among them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::Serialize;

use crate::ids::Region;
use crate::money::Usd;
use crate::waste::resources::{Snapshot, Tier, Volume};

/// The date that the shipped rates bear.
///
/// The rates were checked in November 2026, on a day that was not noted. The first of the month stands for
/// that day, so that no rate claims to be newer than it is.
pub const SHIPPED_AS_OF: Date = Date::constant(2026, 11, 1);
/// Hours of a month of idle address: 30 days, as the rule's $3.60 counts.
const ADDRESS_HOURS: u32 = 720;
/// IOPS that gp3's price includes.
const GP3_IOPS: u32 = 3_000;
/// Throughput that gp3's price includes, in MiB/s.
const GP3_THROUGHPUT: u32 = 125;
/// IOPS above which the second and the third tier of io2's price hold.
const IO2_TIERS: [u32; 2] = [32_000, 64_000];
/// Decimal places of a row's price: hundredths of a cent. Sums of rows stay exact.
const ROW_DIGITS: u32 = 4;

/// One thing that has a price of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PricedItem {
    /// A GiB of gp2, for a month. The other storage items are per month, too.
    Gp2,
    /// A GiB of gp3.
    Gp3,
    /// One IOPS of gp3 above the included ones, for a month.
    Gp3Iops,
    /// One MiB/s of gp3 above the included throughput, for a month.
    Gp3Throughput,
    /// A GiB of io1.
    Io1,
    /// One IOPS of io1, for a month.
    Io1Iops,
    /// A GiB of io2.
    Io2,
    /// One IOPS of io2 up to 32,000, for a month.
    Io2Iops,
    /// One IOPS of io2 from 32,001 to 64,000, for a month.
    Io2IopsTier2,
    /// One IOPS of io2 above 64,000, for a month.
    Io2IopsTier3,
    /// A GiB of st1.
    St1,
    /// A GiB of sc1.
    Sc1,
    /// A GiB of the previous generation's magnetic volumes.
    Standard,
    /// A GiB of snapshot, for a month.
    Snapshot,
    /// A GiB of archived snapshot, for a month.
    SnapshotArchive,
    /// A public IPv4 address that nothing uses, for an hour.
    IdleAddress,
}

/// Usage types of the Price List, without the prefix of their region.
const USAGE_TYPES: [(&str, PricedItem); 16] = [
    ("EBS:VolumeUsage.gp2", PricedItem::Gp2),
    ("EBS:VolumeUsage.gp3", PricedItem::Gp3),
    ("EBS:VolumeP-IOPS.gp3", PricedItem::Gp3Iops),
    ("EBS:VolumeP-Throughput.gp3", PricedItem::Gp3Throughput),
    ("EBS:VolumeUsage.piops", PricedItem::Io1),
    ("EBS:VolumeP-IOPS.piops", PricedItem::Io1Iops),
    ("EBS:VolumeUsage.io2", PricedItem::Io2),
    ("EBS:VolumeP-IOPS.io2", PricedItem::Io2Iops),
    ("EBS:VolumeP-IOPS.io2.tier2", PricedItem::Io2IopsTier2),
    ("EBS:VolumeP-IOPS.io2.tier3", PricedItem::Io2IopsTier3),
    ("EBS:VolumeUsage.st1", PricedItem::St1),
    ("EBS:VolumeUsage.sc1", PricedItem::Sc1),
    ("EBS:VolumeUsage", PricedItem::Standard),
    ("EBS:SnapshotUsage", PricedItem::Snapshot),
    ("EBS:SnapshotArchiveStorage", PricedItem::SnapshotArchive),
    ("PublicIPv4:IdleAddress", PricedItem::IdleAddress),
];

impl PricedItem {
    /// Returns the item that a usage type of the Price List stands for, such as `APN1-EBS:VolumeUsage.gp3`.
    #[must_use]
    pub fn of_usage_type(usage_type: &str) -> Option<Self> {
        USAGE_TYPES.iter().find_map(|(name, item)| {
            let prefix = usage_type.strip_suffix(name)?;
            (prefix.is_empty() || prefix.ends_with('-')).then_some(*item)
        })
    }
}

/// The source of a price, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PriceSource {
    /// AWS's Price List API.
    PriceListApi,
    /// The table that is shipped with the code.
    ShippedTable,
}

impl PriceSource {
    /// Returns the name, as rows and reports spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PriceListApi => "price-list-api",
            Self::ShippedTable => "shipped-table",
        }
    }
}

/// The price of one unit of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// US dollars.
    pub usd: Decimal,
    /// The source of the price.
    pub source: PriceSource,
    /// The day on which the price was valid.
    pub as_of: Date,
}

/// The monthly price of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// The amount, to the hundredth of a cent.
    pub monthly: Usd,
    /// The weakest source of its rates.
    pub source: PriceSource,
    /// The oldest date of its rates.
    pub as_of: Date,
}

/// The rates of one region.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PriceBook {
    rates: BTreeMap<PricedItem, Rate>,
}

impl PriceBook {
    /// Returns the rates that are shipped for this region; empty if none are.
    #[must_use]
    pub fn shipped(region: &Region) -> Self {
        let mut book = Self::default();
        let rates: &[(PricedItem, Decimal)] = match region.as_str() {
            "us-east-1" => &US_EAST_1,
            "ap-northeast-1" => &AP_NORTHEAST_1,
            _ => &[],
        };
        for (item, usd) in rates {
            book.set(*item, Rate { usd: *usd, source: PriceSource::ShippedTable, as_of: SHIPPED_AS_OF });
        }
        if is_commercial(region) {
            let usd = IDLE_ADDRESS;
            book.set(
                PricedItem::IdleAddress,
                Rate { usd, source: PriceSource::ShippedTable, as_of: SHIPPED_AS_OF },
            );
        }
        book
    }

    /// Sets the rate of an item, over any rate that is known already.
    pub fn set(&mut self, item: PricedItem, rate: Rate) {
        self.rates.insert(item, rate);
    }

    /// Returns the price of an address that nothing uses.
    #[must_use]
    pub fn idle_address(&self) -> Option<Price> {
        self.total(&[(PricedItem::IdleAddress, Decimal::from(ADDRESS_HOURS))])
    }

    /// Returns the price of a volume. I/O requests of `standard` volumes are not included: an unattached
    /// volume has none.
    #[must_use]
    pub fn volume(&self, volume: &Volume) -> Option<Price> {
        let size = Decimal::from(volume.size_gib);
        let above = |actual: Option<u32>, included: u32| {
            Decimal::from(actual.unwrap_or(included).saturating_sub(included))
        };
        let parts = match volume.volume_type.as_str() {
            "gp2" => vec![(PricedItem::Gp2, size)],
            "gp3" => vec![
                (PricedItem::Gp3, size),
                (PricedItem::Gp3Iops, above(volume.iops, GP3_IOPS)),
                (PricedItem::Gp3Throughput, above(volume.throughput_mibps, GP3_THROUGHPUT)),
            ],
            "io1" => vec![(PricedItem::Io1, size), (PricedItem::Io1Iops, Decimal::from(volume.iops?))],
            "io2" => io2_parts(size, volume.iops?),
            "st1" => vec![(PricedItem::St1, size)],
            "sc1" => vec![(PricedItem::Sc1, size)],
            "standard" => vec![(PricedItem::Standard, size)],
            _ => return None,
        };
        self.total(&parts)
    }

    /// Returns the price of a snapshot's storage, as if it shared no block with another.
    ///
    /// The price is an upper bound of the storage alone, since snapshots of one volume are incremental. Fast
    /// snapshot restore, which AWS bills by the hour and zone, is not included. An archived snapshot that is
    /// restored for a time is billed in both tiers until then.
    /// <https://docs.aws.amazon.com/ebs/latest/userguide/snapshot-archive-pricing.html>
    #[must_use]
    pub fn snapshot(&self, snapshot: &Snapshot, now: Timestamp) -> Option<Price> {
        let size = snapshot.size_gib()?;
        let (standard, archive) = ((PricedItem::Snapshot, size), (PricedItem::SnapshotArchive, size));
        let is_restored = snapshot.restored_until.is_some_and(|until| until > now);
        match snapshot.tier {
            Tier::Unknown => None,
            _ if is_restored => self.total(&[standard, archive]),
            Tier::Standard => self.total(&[standard]),
            Tier::Archive => self.total(&[archive]),
        }
    }

    fn total(&self, parts: &[(PricedItem, Decimal)]) -> Option<Price> {
        let mut price: Option<Price> = None;
        for (item, units) in parts.iter().filter(|(_, units)| !units.is_zero()) {
            let rate = self.rates.get(item)?;
            let part = Usd::new(rate.usd.checked_mul(*units)?);
            price = Some(match price {
                None => Price { monthly: part, source: rate.source, as_of: rate.as_of },
                Some(sum) => Price {
                    monthly: sum.monthly + part,
                    source: sum.source.max(rate.source),
                    as_of: sum.as_of.min(rate.as_of),
                },
            });
        }
        price.map(|price| Price { monthly: to_row_digits(price.monthly), ..price })
    }
}

fn io2_parts(size: Decimal, iops: u32) -> Vec<(PricedItem, Decimal)> {
    let [first, second] = IO2_TIERS;
    vec![
        (PricedItem::Io2, size),
        (PricedItem::Io2Iops, Decimal::from(iops.min(first))),
        (PricedItem::Io2IopsTier2, Decimal::from(iops.min(second).saturating_sub(first))),
        (PricedItem::Io2IopsTier3, Decimal::from(iops.saturating_sub(second))),
    ]
}

fn to_row_digits(amount: Usd) -> Usd {
    let rounded = amount.amount().round_dp_with_strategy(ROW_DIGITS, RoundingStrategy::MidpointAwayFromZero);
    Usd::new(rounded.normalize())
}

/// Returns true for a region of the commercial partition. Other partitions have price lists, and some have
/// currencies, of their own.
fn is_commercial(region: &Region) -> bool {
    !["cn-", "us-gov-", "us-iso", "eu-iso", "eusc-"].iter().any(|prefix| region.as_str().starts_with(prefix))
}

/// $0.005 an hour in every commercial region (<https://aws.amazon.com/vpc/pricing/>).
const IDLE_ADDRESS: Decimal = Decimal::from_parts(5, 0, 0, false, 3);

/// <https://aws.amazon.com/ebs/pricing/>, US East (N. Virginia).
///
/// That page rounds the upper tiers of io2 to $0.046 and $0.032. The rates here are the Price List's own
/// (`EBS:VolumeP-IOPS.io2.tier2` and `.tier3`).
const US_EAST_1: [(PricedItem, Decimal); 15] = [
    (PricedItem::Gp2, usd_thousandths(100)),
    (PricedItem::Gp3, usd_thousandths(80)),
    (PricedItem::Gp3Iops, usd_thousandths(5)),
    (PricedItem::Gp3Throughput, usd_thousandths(40)),
    (PricedItem::Io1, usd_thousandths(125)),
    (PricedItem::Io1Iops, usd_thousandths(65)),
    (PricedItem::Io2, usd_thousandths(125)),
    (PricedItem::Io2Iops, usd_thousandths(65)),
    (PricedItem::Io2IopsTier2, Decimal::from_parts(455, 0, 0, false, 4)),
    (PricedItem::Io2IopsTier3, Decimal::from_parts(3185, 0, 0, false, 5)),
    (PricedItem::St1, usd_thousandths(45)),
    (PricedItem::Sc1, usd_thousandths(15)),
    (PricedItem::Standard, usd_thousandths(50)),
    (PricedItem::Snapshot, usd_thousandths(50)),
    (PricedItem::SnapshotArchive, Decimal::from_parts(125, 0, 0, false, 4)),
];

/// <https://aws.amazon.com/ebs/pricing/>, Asia Pacific (Tokyo).
const AP_NORTHEAST_1: [(PricedItem, Decimal); 1] = [(PricedItem::Gp3, usd_thousandths(96))];

const fn usd_thousandths(amount: u32) -> Decimal {
    Decimal::from_parts(amount, 0, 0, false, 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waste::resources::tests::{NOW, snapshot, volume};

    fn book(region: &str) -> PriceBook {
        PriceBook::shipped(&region.parse().unwrap())
    }

    fn monthly(volume: &Volume) -> String {
        book("us-east-1").volume(volume).unwrap().monthly.to_string()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn of_snapshot(snapshot: &Snapshot) -> Option<String> {
        book("us-east-1").snapshot(snapshot, at(NOW)).map(|price| price.monthly.to_string())
    }

    #[test]
    fn every_volume_type_has_its_own_price() {
        let v = |kind: &str, size_gib, iops, throughput_mibps| Volume {
            volume_type: kind.to_owned(),
            size_gib,
            iops,
            throughput_mibps,
            ..volume()
        };
        assert_eq!(monthly(&v("gp3", 100, Some(3_000), Some(125))), "8");
        assert_eq!(monthly(&v("gp3", 100, Some(4_000), Some(225))), "17");
        assert_eq!(monthly(&v("gp2", 100, Some(300), None)), "10");
        assert_eq!(monthly(&v("io1", 100, Some(1_000), None)), "77.5");
        assert_eq!(monthly(&v("io2", 100, Some(20_000), None)), "1312.5");
        assert_eq!(monthly(&v("io2", 0, Some(100_000), None)), "4682.6"); // 2080 + 1456 + 1146.6
        assert_eq!(monthly(&v("st1", 500, None, None)), "22.5");
        assert_eq!(monthly(&v("sc1", 500, None, None)), "7.5");
        assert_eq!(monthly(&v("standard", 10, None, None)), "0.5");
    }

    #[test]
    fn what_no_source_knows_has_no_price() {
        let odd = |kind: &str, iops| Volume { volume_type: kind.to_owned(), iops, ..volume() };
        assert_eq!(book("us-east-1").volume(&odd("gp4", None)), None);
        assert_eq!(book("us-east-1").volume(&odd("io1", None)), None, "an io1 without IOPS");
        assert_eq!(book("eu-west-3").volume(&odd("gp3", None)), None, "a region that is not shipped");
        assert_eq!(book("ap-northeast-1").volume(&odd("gp3", Some(4_000))), None, "one rate is missing");
        assert_eq!(book("us-gov-west-1").idle_address(), None);
        let unknown = Snapshot { tier: Tier::Unknown, ..snapshot() };
        assert_eq!(of_snapshot(&unknown), None);
    }

    #[test]
    fn the_other_seed_prices_hold() {
        assert_eq!(book("us-east-1").idle_address().unwrap().monthly.to_string(), "3.6");
        assert_eq!(book("eu-west-3").idle_address().unwrap().monthly.to_string(), "3.6");
        let archived = Snapshot { tier: Tier::Archive, ..snapshot() };
        assert_eq!(of_snapshot(&snapshot()).unwrap(), "5");
        assert_eq!(of_snapshot(&archived).unwrap(), "1.25");
        let tight = Snapshot { full_bytes: Some(3 << 29), ..snapshot() };
        assert_eq!(of_snapshot(&tight).unwrap(), "0.075");
        let tokyo = Volume { size_gib: 10, ..volume() };
        assert_eq!(book("ap-northeast-1").volume(&tokyo).unwrap().monthly.to_string(), "0.96");
    }

    #[test]
    fn a_snapshot_that_is_restored_for_a_time_costs_both_tiers_until_then() {
        let priced = |tier, until| {
            of_snapshot(&Snapshot { tier, restored_until: Some(at(until)), ..snapshot() }).unwrap()
        };
        for tier in [Tier::Archive, Tier::Standard] {
            assert_eq!(priced(tier, NOW + 1), "6.25");
        }
        assert_eq!(priced(Tier::Archive, NOW), "1.25");
    }

    #[test]
    fn a_mixed_price_bears_its_weakest_source_and_oldest_date() {
        let mut book = book("us-east-1");
        let api = Rate {
            usd: "0.09".parse().unwrap(),
            source: PriceSource::PriceListApi,
            as_of: jiff::civil::date(2026, 11, 20),
        };
        book.set(PricedItem::Gp3, api);
        let plain = book.volume(&volume()).unwrap();
        assert_eq!((plain.source, plain.as_of), (PriceSource::PriceListApi, api.as_of));
        let fast = book.volume(&Volume { iops: Some(3_001), ..volume() }).unwrap();
        assert_eq!((fast.source, fast.as_of), (PriceSource::ShippedTable, SHIPPED_AS_OF));
    }

    #[test]
    fn usage_types_are_read_behind_their_regions_prefix() {
        let cases = [
            ("EBS:VolumeUsage.gp3", Some(PricedItem::Gp3)),
            ("APN1-EBS:VolumeUsage.gp3", Some(PricedItem::Gp3)),
            ("EUC1-EBS:VolumeUsage", Some(PricedItem::Standard)),
            ("EBS:VolumeP-IOPS.io2.tier2", Some(PricedItem::Io2IopsTier2)),
            ("USW2-EBS:SnapshotUsage", Some(PricedItem::Snapshot)),
            ("USE1-PublicIPv4:IdleAddress", Some(PricedItem::IdleAddress)),
            ("EBS:SnapshotUsageUnderBilling", None),
            ("USE1-PublicIPv4:InUseAddress", None),
            ("XEBS:VolumeUsage.gp3", None),
        ];
        for (usage_type, item) in cases {
            assert_eq!(PricedItem::of_usage_type(usage_type), item, "{usage_type}");
        }
    }
}
