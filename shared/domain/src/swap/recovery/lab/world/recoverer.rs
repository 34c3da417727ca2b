//! A recoverer: RetireOld, the rollback of the execution, or a reconciler. Looks, writes ahead, calls, as `drive` in
//! `shared/swap/src/recovery.rs` does; begins and closes as `shared/swap/src/phases/rollback.rs` does.

use super::aws::{Call, Who};
use super::history::{History, Step};
use super::look::Basis;
use super::*;
use crate::swap::recovery::fate::{Answer, Fate, LIFE, at};

/// A visit: the journal that it read, and the action that it has written ahead.
#[derive(Debug, Clone, Default)]
pub(super) struct Visit {
    since: u32,
    pub journal: Option<Journal>,
    doing: Option<(Action, Basis)>,
    last: Option<Action>,
    owner_asked: bool,
    changed_at: Option<Timestamp>,
    /// Nothing is left to do but to close the row.
    pub ended: Option<End>,
}

/// What comes after a step of a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goes {
    On,
    /// The visit waits for AWS: the next one comes later.
    Away,
    /// A call or a write has failed.
    Failed,
}

impl Visit {
    /// RetireOld has entered its stage.
    pub(super) fn of(journal: Journal, now: u32) -> Self {
        Self { since: now, journal: Some(journal), ..Self::default() }
    }

    pub(super) fn is_killed(&self, now: u32) -> bool {
        self.journal.is_some() && now > self.since + LIFE
    }
}

impl History {
    /// Takes one step of a visit that has its journal: a look and the write ahead, or a call.
    pub(super) fn advances(&mut self, visit: &mut Visit, step: Step) -> Goes {
        match visit.doing.take() {
            None => self.looks(visit, step),
            Some((action, basis)) => self.acts(visit, action, basis, step.fate),
        }
    }

    /// A visit of the rollback, or of a reconciler. Returns false once it is over.
    pub(super) fn recovers(&mut self, visit: &mut Visit, step: Step) -> bool {
        if visit.is_killed(self.now) {
            *visit = Visit::default();
        }
        if visit.journal.is_none() {
            return self.begins(visit, step.fate);
        }
        if let Some(end) = visit.ended {
            if step.fate.is_written() {
                self.close(end, visit.journal.clone());
            }
            return false;
        }
        self.advances(visit, step) == Goes::On
    }

    fn begins(&mut self, visit: &mut Visit, fate: Fate) -> bool {
        let Some(row) = &self.row else {
            self.close(End::Undone, None); // no swap is in progress
            return false;
        };
        *visit = Visit::of(row.clone(), self.now);
        let undo = self.execution.undo.clone();
        let died = Undo { reason: Reason::ExecutionDied, detail: String::new() };
        let journal = visit.journal.as_mut().unwrap();
        if journal.undo.is_some() {
            return !fate.is_cut();
        }
        if journal.stage != Stage::Retiring {
            journal.stage = Stage::Undoing;
        }
        if self.execution.died_at.is_some() {
            journal.undo = Some(died);
        } else {
            journal.changed_at = Some(at(self.now));
            journal.undo = Some(undo.unwrap_or(died));
        }
        self.revises(visit, fate)
    }

    /// Writes the next revision. Of two that have read the same, one goes on.
    fn revises(&mut self, visit: &mut Visit, fate: Fate) -> bool {
        let Some(journal) = &mut visit.journal else { return false };
        if self.row.as_ref().is_none_or(|row| row.revision != journal.revision) {
            return false;
        }
        journal.revision += 1;
        if fate.is_written() {
            let journal = journal.clone();
            self.puts(journal);
        }
        // A repetition finds its own words, and counts as written.
        matches!(fate, Fate::Done | Fate::AnswerLost)
    }

    fn writes_ahead(&mut self, visit: &mut Visit, fate: Fate) -> Goes {
        if self.revises(visit, fate) { Goes::On } else { Goes::Failed }
    }

    fn looks(&mut self, visit: &mut Visit, step: Step) -> Goes {
        let fate = step.fate;
        let seen = self.look(step.ages);
        let mut journal = visit.journal.clone().unwrap();
        let mut lab = journal.kind.lab().cloned().unwrap();
        let (observed, basis) = (self.observed(&journal, &seen.truth), seen.basis);
        if journal.stage == Stage::Retiring && !goes_forward(&journal, &lab, &observed) {
            let (reason, _) = why_not_forward(&observed);
            self.turns_round(&mut journal, reason);
            visit.journal = Some(journal);
            return self.writes_ahead(visit, fate);
        }
        let decision = next(&journal, &lab, &observed);
        let asks_the_owner = match decision {
            Do(Action::DeregisterOld(_)) => !std::mem::replace(&mut visit.owner_asked, true),
            Do(Action::StopOld | Action::TerminateOld) => true,
            _ => false,
        };
        if asks_the_owner && seen.truth.owner_speaks_against_it() {
            self.turns_round(&mut journal, Reason::InstanceChanged);
            visit.journal = Some(journal);
            return self.writes_ahead(visit, fate);
        }
        self.note(|_| format!("recovery: {decision:?}"));
        let turns_forward = decision.action().is_some_and(goes_to_the_newcomer);
        let is_turned = journal.stage == Stage::Undoing && turns_forward;
        let is_right = !is_turned || self.truth.old.is_dead();
        self.holds(is_right, || format!("{decision:?}: what is being undone turns forward again"));
        match decision {
            Decision::Wait(_) => Goes::Away,
            Decision::Done(end) => {
                if !observed.left_alone.is_empty() && self.learns(&mut journal) {
                    visit.journal = Some(journal);
                    return Goes::On;
                }
                visit.ended = Some(end);
                (self.told, self.end_basis) = (observed.remarks(&lab), basis);
                self.writes_ahead(visit, fate)
            }
            Do(action) if visit.last.as_ref() == Some(&action) => Goes::Away,
            Do(action) => {
                action.record(&mut lab, &observed);
                journal.kind = SwapKind::Lab(Box::new(lab));
                visit.changed_at = journal.changed_at.replace(at(self.now));
                (visit.journal, visit.doing) = (Some(journal), Some((action, basis)));
                self.writes_ahead(visit, fate)
            }
        }
    }

    fn turns_round(&mut self, journal: &mut Journal, reason: Reason) {
        self.note(|_| format!("turned round: {reason}"));
        journal.stage = Stage::Undoing;
        journal.changed_at = Some(at(self.now));
        journal.undo.get_or_insert(Undo { reason, detail: String::new() });
    }

    fn learns(&self, journal: &mut Journal) -> bool {
        let stored = self.row.as_ref().and_then(|row| row.kind.lab().cloned());
        let (Some(lab), Some(stored)) = (journal.kind.lab_mut(), stored) else { return false };
        let known = lab.clone();
        lab.captured.images.extend(stored.captured.images);
        lab.captured.snapshots.extend(stored.captured.snapshots);
        lab.volumes.extend(stored.volumes);
        *lab != known
    }

    fn acts(&mut self, visit: &mut Visit, action: Action, basis: Basis, fate: Fate) -> Goes {
        let journal = visit.journal.as_mut().unwrap();
        let call = call_of(&action, journal, &self.truth);
        match self.call(call, fate, basis) {
            Answer::Done if fate.is_cut() => Goes::Failed,
            Answer::Done => {
                journal.changed_at = visit.changed_at; // it was answered: it lands no later
                visit.last = Some(action);
                Goes::On
            }
            Answer::Again => {
                visit.doing = Some((action, basis));
                Goes::On
            }
            Answer::Refused | Answer::Nothing => Goes::Failed,
        }
    }
}

const fn goes_to_the_newcomer(action: &Action) -> bool {
    matches!(
        action,
        Action::RegisterNewcomer(_)
            | Action::AddressToNewcomer
            | Action::DeregisterOld(_)
            | Action::StopOld
            | Action::TerminateOld
    )
}

fn call_of(action: &Action, journal: &Journal, truth: &super::aws::Truth) -> Call {
    let named = journal.newcomer.as_ref().map(Who::newcomer);
    let launched = || truth.new.iter().position(Option::is_some).unwrap_or_default();
    let new = Who::New(named.unwrap_or_else(launched));
    match action {
        Action::RegisterNewcomer(n) => Call::Register(new, *n),
        Action::DeregisterNewcomer(n) => Call::Deregister(new, *n),
        Action::RegisterOld(n) => Call::Register(Who::Old, *n),
        Action::DeregisterOld(n) => Call::Deregister(Who::Old, *n),
        Action::AddressToNewcomer => Call::GiveAddress(new),
        Action::AddressToOld => Call::GiveAddress(Who::Old),
        Action::StopOld => Call::StopOld,
        Action::StartOld => Call::StartOld,
        Action::TerminateOld => Call::Terminate(Who::Old),
        Action::TerminateNewcomer(id) => Call::Terminate(Who::New(Who::newcomer(id))),
        Action::DeregisterImage(_) => Call::DeregisterImage,
        Action::DeleteSnapshot(_) => Call::DeleteSnapshot,
        Action::DeleteVolume(id) => Call::DeleteVolume(usize::from(id.ends_with('1'))),
    }
}
