//! What can go wrong with one call, and which calls it befalls.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;

use crate::acts::Act;
use crate::chronicle::SentCall;

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
    /// The faults of a call whose action is out.
    pub const OF_OUTAGES: [Self; 4] =
        [Self::RequestLost, Self::AnswerLost, Self::ErrorAfterEffect, Self::Throttled];

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
            // Before a read and after it are one.
            Self::EffectLate(_)
            | Self::Twice
            | Self::AnswerLate
            | Self::ErrorAfterEffect
            | Self::DiesAfter
            | Self::StoppedAfter => !is_read,
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

/// How much of AWS an outage concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// One action.
    Action,
    /// A service with all its actions.
    Service,
}

/// An action or a service that is out for a while: each call that the fault concerns fails. Reads get internal errors, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// The number of the first call that fails.
    pub from: usize,
    /// What of the service of that call is out.
    pub extent: Extent,
    /// What goes wrong with each call: one of [`Fault::OF_OUTAGES`].
    pub fault: Fault,
    /// How long it lasts.
    pub seconds: u32,
}

impl Outage {
    /// Returns the fault of a call, after those that were sent before it.
    fn strikes(self, call: &SentCall, before: &[SentCall]) -> Option<Fault> {
        let first = before.get(self.from).or_else(|| (before.len() == self.from).then_some(call))?;
        let is_meant = first.service == call.service
            && (self.extent == Extent::Service || first.action == call.action)
            && (self.fault == Fault::ErrorAfterEffect || self.fault.concerns(call.is_read));
        let lasts = SignedDuration::from_secs(self.seconds.into());
        (is_meant && call.at.duration_since(first.at) < lasts).then_some(self.fault)
    }
}

/// A person stops every execution that runs, in a step or between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The second of the history.
    pub at: u64,
    /// So many seconds later, a person redrives every execution that did not succeed.
    pub redriven_after: Option<u64>,
}

impl Stop {
    /// Returns the second of the last act.
    #[must_use]
    pub fn is_over_at(self) -> u64 {
        self.at + self.redriven_after.unwrap_or_default()
    }
}

/// The faults of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Faults by the number of the call, from 0.
    At(BTreeMap<usize, Fault>),
    /// No fault, and this act of others right before the call takes effect.
    ActAt(usize, Act),
    /// An action or a service is out for a while.
    Outage(Outage),
    /// A stop, and perhaps a redrive.
    Stopped(Stop),
    /// Faults and acts of others by the number of the call, from 0.
    Random(BTreeMap<usize, Strike>),
}

/// What befalls a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// A fault, if it concerns the call.
    Fault(Fault),
    /// An act of others, right before the call takes effect.
    Act(Act),
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
            Self::Random(strikes) => {
                strikes.values().any(|strike| matches!(strike, Strike::Fault(Fault::Stale(_))))
            }
            Self::ActAt(..) | Self::Outage(_) | Self::Stopped(_) => false,
        }
    }

    /// Returns the stop, if a person stops the executions.
    #[must_use]
    pub fn stop(&self) -> Option<Stop> {
        if let Self::Stopped(stop) = self { Some(*stop) } else { None }
    }

    /// Returns the fault of a call, after those that were sent before it.
    #[must_use]
    pub fn of(&self, call: &SentCall, before: &[SentCall]) -> Option<Fault> {
        match self {
            Self::At(faults) => faults.get(&before.len()).copied(),
            Self::ActAt(..) | Self::Stopped(_) => None,
            Self::Outage(outage) => outage.strikes(call, before),
            Self::Random(strikes) => match strikes.get(&before.len()) {
                Some(Strike::Fault(fault)) if fault.concerns(call.is_read) => Some(*fault),
                _ => None,
            },
        }
    }

    /// Returns the act of others that comes with a call.
    #[must_use]
    pub fn act_at(&self, call: usize) -> Option<Act> {
        match self {
            Self::At(_) | Self::Outage(_) | Self::Stopped(_) => None,
            Self::ActAt(number, act) => (*number == call).then_some(*act),
            Self::Random(strikes) => match strikes.get(&call) {
                Some(Strike::Act(act)) => Some(*act),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtual_time::BEGIN;
    use crate::wire::Service;

    #[test]
    fn a_fault_is_read_as_it_is_printed() {
        for fault in Fault::ALL {
            assert_eq!(format!("{fault:?}").parse(), Ok(fault));
        }
        assert_eq!("EffectLate(7)".parse(), Ok(Fault::EffectLate(7)));
        assert_eq!("Late".parse::<Fault>(), Err(UnknownFault("Late".to_owned())));
    }

    #[test]
    fn a_random_plan_strikes_a_call_with_what_concerns_it() {
        let (stale, dies) = (Strike::Fault(Fault::Stale(20)), Strike::Act(Act::MemberDies(0)));
        let plan = Plan::Random([(0, stale), (1, dies)].into());
        let change = call("RunInstances", 0);
        let read = SentCall { is_read: true, ..change.clone() };
        assert_eq!(plan.of(&read, &[]), Some(Fault::Stale(20)));
        assert_eq!(plan.of(&change, &[]), None);
        assert_eq!(plan.of(&read, &[change]), None);
        assert_eq!(
            (0..3).map(|call| plan.act_at(call)).collect::<Vec<_>>(),
            [None, Some(Act::MemberDies(0)), None]
        );
    }

    fn call(action: &str, second: i64) -> SentCall {
        SentCall {
            by: "Launch".to_owned(),
            invocation: None,
            service: Service::Ec2,
            action: action.to_owned(),
            is_read: false,
            fault: None,
            at: BEGIN + SignedDuration::from_secs(second),
            effect: None,
        }
    }

    #[test]
    fn an_outage_strikes_each_call_from_its_first_until_it_ends() {
        let scaling = |second| SentCall { service: Service::AutoScaling, ..call("RunInstances", second) };
        let read = |second| SentCall { is_read: true, ..call("DescribeInstances", second) };
        let calls = [
            call("RunInstances", 5),
            call("RunInstances", 60),
            call("StopInstances", 61),
            scaling(62),
            read(63),
            call("RunInstances", 69),
            call("RunInstances", 70),
        ];
        let struck = |extent, fault| {
            let plan = Plan::Outage(Outage { from: 1, extent, fault, seconds: 10 });
            let faults = (0..calls.len()).map(|number| plan.of(&calls[number], &calls[..number]));
            faults.map(|fault| fault.is_some()).collect::<Vec<_>>()
        };
        let action = [false, true, false, false, false, true, false];
        assert_eq!(struck(Extent::Action, Fault::Throttled), action);
        let service = [false, true, true, false, true, true, false];
        for fault in [Fault::Throttled, Fault::ErrorAfterEffect] {
            assert_eq!(struck(Extent::Service, fault), service, "{fault}");
        }
        let changes = [false, true, true, false, false, true, false];
        assert_eq!(struck(Extent::Service, Fault::Twice), changes);
    }
}
