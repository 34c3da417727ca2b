//! Amounts of a resource, exact: requests are added up and compared with a node's offer.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Result};
use std::iter::Sum;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};

/// Amounts of resources, by the resource's name.
pub type Amounts = BTreeMap<String, Amount>;

/// An amount of a resource, in billionths of its unit (a core, a byte, a device).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Amount(i128);

const UNIT: i128 = 1_000_000_000;
const MEBI: i128 = 1 << 20;

impl Amount {
    pub(crate) const ONE: Self = Self(UNIT);
    /// More than any node offers.
    pub(crate) const MAX: Self = Self(i128::MAX);

    /// Makes an amount of whole units.
    #[must_use]
    pub fn of(units: i64) -> Self {
        Self(i128::from(units) * UNIT)
    }

    /// Parses a quantity (`250m`, `1.5Gi`, `2e3`); `None` if it is malformed. The grammar:
    /// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
    pub(crate) fn parse(quantity: &Quantity) -> Option<Self> {
        let text = quantity.0.trim();
        let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-');
        let (number, suffix) = text.split_at(text.find(|c| !is_number(c)).unwrap_or(text.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        // A sign stands before the whole number alone.
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let product = digits.checked_mul(factor(suffix)?)?;
        Some(Self(product.div_euclid(scale) + i128::from(product.rem_euclid(scale) != 0)))
    }

    pub(crate) fn is_zero(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub(crate) fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    #[must_use]
    pub(crate) fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Returns the factor of a suffix, in billionths.
fn factor(suffix: &str) -> Option<i128> {
    let decimal = |power: u32| 10_i128.checked_pow(power);
    let binary = |power: u32| Some(UNIT << power);
    match suffix {
        "n" => decimal(0),
        "u" => decimal(3),
        "m" => decimal(6),
        "" => decimal(9),
        "k" => decimal(12),
        "M" => decimal(15),
        "G" => decimal(18),
        "T" => decimal(21),
        "P" => decimal(24),
        "E" => decimal(27),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            decimal(u32::try_from(exponent.checked_add(9)?).ok()?)
        }
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Self::plus)
    }
}

impl Display for Amount {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let units = self.0 / UNIT;
        if self.0 % UNIT != 0 {
            write!(f, "{}m", self.0 / (UNIT / 1_000))
        } else if units != 0 && units % MEBI == 0 {
            write!(f, "{}Mi", units / MEBI)
        } else {
            write!(f, "{units}")
        }
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Option<Amount> {
        Amount::parse(&Quantity(text.to_owned()))
    }

    #[test]
    fn every_spelling_of_an_amount_is_the_same_amount() {
        for (a, b) in [
            ("1", "1000m"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1Gi", "1024Mi"),
            ("1.5Gi", "1536Mi"),
            ("1k", "1e3"),
            ("2E3", "2k"),
            ("1E", "1e18"),
            ("1000n", "1u"),
            ("128974848", "123Mi"),
            ("+3", "3."),
        ] {
            assert_eq!(amount(a), amount(b), "{a} and {b}");
            assert!(amount(a).is_some(), "{a}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for text in ["", "m", "1x", "1.2.3", "e", "--1", ".+5", "1e99", "1e2147483647", "1e-2147483648"] {
            assert_eq!(amount(text), None, "{text}");
        }
    }

    #[test]
    fn an_amount_is_shown_as_a_person_writes_it() {
        for text in ["0", "3", "250m", "1536Mi", "1073741825"] {
            assert_eq!(amount(text).unwrap().to_string(), text);
        }
    }
}
