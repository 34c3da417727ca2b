//! When a pool is poisoned, and until when.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// What the SpotPoolRisk table says of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poison {
    /// False once the daily clean-up has seen it expired.
    pub is_poisoned: bool,
    /// When the poison ends. DynamoDB's TTL deletes late, by days: always compare yourself.
    pub expires_at: Timestamp,
}

impl Poison {
    /// Whether the pool must not be launched into at `now`.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.is_poisoned && now < self.expires_at
    }
}

/// What an interruption does to a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Poison until this moment.
    PoisonUntil(Timestamp),
    /// It is so long ago that its poison would be over.
    Stale,
}

/// The effect of an interruption at `occurred`, judged at `now`. The clock runs from the event's
/// own time, so a late or repeated delivery extends nothing.
#[must_use]
pub fn effect(occurred: Timestamp, poison_for: SignedDuration, now: Timestamp) -> Effect {
    match occurred.checked_add(poison_for) {
        Ok(until) if until > now => Effect::PoisonUntil(until),
        _ => Effect::Stale,
    }
}

/// The expiry after an event: it only ever moves forward, whatever the order of arrival. The
/// table's conditional update is this rule, written in DynamoDB's words.
#[must_use]
pub fn merged(existing: Option<Timestamp>, event: Timestamp) -> Timestamp {
    existing.map_or(event, |existing| existing.max(event))
}

/// What the risk manager answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// The pool is poisoned, or its poison now lasts longer.
    Poisoned,
    /// The pool was poisoned for at least as long: nothing changed.
    AlreadyPoisoned,
    /// The account is a lab.
    IgnoredLab,
    /// The instance is not Spot.
    IgnoredNotSpot,
    /// The event's poison would be over already.
    IgnoredStale,
    /// A rebalance recommendation, where the settings say that they don't poison.
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
        /// Whatever the order and repetition of delivery, the pool is poisoned until the last
        /// interruption's own time plus 15 days.
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
}
