//! The saving of a swap, and the pools that are not worth one: a replacement must cost less than the old instance.

use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::ids::InstanceType;
use crate::money::Usd;

/// The operating system and licence that an instance is billed for (`UsageOperation`): `RunInstances`, or `RunInstances:0002` and the like.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/billing-info-fields.html>
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UsageOperation(String);

impl UsageOperation {
    /// Returns the operation that EC2 names.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Returns the operation of Linux without a licence to pay for.
    #[must_use]
    pub fn linux() -> Self {
        Self::new("RunInstances")
    }

    /// Returns the text that the Price List API knows as `operation`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if both stand for the same operating system and licence.
    ///
    /// On a bill, the operation of a Spot instance ends with the code of its zone: `RunInstances:0010:SV006`.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.without_zone() == other.without_zone()
    }

    fn without_zone(&self) -> &str {
        self.0.split_once(":SV").map_or(self.0.as_str(), |(operation, _)| operation)
    }

    /// Returns the `ProductDescription` under which EC2 publishes Spot prices.
    ///
    /// The result is `None` if EC2 publishes none, as for SQL Server or a licence of the customer's own.
    #[must_use]
    pub fn spot_product(&self) -> Option<&'static str> {
        match self.0.as_str() {
            "RunInstances" => Some("Linux/UNIX"),
            "RunInstances:0002" => Some("Windows"),
            "RunInstances:0010" => Some("Red Hat Enterprise Linux"),
            "RunInstances:000g" => Some("SUSE Linux"),
            _ => None,
        }
    }
}

impl fmt::Display for UsageOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The prices of one candidate, USD an hour. A price that can't be had is absent, never a guess.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prices {
    /// The On-Demand price of the old instance.
    pub on_demand: Option<Usd>,
    /// Spot prices in its zone, by type.
    pub spot: Vec<(InstanceType, Usd)>,
    /// On-Demand prices of other types that may replace it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_demand_of_others: Vec<(InstanceType, Usd)>,
}

impl Prices {
    /// Returns the Spot price of a type.
    #[must_use]
    pub fn spot_of(&self, instance_type: &InstanceType) -> Option<Usd> {
        self.spot.iter().find(|(known, _)| known == instance_type).map(|(_, price)| *price)
    }

    /// Returns the On-Demand price of another type than the old instance's.
    #[must_use]
    pub fn on_demand_of(&self, instance_type: &InstanceType) -> Option<Usd> {
        let others = &self.on_demand_of_others;
        others.iter().find(|(known, _)| known == instance_type).map(|(_, price)| *price)
    }

    /// Returns why a type is not worth a swap to Spot, in words.
    ///
    /// The measure is the On-Demand price of the old instance's type, also for a Spot instance that is to be replaced:
    /// On-Demand is what it would cost to keep its place without Spot.
    ///
    /// Spot of the old instance's own type never costs more than On-Demand. An unknown price therefore lets
    /// the old instance's own type through, and no other.
    #[must_use]
    pub fn refusal(
        &self,
        instance_type: &InstanceType,
        old_type: &InstanceType,
        limits: Limits,
    ) -> Option<String> {
        let Some(spot) = self.spot_of(instance_type) else {
            return (instance_type != old_type).then(|| "its Spot price is not known".to_owned());
        };
        if let Some(most) = limits.spot_max_price.filter(|most| spot > *most) {
            return Some(format!("Spot costs ${spot} an hour, and the group's SpotMaxPrice is ${most}"));
        }
        let Some(on_demand) = self.on_demand else {
            return (instance_type != old_type)
                .then(|| format!("the On-Demand price of {old_type} is not known"));
        };
        let percent = Decimal::from(100_u32.saturating_sub(limits.min_saving_percent)) / Decimal::ONE_HUNDRED;
        (spot.amount() > on_demand.amount() * percent).then(|| {
            let less = match limits.min_saving_percent {
                0 => "more than".to_owned(),
                least => format!("not {least} % less than"),
            };
            format!("Spot costs ${spot} an hour, {less} the ${on_demand} of {old_type} On-Demand")
        })
    }
}

/// The limits that an owner sets to prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The setting `min_saving_percent`; 0 for the replacement of a Spot instance.
    pub min_saving_percent: u32,
    /// The policy's `SpotMaxPrice`, USD an hour.
    pub spot_max_price: Option<Usd>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usd(text: &str) -> Usd {
        Usd::new(text.parse().unwrap())
    }

    fn prices(on_demand: Option<&str>, spot: &[(&str, &str)]) -> Prices {
        let spot = spot.iter().map(|(kind, price)| (kind.parse().unwrap(), usd(price))).collect();
        Prices { on_demand: on_demand.map(usd), spot, ..Prices::default() }
    }

    fn refused(prices: &Prices, kind: &str, max: Option<&str>) -> Option<String> {
        let limits = Limits { min_saving_percent: 20, spot_max_price: max.map(usd) };
        prices.refusal(&kind.parse().unwrap(), &"m5.large".parse().unwrap(), limits)
    }

    #[test]
    fn a_pool_must_save_at_least_what_the_setting_asks() {
        let known =
            prices(Some("0.100"), &[("m5.large", "0.080"), ("m5.xlarge", "0.081"), ("c5.large", "0.030")]);
        assert_eq!(refused(&known, "m5.large", None), None, "20 % to the cent");
        assert!(refused(&known, "m5.xlarge", None).unwrap().contains("not 20 % less than the $0.100"));
        assert_eq!(refused(&known, "c5.large", None), None);
    }

    #[test]
    fn an_unknown_price_lets_the_own_type_through_and_nothing_else() {
        for unknown in [prices(None, &[]), prices(Some("0.1"), &[]), prices(None, &[("m5a.large", "0.01")])] {
            assert_eq!(refused(&unknown, "m5.large", None), None);
            assert!(refused(&unknown, "m5a.large", None).unwrap().contains("not known"));
        }
    }

    #[test]
    fn the_owners_maximum_price_is_obeyed_even_for_the_own_type() {
        let known = prices(None, &[("m5.large", "0.034")]);
        assert!(refused(&known, "m5.large", Some("0.01")).unwrap().contains("SpotMaxPrice is $0.01"));
        assert_eq!(refused(&known, "m5.large", Some("0.034")), None);
    }

    #[test]
    fn every_system_that_has_a_spot_price_is_known() {
        let known = ["RunInstances", "RunInstances:0002", "RunInstances:0010", "RunInstances:000g"];
        assert!(known.iter().all(|operation| UsageOperation::new(operation).spot_product().is_some()));
        for other in ["RunInstances:0800", "RunInstances:0102", "RunInstances:00g0", ""] {
            assert_eq!(UsageOperation::new(other).spot_product(), None, "{other}");
        }
    }

    proptest! {
        /// A pool that is let through and priced costs less than the old instance, at any prices.
        #[test]
        fn no_swap_costs_more_than_it_saves(old in 1_u32..10_000, new in 1_u32..20_000, percent in 0_u32..100) {
            let price = |n: u32| Usd::new(Decimal::new(i64::from(n), 4));
            let kind: InstanceType = "c5.large".parse().unwrap();
            let spot = vec![(kind.clone(), price(new))];
            let known = Prices { on_demand: Some(price(old)), spot, ..Prices::default() };
            let limits = Limits { min_saving_percent: percent, spot_max_price: None };
            if known.refusal(&kind, &"m5.large".parse().unwrap(), limits).is_none() {
                prop_assert!(u64::from(new) * 100 <= u64::from(old) * u64::from(100 - percent));
            }
        }
    }
}
