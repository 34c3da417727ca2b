//! Acts as a failure prints them.

use std::str::FromStr;

use super::{Act, LabAct, PROCESSES, TwinAct};

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
            "OwnerTakesOut" => numbers.parse().ok().map(Self::OwnerTakesOut),
            "OwnerSuspends" => suspended(numbers).map(Self::OwnerSuspends),
            "MemberDies" => numbers.parse().ok().map(Self::MemberDies),
            "NewcomerIsInterrupted" => numbers.parse().ok().map(Self::NewcomerIsInterrupted),
            "MemberIsInterrupted" => interrupted(numbers),
            "MemberIsAtRisk" => numbers.parse().ok().map(Self::MemberIsAtRisk),
            "CapacityIsShort" => numbers.parse().ok().map(Self::CapacityIsShort),
            "TargetTurnsUnhealthy" => numbers.parse().ok().map(Self::TargetTurnsUnhealthy),
            "OwnerOfInstance" => numbers.parse().ok().map(Self::OwnerOfInstance),
            "OwnerOfTwin" => numbers.parse().ok().map(Self::OwnerOfTwin),
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
        Act::SpotPricesRise,
        Act::TagsAreForged,
        Act::TargetsTurnHealthy,
    ];
    acts.into_iter().find(|act| format!("{act:?}") == text)
}

impl FromStr for LabAct {
    type Err = UnknownAct;

    /// Parses one of [`LabAct::ALL`] as its `Debug` form writes it.
    fn from_str(text: &str) -> Result<Self, UnknownAct> {
        let act = Self::ALL.into_iter().find(|act| format!("{act:?}") == text);
        act.ok_or_else(|| UnknownAct(text.to_owned()))
    }
}

impl FromStr for TwinAct {
    type Err = UnknownAct;

    /// Parses an act as its `Debug` form writes it.
    fn from_str(text: &str) -> Result<Self, UnknownAct> {
        let act = Self::ALL.into_iter().find(|act| format!("{act:?}") == text);
        act.ok_or_else(|| UnknownAct(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::iter::successors;

    use super::*;

    /// Returns an act of the variant after this one. A new variant needs a place in this chain.
    fn next(act: Act) -> Option<Act> {
        Some(match act {
            Act::PolicyScales(_) => Act::OwnerSetsDesired(3),
            Act::OwnerSetsDesired(_) => Act::OwnerSetsMax(4),
            Act::OwnerSetsMax(_) => Act::OwnerOptsOut,
            Act::OwnerOptsOut => Act::OwnerProtects(1),
            Act::OwnerProtects(_) => Act::OwnerDetaches(2),
            Act::OwnerDetaches(_) => Act::OwnerTakesOut(2),
            Act::OwnerTakesOut(_) => Act::OwnerSuspends("Launch"),
            Act::OwnerSuspends(_) => Act::MemberDies(0),
            Act::MemberDies(_) => Act::NewcomerDies,
            Act::NewcomerDies => Act::NewcomersPoolIsPoisoned,
            Act::NewcomersPoolIsPoisoned => Act::NewcomerIsInterrupted(2),
            Act::NewcomerIsInterrupted(_) => Act::MemberIsInterrupted(1, 2),
            Act::MemberIsInterrupted(..) => Act::MemberIsAtRisk(1),
            Act::MemberIsAtRisk(_) => Act::GroupRebalances,
            Act::GroupRebalances => Act::CapacityIsShort(2),
            Act::CapacityIsShort(_) => Act::CapacityIsBack,
            Act::CapacityIsBack => Act::SpotPricesRise,
            Act::SpotPricesRise => Act::TagsAreForged,
            Act::TagsAreForged => Act::TargetTurnsUnhealthy(1),
            Act::TargetTurnsUnhealthy(_) => Act::TargetsTurnHealthy,
            Act::TargetsTurnHealthy => Act::OwnerOfInstance(LabAct::StopsOld),
            Act::OwnerOfInstance(_) => Act::OwnerOfTwin(TwinAct::Terminates),
            Act::OwnerOfTwin(_) => return None,
        })
    }

    /// Returns the act after this one. A new one needs a place in this chain.
    fn next_of_twin(act: TwinAct) -> Option<TwinAct> {
        Some(match act {
            TwinAct::Terminates => TwinAct::OptsOut,
            TwinAct::OptsOut => TwinAct::Tags,
            TwinAct::Tags => TwinAct::TakesOut,
            TwinAct::TakesOut => TwinAct::RegistersElsewhere,
            TwinAct::RegistersElsewhere => return None,
        })
    }

    /// Returns an act of the variant after this one. A new variant needs a place in this chain.
    fn next_of_instance(act: LabAct) -> Option<LabAct> {
        let enabled = "spot-optimizer:enabled";
        Some(match act {
            LabAct::StopsOld => LabAct::StartsOld,
            LabAct::StartsOld => LabAct::TerminatesOld,
            LabAct::TerminatesOld => LabAct::GivesAddressToOld,
            LabAct::GivesAddressToOld => LabAct::MovesAddress,
            LabAct::MovesAddress => LabAct::TakesOldOut,
            LabAct::TakesOldOut => LabAct::RegistersOldElsewhere,
            LabAct::RegistersOldElsewhere => LabAct::ProtectsOldFromTermination,
            LabAct::ProtectsOldFromTermination => LabAct::ProtectsOldFromStop,
            LabAct::ProtectsOldFromStop => LabAct::OptsOldOut,
            LabAct::OptsOldOut => LabAct::TagsOld(enabled, "false"),
            LabAct::TagsOld(..) => LabAct::UntagsOld(enabled),
            LabAct::UntagsOld(_) => LabAct::AsksForOld,
            LabAct::AsksForOld => return None,
        })
    }

    #[test]
    fn an_act_of_each_variant_is_read_as_it_is_printed() {
        let acts = successors(Some(Act::PolicyScales(-1)), |act| next(*act));
        let of_instance = successors(Some(LabAct::StopsOld), |act| next_of_instance(*act));
        let of_twin = successors(Some(TwinAct::Terminates), |act| next_of_twin(*act));
        let of_owner = of_instance.map(Act::OwnerOfInstance).chain(of_twin.map(Act::OwnerOfTwin));
        for act in acts.chain(of_owner) {
            assert_eq!(format!("{act:?}").parse(), Ok(act));
        }
    }

    #[test]
    fn an_act_with_a_number_is_read_as_it_is_printed() {
        for act in (0..2_000).map(Act::from) {
            assert_eq!(format!("{act:?}").parse(), Ok(act));
        }
    }

    #[test]
    fn a_text_that_names_no_act_is_refused() {
        let wrong = ["MemberDies", "MemberDies(x)", "OwnerSuspends(\"Sleep\")", "Throttled", ""];
        for text in wrong {
            assert_eq!(text.parse::<Act>(), Err(UnknownAct(text.to_owned())));
        }
        for text in ["OwnerOfInstance", "OwnerOfInstance(TagsOld(\"a\", \"b\"))", "OwnerOfInstance(Sleeps)"] {
            assert_eq!(text.parse::<Act>(), Err(UnknownAct(text.to_owned())));
        }
    }
}
