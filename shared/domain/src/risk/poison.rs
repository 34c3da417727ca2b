//! The poison of a pool: its cause and its end.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// The state of a pool in the SpotPoolRisk table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poison {
    /// False once the daily clean-up has found the poison expired.
    pub is_poisoned: bool,
    /// The time when the poison ends. DynamoDB's TTL deletes late, by days: compare this time with the clock.
    pub expires_at: Timestamp,
}

impl Poison {
    /// Returns true if the pool must not be launched into at `now`.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.is_poisoned && now < self.expires_at
    }
}

/// The effect of an interruption on a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The pool is poisoned until this moment.
    PoisonUntil(Timestamp),
    /// The interruption is so long ago that its poison would be over.
    Stale,
}

/// Returns the effect of an interruption at `occurred`, judged at `now`. The clock starts at the event's own
/// time, so that a late or repeated delivery extends nothing.
#[must_use]
pub fn effect(occurred: Timestamp, poison_for: SignedDuration, now: Timestamp) -> Effect {
    match occurred.checked_add(poison_for) {
        Ok(until) if until > now => Effect::PoisonUntil(until),
        _ => Effect::Stale,
    }
}

/// Returns the expiry after an event. The expiry only ever moves forward, whatever the order of arrival. The
/// table's conditional update is this rule in DynamoDB's words.
#[must_use]
pub fn merged(existing: Option<Timestamp>, event: Timestamp) -> Timestamp {
    existing.map_or(event, |existing| existing.max(event))
}

/// Returns the time until which a pool is poisoned, if it takes the interruptions of `threshold` accounts to
/// poison it.
///
/// The pool is poisoned as long as so many accounts have an interruption there whose own poison is not over.
/// The result is `None` if there are fewer. With a threshold of 1 (0 counts as 1), this is [`merged`] over
/// all of them.
///
/// A sighting is an account and the end of the poison that its interruption would cause. Order and repetition
/// of sightings don't matter; no account counts twice.
#[must_use]
pub fn poisoned_until<A: Ord>(
    sightings: impl IntoIterator<Item = (A, Timestamp)>,
    threshold: u32,
) -> Option<Timestamp> {
    let mut latest: BTreeMap<A, Timestamp> = BTreeMap::new();
    for (account, until) in sightings {
        let known = latest.get(&account).copied();
        latest.insert(account, merged(known, until));
    }
    let mut ends: Vec<Timestamp> = latest.into_values().collect();
    ends.sort_unstable_by(|a, b| b.cmp(a));
    let nth = usize::try_from(threshold.saturating_sub(1)).unwrap_or(usize::MAX);
    ends.get(nth).copied()
}

/// Returns the share of a region's pools that are poisoned, in percent; `None` for a region without a pool.
#[must_use]
pub fn poisoned_share_percent(poisoned: usize, pools: usize) -> Option<f64> {
    let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    (pools > 0).then(|| 100.0 * count(poisoned) / count(pools))
}

/// The answer of the risk manager to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EventOutcome {
    /// The pool is poisoned, or its poison now lasts longer.
    Poisoned,
    /// The pool was poisoned for at least as long already: nothing changed.
    AlreadyPoisoned,
    /// The event is recorded, but fewer accounts than `poison_threshold_accounts` have been interrupted in
    /// the pool.
    BelowThreshold,
    /// The account has reached its limit of poisoned pools for the hour or the day: nothing was written.
    Muted,
    /// The report comes from an account that is not registered, or switched off.
    IgnoredUnregistered,
    /// The account is a lab.
    IgnoredLab,
    /// The instance is not Spot.
    IgnoredNotSpot,
    /// The event's poison would be over already.
    IgnoredStale,
    /// The event is a rebalance recommendation, and the settings say that those don't poison.
    IgnoredRebalance,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POISON: SignedDuration = SignedDuration::from_hours(15 * 24);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn poison_ends_to_the_second() {
        let poison = Poison { is_poisoned: true, expires_at: at(1_000) };
        assert!(poison.is_active(at(999)));
        assert!(!poison.is_active(at(1_000)));
        assert!(!Poison { is_poisoned: false, ..poison }.is_active(at(0)));
    }

    #[test]
    fn an_event_older_than_its_poison_is_stale() {
        let occurred = at(0);
        let end = 15 * 86_400;
        assert_eq!(effect(occurred, POISON, at(end - 1)), Effect::PoisonUntil(at(end)));
        assert_eq!(effect(occurred, POISON, at(end)), Effect::Stale);
        assert_eq!(effect(Timestamp::MAX, POISON, at(0)), Effect::Stale);
    }

    proptest! {
        /// A pool is poisoned until the last interruption's own time plus 15 days, whatever the order and
        /// repetition of delivery.
        #[test]
        fn expiry_depends_on_the_events_not_on_their_delivery(
            times in prop::collection::vec(0_i64..40 * 86_400, 1..12),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let now = at(1);
            let expiry = |events: &[i64]| events.iter().fold(None, |row, second| {
                match effect(at(*second), POISON, now) {
                    Effect::PoisonUntil(until) => Some(merged(row, until)),
                    Effect::Stale => row,
                }
            });
            let mut delivered = times.clone();
            delivered.extend(order.iter().map(|index| *index.get(&times)));
            delivered.reverse();
            prop_assert_eq!(expiry(&delivered), expiry(&times));
            let last = times.iter().max().copied().unwrap_or_default();
            prop_assert_eq!(expiry(&times), Some(at(last + 15 * 86_400)));
        }

        #[test]
        fn expiry_never_moves_back(existing in 0_i64..1 << 37, event in 0_i64..1 << 37) {
            let after = merged(Some(at(existing)), at(event));
            prop_assert!(after >= at(existing) && after >= at(event));
        }
    }
    #[test]
    fn a_share_needs_pools_to_be_a_share_of() {
        assert_eq!(poisoned_share_percent(1, 8), Some(12.5));
        assert_eq!(poisoned_share_percent(0, 0), None);
    }

    fn sightings() -> impl Strategy<Value = Vec<(u8, Timestamp)>> {
        prop::collection::vec((0_u8..6, (0_i64..40 * 86_400).prop_map(at)), 0..20)
    }

    fn accounts(sightings: &[(u8, Timestamp)]) -> u32 {
        let accounts: std::collections::BTreeSet<u8> =
            sightings.iter().map(|(account, _)| *account).collect();
        u32::try_from(accounts.len()).unwrap()
    }

    proptest! {
        #[test]
        fn a_threshold_of_one_is_the_plain_merge(sightings in sightings()) {
            let plain = sightings.iter().fold(None, |row, (_, until)| Some(merged(row, *until)));
            prop_assert_eq!(poisoned_until(sightings.clone(), 1), plain);
            prop_assert_eq!(poisoned_until(sightings, 0), plain);
        }

        /// The definition, counted at every moment that matters: a pool is poisoned exactly while so many
        /// accounts have a poison of their own.
        #[test]
        fn a_pool_is_poisoned_while_enough_accounts_say_so(sightings in sightings(), threshold in 1_u32..8) {
            let until = poisoned_until(sightings.clone(), threshold);
            for (_, moment) in &sightings {
                for now in [*moment - SignedDuration::from_secs(1), *moment] {
                    let active: Vec<_> = sightings.iter().filter(|(_, until)| now < *until).copied().collect();
                    prop_assert_eq!(until.is_some_and(|until| now < until), accounts(&active) >= threshold);
                }
            }
        }

        #[test]
        fn order_and_repetition_change_nothing(
            sightings in sightings(),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            threshold in 1_u32..8,
        ) {
            let mut delivered = sightings.clone();
            if !sightings.is_empty() {
                delivered.extend(order.iter().map(|index| *index.get(&sightings)));
            }
            delivered.reverse();
            prop_assert_eq!(poisoned_until(delivered, threshold), poisoned_until(sightings, threshold));
        }

        #[test]
        fn one_more_sighting_never_shortens_and_a_higher_threshold_never_lengthens(
            sightings in sightings(),
            more in (0_u8..6, (0_i64..40 * 86_400).prop_map(at)),
            threshold in 1_u32..8,
        ) {
            let before = poisoned_until(sightings.clone(), threshold);
            prop_assert!(poisoned_until(sightings.clone(), threshold + 1) <= before);
            let after = poisoned_until(sightings.into_iter().chain([more]), threshold);
            prop_assert!(after >= before);
        }

        #[test]
        fn one_account_alone_never_reaches_a_threshold_of_two(times in prop::collection::vec(0_i64..1 << 30, 0..20)) {
            prop_assert_eq!(poisoned_until(times.iter().map(|t| ("a", at(*t))), 2), None);
        }
    }
}
