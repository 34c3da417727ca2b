//! The execution: its phases as the state machine steps through them, one write, look or call at a time. What they decide
//! by is the real thing; the order of writes and calls is a copy of `shared/swap/src/phases`.

use super::history::History;
use super::*;
use crate::swap::recovery::fate::{Answer, Fate, at};
use crate::swap::recovery::truth::{Basis, Call, NEW, OLD, Row, Step, ids};
use crate::swap::scaling::scaling;
use crate::swap::selection::changed_before_retirement;

/// The place of the execution. One step is one write, one look or one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    WriteLaunching,
    Launch,
    WaitForHealth,
    LookAndWriteAttaching,
    RaiseMax,
    Suspend,
    Attach,
    WaitForInService,
    LookBeforeRetirement,
    WriteRetiring,
    Retire,
    WaitForRetirement,
    Resume,
    RestoreMax,
    Close,
    Rollback,
}

#[derive(Debug, Clone)]
pub(super) struct Execution {
    pub at: At,
    /// As the payload has it.
    pub journal: Journal,
    /// An earlier run of the step has entered its stage.
    again: bool,
    /// The measure of its last look.
    seen: Basis,
    pub undo: Option<Undo>,
    pub died_at: Option<u32>,
}

impl Execution {
    pub(super) fn new(journal: Journal) -> Self {
        Self {
            at: At::WriteLaunching,
            journal,
            again: false,
            seen: Basis::default(),
            undo: None,
            died_at: None,
        }
    }
}

impl History {
    /// Writes the journal of the execution; false if the step ends with it.
    fn writes(&mut self, fate: Fate) -> bool {
        if fate.is_written() {
            let revision = self.row.as_ref().map_or(0, |row| row.revision) + 1;
            self.row = Some(Row { journal: self.execution.journal.clone(), revision });
        }
        !self.is_killed(fate) && fate == Fate::Done
    }

    pub(super) fn is_killed(&mut self, fate: Fate) -> bool {
        if fate.is_cut() {
            self.execution.died_at = Some(self.now);
            self.note(|it| format!("the execution dies at {:?}", it.execution.at));
        }
        fate.is_cut()
    }

    fn undo(&mut self, reason: Reason) {
        self.note(|it| format!("back: {reason} at {:?}", it.execution.at));
        self.truth.is_given_up |= reason == Reason::NewcomerNotServing;
        self.execution.undo = Some(Undo { reason, detail: String::new() });
        self.execution.at = At::Rollback;
    }

    /// Makes the call of a step; `Some(is_refused)` if it is answered.
    fn calls(&mut self, call: Call, step: Step) -> Option<bool> {
        let answer = self.call(call, step.fate, self.execution.seen);
        if self.is_killed(step.fate) {
            return None;
        }
        match answer {
            Answer::Done => Some(false),
            Answer::Refused => Some(true),
            Answer::Again => None,
            Answer::Nothing if step.retries => {
                self.repeat();
                None
            }
            Answer::Nothing => {
                self.undo(Reason::StepFailed);
                None
            }
        }
    }

    fn repeat(&mut self) {
        self.execution.at = match self.execution.at {
            At::RaiseMax | At::Suspend | At::Attach => At::LookAndWriteAttaching,
            At::WriteRetiring | At::Retire => At::LookBeforeRetirement,
            at => at,
        };
    }

    pub(super) fn phase(&mut self, step: Step) {
        let Step { fate, ages, .. } = step;
        let original = self.execution.journal.original.clone();
        let max_raised_to = self.execution.journal.max_raised_to;
        match self.execution.at {
            At::WriteLaunching => {
                self.execution.journal.launching_since = at(self.now);
                if self.writes(fate) {
                    self.execution.at = At::Launch;
                }
            }
            At::Launch => {
                if self.calls(Call::Launch, step) == Some(false) {
                    self.execution.at = At::WaitForHealth;
                }
            }
            At::WaitForHealth => {
                let seen = self.look(ages);
                if seen.new.is_some_and(|new| !new.alive) {
                    self.undo(Reason::NewcomerUnhealthy);
                } else if self.poisoned {
                    self.undo(Reason::NewcomerAtRisk);
                } else if seen.new.is_some() && scaling(&seen.group, &mut None, at(self.now)).is_none() {
                    self.execution.at = At::LookAndWriteAttaching;
                }
            }
            At::LookAndWriteAttaching => self.look_and_write_attaching(fate, ages),
            At::RaiseMax => {
                let call = max_raised_to.filter(|to| *to > self.truth.max).map(Call::SetMax);
                if call.is_none_or(|call| self.calls(call, step) == Some(false)) {
                    self.execution.at = At::Suspend;
                }
            }
            At::Suspend => {
                if self.calls(Call::Suspend, step) == Some(false) {
                    self.execution.at = At::Attach;
                }
            }
            At::Attach => match self.calls(Call::Attach(NEW), step) {
                Some(true) if self.truth.member(NEW).is_none() => self.undo(Reason::AttachRejected),
                Some(_) => self.execution.at = At::WaitForInService,
                None => {}
            },
            At::WaitForInService => self.wait_for_in_service(step),
            At::LookBeforeRetirement => self.look_before_retirement(ages),
            At::WriteRetiring => self.write_retiring(fate),
            At::Retire => self.retire(step),
            At::WaitForRetirement => self.wait_for_retirement(step),
            At::Resume => {
                if self.calls(Call::Resume, step) == Some(false) {
                    self.execution.at = At::RestoreMax;
                }
            }
            At::RestoreMax => self.restore_max(step, original.map_or(0, |original| original.max)),
            At::Close => {
                if fate.is_written() {
                    self.close(End::Finished);
                }
                self.is_killed(fate);
            }
            At::Rollback => {}
        }
    }

    fn look_and_write_attaching(&mut self, fate: Fate, ages: [u8; 3]) {
        let seen = self.look(ages);
        self.execution.seen = seen.basis;
        let is_member = seen.group.member(&ids(NEW)).is_some();
        let old = seen.group.member(&ids(OLD));
        if !is_member && !old.is_some_and(Member::serves) {
            return self.undo(Reason::InstanceGone);
        }
        let stored = self.row.as_ref().filter(|row| row.journal.stage == Stage::Attaching);
        if let Some(stored) = stored {
            self.execution.journal = stored.journal.clone();
            self.execution.at = if is_member { At::WaitForInService } else { At::RaiseMax };
            return;
        }
        let group = &seen.group;
        let journal = &mut self.execution.journal;
        journal.stage = Stage::Attaching;
        journal.changed_at = Some(at(self.now));
        journal.newcomer = Some(ids(NEW));
        journal.max_raised_to = (group.desired >= group.max).then(|| group.desired + 1);
        journal.original = Some(Original {
            desired: group.desired,
            max: group.max,
            az_rebalance_suspended: false,
            serving: group.in_service(),
            members: group.members.iter().map(|m| m.id.clone()).collect(),
            not_serving: group.members.iter().filter(|m| !m.serves()).map(|m| m.id.clone()).collect(),
        });
        if self.writes(fate) {
            self.execution.at = At::RaiseMax;
        }
    }

    fn wait_for_in_service(&mut self, step: Step) {
        let seen = self.look(step.ages);
        let dead = seen.new.is_some_and(|new| !new.alive);
        match seen.group.member(&ids(NEW)) {
            Some(m) if m.state == MemberState::Leaving => self.undo(Reason::NewcomerNotServing),
            _ if dead || self.poisoned => self.undo(Reason::NewcomerAtRisk),
            Some(m) if m.serves() => self.execution.at = At::LookBeforeRetirement,
            _ if step.gives_up => self.undo(Reason::NewcomerNotServing),
            _ => {}
        }
    }

    fn look_before_retirement(&mut self, ages: [u8; 3]) {
        let seen = self.look(ages);
        self.execution.seen = seen.basis;
        let Some(original) = self.execution.journal.original.clone() else { return };
        let settings = &*super::tests::SETTINGS;
        if seen.new.is_none_or(|new| !new.alive) {
            return self.undo(Reason::NewcomerAtRisk);
        }
        let changed = changed_before_retirement(&seen.group, &ids(OLD), &ids(NEW), &original, settings);
        match changed {
            Some(change) => self.undo(change.reason),
            None if self.poisoned => self.undo(Reason::NewcomerAtRisk),
            None => self.execution.at = At::WriteRetiring,
        }
    }

    fn write_retiring(&mut self, fate: Fate) {
        let stored = self.row.as_ref().filter(|row| row.journal.stage == Stage::Retiring);
        self.execution.again = stored.is_some();
        if let Some(stored) = stored {
            self.execution.journal = stored.journal.clone();
            self.execution.at = At::Retire;
            return;
        }
        self.execution.journal.foresee_retirement(self.truth.max, at(self.now));
        if self.writes(fate) {
            self.execution.at = At::Retire;
        }
    }

    fn retire(&mut self, step: Step) {
        let call = match self.execution.journal.retirement {
            Retirement::Detach => Call::Detach(OLD),
            Retirement::TerminateInGroup => Call::TerminateMember { n: OLD, decrement: true },
        };
        match self.calls(call, step) {
            Some(true) => {
                let seen = self.look(step.ages);
                let has_left = seen.group.member(&ids(OLD)).is_none_or(|m| m.state == MemberState::Leaving);
                let desired = self.execution.journal.original.as_ref().map(|original| original.desired);
                if !has_left && step.fate == Fate::Refused {
                    self.undo(why_not_retired(!self.execution.again, false));
                } else if !has_left {
                    self.repeat();
                } else if desired == Some(seen.group.desired) {
                    self.execution.at = At::WaitForRetirement;
                } else {
                    self.undo(why_not_retired(!self.execution.again, true));
                }
            }
            Some(false) => {
                self.execution.journal.retired = true; // In the payload alone.
                self.execution.at = At::WaitForRetirement;
            }
            None => {}
        }
    }

    fn wait_for_retirement(&mut self, step: Step) {
        let seen = self.look(step.ages);
        self.execution.seen = seen.basis;
        let mut observed = self.observed(&self.execution.journal, &seen);
        let is_member = seen.group.member(&ids(NEW)).is_some();
        let detached = self.execution.journal.retirement == Retirement::Detach;
        observed.old_alive = detached && seen.old.alive;
        if let Some(newcomer) = &mut observed.newcomer {
            newcomer.alive &= is_member;
        }
        match next(&self.execution.journal, &observed) {
            Decision::Wait(_) if step.gives_up => self.is_stuck(),
            Decision::Wait(_) => {}
            Do(Action::TerminateOld) if self.poisoned => self.undo(Reason::NewcomerAtRisk),
            Do(Action::TerminateOld) => {
                if self.calls(Call::Terminate(OLD), step) == Some(false) {
                    self.execution.at = At::Resume;
                }
            }
            Do(Action::RestoreMaxSize(max)) => drop(self.calls(Call::SetMax(max), step)),
            Do(Action::ResumeAzRebalance) | Decision::Done(End::Finished)
                if goes_forward(&self.execution.journal, &observed) =>
            {
                self.execution.at = At::Resume;
            }
            Do(Action::ReattachOld | Action::RaiseMaxSize(_)) => self.undo(Reason::NewcomerNotServing),
            _ => self.undo(Reason::GroupChanged),
        }
    }

    fn restore_max(&mut self, step: Step, max: u32) {
        let mut seen = self.look(step.ages);
        self.execution.seen = seen.basis;
        seen.group.suspended.clear();
        let raised = self.execution.journal.max_raised_to.filter(|raised| *raised == seen.group.max);
        let fits = seen.group.desired <= max;
        if raised.is_none() || (fits && self.calls(Call::SetMax(max), step) == Some(false)) {
            self.execution.at = At::Close;
        } else if !fits && step.gives_up {
            self.is_stuck();
        }
    }

    /// A deadline has passed: the execution fails, and the reconciler goes on.
    fn is_stuck(&mut self) {
        self.execution.died_at = Some(self.now);
    }
}
