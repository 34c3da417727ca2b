//! The image and the launch: a copy of `capture_image` in `functions/lab-optimizer/src/phases`, and of `launch` and
//! `wait_for_health` in `shared/swap/src/phases`.

use super::aws::{ATTEMPTS, Call, Machine};
use super::execution::At;
use super::history::{History, Step, journal};
use super::look::{IMAGE, captured, volume};
use super::*;
use crate::swap::recovery::fate::at;

impl History {
    pub(super) fn launches(&mut self, step: Step) {
        match self.execution.at {
            At::WriteCapturing => {
                self.execution.journal.stage = Stage::Capturing;
                if self.enters(step, &[None]) {
                    self.moves(At::LookForImage);
                }
            }
            At::LookForImage => self.look_for_image(step),
            At::WriteBeforeImage => {
                self.execution.journal.launching_since = at(self.now);
                if self.writes_over(step) {
                    self.moves(At::CreateImage);
                }
            }
            At::CreateImage => match self.calls(Call::CreateImage, step) {
                Some(true) => {
                    self.execution.lab().captured.images.insert(IMAGE.to_owned());
                    self.moves(At::NoteImage);
                }
                Some(false) => self.undo(Reason::ImageFailed),
                None => {}
            },
            At::NoteImage => {
                if self.notes(step) {
                    self.goes(At::WriteCapturing);
                }
            }
            At::WriteLaunching => {
                let fresh = journal(self.execution.lab().clone());
                self.execution.journal = Journal { launching_since: at(self.now), ..fresh };
                if self.enters(step, &[None, Some(Stage::Capturing)]) {
                    let is_again = self.execution.again;
                    self.moves(if is_again { At::LookForEarlier } else { At::Launch });
                }
            }
            At::LookForEarlier => {
                let seen = self.look(step.ages).truth;
                let is_alive = |n: &usize| seen.new[*n].is_some_and(Machine::is_alive);
                match (0..ATTEMPTS).find(is_alive) {
                    Some(attempt) => self.has_launched(attempt),
                    None => self.tries(self.execution.journal.attempt),
                }
            }
            At::WriteAttempt => {
                self.execution.journal.launching_since = at(self.now);
                if self.writes_over(step) {
                    self.moves(At::Launch);
                }
            }
            At::Launch => {
                let attempt = self.execution.journal.attempt;
                match self.calls(Call::Launch(attempt), step) {
                    Some(true) => self.has_launched(attempt),
                    Some(false) => self.tries(attempt + 1),
                    None => {}
                }
            }
            At::WaitForHealth => self.wait_for_health(step),
            At::NoteVolumes => {
                if self.notes(step) {
                    self.goes(At::WaitForHealth);
                }
            }
            _ => unreachable!("another phase"),
        }
    }

    fn look_for_image(&mut self, step: Step) {
        match self.look(step.ages).truth.image {
            None => self.moves(At::WriteBeforeImage),
            Some(true) => {
                self.execution.lab().captured.note(&[captured(true)]);
                self.goes(At::WriteLaunching);
            }
            Some(false) if step.gives_up => self.undo(Reason::ImageFailed),
            Some(false) => {}
        }
    }

    fn has_launched(&mut self, attempt: usize) {
        self.execution.newcomer = attempt;
        self.goes(At::WaitForHealth);
    }

    /// The first attempt from this one on whose pool is clear. A step that is repeated makes none before the recorded one.
    fn tries(&mut self, from: usize) {
        let recorded = self.execution.journal.attempt;
        let may_have_launched = self.execution.again && from == recorded;
        let is_open = |n: &usize| !self.poisoned[*n] && (!may_have_launched || *n == recorded);
        if let Some(attempt) = (from..ATTEMPTS).find(is_open) {
            self.execution.journal.attempt = attempt;
            return self.moves(At::WriteAttempt);
        }
        if self.execution.again || self.execution.lab().capture {
            return self.undo(Reason::NoCapacity);
        }
        self.close(End::Undone, None);
    }

    fn wait_for_health(&mut self, step: Step) {
        let newcomer = self.execution.newcomer;
        let Some(machine) = self.look(step.ages).truth.new[newcomer] else {
            return if step.gives_up {
                self.undo(Reason::NewcomerUnhealthy);
            };
        };
        if machine.is_alive() && self.execution.lab().volumes.insert(volume(newcomer)) {
            return self.moves(At::NoteVolumes);
        }
        match machine {
            machine if !machine.is_alive() => self.undo(Reason::NewcomerUnhealthy),
            machine if machine.serves() && self.poisoned[newcomer] => self.undo(Reason::NewcomerAtRisk),
            machine if machine.serves() => self.goes(At::AskOwner),
            _ if step.gives_up => self.undo(Reason::NewcomerUnhealthy),
            _ => {}
        }
    }
}
