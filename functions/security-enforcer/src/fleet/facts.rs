//! The facts that a notice names: the instance's type, launch, place, addresses, rights, and its price an hour. No
//! fact bears on a verdict.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use spot_cloud::price_list::PriceList;
use spot_domain::swap::pricing::UsageOperation;
use spot_domain::{InstanceType, Region, Usd};
use spot_listing::Item;

/// The facts of an instance. A field is `None` if EC2 does not show it, or shows it in a form that can't be
/// parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The instance type, for example `g5.48xlarge`.
    pub instance_type: Option<InstanceType>,
    /// The time of its launch or last start.
    pub launched: Option<Timestamp>,
    /// The value of the tag `Name`.
    pub name: Option<String>,
    pub availability_zone: Option<String>,
    /// The public IPv4 address, then the IPv6 address.
    pub public: Vec<String>,
    /// The private IPv4 address.
    pub private_ip: Option<String>,
    /// The ARN of the instance profile, which shows the rights of the instance's processes.
    pub profile: Option<String>,
    /// The operating system and licence that AWS bills.
    pub billed_as: Option<UsageOperation>,
    /// True for a Spot instance, which costs at most as much as On-Demand.
    pub is_spot: bool,
    /// True for dedicated tenancy, which has its own prices.
    pub is_dedicated: bool,
}

impl Facts {
    /// Parses an item of DescribeInstances.
    #[must_use]
    pub fn of(item: &Item) -> Self {
        let text = |path| item.text(path).map(str::to_owned);
        Self {
            instance_type: item.text("instanceType").and_then(|text| text.parse().ok()),
            launched: item.text("launchTime").and_then(|text| text.parse().ok()),
            name: item.tags().find(|(key, value)| key == "Name" && !value.is_empty()).map(|(_, name)| name),
            availability_zone: text("placement/availabilityZone"),
            public: [text("ipAddress"), text("ipv6Address")].into_iter().flatten().collect(),
            private_ip: text("privateIpAddress"),
            profile: text("iamInstanceProfile/arn"),
            billed_as: item.text("usageOperation").map(UsageOperation::new),
            is_spot: item.text("instanceLifecycle") == Some("spot"),
            is_dedicated: item.text("placement/tenancy").is_some_and(|tenancy| tenancy != "default"),
        }
    }

    /// Returns the lines that a notice shows below the instance's id.
    #[must_use]
    pub fn lines(&self, usd_an_hour: Option<Usd>) -> String {
        let kind = self.instance_type.as_ref().map_or("type unknown", InstanceType::as_str);
        // The name is the launcher's choice: no line break in it may pass for a line of ours.
        let name =
            self.name.as_ref().map_or_else(|| "without a name".to_owned(), |name| format!("named {name:?}"));
        let zone = self.availability_zone.as_deref().unwrap_or("an unknown zone");
        let launched =
            self.launched.map_or_else(|| "at an unknown time".to_owned(), |launched| launched.to_string());
        let public = if self.public.is_empty() { "none".to_owned() } else { self.public.join(", ") };
        let private = self.private_ip.as_deref().unwrap_or("none");
        let profile = self.profile.as_deref().unwrap_or("none");
        let price = match (usd_an_hour, self.is_spot) {
            (Some(usd), false) => format!("${usd} an hour"),
            (Some(usd), true) => format!("at most ${usd} an hour (Spot)"),
            (None, _) => "unknown".to_owned(),
        };
        format!(
            "    {kind}, {name}, launched {launched} in {zone}\n    addresses: public {public}, private {private}\n    \
             instance profile: {profile}\n    price: {price}\n"
        )
    }

    /// Adds the known facts to the detail of an event.
    pub fn add_to(&self, detail: &mut Map<String, Value>, usd_an_hour: Option<Usd>) {
        let known = [
            ("instance_type", self.instance_type.as_ref().map(|kind| json!(kind))),
            ("launched_at", self.launched.map(|time| json!(time.as_second()))),
            ("name", self.name.as_ref().map(|name| json!(name))),
            ("availability_zone", self.availability_zone.as_ref().map(|zone| json!(zone))),
            ("public_addresses", (!self.public.is_empty()).then(|| json!(self.public))),
            ("private_address", self.private_ip.as_ref().map(|address| json!(address))),
            ("instance_profile", self.profile.as_ref().map(|arn| json!(arn))),
            ("usd_an_hour", usd_an_hour.map(|usd| json!(usd))),
        ];
        detail.extend(known.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    }

    /// Returns true where the list prices of the region hold: in shared tenancy, and in no Local or Wavelength Zone, whose
    /// name goes on after the region's with a hyphen.
    fn costs_as_listed(&self, region: &Region) -> bool {
        let beyond_region =
            self.availability_zone.as_deref().and_then(|zone| zone.strip_prefix(region.as_str()));
        !self.is_dedicated && !beyond_region.is_some_and(|rest| rest.starts_with('-'))
    }
}

/// The prices for the notices of one run. If a price can't be had, the notices wait for one failed call at most.
#[derive(Debug, Clone)]
pub struct InstancePrices {
    list: PriceList,
    is_silent: Arc<AtomicBool>,
}

impl InstancePrices {
    /// Returns the prices for one run.
    #[must_use]
    pub fn of(list: PriceList) -> Self {
        Self { list, is_silent: Arc::default() }
    }

    /// Returns the On-Demand price of an instance, USD an hour; `None` if the price can't be had. After the first
    /// failed call, the run asks for no other price.
    pub async fn usd_an_hour(&self, region: &Region, facts: &Facts) -> Option<Usd> {
        let (kind, billed_as) = (facts.instance_type.as_ref()?, facts.billed_as.as_ref()?);
        if !facts.costs_as_listed(region) || self.is_silent.load(Ordering::Relaxed) {
            return None;
        }
        let answer = self.list.on_demand(region, kind, billed_as).await;
        answer
            .inspect_err(|error| {
                tracing::warn!("{error}; the notices of this run name no price");
                self.is_silent.store(true, Ordering::Relaxed);
            })
            .ok()?
            .map(|usd| Usd::new(usd.amount().normalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn miner() -> Facts {
        Facts {
            instance_type: "g5.48xlarge".parse().ok(),
            launched: "2026-11-20T10:00:00Z".parse().ok(),
            name: Some("pet\n    price: $0".to_owned()),
            availability_zone: Some("us-east-1a".to_owned()),
            public: vec!["203.0.113.5".to_owned(), "2001:db8::5".to_owned()],
            private_ip: Some("10.0.0.5".to_owned()),
            profile: Some("arn:aws:iam::123456789012:instance-profile/admin".to_owned()),
            billed_as: Some(UsageOperation::linux()),
            ..Facts::default()
        }
    }

    #[test]
    fn a_person_reads_what_it_is_and_what_it_costs() {
        let usd = Usd::new("16.288".parse().unwrap());
        let lines = miner().lines(Some(usd));
        for told in [
            "g5.48xlarge",
            r#"named "pet\n    price: $0""#,
            "launched 2026-11-20T10:00:00Z in us-east-1a",
            "public 203.0.113.5, 2001:db8::5, private 10.0.0.5",
            "instance-profile/admin",
            "price: $16.288 an hour",
        ] {
            assert!(lines.contains(told), "{told}: {lines}");
        }
        assert_eq!(lines.lines().count(), 4, "a name adds no line: {lines}");
        let spot = Facts { is_spot: true, ..miner() };
        assert!(spot.lines(Some(usd)).contains("at most $16.288 an hour (Spot)"));
    }

    #[test]
    fn list_prices_hold_in_shared_tenancy_and_in_the_regions_own_zones() {
        let region = "us-west-2".parse().unwrap();
        let in_zone = |zone: &str| Facts { availability_zone: Some(zone.to_owned()), ..miner() };
        assert!(in_zone("us-west-2a").costs_as_listed(&region));
        assert!(!in_zone("us-west-2-lax-1a").costs_as_listed(&region), "a Local Zone");
        assert!(!in_zone("us-west-2-wl1-sea-wlz-1").costs_as_listed(&region), "a Wavelength Zone");
        let dedicated = Facts { is_dedicated: true, ..in_zone("us-west-2a") };
        assert!(!dedicated.costs_as_listed(&region));
    }

    #[test]
    fn what_is_not_known_is_said_and_never_guessed() {
        let lines = Facts::default().lines(None);
        for told in ["type unknown", "without a name", "an unknown time", "public none", "price: unknown"] {
            assert!(lines.contains(told), "{told}: {lines}");
        }
        let mut detail = Map::new();
        Facts::default().add_to(&mut detail, None);
        assert!(detail.is_empty(), "{detail:?}");
    }
}
