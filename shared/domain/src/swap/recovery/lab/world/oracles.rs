//! What is promised, asked at each write and each call, and once everything is at rest.

use super::aws::{Call, Holder, Power, Who};
use super::history::History;
use super::look::Basis;
use super::*;
use crate::swap::recovery::fate::Refused;

/// What the oracles remember of a history.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traces {
    /// The newcomer has had traffic.
    has_served: [bool; super::aws::ATTEMPTS],
}

const fn rank(stage: Stage) -> u8 {
    match stage {
        Stage::Capturing => 0,
        Stage::Launching => 1,
        Stage::Attaching => 2,
        Stage::Retiring => 3,
        Stage::Undoing => 4,
    }
}

impl History {
    /// The first broken promise counts.
    pub(super) fn holds(&mut self, promise: bool, what: impl FnOnce() -> String) {
        if !promise && self.broken.is_none() {
            self.broken = Some(format!("{}\n{:?}\nrow: {:?}", what(), self.truth, self.row));
        }
    }

    /// Writes the row. A stage never goes back.
    pub(super) fn puts(&mut self, journal: Journal) {
        let before = self.row.as_ref().map_or(0, |row| rank(row.stage));
        let after = rank(journal.stage);
        self.holds(after >= before, || format!("the stage goes back to {:?}", journal.stage));
        self.note(|_| format!("written: {:?} {:?}", journal.stage, journal.undo_reason()));
        self.row = Some(journal);
    }

    pub(super) fn close(&mut self, end: End, journal: Option<Journal>) {
        self.note(|it| format!("closed: {end:?}, told {:?}", it.told));
        (self.row, self.end, self.last) = (None, Some(end), journal);
    }

    pub(super) fn carry_out(&mut self, call: Call, basis: Basis) -> Result<(), Refused> {
        self.the_owner_is_heard(call, basis);
        let before = self.truth.clone();
        let answer = self.truth.carry_out(call);
        // A recoverer has closed the row only once nothing can land any more.
        let is_over = self.end.is_some() && self.truth != before;
        self.holds(!is_over, || format!("{call:?} lands after the end"));
        // What happens between a look and its call nobody can know: that is put right afterwards. And one that has taken
        // nothing over yet serves nobody in the place of an old instance that has died.
        let is_none_yet = self.row.as_ref().is_none_or(|row| row.newcomer.is_none());
        if self.truth.struck <= basis.struck && !(is_none_yet && before.old.is_dead()) {
            let names = ["the instance", "the address", "target group 0", "target group 1"];
            let (before, after, owed) = (before.served(), self.truth.served(), self.truth.owed());
            for (n, name) in names.into_iter().enumerate() {
                let is_lost = before[n] && basis.served[n] && owed[n] && !after[n];
                self.holds(!is_lost, || format!("{call:?}: nobody serves {name}"));
            }
        }
        self.remembers();
        answer
    }

    fn remembers(&mut self) {
        for (n, has_served) in self.traces.has_served.iter_mut().enumerate() {
            let has_address = self.truth.address == Holder::Of(Who::New(n));
            let targets = (0..self.truth.groups.len()).map(|group| self.truth.target(Who::New(n), group));
            *has_served |= has_address || targets.into_iter().any(|state| state == TargetState::Healthy);
        }
    }

    /// What the owner had done by the time of the look is respected.
    fn the_owner_is_heard(&mut self, call: Call, basis: Basis) {
        let owner = self.truth.owner;
        let has_looked = self.truth.moved <= basis.moved;
        match call {
            Call::GiveAddress(_) => {
                let is_his = self.truth.address == Holder::Elsewhere && has_looked;
                self.holds(!is_his, || format!("{call:?}: its owner has moved the address"));
            }
            // AWS does not tell who has deregistered a target: where we did, too, his wish can't be known.
            Call::Register(Who::Old, n) => {
                let lab = self.row.as_ref().and_then(|row| row.kind.lab());
                let may_be_ours = lab.is_some_and(|lab| lab.is_over || lab.let_out.contains(&n));
                let is_his = owner.took_old_out[n] && !may_be_ours && has_looked;
                self.holds(!is_his, || format!("{call:?}: its owner took it out"));
            }
            // Nor who has stopped an instance: once ours is written ahead, each stop may be ours.
            Call::StartOld => {
                let may_be_ours =
                    self.row.as_ref().is_some_and(|row| row.kind.lab().is_some_and(|lab| lab.stopping));
                let is_his = owner.stopped && !may_be_ours && has_looked;
                self.holds(!is_his, || format!("{call:?}: its owner has stopped it"));
            }
            Call::StopOld | Call::Terminate(Who::Old) => {
                let is_known = owner.changed.is_some_and(|at| at <= basis.moved);
                self.holds(!is_known, || format!("{call:?}: its owner speaks against it"));
            }
            Call::DeleteVolume(n) => {
                let has_served = self.traces.has_served[n];
                self.holds(!has_served, || format!("{call:?}: what its newcomer was told is on it"));
            }
            _ => {}
        }
    }

    /// Everything is at rest: the end is what it says, and nothing of ours is left.
    pub(super) fn nothing_is_left(&mut self) {
        // A death, or a deed of the owner, after the last look.
        let is_late = self.truth.struck > self.end_basis.struck;
        match self.end {
            Some(End::Finished) => self.is_finished(is_late),
            Some(End::Undone) => self.is_undone(is_late),
            None => {}
        }
        let is_told = |of: &str| self.told.iter().any(|told| told.contains(of));
        let image_is_left = self.truth.image.is_some() && !is_told("image");
        let snapshot_is_left = self.truth.snapshot && !is_told("snapshot");
        self.holds(!image_is_left && !snapshot_is_left, || "an image or its snapshot is left".to_owned());
    }

    fn is_finished(&mut self, is_late: bool) {
        let truth = self.truth.clone();
        let newcomer = self.last.as_ref().and_then(|journal| journal.newcomer.as_ref()).map(Who::newcomer);
        for (who, machine) in truth.all().filter(|(who, _)| *who != Who::Old) {
            let is_astray = newcomer.map(Who::New) != Some(who) && !machine.is_dead();
            self.holds(!is_astray, || format!("{who:?} runs, and is no part of it"));
        }
        let lives = newcomer.filter(|n| truth.new[*n].is_some_and(|machine| machine.serves()));
        let may_end = truth.old.is_dead() || is_late;
        self.holds(lives.is_some() || may_end, || "it is finished, and no newcomer serves".to_owned());
        let old_stays = matches!(truth.old.power, Power::Running) && !truth.owner.started && !is_late;
        self.holds(!old_stays, || "the old instance runs on".to_owned());
        let Some(new) = lives.map(Who::New) else { return };
        let is_elsewhere = truth.address == Holder::Elsewhere || truth.owner.gave_address_to_old;
        let has_address = truth.address == Holder::Of(new) || is_elsewhere;
        self.holds(has_address || is_late, || "the newcomer is without the address".to_owned());
        for n in 0..truth.groups.len() {
            let state = truth.target(new, n);
            let is_in = matches!(state, TargetState::Healthy | TargetState::NoGroup);
            let is_excused = truth.owner.took_new_out[n] || is_late;
            self.holds(is_in || is_excused, || format!("the newcomer is not in target group {n}"));
            let is_his = truth.owner.put_old_in[n] || truth.owner.started || is_late;
            let old_is_out = !truth.target(Who::Old, n).is_registered();
            self.holds(old_is_out || is_his, || format!("the old instance is in target group {n}"));
        }
    }

    fn is_undone(&mut self, is_late: bool) {
        let truth = self.truth.clone();
        for (who, machine) in truth.all().filter(|(who, _)| *who != Who::Old) {
            self.holds(machine.is_dead(), || format!("{who:?} runs, and all was undone"));
        }
        for (n, volume) in truth.volumes.iter().enumerate() {
            let is_told = self.told.iter().any(|told| told.contains(&super::look::volume(n)));
            self.holds(volume.is_none() || is_told, || format!("the volume of newcomer {n} is left"));
        }
        if truth.old.is_dead() {
            return;
        }
        let is_up = truth.old.serves() || truth.owner.stopped;
        self.holds(is_up || is_late, || "the old instance does not run".to_owned());
        let has_address = matches!(truth.address, Holder::Of(Who::Old) | Holder::Elsewhere);
        self.holds(has_address || is_late, || "the old instance is without its address".to_owned());
        for n in 0..truth.groups.len() {
            let state = truth.target(Who::Old, n);
            let is_in = matches!(state, TargetState::NoGroup) || state.is_registered();
            let is_told = self.told.iter().any(|told| told.contains(&format!("tg-{n}")));
            let is_excused = truth.owner.took_old_out[n] || is_late || is_told;
            self.holds(is_in || is_excused, || format!("the old instance is not in target group {n}"));
        }
    }
}
