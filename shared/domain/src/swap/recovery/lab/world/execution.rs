//! The execution: its phases as the state machine steps through them, one write, look or call at a time. What they decide
//! by is the real thing. The order of writes, looks and calls is a copy of `take_over`, `retire_old` and
//! `report` in `functions/lab-optimizer/src/phases`.

use super::aws::{Call, Power, Truth, Who};
use super::history::{History, Step};
use super::look::Basis;
use super::recoverer::{Goes, Visit};
use super::*;
use crate::swap::recovery::fate::{Answer, Fate, LIFE};

/// The place of the execution. One step is one write, one look or one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    WriteCapturing,
    LookForImage,
    WriteBeforeImage,
    CreateImage,
    NoteImage,
    WriteLaunching,
    LookForEarlier,
    WriteAttempt,
    Launch,
    WaitForHealth,
    NoteVolumes,
    AskOwner,
    WriteAttaching,
    TakeOver,
    TakeOverCall(Call),
    WriteRetiring,
    Retire,
    Report,
    Rollback,
}

impl At {
    /// Where its phase begins: a Lambda runs from there.
    pub(super) const fn phase(self) -> Self {
        match self {
            Self::LookForImage | Self::WriteBeforeImage | Self::CreateImage | Self::NoteImage => {
                Self::WriteCapturing
            }
            Self::LookForEarlier | Self::WriteAttempt | Self::Launch => Self::WriteLaunching,
            Self::NoteVolumes => Self::WaitForHealth,
            Self::WriteAttaching | Self::TakeOver | Self::TakeOverCall(_) => Self::AskOwner,
            Self::Retire => Self::WriteRetiring,
            at => at,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Execution {
    pub at: At,
    /// The journal as the running step has it.
    pub(super) journal: Journal,
    /// As the payload has it: a step that is repeated begins with this.
    payload: Journal,
    /// The attempt that launched its newcomer.
    pub(super) newcomer: usize,
    /// An earlier run of the step has entered its stage.
    pub(super) again: bool,
    /// When the Lambda of the step began.
    since: u32,
    /// The measure of its last look.
    seen: Basis,
    pub undo: Option<Undo>,
    pub died_at: Option<u32>,
    pub visit: Visit,
}

enum Entered {
    Yes,
    /// Another run of the step was there before.
    Again,
    /// The lease is lost, or the swap is being undone.
    No,
}

impl Execution {
    pub(super) fn new(journal: Journal) -> Self {
        let captures = journal.kind.lab().is_some_and(|lab| lab.capture);
        Self {
            at: if captures { At::WriteCapturing } else { At::WriteLaunching },
            payload: journal.clone(),
            journal,
            newcomer: 0,
            again: false,
            since: 0,
            seen: Basis::default(),
            undo: None,
            died_at: None,
            visit: Visit::default(),
        }
    }

    pub(super) fn lab(&mut self) -> &mut LabSwap {
        self.journal.kind.lab_mut().unwrap()
    }

    fn who(&self) -> Who {
        Who::New(self.newcomer)
    }
}

impl Truth {
    /// The owner's answer, as `owner::change` asks for it. Of one that does not run, it asks nothing.
    pub(super) fn owner_speaks_against_it(&self) -> bool {
        self.old.power == Power::Running && self.owner.changed.is_some()
    }
}

impl History {
    /// The step is done, and its payload goes on.
    pub(super) fn goes(&mut self, to: At) {
        self.execution.payload = self.execution.journal.clone();
        (self.execution.at, self.execution.since) = (to, self.now);
    }

    pub(super) fn moves(&mut self, to: At) {
        self.execution.at = to;
    }

    pub(super) fn undo(&mut self, reason: Reason) {
        self.note(|it| format!("back: {reason} at {:?}", it.execution.at));
        self.execution.undo = Some(Undo { reason, detail: String::new() });
        self.execution.visit = Visit::default();
        self.goes(At::Rollback);
    }

    /// The step has failed: the state machine repeats it, or rolls back.
    pub(super) fn fails(&mut self, retries: bool) {
        if !retries && self.execution.at != At::Rollback {
            return self.undo(Reason::StepFailed);
        }
        self.execution.journal = self.execution.payload.clone();
        self.execution.visit = Visit::default();
        (self.execution.at, self.execution.since) = (self.execution.at.phase(), self.now);
    }

    fn dies_if(&mut self, fate: Fate) -> bool {
        if fate.is_cut() {
            self.note(|it| format!("the execution dies at {:?}", it.execution.at));
            self.execution.died_at = Some(self.now);
        }
        fate.is_cut()
    }

    /// Writes the journal of the execution if the row allows it; false if the step ends with it.
    fn writes(&mut self, step: Step, is_allowed: bool) -> bool {
        if is_allowed && step.fate.is_written() {
            self.puts(self.execution.journal.clone());
        }
        if self.dies_if(step.fate) {
            return false;
        }
        let is_done = is_allowed && step.fate == Fate::Done;
        if !is_done {
            self.fails(is_allowed && step.retries);
        }
        is_done
    }

    /// As `Swaps::write` does.
    pub(super) fn writes_over(&mut self, step: Step) -> bool {
        let revision = self.execution.journal.revision;
        let is_allowed = self.row.as_ref().is_none_or(|row| row.revision <= revision);
        self.writes(step, is_allowed)
    }

    /// As `Swaps::note` does.
    pub(super) fn notes(&mut self, step: Step) -> bool {
        let journal = &self.execution.journal;
        let is_same = |row: &Journal| row.stage == journal.stage && row.revision <= journal.revision;
        let is_allowed = self.row.as_ref().is_some_and(is_same);
        self.writes(step, is_allowed)
    }

    /// As `Swaps::enter` does: the stage must be one of these.
    pub(super) fn enters(&mut self, step: Step, from: &[Option<Stage>]) -> bool {
        let stored = self.row.as_ref().map(|row| row.stage);
        let entered = match &self.row {
            _ if from.contains(&stored) => Entered::Yes,
            Some(row) if row.stage == self.execution.journal.stage => Entered::Again,
            _ => Entered::No,
        };
        self.execution.again = matches!(entered, Entered::Again);
        if let (Entered::Again, Some(row)) = (&entered, &self.row) {
            self.execution.journal = row.clone();
            return !self.dies_if(step.fate);
        }
        self.writes(step, matches!(entered, Entered::Yes))
    }

    /// Makes the call of a step; returns true if it was done, and `None` if the step has ended without an answer.
    pub(super) fn calls(&mut self, call: Call, step: Step) -> Option<bool> {
        let answer = self.call(call, step.fate, self.execution.seen);
        if self.dies_if(step.fate) {
            return None;
        }
        match answer {
            Answer::Done => Some(true),
            Answer::Refused => Some(false),
            // A launch is sent once.
            Answer::Again if !matches!(call, Call::Launch(_)) => None,
            Answer::Again | Answer::Nothing => {
                self.fails(step.retries);
                None
            }
        }
    }

    pub(super) fn phase(&mut self, step: Step) {
        let at_ = self.execution.at;
        if at_ != at_.phase() && self.now > self.execution.since + LIFE {
            return self.fails(true); // its Lambda was killed
        }
        if at_ == at_.phase() {
            self.execution.since = self.now;
        }
        match at_ {
            At::AskOwner => {
                if self.execution.journal.stage == Stage::Launching {
                    if self.look(step.ages).truth.owner_speaks_against_it() {
                        return self.undo(Reason::InstanceChanged);
                    }
                    self.execution.journal.stage = Stage::Attaching;
                    self.execution.journal.newcomer = Some(self.execution.who().id());
                }
                self.moves(At::WriteAttaching);
            }
            At::WriteAttaching => {
                if self.enters(step, &[Some(Stage::Launching)]) {
                    self.moves(At::TakeOver);
                }
            }
            At::TakeOver => self.take_over(step),
            At::TakeOverCall(call) => match self.calls(call, step) {
                Some(true) => self.moves(At::TakeOver),
                Some(false) => self.undo(Reason::AttachRejected),
                None => {}
            },
            At::WriteRetiring => self.write_retiring(step),
            At::Retire => self.retire(step),
            At::Report => {
                if step.fate.is_written() {
                    self.close(End::Finished, Some(self.execution.journal.clone()));
                }
                self.dies_if(step.fate);
            }
            At::Rollback => {
                let mut visit = std::mem::take(&mut self.execution.visit);
                let goes_on = self.recovers(&mut visit, step);
                if !self.dies_if(step.fate) && goes_on {
                    self.execution.visit = visit;
                }
            }
            _ => self.launches(step),
        }
    }

    fn take_over(&mut self, step: Step) {
        let seen = self.look(step.ages);
        self.execution.seen = seen.basis;
        let observed = self.observed(&self.execution.journal, &seen.truth);
        let new = self.execution.who();
        match take_over(self.execution.lab(), &observed) {
            TakeOver::Done => self.goes(At::WriteRetiring),
            TakeOver::Undo(reason, _) => self.undo(reason),
            TakeOver::Wait(_) if step.gives_up => self.undo(Reason::NewcomerNotServing),
            TakeOver::Wait(_) => self.goes(At::AskOwner),
            TakeOver::MoveAddress if seen.truth.owner_speaks_against_it() => {
                self.undo(Reason::InstanceChanged);
            }
            TakeOver::MoveAddress if self.poisoned[self.execution.newcomer] => {
                self.undo(Reason::NewcomerAtRisk);
            }
            TakeOver::MoveAddress => self.moves(At::TakeOverCall(Call::GiveAddress(new))),
            TakeOver::Register(n) => self.moves(At::TakeOverCall(Call::Register(new, n))),
        }
    }

    fn write_retiring(&mut self, step: Step) {
        let newcomer = self.execution.newcomer;
        if !self.execution.lab().stopping {
            let seen = self.look(step.ages).truth.new[newcomer];
            if self.poisoned[newcomer] || seen.is_none_or(|machine| machine.power != Power::Running) {
                return self.undo(Reason::NewcomerAtRisk);
            }
        }
        if self.execution.journal.stage == Stage::Attaching {
            self.execution.journal.stage = Stage::Retiring;
        }
        if self.enters(step, &[Some(Stage::Attaching)]) {
            self.execution.visit = Visit::of(self.execution.journal.clone(), self.now);
            self.moves(At::Retire);
        }
    }

    fn retire(&mut self, step: Step) {
        let mut visit = std::mem::take(&mut self.execution.visit);
        let goes = self.advances(&mut visit, step);
        if self.dies_if(step.fate) {
            return;
        }
        self.execution.journal = visit.journal.clone().expect("RetireOld has entered its stage");
        let (stage, reason) = (self.execution.journal.stage, self.execution.journal.undo_reason());
        match goes {
            Goes::On if visit.ended == Some(End::Finished) && stage == Stage::Retiring => {
                self.goes(At::Report);
            }
            Goes::On if visit.ended.is_none() => self.execution.visit = visit,
            _ if stage == Stage::Undoing => self.undo(reason.unwrap_or(Reason::NewcomerNotServing)),
            Goes::Away if step.gives_up => self.execution.died_at = Some(self.now), // Stuck
            Goes::On | Goes::Away => self.goes(At::WriteRetiring),
            Goes::Failed => self.fails(step.retries),
        }
    }
}
