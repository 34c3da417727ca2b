//! Zones, subnets, prices, launch templates and launch configurations of the account and region.

use std::collections::BTreeMap;

pub(super) const VPC: &str = "vpc-0a000001";
pub(super) const ROOT_DEVICE: &str = "/dev/xvda";
/// The On-Demand prices of the types, in millionths of a US dollar an hour; as `endpoint/prices.py` of local AWS has them.
const ON_DEMAND: [(&str, u32); 4] =
    [("m5.large", 96_000), ("m5a.large", 86_000), ("m6i.large", 96_000), ("c5.large", 85_000)];
/// The share of the On-Demand price that Spot costs at first, in percent.
const SPOT_PERCENT: u32 = 35;

/// An Availability Zone, with the one default subnet that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// `us-east-1a`
    pub name: String,
    /// `use1-az1`
    pub id: String,
    pub subnet_id: String,
    /// The subnet has an address left for a launch.
    pub has_free_addresses: bool,
}

/// A launch template, with the data of each version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchTemplate {
    pub id: String,
    pub name: String,
    /// By number.
    pub versions: BTreeMap<u32, TemplateVersion>,
    pub default_version: u32,
}

/// The data of one version of a launch template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateVersion {
    pub image_id: String,
    pub instance_type: String,
    /// Tags of its instances.
    pub tags: BTreeMap<String, String>,
    pub disable_api_termination: bool,
    pub disable_api_stop: bool,
    /// The template sets `InstanceMarketOptions` to Spot.
    pub is_spot: bool,
}

/// A launch configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchConfiguration {
    pub image_id: String,
    pub instance_type: String,
}

/// Zones, prices and the sources of launches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    pub zones: Vec<Zone>,
    /// Type → millionths of a US dollar an hour.
    pub on_demand: BTreeMap<String, u32>,
    /// (type, zone name) → millionths of a US dollar an hour.
    pub spot: BTreeMap<(String, String), u32>,
    /// By id.
    pub templates: BTreeMap<String, LaunchTemplate>,
    /// By name.
    pub configurations: BTreeMap<String, LaunchConfiguration>,
    /// The `UsageOperation` of images that are billed for more than Linux, by image id.
    pub usage_operations: BTreeMap<String, String>,
}

impl Catalog {
    /// Returns three zones with a default subnet each, and four types that are cheaper on Spot.
    #[must_use]
    pub fn of_region(region: &str) -> Self {
        let zones: Vec<Zone> = (1..=3_u8).map(|n| zone(region, n)).collect();
        let spot = |(kind, usd): &(&str, u32)| {
            let usd = usd * SPOT_PERCENT / 100;
            zones.iter().map(|zone| (((*kind).to_owned(), zone.name.clone()), usd)).collect::<Vec<_>>()
        };
        Self {
            on_demand: ON_DEMAND.iter().map(|(kind, usd)| ((*kind).to_owned(), *usd)).collect(),
            spot: ON_DEMAND.iter().flat_map(spot).collect(),
            zones,
            templates: BTreeMap::new(),
            configurations: BTreeMap::new(),
            usage_operations: BTreeMap::new(),
        }
    }

    pub(super) fn zone(&self, name: &str) -> Option<&Zone> {
        self.zones.iter().find(|zone| zone.name == name)
    }

    pub(super) fn subnet(&self, id: &str) -> Option<&Zone> {
        self.zones.iter().find(|zone| zone.subnet_id == id)
    }

    pub(super) fn template(&self, id: Option<&str>, name: Option<&str>) -> Option<&LaunchTemplate> {
        match (id, name) {
            (Some(id), _) => self.templates.get(id),
            (None, name) => self.templates.values().find(|template| Some(template.name.as_str()) == name),
        }
    }
}

fn zone(region: &str, n: u8) -> Zone {
    let letter = char::from(b'a' + n - 1);
    Zone {
        name: format!("{region}{letter}"),
        id: format!("{}-az{n}", short(region)),
        subnet_id: format!("subnet-0a00000{n}"),
        has_free_addresses: true,
    }
}

/// Returns the beginning of a region's zone ids: `use1` of `us-east-1`.
fn short(region: &str) -> String {
    let mut words = region.split('-');
    let first = words.next().unwrap_or_default();
    words.fold(first.to_owned(), |short, word| short + &word[..word.len().min(1)])
}

impl LaunchTemplate {
    /// Returns the version that a text stands for: a number, `$Latest` or `$Default`.
    #[must_use]
    pub fn version(&self, text: &str) -> Option<(u32, &TemplateVersion)> {
        let number = match text {
            "$Latest" => *self.versions.keys().next_back()?,
            "$Default" => self.default_version,
            number => number.parse().ok()?,
        };
        self.versions.get(&number).map(|version| (number, version))
    }
}

/// Writes an amount as AWS does: `0.033600`.
pub(super) fn usd(millionths: u32) -> String {
    format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
}

/// Reads an amount, cut after the millionths.
pub(super) fn millionths(usd: &str) -> Option<u32> {
    let (whole, rest) = usd.split_once('.').unwrap_or((usd, ""));
    let rest: String = rest.chars().chain("000000".chars()).take(6).collect();
    whole.parse::<u32>().ok()?.checked_mul(1_000_000)?.checked_add(rest.parse().ok()?)
}
