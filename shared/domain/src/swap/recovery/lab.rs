//! How a lab swap takes over, ends, and is undone: one pure decision after another, from the journal
//! and from what AWS shows. The state machine's phases, the rollback and the reconciler all ask here.
//!
//! Three rules stand above all. The old instance stops only while the newcomer runs, holds the Elastic
//! IP and is healthy in every target group. The newcomer goes only once the old instance has all of
//! that back. And what is asked for is what the journal *recorded*: an address or a registration that
//! its owner has moved elsewhere meanwhile stays there, and a newcomer that its owner has come to use stays, too.

use crate::ids::InstanceId;
use crate::reason::Reason;
use crate::swap::journal::{Journal, Stage};
use crate::swap::lab::{LabSwap, OldInstance};
use crate::swap::recovery::Decision::{self, Do};
use crate::swap::recovery::End;

mod observed;

pub use observed::{AddressAt, LeftVolume, Newcomer, Observed, OldState, TargetState, Targets};

/// The next thing on the way to a newcomer that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakeOver {
    /// Register the newcomer in this target group (an index into the journal's registrations).
    Register(usize),
    /// Give it the Elastic IP.
    MoveAddress,
    /// Look again later.
    Wait(&'static str),
    /// It serves.
    Done,
    /// It can't: go back.
    Undo(Reason, String),
}

/// What to do next so that the newcomer takes over. The address comes last: until then every call is
/// an addition, and the old instance serves as ever.
#[must_use]
pub fn take_over(lab: &LabSwap, observed: &Observed) -> TakeOver {
    let changed = |what: &str| TakeOver::Undo(Reason::InstanceChanged, what.to_owned());
    if !observed.newcomer_lives() {
        return TakeOver::Undo(Reason::NewcomerAtRisk, "the newcomer no longer runs".to_owned());
    }
    if observed.old != OldState::Running {
        return changed("the old instance no longer runs");
    }
    if observed.target(|t| t.old.is_out()).is_some() {
        return changed("the old instance has left a target group");
    }
    // No call of ours has taken it out so far.
    if observed.target(|t| t.newcomer == TargetState::Draining).is_some() {
        return changed("the newcomer was taken out of a target group");
    }
    if let Some(target) = observed.target(|t| t.newcomer.is_out()) {
        return TakeOver::Register(target);
    }
    if observed.target(|t| !t.newcomer.serves()).is_some() {
        return TakeOver::Wait("the newcomer is not healthy in every target group");
    }
    match (&lab.address, observed.address) {
        (None, _) | (Some(_), AddressAt::Newcomer) => TakeOver::Done,
        (Some(_), AddressAt::Old) => TakeOver::MoveAddress,
        (Some(_), AddressAt::Nobody | AddressAt::Elsewhere) => {
            changed("its Elastic IP is elsewhere, or it has another")
        }
    }
}

/// The one thing to do next to end a swap, one way or the other. Numbers are indices into the
/// journal's registrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Register the newcomer.
    RegisterNewcomer(usize),
    /// Deregister the newcomer.
    DeregisterNewcomer(usize),
    /// Register the old instance again.
    RegisterOld(usize),
    /// Deregister the old instance.
    DeregisterOld(usize),
    /// The Elastic IP to the newcomer.
    AddressToNewcomer,
    /// The Elastic IP back to the old instance.
    AddressToOld,
    /// Stop the old instance.
    StopOld,
    /// Start the old instance, which we stopped.
    StartOld,
    /// Terminate the old instance.
    TerminateOld,
    /// Terminate the newcomer.
    TerminateNewcomer(InstanceId),
    /// Deregister the image that was captured.
    DeregisterImage(String),
    /// Delete a snapshot of that image.
    DeleteSnapshot(String),
    /// Delete a volume that the newcomer left behind.
    DeleteVolume(String),
}

impl Action {
    /// Notes what the journal has to hold before the call is made.
    pub fn record(&self, lab: &mut LabSwap, observed: &Observed) {
        lab.captured.note(&observed.images);
        lab.volumes.extend(observed.newcomers_volumes.iter().cloned());
        match self {
            Self::DeregisterOld(n) => {
                // A journal without the numbers of those that left before may mean any.
                if !lab.leaving || !lab.let_out.is_empty() {
                    lab.let_out.insert(*n);
                }
                lab.leaving = true;
            }
            Self::StopOld | Self::TerminateOld => lab.stopping = true,
            _ => {}
        }
    }
}

/// Whether the swap goes forward to its end. Otherwise it is undone, for good: the caller writes that
/// down ([`Stage::Undoing`]), so that a target that comes and goes does not turn it round again.
#[must_use]
pub fn goes_forward(journal: &Journal, lab: &LabSwap, observed: &Observed) -> bool {
    if observed.old == OldState::Gone {
        return journal.newcomer.is_some(); // nothing to go back to
    }
    // An execution that died is no reason to go back; a newcomer or an owner that speaks against it is.
    let spoken_against = matches!(
        journal.undo_reason(),
        Some(Reason::NewcomerAtRisk | Reason::NewcomerNotServing | Reason::InstanceChanged)
    );
    if journal.stage != Stage::Retiring || spoken_against || !observed.newcomer_lives() {
        return false;
    }
    let stopped_by_us = observed.old == OldState::Stopped && lab.stopping;
    let serves = observed.target(|t| !t.newcomer.serves()).is_none();
    stopped_by_us || (serves && observed.address != AddressAt::Old)
}

/// Why a retirement that was under way does not go forward.
#[must_use]
pub fn why_not_forward(observed: &Observed) -> (Reason, &'static str) {
    if !observed.newcomer_lives() {
        return (Reason::NewcomerAtRisk, "the newcomer no longer runs");
    }
    if observed.target(|t| !t.newcomer.serves()).is_some() {
        return (Reason::NewcomerNotServing, "the newcomer is not healthy in every target group any more");
    }
    (Reason::InstanceChanged, "the Elastic IP is with the old instance again")
}

/// What to do next.
#[must_use]
pub fn next(journal: &Journal, lab: &LabSwap, observed: &Observed) -> Decision<Action> {
    let action = if goes_forward(journal, lab, observed) {
        finish(journal, lab, observed)
    } else {
        undo(journal, lab, observed)
    };
    match action {
        Decision::Done(_) if observed.calls_may_land => Decision::Wait("a call may still land"),
        action => action,
    }
}

fn finish(journal: &Journal, lab: &LabSwap, observed: &Observed) -> Decision<Action> {
    if observed.newcomer_lives() {
        // At a retirement it has served in all of them, and no call of ours takes it out: its owner has.
        if journal.stage != Stage::Retiring
            && let Some(target) = observed.target(|t| t.newcomer.is_out())
        {
            return Do(Action::RegisterNewcomer(target));
        }
        // AWS lets go of the address some time after it shows that the old instance is shutting down.
        let is_dead_mans = observed.old == OldState::Gone && observed.address == AddressAt::Old;
        if lab.address.is_some() && (is_dead_mans || observed.address == AddressAt::Nobody) {
            return Do(Action::AddressToNewcomer);
        }
    }
    // Neither is left: nobody else takes the newcomer out.
    if !observed.newcomer_lives()
        && let Some(target) = observed.target(|t| t.newcomer.is_registered())
    {
        return Do(Action::DeregisterNewcomer(target));
    }
    if observed.old != OldState::Gone {
        if let Some(target) = observed.target(|t| t.old.is_registered()) {
            return Do(Action::DeregisterOld(target));
        }
        if observed.target(|t| t.old == TargetState::Draining).is_some() {
            return Decision::Wait("the old instance is draining");
        }
    }
    match (observed.old, lab.old_instance) {
        // It was not we who started it; its owner is asked once it runs.
        (OldState::Starting, _) => Decision::Wait("the old instance was started, and does not run yet"),
        (OldState::Running, OldInstance::Stop) => Do(Action::StopOld),
        (OldState::Running, OldInstance::Terminate) => Do(Action::TerminateOld),
        // Where it was to be terminated, its owner has stopped it, and nobody can ask an instance that is down.
        (OldState::Stopped | OldState::Gone, _) => clean_up(lab, observed, End::Finished),
    }
}

fn undo(journal: &Journal, lab: &LabSwap, observed: &Observed) -> Decision<Action> {
    if observed.newcomer.is_none() && observed.launch_may_be_invisible {
        return Decision::Wait("what was launched may not be visible yet");
    }
    let back = (observed.old != OldState::Gone).then(|| old_serves_again(journal, lab, observed)).flatten();
    back.or_else(|| old_may_still_leave(journal, observed))
        .or_else(|| newcomer_leaves(lab, observed))
        .or_else(|| volumes_go(journal, lab, observed))
        .or_else(|| {
            // Beside a newcomer that is known, an earlier launch may come to light.
            observed
                .launch_may_be_invisible
                .then_some(Decision::Wait("what was launched may not be visible yet"))
        })
        .unwrap_or_else(|| clean_up(lab, observed, End::Undone))
}

fn old_serves_again(journal: &Journal, lab: &LabSwap, observed: &Observed) -> Option<Decision<Action>> {
    match observed.old {
        OldState::Stopped if lab.stopping => return Some(Do(Action::StartOld)),
        OldState::Starting => return Some(Decision::Wait("the old instance is starting")),
        _ => {}
    }
    if lab.leaving && observed.old == OldState::Running {
        if let Some(target) = (0..observed.targets.len()).find(|n| observed.is_let_out(lab, *n)) {
            return Some(Do(Action::RegisterOld(target)));
        }
        let may_serve = observed.newcomer_lives();
        if may_serve && observed.target(|t| t.old == TargetState::Checking).is_some() {
            return Some(Decision::Wait("the old instance is not healthy yet in every target group"));
        }
    }
    let ours = lab.address.is_some() && journal.newcomer.is_some();
    let astray = matches!(observed.address, AddressAt::Newcomer | AddressAt::Nobody);
    if ours && astray {
        let may_stop = lab.stopping && observed.calls_may_land && observed.newcomer_lives();
        let wait =
            Decision::Wait("a stop of the old instance may still land, and the newcomer has the address");
        return Some(if may_stop { wait } else { Do(Action::AddressToOld) });
    }
    // It was out, or without its address, or has failed by itself: while the newcomer serves in its place, that stays.
    let is_missed = |old| matches!(old, TargetState::Checking | TargetState::Unhealthy);
    let missed = observed.target(|t| is_missed(t.old) && t.newcomer == TargetState::Healthy);
    (observed.old == OldState::Running && observed.newcomer_lives() && missed.is_some()).then_some(
        Decision::Wait("the old instance is not healthy again, and the newcomer serves in its place"),
    )
}

/// A stop, a deregistration or a move of the address that AWS carries out late finds no newcomer any more, and nobody who
/// makes up for it.
fn old_may_still_leave(journal: &Journal, observed: &Observed) -> Option<Decision<Action>> {
    let has_taken_over = journal.newcomer.is_some() && observed.old != OldState::Gone;
    (has_taken_over && observed.calls_may_land)
        .then_some(Decision::Wait("what was asked of the old instance, or of its address, may still land"))
}

/// A newcomer that its owner has come to use leaves the service of the old instance, and stays.
fn newcomer_leaves(lab: &LabSwap, observed: &Observed) -> Option<Decision<Action>> {
    if let Some(target) = observed.target(|t| t.newcomer.is_registered()) {
        return Some(Do(Action::DeregisterNewcomer(target)));
    }
    let leaves = |newcomer: &&Newcomer| newcomer.alive && !lab.kept.contains_key(&newcomer.id);
    let newcomer = observed.newcomer.as_ref().filter(leaves)?;
    if observed.target(|t| t.newcomer == TargetState::Draining).is_some() {
        return Some(Decision::Wait("the newcomer is draining"));
    }
    Some(Do(Action::TerminateNewcomer(newcomer.id.clone())))
}

/// An image may say of a volume that it outlives its instance. Of a newcomer that never had traffic, nothing stays; on
/// another's there may be what only it was told.
fn volumes_go(journal: &Journal, lab: &LabSwap, observed: &Observed) -> Option<Decision<Action>> {
    // From then on it may have been registered, and have had the address.
    let may_have_served =
        journal.newcomer.is_some() && (lab.address.is_some() || !lab.registrations.is_empty());
    if may_have_served || lab.is_over || lab.leaving || lab.stopping {
        return None;
    }
    if let Some(volume) = observed.volumes.iter().find(|volume| !volume.is_attached) {
        return Some(Do(Action::DeleteVolume(volume.id.clone())));
    }
    (!observed.volumes.is_empty()).then_some(Decision::Wait("the newcomer still has its volumes"))
}

/// The image was only a means of launching: nothing that runs needs it or its snapshots.
fn clean_up(lab: &LabSwap, observed: &Observed, end: End) -> Decision<Action> {
    if let Some(stray) = observed.strays.iter().find(|id| !lab.kept.contains_key(*id)) {
        return Do(Action::TerminateNewcomer(stray.clone()));
    }
    if let Some(image) = observed.images.first() {
        return Do(Action::DeregisterImage(image.id.clone()));
    }
    if let Some(snapshot) = observed.snapshots.first() {
        return Do(Action::DeleteSnapshot(snapshot.clone()));
    }
    Decision::Done(end)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
