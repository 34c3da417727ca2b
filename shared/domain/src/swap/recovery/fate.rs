//! What both worlds that are not atomic share: their clock, and the fate of a call or a write.
//!
//! The clock ticks once an event. The lengths stand in the order that the real ones have: a step lives for 60 s, AWS is
//! given 30 s more.

use jiff::Timestamp;

/// A step, and a visit of a recoverer, is killed when it is older.
pub(super) const LIFE: u32 = 4;
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
