//! Numbers of DynamoDB: exact decimals of at most 38 significant digits.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html>

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const MOST_DIGITS: usize = 38;
/// The place of the first digit of the largest number: 9.99…E+125.
const HIGHEST_PLACE: i32 = 125;
/// The place of the first digit of the smallest positive number: 1E-130.
const LOWEST_PLACE: i32 = -130;

/// A decimal number, `coefficient` × 10^`exponent`. Equal numbers have equal fields: the coefficient ends with no zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    coefficient: i128,
    exponent: i32,
}

/// A text or a result that is no number of DynamoDB.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadNumber {
    #[error("The parameter cannot be converted to a numeric value: {0}")]
    NotNumeric(String),
    #[error("Attempting to store more than 38 significant digits in a Number")]
    TooManyDigits,
    #[error("Number overflow. Attempting to store a number with magnitude larger than supported range")]
    TooLarge,
    #[error("Number underflow. Attempting to store a number with magnitude smaller than supported range")]
    TooSmall,
}

impl Number {
    fn new(mut coefficient: i128, mut exponent: i32) -> Result<Self, BadNumber> {
        if coefficient == 0 {
            return Ok(Self { coefficient, exponent: 0 });
        }
        while coefficient % 10 == 0 {
            coefficient /= 10;
            exponent += 1;
        }
        let number = Self { coefficient, exponent };
        match number.first_place() {
            _ if number.digits() > MOST_DIGITS => Err(BadNumber::TooManyDigits),
            place if place > HIGHEST_PLACE => Err(BadNumber::TooLarge),
            place if place < LOWEST_PLACE => Err(BadNumber::TooSmall),
            _ => Ok(number),
        }
    }

    /// Returns the sum.
    ///
    /// # Errors
    /// The exact sum has too many digits or is out of range.
    pub fn plus(self, other: Self) -> Result<Self, BadNumber> {
        let exponent = self.exponent.min(other.exponent);
        let sum = self.scaled_to(exponent).zip(other.scaled_to(exponent)).and_then(|(a, b)| a.checked_add(b));
        Self::new(sum.ok_or(BadNumber::TooManyDigits)?, exponent)
    }

    /// Returns the difference.
    ///
    /// # Errors
    /// The exact difference has too many digits or is out of range.
    pub fn minus(self, other: Self) -> Result<Self, BadNumber> {
        self.plus(Self { coefficient: -other.coefficient, ..other })
    }

    /// Returns the number as whole seconds, or another whole that fits; `None` if it is a fraction or too large.
    #[must_use]
    pub fn as_whole(self) -> Option<i64> {
        self.scaled_to(0).and_then(|whole| i64::try_from(whole).ok())
    }

    /// Returns the bytes that DynamoDB counts: one for each two digits, one more, and one for a minus.
    #[must_use]
    pub fn size(self) -> usize {
        self.digits().div_ceil(2) + 1 + usize::from(self.coefficient < 0)
    }

    fn digits(self) -> usize {
        self.coefficient.unsigned_abs().checked_ilog10().map_or(1, |log| log as usize + 1)
    }

    /// Returns the power of ten of the first digit.
    fn first_place(self) -> i32 {
        let after_first = self.coefficient.unsigned_abs().checked_ilog10().unwrap_or(0);
        self.exponent + i32::try_from(after_first).unwrap_or(i32::MAX)
    }

    fn scaled_to(self, exponent: i32) -> Option<i128> {
        let places = u32::try_from(self.exponent - exponent).ok()?;
        if self.coefficient == 0 {
            return Some(0);
        }
        self.coefficient.checked_mul(10_i128.checked_pow(places)?)
    }
}

impl From<usize> for Number {
    fn from(count: usize) -> Self {
        let coefficient = i128::try_from(count).unwrap_or(i128::MAX);
        Self::new(coefficient, 0).unwrap_or(Self { coefficient, exponent: 0 })
    }
}

impl FromStr for Number {
    type Err = BadNumber;

    fn from_str(text: &str) -> Result<Self, BadNumber> {
        let bad = || BadNumber::NotNumeric(text.to_owned());
        let (mantissa, power) = match text.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, power.parse::<i32>().map_err(|_| bad())?),
            None => (text, 0),
        };
        let unsigned = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad());
        }
        let significant = digits.trim_start_matches('0').trim_end_matches('0');
        if significant.len() > MOST_DIGITS {
            return Err(BadNumber::TooManyDigits);
        }
        let zeros = digits.len() - digits.trim_end_matches('0').len();
        let places = i32::try_from(zeros).ok().zip(i32::try_from(fraction.len()).ok());
        let exponent = places.and_then(|(zeros, fraction)| power.checked_add(zeros)?.checked_sub(fraction));
        let coefficient: i128 =
            if significant.is_empty() { 0 } else { significant.parse().map_err(|_| bad())? };
        let sign = if mantissa.starts_with('-') { -1 } else { 1 };
        Self::new(sign * coefficient, exponent.ok_or_else(bad)?)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.coefficient < 0 { "-" } else { "" };
        let digits = self.coefficient.unsigned_abs().to_string();
        let places = self.exponent.unsigned_abs() as usize;
        if self.exponent >= 0 {
            return write!(f, "{sign}{digits}{}", "0".repeat(places));
        }
        let padded = format!("{digits:0>width$}", width = places + 1);
        let (whole, fraction) = padded.split_at(padded.len() - places);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let signs = self.coefficient.signum().cmp(&other.coefficient.signum());
        if signs.is_ne() || self.coefficient == 0 {
            return signs;
        }
        let magnitudes = self.first_place().cmp(&other.first_place()).then_with(|| {
            // With the first digits in the same place, neither coefficient grows beyond 38 digits.
            let exponent = self.exponent.min(other.exponent);
            let scaled = |number: &Self| number.scaled_to(exponent).unwrap_or(i128::MAX).unsigned_abs();
            scaled(self).cmp(&scaled(other))
        });
        if self.coefficient < 0 { magnitudes.reverse() } else { magnitudes }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn number(text: &str) -> Number {
        text.parse().unwrap()
    }

    #[test]
    fn a_number_is_written_without_needless_zeros() {
        for (given, written) in [
            ("1", "1"),
            ("-0", "0"),
            ("+007.500", "7.5"),
            ("1.0", "1"),
            ("100", "100"),
            ("1.5e3", "1500"),
            ("-25E-4", "-0.0025"),
            (".5", "0.5"),
            ("0.10", "0.1"),
            ("1e38", "100000000000000000000000000000000000000"),
        ] {
            assert_eq!(number(given).to_string(), written, "{given}");
        }
    }

    #[test]
    fn numbers_are_ordered_by_their_values() {
        let ordered = ["-1e100", "-10", "-9.5", "-0.1", "0", "1e-130", "0.1", "0.11", "2", "10", "1e125"];
        for pair in ordered.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{pair:?}");
        }
        assert_eq!(number("1.50"), number("15e-1"));
    }

    #[test]
    fn sums_are_exact() {
        for (a, b, sum) in [
            ("0.1", "0.2", "0.3"),
            ("1", "-1", "0"),
            ("9.5", "0.5", "10"),
            ("1e20", "1", "100000000000000000001"),
        ] {
            assert_eq!(number(a).plus(number(b)), Ok(number(sum)), "{a} + {b}");
            assert_eq!(number(sum).minus(number(b)), Ok(number(a)), "{sum} - {b}");
        }
        assert_eq!(number("1e100").plus(number("1")), Err(BadNumber::TooManyDigits));
    }

    #[test]
    fn a_text_that_is_no_number_is_refused() {
        for bad in ["", "-", "1.2.3", "one", "1e", "0x1", " 1", "e5", "--1"] {
            assert_eq!(bad.parse::<Number>(), Err(BadNumber::NotNumeric(bad.to_owned())), "{bad:?}");
        }
        assert_eq!("1".repeat(39).parse::<Number>(), Err(BadNumber::TooManyDigits));
        assert_eq!("1e126".parse::<Number>(), Err(BadNumber::TooLarge));
        assert_eq!("1e-131".parse::<Number>(), Err(BadNumber::TooSmall));
    }

    #[test]
    fn a_whole_number_is_one_without_a_fraction() {
        assert_eq!(number("1.7e9").as_whole(), Some(1_700_000_000));
        assert_eq!(number("-3").as_whole(), Some(-3));
        assert_eq!(number("0.5").as_whole(), None);
        assert_eq!(number("1e30").as_whole(), None);
    }
}
