//! A recoverer: Release and Restore of the execution, or a reconciler. Reads the row, looks, writes ahead, calls, as `drive`
//! in `shared/swap/src/recovery.rs` does.

use super::execution::At;
use super::history::History;
use super::*;
use crate::swap::recovery::fate::{Answer, Fate, LIFE, at};
use crate::swap::recovery::truth::{Basis, Call, Step, number};

/// A visit: the journal that it read, and the action that it has written ahead.
#[derive(Debug, Clone, Default)]
pub(super) struct Visit {
    since: u32,
    journal: Option<Journal>,
    revision: u32,
    doing: Option<(Action, Basis)>,
    /// What the answer to the action tells is not written, and this says if the visit failed by it.
    settles: Option<bool>,
    /// The journal without the action.
    before: Option<Journal>,
}

/// How far a step of a visit came.
#[derive(Debug)]
pub(super) enum Came {
    /// The visit goes on.
    On,
    /// The visit is over, with the journal as it leaves it; `None` if it failed.
    ToAnEnd(Option<Box<Journal>>),
}

impl Visit {
    /// The visit is over, and nothing went wrong.
    fn ends(&self) -> Came {
        Came::ToAnEnd(self.journal.clone().map(Box::new))
    }

    pub(super) fn is_about_to(&self, what: fn(&Action) -> bool) -> bool {
        self.settles.is_none() && self.doing.as_ref().is_some_and(|(action, _)| what(action))
    }
}

const FAILED: Came = Came::ToAnEnd(None);

impl History {
    pub(super) fn visit(&mut self, who: usize, step: Step) -> Came {
        let mut visit = std::mem::take(&mut self.visits[who]);
        if visit.journal.is_some() && self.now > visit.since + LIFE {
            visit = Visit::default(); // its Lambda was killed
            self.is_unsure = true;
        }
        let came = match (visit.doing.take(), visit.settles.take()) {
            _ if visit.journal.is_none() => self.begins(&mut visit, who, step.fate),
            (_, Some(has_failed)) => self.settles(&mut visit, has_failed, step.fate),
            (None, None) => self.looks(&mut visit, step),
            (Some((action, basis)), None) => self.acts(&mut visit, &action, basis, step),
        };
        if who == 0 && self.end.is_none() && self.is_killed(step.fate) {
            return Came::On; // Nothing comes of it any more.
        }
        if matches!(came, Came::On) && self.end.is_none() {
            self.visits[who] = visit;
        }
        came
    }

    fn stores(&mut self, visit: &mut Visit, fate: Fate) -> bool {
        self.is_unsure |= fate != Fate::Done;
        let Some(row) = self.row.as_mut() else { return false };
        let Some(journal) = &visit.journal else { return false };
        row.stores(journal, &mut visit.revision, fate)
    }

    fn begins(&mut self, visit: &mut Visit, who: usize, fate: Fate) -> Came {
        let Some(row) = &self.row else { return FAILED };
        let journal = Some(row.journal.clone());
        *visit = Visit { since: self.now, journal, revision: row.revision, ..Visit::default() };
        let journal = visit.journal.as_mut().expect("it was just read");
        if who == 0 || journal.undo.is_some() {
            return if fate.is_cut() { FAILED } else { Came::On };
        }
        if journal.stage != Stage::Retiring {
            journal.stage = Stage::Undoing;
        }
        journal.undo = Some(Undo { reason: Reason::ExecutionDied, detail: String::new() });
        if self.stores(visit, fate) { Came::On } else { FAILED }
    }

    fn looks(&mut self, visit: &mut Visit, step: Step) -> Came {
        let seen = self.look(step.ages);
        let basis = seen.basis;
        if self.row.is_none() {
            return FAILED;
        }
        let journal = visit.journal.as_mut().expect("a visit has read it");
        let observed = self.observed(journal, &seen);
        let decision = next(journal, &observed);
        self.note(|_| format!("recovery: {decision:?}"));
        match decision {
            Decision::Wait(_) => visit.ends(),
            Decision::Done(end) => {
                if !self.stores(visit, step.fate) {
                    return FAILED;
                }
                let journal = visit.journal.as_ref().expect("a visit has read it");
                // Release leaves it to Restore to close the answer.
                if self.execution.died_at.is_some() || self.is_at(At::Restore) {
                    let original = journal.original.as_ref();
                    self.is_by_chance =
                        original.is_some_and(|original| seen.group.desired <= original.desired);
                    self.told = doubt(journal, &observed).is_some();
                    self.close(end);
                }
                visit.ends()
            }
            Decision::Do(action) => {
                visit.before = Some(journal.clone());
                journal.foresee_answer(&action, at(self.now));
                visit.doing = Some((action, basis));
                if self.stores(visit, step.fate) { Came::On } else { FAILED }
            }
        }
    }

    fn acts(&mut self, visit: &mut Visit, action: &Action, basis: Basis, step: Step) -> Came {
        let answer = self.call(call_of(action), step, basis);
        let journal = visit.journal.as_mut().expect("a visit has read it");
        let (before, foreseen) = (visit.before.as_ref().expect("it acts"), journal.clone());
        // EC2 may have been faster than our call; a refusal of another kind fails the visit.
        let (goes_on, has_failed) = match answer {
            Answer::Again => {
                visit.doing = Some((action.clone(), basis));
                return Came::On;
            }
            Answer::Done => {
                let lowered = self.lowered_from.map(|from| Decremented { from, to: from - 1 });
                journal.acknowledge_answer(action, before, lowered);
                (action.removes().is_none(), false)
            }
            Answer::Refused => {
                journal.retract_answer(action, before);
                (false, step.fate == Fate::Refused)
            }
            Answer::Nothing => (false, true),
        };
        if goes_on {
            return Came::On;
        }
        if *journal != foreseen {
            visit.settles = Some(has_failed);
            return Came::On;
        }
        if has_failed { FAILED } else { visit.ends() }
    }

    fn settles(&mut self, visit: &mut Visit, has_failed: bool, fate: Fate) -> Came {
        if self.stores(visit, fate) && !has_failed { visit.ends() } else { FAILED }
    }
}

fn call_of(action: &Action) -> Call {
    match action {
        Action::Release(id) | Action::TerminateExtra(id) => {
            Call::TerminateMember { n: number(id), decrement: true }
        }
        Action::RestoreMaxSize(to) => Call::SetMax(*to),
    }
}
