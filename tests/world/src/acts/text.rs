//! Acts as a failure prints them.

use std::str::FromStr;

use super::{Act, PROCESSES};

/// A text that names no act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no act")]
pub struct UnknownAct(String);

impl FromStr for Act {
    type Err = UnknownAct;

    /// Parses an act as its `Debug` form writes it.
    fn from_str(text: &str) -> Result<Self, UnknownAct> {
        let (name, numbers) = match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
            Some((name, arguments)) => (name, arguments),
            None => (text, ""),
        };
        let act = match name {
            "PolicyScales" => numbers.parse().ok().map(Self::PolicyScales),
            "OwnerSetsDesired" => numbers.parse().ok().map(Self::OwnerSetsDesired),
            "OwnerSetsMax" => numbers.parse().ok().map(Self::OwnerSetsMax),
            "OwnerProtects" => numbers.parse().ok().map(Self::OwnerProtects),
            "OwnerDetaches" => numbers.parse().ok().map(Self::OwnerDetaches),
            "OwnerSuspends" => suspended(numbers).map(Self::OwnerSuspends),
            "MemberDies" => numbers.parse().ok().map(Self::MemberDies),
            "NewcomerIsInterrupted" => numbers.parse().ok().map(Self::NewcomerIsInterrupted),
            "MemberIsInterrupted" => interrupted(numbers),
            "MemberIsAtRisk" => numbers.parse().ok().map(Self::MemberIsAtRisk),
            "CapacityIsShort" => numbers.parse().ok().map(Self::CapacityIsShort),
            "TargetTurnsUnhealthy" => numbers.parse().ok().map(Self::TargetTurnsUnhealthy),
            _ => without_number(text),
        };
        act.ok_or_else(|| UnknownAct(text.to_owned()))
    }
}

fn suspended(quoted: &str) -> Option<&'static str> {
    PROCESSES.into_iter().find(|process| format!("{process:?}") == quoted)
}

fn interrupted(numbers: &str) -> Option<Act> {
    let (which, times) = numbers.split_once(", ")?;
    Some(Act::MemberIsInterrupted(which.parse().ok()?, times.parse().ok()?))
}

fn without_number(text: &str) -> Option<Act> {
    let acts = [
        Act::OwnerOptsOut,
        Act::NewcomerDies,
        Act::NewcomersPoolIsPoisoned,
        Act::GroupRebalances,
        Act::CapacityIsBack,
        Act::TargetsTurnHealthy,
    ];
    acts.into_iter().find(|act| format!("{act:?}") == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_is_read_as_it_is_printed() {
        for act in (0..2_000).map(Act::from) {
            assert_eq!(format!("{act:?}").parse(), Ok(act));
        }
        for text in ["MemberDies", "MemberDies(x)", "OwnerSuspends(\"Sleep\")", "Throttled", ""] {
            assert_eq!(text.parse::<Act>(), Err(UnknownAct(text.to_owned())));
        }
    }
}
