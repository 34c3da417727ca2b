//! Money as exact decimals: never a float, never a guess.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Sub};

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

/// Hours in a month, as AWS's own pricing pages count them.
pub const HOURS_PER_MONTH: u32 = 730;

/// An amount of US dollars. All arithmetic is decimal.
///
/// On the wire, an amount is a JSON number, as the executions' output promises. Amounts to the cent survive
/// that exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Usd(#[serde(with = "rust_decimal::serde::float")] Decimal);

impl Usd {
    /// Wraps an exact amount.
    #[must_use]
    pub const fn new(amount: Decimal) -> Self {
        Self(amount)
    }

    /// Returns the exact amount.
    #[must_use]
    pub const fn amount(self) -> Decimal {
        self.0
    }

    /// Returns this hourly price for a month of [`HOURS_PER_MONTH`] hours, to the cent.
    #[must_use]
    pub fn per_month(self) -> Self {
        let month = self.0.checked_mul(Decimal::from(HOURS_PER_MONTH)).unwrap_or(Decimal::MAX);
        Self(month.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero))
    }
}

impl Add for Usd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Usd {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self(Decimal::ZERO), Add::add)
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hourly_price_becomes_a_month_to_the_cent() {
        let hourly = Usd::new("0.096".parse().unwrap());
        assert_eq!(hourly.per_month().to_string(), "70.08");
        assert_eq!((hourly - Usd::new("0.0313".parse().unwrap())).per_month().to_string(), "47.23");
    }

    #[test]
    fn cents_survive_the_wire() {
        for cents in (0..1_000_000).step_by(37) {
            let amount = Usd::new(Decimal::new(cents, 2));
            let text = serde_json::to_string(&amount).unwrap();
            assert_eq!(serde_json::from_str::<Usd>(&text).unwrap(), amount, "{text}");
        }
    }
}
