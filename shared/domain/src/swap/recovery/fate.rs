//! What the worlds that are not atomic share: their clock, and the fate of a call or a write.
//!
//! The clock ticks once an event. The lengths stand in the order that the real ones have: a step lives for 60 s, AWS is
//! given 30 s more.

use jiff::Timestamp;

/// A step, and a visit of a recoverer, is killed when it is older.
pub(super) const LIFE: u32 = 6;
/// A call has landed so long after its caller gave up, or never does.
pub(super) const LATE: u32 = 4;
/// A look shows nothing older.
pub(super) const LAG: u32 = 2;
/// The quiet period: after it, what was called has landed and shows.
pub(super) const QUIET: u32 = LIFE + LATE + LAG;

/// Returns the time of a tick.
pub(super) fn at(tick: u32) -> Timestamp {
    Timestamp::from_second(i64::from(tick)).unwrap()
}

/// Returns the number of histories to play: as many as a deep run asks for (`make test-deep`), or so many.
pub(super) fn histories(otherwise: u32) -> u32 {
    std::env::var("HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

/// The fate of a call or a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    /// Carried out; the answer is lost. The SDK repeats most calls.
    AnswerLost,
    /// AWS refuses it for a reason of its own: a throttle, a permission, another activity.
    Refused,
    /// The caller gives up, and nothing happens.
    Never,
    /// The caller gives up, and it happens later.
    Late,
    /// The process dies before it.
    CutBefore,
    /// The process dies after it.
    CutAfter,
}

impl Fate {
    pub(super) const fn is_cut(self) -> bool {
        matches!(self, Self::CutBefore | Self::CutAfter)
    }

    /// Returns true if a write with this fate is in the table.
    pub(super) const fn is_written(self) -> bool {
        !matches!(self, Self::CutBefore | Self::Never | Self::Late)
    }
}

/// AWS refuses a call, and nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused;

/// The answer that a caller hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    Refused,
    /// The SDK asks again, in the next step.
    Again,
    Nothing,
}

/// The truth of earlier ticks, as far back as a look may show it.
#[derive(Debug)]
pub(super) struct Past<T>(Vec<(u32, T)>);

impl<T: Clone + PartialEq> Past<T> {
    pub(super) fn new(truth: &T) -> Self {
        Self(vec![(0, truth.clone())])
    }

    pub(super) fn remember(&mut self, now: u32, truth: &T) {
        if self.0.last().is_none_or(|(_, last)| last != truth) {
            self.0.push((now, truth.clone()));
        }
        let oldest = now.saturating_sub(LAG);
        let keep = self.0.iter().rposition(|(tick, _)| *tick <= oldest).unwrap_or_default();
        self.0.drain(..keep);
    }

    /// Returns the truth of so many changes ago; 0 is now.
    pub(super) fn of<'a>(&'a self, age: u8, truth: &'a T) -> &'a T {
        let newest = self.0.len() - 1;
        if age == 0 { truth } else { &self.0[newest.saturating_sub(usize::from(age))].1 }
    }
}

/// Calls that land after their caller gave up, each with its deadline and what it was decided on.
#[derive(Debug)]
pub(super) struct Flights<C, B>(Vec<(u32, C, B)>);

impl<C, B> Flights<C, B> {
    pub(super) const fn none() -> Self {
        Self(Vec::new())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn depart(&mut self, now: u32, call: C, basis: B) {
        self.0.push((now + LATE, call, basis));
    }

    /// Returns the next call that lands by now.
    pub(super) fn land(&mut self, now: u32) -> Option<(C, B)> {
        let due = self.0.iter().position(|(deadline, ..)| *deadline <= now)?;
        let (_, call, basis) = self.0.remove(due);
        Some((call, basis))
    }
}
