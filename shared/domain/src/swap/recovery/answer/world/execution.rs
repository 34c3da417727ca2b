//! The execution: its phases as `respond.asl.yaml` steps through them, one write, look or call at a time. What they decide by
//! is the real thing; the order of writes and calls is a copy of `functions/interruption-responder/src/phases`.

use super::history::{History, doomed};
use super::recoverer::Came;
use super::*;
use crate::response::verdict::{launches_first, not_first};
use crate::swap::journal::Retirement;
use crate::swap::recovery::fate::{Answer, Fate, LIFE, at};
use crate::swap::recovery::truth::{Basis, Call, OLD, Row, Step, number};

/// The place of the execution. One step is one write, one look or one call; of a visit, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Answer,
    Replace,
    RaiseMax,
    SetDesired,
    WriteRaise { is_refused: bool },
    WaitForReplacement,
    Release,
    Leave,
    Restore,
}

#[derive(Debug, Clone)]
pub(super) struct Execution {
    pub at: At,
    /// As the payload has it; `None` without a lease.
    pub journal: Option<Journal>,
    /// When the Lambda of Replace began.
    since: u32,
    /// An earlier try of Replace has begun.
    is_again: bool,
    /// The measure of its last look.
    seen: Basis,
    /// MaxSize in its last look.
    seen_max: u32,
    /// A step failed for good.
    pub has_failed: bool,
    pub died_at: Option<u32>,
}

impl Execution {
    pub(super) fn new() -> Self {
        Self {
            at: At::Answer,
            journal: None,
            since: 0,
            is_again: false,
            seen: Basis::default(),
            seen_max: 0,
            has_failed: false,
            died_at: None,
        }
    }
}

impl History {
    pub(super) fn is_killed(&mut self, fate: Fate) -> bool {
        if fate.is_cut() {
            self.execution.died_at = Some(self.now);
            self.note(|it| format!("the execution dies at {:?}", it.execution.at));
            self.leaves_nothing();
        }
        fate.is_cut()
    }

    /// Writes the journal of the execution; false if the step ends with it.
    fn writes(&mut self, step: Step) -> bool {
        self.is_unsure |= step.fate != Fate::Done;
        if step.fate.is_written() {
            let revision = self.row.as_ref().map_or(0, |row| row.revision) + 1;
            let journal = self.execution.journal.clone().expect("a journal is written");
            self.row = Some(Row { journal, revision });
        }
        if !self.is_killed(step.fate) && step.fate != Fate::Done {
            self.fails(step);
        }
        step.fate == Fate::Done
    }

    /// A step fails: the state machine repeats it, or goes on by its Catch.
    fn fails(&mut self, step: Step) {
        self.note(|it| format!("{:?} fails, is repeated: {}", it.execution.at, step.retries));
        let caught = match self.execution.at {
            At::Answer | At::Restore => return self.is_refused_or_stuck(step),
            At::Replace | At::RaiseMax | At::SetDesired | At::WriteRaise { .. } if step.retries => {
                At::Replace
            }
            at if step.retries => at,
            At::Replace | At::RaiseMax | At::SetDesired | At::WriteRaise { .. } => At::Leave,
            At::WaitForReplacement | At::Release | At::Leave => At::Restore,
        };
        self.execution.has_failed |= !step.retries;
        self.execution.at = caught;
    }

    fn is_refused_or_stuck(&mut self, step: Step) {
        if !step.retries {
            self.execution.died_at = Some(self.now);
            self.leaves_nothing();
        }
    }

    /// Without a lease, no recoverer comes.
    fn leaves_nothing(&mut self) {
        if self.row.is_none() && self.end.is_none() {
            self.close(End::Undone);
        }
    }

    /// Makes the call of a step; `Some(is_refused)` if it is answered.
    fn calls(&mut self, call: Call, step: Step) -> Option<bool> {
        let answer = self.call(call, step, self.execution.seen);
        if self.is_killed(step.fate) {
            return None;
        }
        match answer {
            Answer::Done => Some(false),
            // A throttle is no refusal.
            Answer::Refused if step.fate == Fate::Refused && step.gives_up => {
                self.fails(step);
                None
            }
            Answer::Refused => Some(true),
            // The SDK repeats none of these calls, of the answer's raise of MaxSize neither.
            Answer::Again | Answer::Nothing => {
                self.fails(step);
                None
            }
        }
    }

    pub(super) fn phase(&mut self, step: Step) {
        let is_in_replace =
            matches!(self.execution.at, At::RaiseMax | At::SetDesired | At::WriteRaise { .. });
        if is_in_replace && self.now > self.execution.since + LIFE {
            self.is_unsure = true;
            return self.fails(step); // its Lambda was killed
        }
        match self.execution.at {
            At::Answer => self.answers(step),
            At::Replace => self.replaces(step),
            At::RaiseMax => self.raises_max(step),
            At::SetDesired => self.sets_desired(step),
            At::WriteRaise { is_refused } => {
                let is_again = self.execution.is_again;
                if let Some(journal) = &mut self.execution.journal {
                    journal.acknowledge_raise(is_refused, is_again);
                }
                if self.writes(step) {
                    self.execution.at = if is_refused { At::Leave } else { At::WaitForReplacement };
                }
            }
            At::WaitForReplacement => self.waits(step),
            At::Release => self.releases(step),
            At::Leave => self.leaves(step),
            At::Restore => self.restores(step),
        }
    }

    fn answers(&mut self, step: Step) {
        let seen = self.look(step.ages);
        if not_first(&seen.group, self.ends_at(), at(self.now)).is_some() {
            self.execution.at = At::Leave;
            return;
        }
        let kind = SwapKind::Answer(AnswerJournal::new(self.ends_at()));
        let mut journal = Journal::new(&doomed(), Timestamp::UNIX_EPOCH, Retirement::TerminateInGroup, kind);
        journal.launching_since = Timestamp::UNIX_EPOCH;
        self.execution.journal = Some(journal);
        if self.writes(step) {
            self.execution.at = At::Replace;
        }
    }

    fn replaces(&mut self, step: Step) {
        let seen = self.look(step.ages);
        (self.execution.seen, self.execution.seen_max, self.execution.since) =
            (seen.basis, seen.group.max, self.now);
        let Some(stored) = self.row.as_ref().map(|row| row.journal.clone()) else { return };
        self.execution.is_again = stored.original.is_some();
        let mut journal = stored;
        if self.execution.is_again {
            journal.changed_at = Some(at(self.now));
        } else {
            if not_first(&seen.group, self.ends_at(), at(self.now)).is_some() {
                self.execution.at = At::Leave;
                return;
            }
            if launches_first(&seen.group) {
                journal.foresee_own_replacement(&seen.group);
            } else {
                journal.foresee_raise(&seen.group, at(self.now));
            }
            self.counts_as_before(&seen.group);
        }
        let (raise, original) = (journal.kind.answer().map(|answer| answer.raise), journal.original.clone());
        self.execution.journal = Some(journal);
        if !self.writes(step) {
            return;
        }
        let is_as_before = original.is_some_and(|original| original.desired == seen.group.desired);
        self.execution.at = match raise {
            Some(Raise::Refused) => At::Leave,
            Some(Raise::Asked) if is_as_before => At::RaiseMax,
            _ => At::WaitForReplacement,
        };
    }

    /// The members that serve before the raise count as their group counts them, whatever their target groups say.
    fn counts_as_before(&mut self, group: &Group) {
        for n in group.members.iter().filter(|m| m.serves()).map(|m| number(&m.id)) {
            self.truth.members.iter_mut().filter(|m| m.n == n).for_each(|m| m.is_registered = true);
        }
    }

    fn raises_max(&mut self, step: Step) {
        let to = self.execution.journal.as_ref().and_then(|journal| journal.max_raised_to);
        let call = to.filter(|to| *to > self.execution.seen_max).map(Call::SetMax);
        match call.map_or(Some(false), |call| self.calls(call, step)) {
            Some(false) => self.execution.at = At::SetDesired,
            Some(true) => self.execution.at = At::WriteRaise { is_refused: true },
            None => {}
        }
    }

    fn sets_desired(&mut self, step: Step) {
        let original = self.execution.journal.as_ref().and_then(|journal| journal.original.as_ref());
        let Some(to) = original.map(|original| original.desired + 1) else { return };
        if let Some(is_refused) = self.calls(Call::SetDesired(to), step) {
            self.execution.at = At::WriteRaise { is_refused };
        }
    }

    fn waits(&mut self, step: Step) {
        let seen = self.look(step.ages);
        let Some(journal) = &self.execution.journal else { return };
        let observed = self.observed(journal, &seen);
        if is_replaced(journal, &observed) || self.is_time_up() {
            self.execution.at = At::Release;
        }
    }

    fn releases(&mut self, step: Step) {
        match self.visit(0, step) {
            Came::On => {}
            Came::ToAnEnd(None) => self.fails(step),
            Came::ToAnEnd(Some(journal)) => {
                let observed = self.observed(&journal, &self.look(step.ages));
                self.execution.at = match journal.desired_settled {
                    true => At::Restore,
                    false if has_to_wait(&journal, &observed) => At::WaitForReplacement,
                    false => At::Leave,
                };
                self.execution.journal = Some(*journal);
            }
        }
    }

    fn leaves(&mut self, step: Step) {
        let seen = self.look(step.ages);
        self.execution.seen = seen.basis;
        let stays = seen.group.member(&doomed()).is_some_and(|member| !is_leaving(member));
        let call = Call::TerminateMember { n: OLD, decrement: false };
        match stays.then(|| self.calls(call, step)) {
            None => self.execution.at = At::Restore,
            // By its group, which is refused where it is leaving: that is its end, too.
            Some(Some(is_refused)) if !is_refused || step.fate != Fate::Refused => {
                self.execution.at = At::Restore;
            }
            Some(Some(_)) => self.fails(step),
            Some(None) => {}
        }
    }

    fn restores(&mut self, step: Step) {
        if self.row.is_none() {
            return self.close(End::Undone);
        }
        if matches!(self.visit(0, step), Came::ToAnEnd(None)) {
            self.fails(step);
        }
    }
}
