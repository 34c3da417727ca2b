//! The promises that hold in every history of an answer: the owner's ledger, who has to serve, and that nothing of ours is
//! left. What AWS carries out is judged as it lands.

use super::history::{DOOMED, History};
use super::*;
use crate::swap::recovery::fate::{QUIET, Refused};
use crate::swap::recovery::truth::{Basis, Call, Truth};

impl History {
    /// The first broken promise counts.
    pub(super) fn holds(&mut self, promise: bool, what: impl FnOnce() -> String) {
        if !promise && self.broken.is_none() {
            self.broken = Some(format!("{}\n{}\nrow: {:?}", what(), self.truth, self.row));
        }
    }

    /// The owner's ledger: never less than he asks for, and never more than our one beyond.
    pub(super) fn ask_oracles(&mut self) {
        let (desired, wish) = (self.truth.desired, self.truth.wish);
        self.holds(desired >= wish && desired <= wish + 1, || {
            format!("desired {desired}, and the owner asks for {wish}")
        });
    }

    pub(super) fn nothing_is_left(&mut self) {
        let Truth { desired, max, .. } = self.truth;
        let is_excused = self.told || !self.is_raised || (self.owner_acted && self.is_by_chance);
        let doomed_stays = self.truth.member(DOOMED).is_some_and(|member| member.stays() && member.alive);
        let is_told = self.told || !self.is_raced || self.is_unsure;
        self.holds(is_told, || {
            "desired was lowered from what the owner had set, and nobody is told".to_owned()
        });
        let may_be_in_doubt = self.is_unsure || self.owner_acted_at.is_some();
        self.holds(!self.told || may_be_in_doubt, || "a person is told, and nothing is in doubt".to_owned());
        self.holds(max == self.max || self.told, || "MaxSize stays raised".to_owned());
        self.holds(desired <= self.with_our_room || is_excused, || "one too many for ever".to_owned());
        self.holds(!doomed_stays || self.is_troubled, || "the doomed one has not left".to_owned());
    }

    pub(super) fn carry_out(&mut self, call: Call, basis: Basis) -> Result<(), Refused> {
        let before = self.truth.clone();
        self.sets_absolutely(call);
        let answer = self.truth.carry_out(call);
        self.is_raised |= answer.is_ok() && matches!(call, Call::SetDesired(_));
        if let Call::TerminateMember { n, decrement } = call {
            if self.truth.desired < before.desired {
                self.lowered_from = Some(before.desired);
                self.takes_from_the_owner(before.desired);
                self.with_our_room = self.with_our_room.min(self.truth.wish.max(self.truth.desired));
            }
            if self.truth.serving() < before.serving() {
                self.serve_enough(n, decrement, basis);
            }
        }
        answer
    }

    /// The owner has set desired between our look and our call; or what he set is by chance what we made of it (hole 5d).
    fn takes_from_the_owner(&mut self, desired: u32) {
        let row = self.row.as_ref().and_then(|row| row.journal.original.as_ref());
        let is_by_chance = row.is_some_and(|original| desired == original.desired + 1);
        let is_raced = self.owner_acted_at.is_some_and(|tick| self.now - tick <= QUIET);
        if self.is_absorbed && (is_by_chance || is_raced) {
            self.truth.wish = self.truth.wish.min(self.truth.desired);
            self.is_raced |= !is_by_chance;
        }
    }

    /// An absolute number undoes what the owner has asked for since our look.
    fn sets_absolutely(&mut self, call: Call) {
        let Truth { wish, desired, max, .. } = self.truth;
        let is_raced = self.owner_acted_at.is_some_and(|tick| self.now - tick <= QUIET);
        match call {
            Call::SetMax(to) if to < desired => {
                self.holds(is_raced, || format!("MaxSize {to} makes the group pick victims"));
                self.truth.wish = wish.min(to);
                self.with_our_room = self.truth.wish;
            }
            Call::SetDesired(to) if to <= max && to != wish + 1 => {
                // What he asked for, and our one with it, may be what desired was (hole 5d).
                let is_by_chance = self.owner_acted && desired + 1 == to;
                self.holds(is_raced || is_by_chance, || {
                    format!("desired {to} undoes what the owner asked for")
                });
                (self.truth.wish, self.with_our_room, self.owner_acted) = (to - 1, to - 1, true);
                self.is_absorbed = false;
            }
            _ => {}
        }
    }

    /// A member has left that served.
    fn serve_enough(&mut self, n: u32, decrement: bool, basis: Basis) {
        let row = self.row.as_ref().map(|row| &row.journal);
        let Some(original) = row.and_then(|journal| journal.original.as_ref()) else { return };
        let wanted = basis.wish.min(self.truth.wish).min(basis.serving).min(original.serving);
        let raise = row.and_then(|journal| journal.kind.answer()).map(|answer| answer.raise);
        // Its replacement can't come first: it was refused, or nobody knows whose the one beyond is.
        let goes_at_once = !decrement
            && (self.execution.has_failed
                || self.owner_acted
                || !matches!(raise, Some(Raise::Made | Raise::MadeAgain)));
        let is_excused = n == DOOMED && (self.is_time_up() || goes_at_once);
        let would_serve = self.truth.serving() + self.truth.lost - basis.lost;
        self.holds(is_excused || would_serve >= wanted, || {
            format!("{n} leaves (decrement {decrement}): {would_serve} serve of {wanted}")
        });
    }
}
