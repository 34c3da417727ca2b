//! A recoverer: the rollback of the execution, or a reconciler. Reads the row, looks, writes ahead, calls, as `drive` in
//! `shared/swap/src/recovery.rs` does.

use super::history::History;
use super::*;
use crate::swap::recovery::fate::{Answer, Fate, LIFE, at};
use crate::swap::recovery::truth::{Basis, Call, OLD, Step, number};

/// A visit: the journal that it read, and the action that it has written ahead.
#[derive(Debug, Clone, Default)]
pub(super) struct Visit {
    since: u32,
    journal: Option<Journal>,
    revision: u32,
    doing: Option<(Action, Basis)>,
    /// The action was answered; what that settles is not written, and this says if the visit goes on then.
    settles: Option<bool>,
    /// The journal without the action.
    before: Option<Journal>,
}

impl Visit {
    pub(super) fn is_about_to(&self, what: fn(&Action) -> bool) -> bool {
        self.settles.is_none() && self.doing.as_ref().is_some_and(|(action, _)| what(action))
    }
}

impl History {
    pub(super) fn visit(&mut self, who: usize, step: Step) {
        let mut visit = std::mem::take(&mut self.visits[who]);
        if visit.journal.is_some() && self.now > visit.since + LIFE {
            visit = Visit::default(); // its Lambda was killed
        }
        let fate = step.fate;
        let goes_on = match (visit.doing.take(), visit.settles.take()) {
            _ if visit.journal.is_none() => self.begins(&mut visit, fate),
            (_, Some(goes_on)) => self.stores(&mut visit, fate) && goes_on,
            (None, None) => self.looks(&mut visit, step),
            (Some((action, basis)), None) => self.acts(&mut visit, &action, basis, fate),
        };
        if who == 0 && fate.is_cut() {
            self.is_killed(fate);
        }
        if goes_on && self.end.is_none() {
            self.visits[who] = visit;
        }
    }

    fn stores(&mut self, visit: &mut Visit, fate: Fate) -> bool {
        let Some(row) = self.row.as_mut() else { return false };
        let Some(journal) = &visit.journal else { return false };
        row.stores(journal, &mut visit.revision, fate)
    }

    fn begins(&mut self, visit: &mut Visit, fate: Fate) -> bool {
        let Some(row) = &self.row else {
            self.end = Some(End::Undone);
            return false;
        };
        *visit = Visit {
            since: self.now,
            journal: Some(row.journal.clone()),
            revision: row.revision,
            ..Visit::default()
        };
        let undo = self.execution.undo.clone();
        let died = Undo { reason: Reason::ExecutionDied, detail: String::new() };
        let journal = visit.journal.as_mut().unwrap();
        if journal.undo.is_some() {
            return !fate.is_cut();
        }
        if self.execution.died_at.is_none() {
            journal.changed_at = Some(at(self.now));
            journal.retired |= self.execution.journal.retired;
        }
        if journal.stage != Stage::Retiring {
            journal.stage = Stage::Undoing;
        }
        journal.undo = Some(if self.execution.died_at.is_some() { died } else { undo.unwrap_or(died) });
        self.stores(visit, fate)
    }

    fn looks(&mut self, visit: &mut Visit, step: Step) -> bool {
        let fate = step.fate;
        let seen = self.look(step.ages);
        let basis = seen.basis;
        if self.row.is_none() {
            return false;
        }
        let journal = visit.journal.as_mut().unwrap();
        let observed = self.observed(journal, &seen);
        if journal.note_look(&observed) {
            return self.stores(visit, fate);
        }
        let decision = recover(journal, &observed);
        self.note(|_| format!("recovery: {decision:?}"));
        match decision {
            Decision::Wait(_) => false,
            Decision::Done(end) => {
                let row = self.row.as_ref().filter(|row| row.revision == visit.revision);
                if row.is_some() && fate.is_written() {
                    self.told = doubt(journal, &observed).is_some();
                    self.close(end);
                }
                false
            }
            // As `permit` does: the next look decides anew.
            Do(Action::TerminateOld) if self.poisoned && hangs_on_newcomer(journal, &observed) => {
                journal.note_risk("its pool is poisoned");
                self.stores(visit, fate)
            }
            Do(action) => {
                visit.before = Some(journal.clone());
                journal.foresee(&action, &observed, at(self.now));
                visit.doing = Some((action, basis));
                self.stores(visit, fate)
            }
        }
    }

    fn acts(&mut self, visit: &mut Visit, action: &Action, basis: Basis, fate: Fate) -> bool {
        let call = call_of(action);
        let answer = self.call(call, fate, basis);
        if answer == Answer::Again {
            visit.doing = Some((action.clone(), basis));
            return true;
        }
        let (journal, before) = (visit.journal.as_mut().unwrap(), visit.before.as_ref().unwrap());
        match answer {
            Answer::Done => journal.acknowledge(action, before),
            Answer::Refused => journal.retract(action, before),
            Answer::Again | Answer::Nothing => return false,
        }
        let is_counted = answer == Answer::Refused && *action == Action::ReattachOld;
        let is_resumed = answer == Answer::Done && *action == Action::ResumeAzRebalance;
        visit.settles = (action.settles_desired() || is_counted || is_resumed).then_some(is_resumed);
        (visit.settles.is_some() || answer == Answer::Done) && !fate.is_cut()
    }
}

fn call_of(action: &Action) -> Call {
    let decrement = |id: &InstanceId| Call::TerminateMember { n: number(id), decrement: true };
    match action {
        Action::DetachNewcomer(id) => Call::Detach(number(id)),
        Action::RemoveNewcomer(id) | Action::TerminateExtra(id) => decrement(id),
        Action::ReplaceNewcomer(id) => Call::TerminateMember { n: number(id), decrement: false },
        Action::TerminateNewcomer(id) | Action::TerminateStray(id) => Call::Terminate(number(id)),
        Action::ReattachOld => Call::Attach(OLD),
        Action::TerminateOld => Call::Terminate(OLD),
        Action::ResumeAzRebalance => Call::Resume,
        Action::RaiseMaxSize(to) | Action::RestoreMaxSize(to) => Call::SetMax(*to),
    }
}
