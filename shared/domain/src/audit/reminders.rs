//! The reminders of causes that last: once a day.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

/// The most time that the clock of another run may be ahead of ours.
pub(crate) const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);
/// The time after which a person gets a reminder. The audit is hourly: no message is older than a day.
const TELL_AGAIN: SignedDuration = SignedDuration::from_hours(23);

/// Returns true if a notice sent `at` needs no reminder yet. A time in the future must not silence a notice.
#[must_use]
pub fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    (-CLOCK_SKEW..TELL_AGAIN).contains(&now.duration_since(at))
}

/// The causes of which a person was notified, with the time of each notice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notified(BTreeMap<String, Timestamp>);

impl Notified {
    /// Returns true if one of the causes had no notice within a day.
    #[must_use]
    pub fn owes<'a>(&self, causes: impl IntoIterator<Item = &'a String>, now: Timestamp) -> bool {
        causes.into_iter().any(|cause| !self.0.get(cause).is_some_and(|at| is_recent(*at, now)))
    }

    /// Notes that a person was notified of these causes. A cause that comes and goes stays known for its day.
    pub fn note(&mut self, causes: &BTreeSet<String>, now: Timestamp) {
        self.0.retain(|_, at| is_recent(*at, now));
        self.0.extend(causes.iter().map(|cause| (cause.clone(), now)));
    }

    /// Returns each cause with its time.
    pub fn iter(&self) -> impl Iterator<Item = (&String, Timestamp)> {
        self.0.iter().map(|(cause, at)| (cause, *at))
    }
}

impl FromIterator<(String, Timestamp)> for Notified {
    fn from_iter<I: IntoIterator<Item = (String, Timestamp)>>(told: I) -> Self {
        Self(told.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(hours: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + hours * 3_600).unwrap()
    }

    fn causes(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|&cause| cause.to_owned()).collect()
    }

    #[test]
    fn the_same_cause_is_told_once_a_day_and_a_new_one_at_once() {
        let mut told = Notified::default();
        let (denied, both) = (causes(&["denied"]), causes(&["denied", "throttled"]));
        assert!(told.owes(&denied, hours(0)) && !told.owes(&causes(&[]), hours(0)));
        told.note(&denied, hours(0));
        assert!((1..23).all(|hour| !told.owes(&denied, hours(hour))));
        assert!(told.owes(&denied, hours(23)) && told.owes(&both, hours(1)));
    }

    #[test]
    fn a_cause_that_comes_and_goes_is_no_news() {
        let mut told = Notified::default();
        told.note(&causes(&["denied"]), hours(0));
        told.note(&causes(&["throttled"]), hours(5));
        assert!(!told.owes(&causes(&["denied", "throttled"]), hours(6)));
        told.note(&causes(&["throttled"]), hours(30));
        assert_eq!(told.iter().count(), 1, "what is over is forgotten");
    }

    #[test]
    fn a_time_in_the_future_silences_nobody() {
        let told: Notified = [("denied".to_owned(), hours(5))].into_iter().collect();
        assert!(told.owes(&causes(&["denied"]), hours(0)));
    }
}
