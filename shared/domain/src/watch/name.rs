//! The name of an execution that the loop starts. Step Functions start no second execution of one name: of two that see
//! the same, one starts.

use jiff::Timestamp;

/// Seconds of the clock in which a subject has one name.
pub const NAMED_FOR_SECONDS: i64 = 900;
/// The most characters of the subject's own name that the execution's name shows.
const SHOWN: usize = 40;

/// Returns the execution's name: the subject's name as far as it may be shown, a hash of `key`, which tells it from all
/// others, and the time of the clock.
///
/// A name has at most 80 characters, and no spaces or most signs:
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html>
#[must_use]
pub fn execution_name(shown: &str, key: &str, now: Timestamp) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let shown: String = shown.chars().take(SHOWN).map(|c| if is_allowed(c) { c } else { '-' }).collect();
    let quarter = now.as_second().div_euclid(NAMED_FOR_SECONDS) * NAMED_FOR_SECONDS;
    format!("loop-{shown}-{:016x}-{quarter}", fnv(key))
}

/// Returns the time at which the names of now are followed by others.
#[must_use]
pub fn next_name_at(now: Timestamp) -> Timestamp {
    let quarter = now.as_second().div_euclid(NAMED_FOR_SECONDS) * NAMED_FOR_SECONDS;
    Timestamp::from_second(quarter.saturating_add(NAMED_FOR_SECONDS)).unwrap_or(Timestamp::MAX)
}

/// FNV-1a, 64 bits: the same in every release, unlike the standard library's hashes.
/// <https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn one_name_for_a_quarter_of_an_hour() {
        let name = |second| execution_name("my group", "arn:1", at(second));
        assert_eq!(name(1_800_000_000), format!("loop-my-group-{:016x}-1800000000", fnv("arn:1")));
        assert_eq!(name(1_800_000_000), name(1_800_000_899));
        assert_ne!(name(1_800_000_000), name(1_800_000_900));
        assert_eq!(next_name_at(at(1_800_000_000)), at(1_800_000_900));
        assert_eq!(next_name_at(at(1_800_000_899)), at(1_800_000_900));
    }

    #[test]
    fn groups_that_look_alike_have_names_of_their_own() {
        let long = "a".repeat(255);
        let name = |shown: &str, key: &str| execution_name(shown, key, at(0));
        assert_ne!(name(&format!("{long}1"), "arn:1"), name(&format!("{long}2"), "arn:2"));
        assert_ne!(name("a b", "arn:a b"), name("a-b", "arn:a-b"));
        assert_eq!(fnv(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv("a"), 0xaf63_dc4c_8601_ec8c, "a test vector of the draft");
    }

    proptest! {
        #[test]
        fn every_name_is_one_that_step_functions_take(shown in ".{0,255}", second in -62_135_596_800_i64..253_402_300_799) {
            let name = execution_name(&shown, &shown, at(second));
            prop_assert!((1..=80).contains(&name.len()), "{name}");
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{name}");
        }
    }
}
