//! What can go wrong with one call, and which calls it befalls.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::acts::Act;

/// What goes wrong with one call. A call is sent, takes effect, and is answered; each is a moment of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The request is lost: no effect, and the client waits until its timeout.
    RequestLost,
    /// The call takes effect, and the connection breaks.
    AnswerLost,
    /// The call takes effect, and the client waits for an answer until its timeout.
    AnswerLate,
    /// The call takes effect so many seconds later, whether or not the caller waits.
    EffectLate(u32),
    /// The call takes effect, and once more some seconds later.
    Twice,
    /// The call takes effect, and is answered with an internal error.
    ErrorAfterEffect,
    /// The service refuses the call because of too many.
    Throttled,
    /// A read shows the state of so many seconds ago.
    Stale(u32),
    /// The Lambda dies before the call is sent.
    DiesBefore,
    /// The Lambda dies after the effect.
    DiesAfter,
    /// A person stops the execution before the call. The Lambda works on.
    StoppedBefore,
    /// A person stops the execution after the effect. The Lambda works on.
    StoppedAfter,
    /// Step Functions gives the step up before the call and repeats it. The Lambda works on beside the repetition, its
    /// call late by so many seconds.
    Zombie(u32),
}

impl Fault {
    /// Every kind of fault, as the campaign tries them at each call.
    pub const ALL: [Self; 15] = [
        Self::RequestLost,
        Self::AnswerLost,
        Self::AnswerLate,
        Self::EffectLate(1),
        Self::EffectLate(15),
        Self::EffectLate(55),
        Self::Twice,
        Self::ErrorAfterEffect,
        Self::Throttled,
        Self::Stale(20),
        Self::DiesBefore,
        Self::DiesAfter,
        Self::StoppedBefore,
        Self::StoppedAfter,
        Self::Zombie(20),
    ];

    /// Returns true if the fault makes a difference to such a call.
    #[must_use]
    pub fn concerns(self, is_read: bool) -> bool {
        match self {
            Self::Stale(_) => is_read,
            Self::EffectLate(_) | Self::Twice | Self::AnswerLate | Self::ErrorAfterEffect => !is_read,
            _ => true,
        }
    }
}

impl FromStr for Fault {
    type Err = UnknownFault;

    /// Parses a fault as its `Debug` form writes it.
    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let unknown = || UnknownFault(text.to_owned());
        let (name, seconds) = match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
            Some((name, seconds)) => (name, Some(seconds.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (name, seconds) {
            ("EffectLate", Some(seconds)) => Ok(Self::EffectLate(seconds)),
            ("Stale", Some(seconds)) => Ok(Self::Stale(seconds)),
            ("Zombie", Some(seconds)) => Ok(Self::Zombie(seconds)),
            _ => Self::ALL.into_iter().find(|fault| format!("{fault:?}") == text).ok_or_else(unknown),
        }
    }
}

/// A text that names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no fault")]
pub struct UnknownFault(String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequestLost => f.write_str("request lost"),
            Self::AnswerLost => f.write_str("answer lost"),
            Self::AnswerLate => f.write_str("no answer in time"),
            Self::EffectLate(seconds) => write!(f, "takes effect {seconds} s late"),
            Self::Twice => f.write_str("takes effect twice"),
            Self::ErrorAfterEffect => f.write_str("internal error after the effect"),
            Self::Throttled => f.write_str("throttled"),
            Self::Stale(seconds) => write!(f, "reads {seconds} s old"),
            Self::DiesBefore => f.write_str("the Lambda dies before"),
            Self::DiesAfter => f.write_str("the Lambda dies after"),
            Self::StoppedBefore => f.write_str("the execution is stopped before"),
            Self::StoppedAfter => f.write_str("the execution is stopped after"),
            Self::Zombie(seconds) => write!(f, "the step is given up and goes on {seconds} s late"),
        }
    }
}

/// The faults of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Faults by the number of the call, from 0.
    At(BTreeMap<usize, Fault>),
    /// No fault, and this act of others right before the call takes effect.
    ActAt(usize, Act),
    /// A tape: the entry at the call's number decides on its fault, and on an act of others right before it takes effect.
    /// Beyond its end nothing happens.
    Tape(Vec<u32>),
}

impl Plan {
    /// Returns the plan without a fault.
    #[must_use]
    pub fn none() -> Self {
        Self::At(BTreeMap::new())
    }

    /// Returns true if a call may read the past.
    #[must_use]
    pub fn may_read_past(&self) -> bool {
        match self {
            Self::At(faults) => faults.values().any(|fault| matches!(fault, Fault::Stale(_))),
            Self::ActAt(..) => false,
            Self::Tape(_) => true,
        }
    }

    /// Returns the fault of a call. On a tape, about one call in sixteen has one.
    #[must_use]
    pub fn of(&self, call: usize, is_read: bool) -> Option<Fault> {
        match self {
            Self::At(faults) => faults.get(&call).copied(),
            Self::ActAt(..) => None,
            Self::Tape(tape) => {
                let entry = usize::try_from(tape.get(call).copied().unwrap_or_default()).ok()?;
                let is_struck = entry % 16 == 15;
                let fault = Fault::ALL[(entry / 16) % Fault::ALL.len()];
                (is_struck && fault.concerns(is_read)).then_some(fault)
            }
        }
    }

    /// Returns the act of others that comes with a call. On a tape, about one call in 32 has one.
    #[must_use]
    pub fn act_at(&self, call: usize) -> Option<Act> {
        match self {
            Self::At(_) => None,
            Self::ActAt(number, act) => (*number == call).then_some(*act),
            Self::Tape(tape) => {
                let entry = tape.get(call).copied()?;
                (entry % 32 == 14).then(|| Act::from(entry / 32))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_fault_is_read_as_it_is_printed() {
        for fault in Fault::ALL {
            assert_eq!(format!("{fault:?}").parse(), Ok(fault));
        }
        assert_eq!("EffectLate(7)".parse(), Ok(Fault::EffectLate(7)));
        assert_eq!("Late".parse::<Fault>(), Err(UnknownFault("Late".to_owned())));
    }

    #[test]
    fn a_tape_strikes_with_every_fault_and_every_kind_of_act_and_an_empty_one_with_none() {
        let tape = Plan::Tape((0..20_000).collect());
        let faults: BTreeSet<Fault> = (0..20_000).filter_map(|call| tape.of(call, call % 32 == 31)).collect();
        assert_eq!(faults, Fault::ALL.into());
        let acts = (0..20_000).filter_map(|call| tape.act_at(call));
        let kinds: BTreeSet<String> =
            acts.map(|act| format!("{act:?}").replace(|c| !char::is_alphabetic(c), "")).collect();
        assert!(kinds.len() >= 17, "{kinds:?}");
        let empty = Plan::Tape(Vec::new());
        assert!((0..300).all(|call| empty.of(call, true).is_none() && empty.act_at(call).is_none()));
    }
}
