//! How a swap ends once it is no longer certain how far it came: one pure decision from the
//! journal and from what AWS shows. The rollback of an execution and the reconciler both ask it,
//! again and again, doing one action at a time, until it says [`Decision::Done`].
//!
//! Six rules stand above all. An instance leaves the group only while as many serve as are
//! desired. The old instance is terminated only after that. Desired is lowered by *our* one
//! only while it is exactly one more than it was, and nothing says that our one is out already: any other number is the
//! owner's (or a scaling policy's) own wish, and a newcomer that serves is then simply part of it. No call lowers desired
//! beside another one that may: a MaxSize that goes back cuts it, too. A way back that has
//! begun never turns forward again. And between a changing call and any conclusion from its absence lies a quiet period:
//! calls land late, and AWS shows them later still.

use crate::ids::InstanceId;
use crate::reason::Reason;
use crate::swap::group::{AZ_REBALANCE, Group, Member, MemberState};
use crate::swap::journal::{Journal, Original, Retirement, Stage};
use crate::swap::recovery::Decision::{self, Do};
use crate::swap::recovery::End;

mod action;
mod capacity;
mod record;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

pub use action::Action;
pub use capacity::is_full_without_newcomer;
pub use record::why_not_retired;

/// The newcomer as EC2 shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    /// Its id. An instance that lives is here only if [`crate::swap::proof`] holds.
    pub id: InstanceId,
    /// Pending or running: it still costs.
    pub alive: bool,
    /// Still carries the group's own tag, as far as known ([`crate::swap::proof::Evidence::has_group_tag`]).
    pub has_group_tag: bool,
}

/// What AWS shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The group; `None` if it was deleted.
    pub group: Option<Group>,
    /// The old instance still runs.
    pub old_alive: bool,
    /// The old instance carries the group's own tag, which a detach takes away. EC2 may show no tags of one that has ended.
    pub old_has_group_tag: bool,
    /// The newcomer, if any was launched.
    pub newcomer: Option<Newcomer>,
    /// Further instances that the swap launched, alive and in no group.
    pub strays: Vec<InstanceId>,
    /// The launch began so recently that EC2 may not show its instance yet.
    pub launch_may_be_invisible: bool,
    /// The last changing call is so recent that it may still land, or not show yet.
    pub calls_may_land: bool,
    /// Instances that a target group is still draining.
    pub draining: Vec<InstanceId>,
    /// Members that are InService in their group and do not serve. They have died unseen; or a target group of their group
    /// does not find them healthy, of those that came back or came later.
    pub not_serving: Vec<InstanceId>,
    /// The last changing call is so recent that members which are not serving yet are waited for.
    pub awaits_others: bool,
}

/// A look may be older than MaxSize is, which makes the first refusal no proof.
const REATTACHES: u32 = 2;

/// Returns the next thing to do, as a step of the state machine sees the swap.
#[must_use]
pub fn next(journal: &Journal, observed: &Observed) -> Decision<Action> {
    let stray = observed.strays.iter().find(|stray| !journal.keeps(stray));
    match (decide(journal, observed), stray) {
        (Decision::Done(_), Some(stray)) => Do(Action::TerminateStray(stray.clone())),
        (action, _) => action,
    }
}

fn decide(journal: &Journal, observed: &Observed) -> Decision<Action> {
    let Some(original) = &journal.original else { return before_attach(journal, observed) };
    let Some(group) = &observed.group else { return without_group(journal, observed) };
    let swap = Swap { journal, original, observed, group };
    let decision = if goes_forward(journal, observed) { swap.finish() } else { swap.undo() };
    let settles_desired = decision.action().is_some_and(Action::settles_desired);
    if settles_desired && journal.max_may_go_back(observed.calls_may_land) {
        return Decision::Wait("MaxSize may be going back, and desired falling with it");
    }
    decision
}

/// Returns the next thing to do where nobody can tell which calls were made. Before it ends, it waits for what may still
/// land.
#[must_use]
pub fn recover(journal: &Journal, observed: &Observed) -> Decision<Action> {
    match next(journal, observed) {
        // What is suspended may be by a call of ours that lands late, or by the owner: it is resumed once.
        Decision::Done(_) | Do(Action::ResumeAzRebalance)
            if observed.calls_may_land && journal.original.is_some() =>
        {
            Decision::Wait("a call may still land")
        }
        action => action,
    }
}

/// Says if the old instance would come back, were the newcomer at risk: the decision hangs on it.
#[must_use]
pub fn hangs_on_newcomer(journal: &Journal, observed: &Observed) -> bool {
    let at_risk = Journal { newcomer_at_risk: true, ..journal.clone() };
    recover(&at_risk, observed) != recover(journal, observed)
}

/// Says, for a person, that desired may hold our one for ever: nothing proves whose it is.
#[must_use]
pub fn doubt(journal: &Journal, observed: &Observed) -> Option<String> {
    let (original, group) = (journal.original.as_ref()?, observed.group.as_ref()?);
    let swap = Swap { journal, original, observed, group };
    let raised = journal
        .raised_max(group.max)
        .map(|raised| format!(", and then MaxSize, which is {raised}, to {}", original.max));
    swap.is_in_doubt().then(|| {
        format!(
            "desired capacity is {}, and was {} before the swap: if neither you nor a scaling policy has raised it, lower it by one{}",
            group.desired,
            original.desired,
            raised.unwrap_or_default()
        )
    })
}

/// Returns what gives its owner's settings back to the group, where that is all that can still be done: it needs no proof.
#[must_use]
pub fn settings_only(journal: &Journal, observed: &Observed) -> Option<Action> {
    let (original, group) = (journal.original.as_ref()?, observed.group.as_ref()?);
    let settings = Swap { journal, original, observed, group }.settings();
    settings.as_ref().and_then(Decision::action).filter(|action| !action.needs_proof()).cloned()
}

/// Says if the swap is to be finished rather than undone: the old instance was told to go, and has left its
/// group or is leaving it.
#[must_use]
pub fn goes_forward(journal: &Journal, observed: &Observed) -> bool {
    let has_left = |group: &Group| group.member(&journal.old).is_none_or(|m| m.state == MemberState::Leaving);
    journal.stage == Stage::Retiring && observed.group.as_ref().is_some_and(has_left)
}

/// The old instance has left its group by our call, and our one left desired with it. A tag that is missing tells so only
/// of an instance that runs: EC2 may show no tags of one that has ended.
fn has_retired(journal: &Journal, observed: &Observed) -> bool {
    let is_outside = observed.group.as_ref().is_some_and(|group| group.member(&journal.old).is_none());
    let was_told_to = journal.stage == Stage::Retiring && journal.retirement == Retirement::Detach;
    let runs_outside = was_told_to && observed.old_alive && !observed.old_has_group_tag;
    // Where our call was refused, its owner may have detached it, and kept desired.
    let was_refused = journal.retire_refused
        || matches!(journal.undo_reason(), Some(Reason::RetireRejected | Reason::InstanceGone));
    let is_shown = runs_outside && !was_refused;
    is_outside && !journal.turned_back && (journal.retired || is_shown)
}

/// The group is untouched: only an instance may have been launched.
fn before_attach(journal: &Journal, observed: &Observed) -> Decision<Action> {
    match &observed.newcomer {
        Some(newcomer) if newcomer.alive && !journal.keeps(&newcomer.id) => {
            Do(Action::TerminateNewcomer(newcomer.id.clone()))
        }
        // A launch makes no second attempt while the first may come to light.
        None if observed.launch_may_be_invisible || observed.calls_may_land => {
            Decision::Wait("a launch may not be visible yet")
        }
        _ => Decision::Done(End::Undone),
    }
}

/// The owner deleted the group, and with it its members; what was no member any more is left over.
fn without_group(journal: &Journal, observed: &Observed) -> Decision<Action> {
    let did_not_come_back = journal.turned_back && !observed.old_has_group_tag;
    let was_detached = journal.stage == Stage::Retiring || did_not_come_back;
    match &observed.newcomer {
        Some(newcomer) if newcomer.alive && !journal.keeps(&newcomer.id) => {
            Do(Action::TerminateNewcomer(newcomer.id.clone()))
        }
        _ if observed.old_alive && was_detached && !journal.leaves_old_to_owner() => Do(Action::TerminateOld),
        _ => Decision::Done(End::Undone),
    }
}

/// A swap that may have touched its group.
struct Swap<'a> {
    journal: &'a Journal,
    original: &'a Original,
    observed: &'a Observed,
    group: &'a Group,
}

impl Swap<'_> {
    fn finish(&self) -> Decision<Action> {
        if self.group.member(&self.journal.old).is_some() {
            return self.max_size().unwrap_or(Decision::Wait("the old instance is leaving the group"));
        }
        if self.observed.old_alive && self.journal.ends_old() {
            return self.let_old_go();
        }
        let newcomer = self.observed.newcomer.as_ref().filter(|_| !self.is_kept());
        let stray = newcomer.filter(|newcomer| newcomer.alive && self.group.member(&newcomer.id).is_none());
        let rest = match stray {
            Some(stray) => self.send_away(stray),
            None if !self.is_kept() && self.group_was_faster() && self.desired_holds_ours() => {
                self.shed_extra()
            }
            None => None,
        };
        rest.or_else(|| self.settings()).unwrap_or(Decision::Done(End::Finished))
    }

    /// The group itself took the old instance out, before our call could: it is replaced, and our one still is in desired.
    fn group_was_faster(&self) -> bool {
        let is_dead = !self.observed.old_alive && !self.journal.old_terminated;
        let died_as_member = is_dead && self.observed.old_has_group_tag;
        let was_told_to_go = self.journal.retirement == Retirement::TerminateInGroup || self.journal.retired;
        let was_never_detached = died_as_member && !was_told_to_go;
        was_never_detached || self.journal.leaves_old_to_owner()
    }

    /// The old instance is out of the group, and runs.
    fn let_old_go(&self) -> Decision<Action> {
        let newcomer = self.observed.newcomer.as_ref();
        let alive = newcomer.is_some_and(|n| n.alive);
        let serves = alive && newcomer.is_some_and(|n| self.group.member(&n.id).is_some_and(Member::serves));
        // The attach raises desired by one, which the undo then takes back; it must find room.
        let has_room = self.group.desired < self.group.max;
        let may_reattach = self.group.desired == self.original.desired
            && (has_room || self.may_raise().is_some())
            && self.journal.refused_reattaches < REATTACHES;
        let is_doubted = self.journal.newcomer_at_risk
            || matches!(
                self.journal.undo_reason(),
                Some(Reason::NewcomerAtRisk | Reason::NewcomerNotServing | Reason::NodeNotReady)
            );
        // Where the old one can't come back, a newcomer that serves counts, and one that is of no use makes room.
        let doubted = may_reattach && (is_doubted || self.journal.turned_back);
        // The old one may still come back, or desired show what it was before it left.
        let is_asked_for = is_doubted || self.journal.turned_back || !serves;
        if is_asked_for && !may_reattach && self.observed.calls_may_land {
            return Decision::Wait("desired may be older than what was called last");
        }
        if let Some(newcomer) = newcomer.filter(|_| serves && !may_reattach && self.is_useless()) {
            return Do(Action::ReplaceNewcomer(newcomer.id.clone()));
        }
        // The group may not have noticed yet that the newcomer is dead.
        let serving = self.rest() + u32::from(serves && !doubted);
        let enough_serve = serving >= self.group.desired.min(self.original.serving);
        if doubted || (may_reattach && !serves && !enough_serve) {
            // The second attempt must not look at the group that the first one saw.
            if self.journal.refused_reattaches > 0 && self.observed.calls_may_land {
                return Decision::Wait("AWS has just refused to take the old instance back");
            }
            return self
                .may_raise()
                .filter(|_| !has_room)
                .map_or(Action::ReattachOld, Action::RaiseMaxSize)
                .into();
        }
        if let Some(restore) = self.max_size() {
            return restore;
        }
        if !enough_serve {
            return Decision::Wait("the old instance stays until the group serves in full");
        }
        if self.observed.draining.contains(&self.journal.old) {
            return Decision::Wait("the old instance is draining");
        }
        Do(Action::TerminateOld)
    }

    fn undo(&self) -> Decision<Action> {
        if self.observed.calls_may_land && self.direction_is_open() {
            return Decision::Wait("what was called last may still land");
        }
        let old = self.group.member(&self.journal.old);
        if self.journal.turned_back && old.is_some_and(|old| old.state == MemberState::Leaving) {
            return Decision::Wait("the old instance is leaving the group");
        }
        let is_outside = old.is_none() && self.observed.old_alive;
        // One that its group terminates never runs outside, and can't be taken back.
        if self.journal.turned_back && is_outside && self.journal.ends_old() {
            return self.let_old_go();
        }
        // Before our one is out of desired, an attach may still come to light.
        if let Some(restore) = self.max_size().filter(|_| self.is_settled()) {
            return restore;
        }
        let newcomer = self.observed.newcomer.as_ref().filter(|_| !self.is_kept());
        let away = newcomer.and_then(|newcomer| self.send_away(newcomer));
        away.or_else(|| self.settings()).unwrap_or(Decision::Done(self.end()))
    }

    /// The old instance may have been told to leave, or the newcomer, and no look shows it yet.
    fn direction_is_open(&self) -> bool {
        self.journal.stage == Stage::Retiring || (self.journal.desired_settled && !self.is_settled())
    }

    /// The old instance may have ended before it could come back.
    fn end(&self) -> End {
        let old_is_gone = !self.observed.old_alive && self.group.member(&self.journal.old).is_none();
        let newcomer = self.observed.newcomer.as_ref().filter(|newcomer| newcomer.alive);
        let newcomer_stays = newcomer.is_some_and(|newcomer| self.group.member(&newcomer.id).is_some());
        if self.journal.turned_back && old_is_gone && newcomer_stays { End::Finished } else { End::Undone }
    }

    fn send_away(&self, newcomer: &Newcomer) -> Option<Decision<Action>> {
        let id = || newcomer.id.clone();
        let ours = self.desired_holds_ours();
        let Some(member) = self.group.member(&newcomer.id) else {
            return match (newcomer.alive, self.observed.draining.contains(&newcomer.id)) {
                (true, true) => Some(Decision::Wait("the newcomer is draining")),
                (true, false) => Some(Do(Action::TerminateNewcomer(id()))),
                (false, _) => (newcomer.has_group_tag && ours).then(|| self.shed_extra()).flatten(),
            };
        };
        let is_replaced = !newcomer.alive && !member.healthy && !self.observed.calls_may_land;
        match member.state {
            // Its group has found it dead, and launches another one. Its hooks may take hours.
            MemberState::Leaving if is_replaced => ours.then(|| self.shed_extra()).flatten(),
            MemberState::Leaving => Some(Decision::Wait("the newcomer is leaving the group")),
            _ if !newcomer.alive => ours.then(|| Do(Action::RemoveNewcomer(id()))),
            MemberState::InService if !ours => self.is_useless().then(|| Do(Action::ReplaceNewcomer(id()))),
            MemberState::InService if member.healthy && self.rest_lacks() => {
                Some(Decision::Wait("the newcomer stays until the rest of the group serves"))
            }
            // A detach runs no lifecycle hook, and the newcomer may be at work.
            MemberState::InService if self.journal.retirement == Retirement::TerminateInGroup => {
                Some(Do(Action::RemoveNewcomer(id())))
            }
            MemberState::InService => Some(Do(Action::DetachNewcomer(id()))),
            MemberState::Pending if ours => Some(Do(Action::RemoveNewcomer(id()))),
            MemberState::Pending => None,
            MemberState::Standby | MemberState::Other => {
                Some(Decision::Wait("the newcomer is in a state that we don't touch"))
            }
        }
    }

    fn is_useless(&self) -> bool {
        !self.is_settled() && self.journal.undo_reason() == Some(Reason::NewcomerNotServing)
    }

    /// Takes out what the group launched in our one's place: a member that came later, and serves. One that its owner
    /// protects from scale-in is at work, and stays. If none is left, the owner is told what desired is too high by: the
    /// group lost our one by scaling in, or each of them is at work.
    fn shed_extra(&self) -> Option<Decision<Action>> {
        if self.serving() < self.group.desired.min(self.original.serving + 1) {
            return Some(Decision::Wait("the group is launching what it misses"));
        }
        let newcomer = self.observed.newcomer.as_ref().map(|n| &n.id);
        let came_later = |m: &&Member| {
            !m.protected && m.id != self.journal.old && self.original.came_later(&m.id, newcomer)
        };
        let later = || self.group.members.iter().filter(came_later);
        if let Some(extra) = later().find(|member| member.serves()) {
            return Some(Do(Action::TerminateExtra(extra.id.clone())));
        }
        let is_starting = |member: &Member| member.state == MemberState::Pending;
        let has = self.group.members.iter().filter(|member| member.serves() || is_starting(member)).count();
        let is_short = u32::try_from(has).is_ok_and(|has| has < self.group.desired);
        let is_launching = later().any(is_starting) || (is_short && self.observed.awaits_others);
        is_launching.then_some(Decision::Wait("the group is launching what it misses"))
    }

    /// The owner's settings that are still not restored.
    fn settings(&self) -> Option<Decision<Action>> {
        let may_be_ours = !self.original.az_rebalance_suspended && !self.journal.az_rebalance_resumed;
        // The zone has one more than the others by it: Auto Scaling may choose the kept member, and nobody drains it.
        if may_be_ours && self.group.suspended.contains(AZ_REBALANCE) && !self.keeps_member() {
            return Some(Do(Action::ResumeAzRebalance));
        }
        self.journal.raised_max(self.group.max)?;
        match self.max_size() {
            // Below desired it would make the group pick a victim; the report tells its owner.
            None if self.is_kept() || self.is_in_doubt() => None,
            restore => {
                Some(restore.unwrap_or(Decision::Wait("MaxSize stays raised until the group fits below it")))
            }
        }
    }

    /// MaxSize that was given back, and may be raised to this once more.
    fn may_raise(&self) -> Option<u32> {
        self.journal
            .max_raised_to
            .filter(|raised| self.group.max == self.original.max && *raised > self.group.max)
    }

    /// MaxSize goes back as soon as desired fits below it: members that leave, or stand by, are not in desired. A
    /// MaxSize below desired makes the group pick victims.
    fn max_size(&self) -> Option<Decision<Action>> {
        self.journal.raised_max(self.group.max)?;
        (self.group.desired <= self.original.max).then_some(Do(Action::RestoreMaxSize(self.original.max)))
    }
}
