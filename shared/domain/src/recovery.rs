//! How a swap ends once it is no longer certain how far it came: one pure decision from the
//! journal and from what AWS shows. The rollback of an execution and the reconciler both ask it,
//! again and again, doing one action at a time, until it says [`Action::Done`].
//!
//! Three rules stand above all. An instance leaves the group only while as many serve as are
//! desired. The old instance is terminated only after that. And desired is lowered by *our* one
//! only while it is exactly one more than it was: any other number is the owner's (or a scaling
//! policy's) own wish, and a newcomer that serves is then simply part of it.

use crate::group::{AZ_REBALANCE, Group, Member, MemberState};
use crate::ids::InstanceId;
use crate::journal::{Journal, Original, Retirement, Stage};
use crate::reason::Reason;

/// The newcomer as EC2 shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    /// Its id. An instance that lives is here only if [`crate::proof`] holds.
    pub id: InstanceId,
    /// Pending or running: it still costs.
    pub alive: bool,
    /// Still carries the group's own tag, which only a detach takes away.
    pub has_group_tag: bool,
}

/// What AWS shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The group; `None` if it was deleted.
    pub group: Option<Group>,
    /// The old instance still runs.
    pub old_alive: bool,
    /// The newcomer, if any was launched.
    pub newcomer: Option<Newcomer>,
    /// The launch began so recently that EC2 may not show its instance yet.
    pub launch_may_be_invisible: bool,
    /// Instances that a target group is still draining.
    pub draining: Vec<InstanceId>,
}

/// How a swap ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The newcomer serves, the old instance is gone.
    Finished,
    /// The group is as its owner wants it, the old instance in it.
    Undone,
}

/// The one thing to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing is left to do.
    Done(End),
    /// Look again later.
    Wait(&'static str),
    /// Take the serving newcomer out of the group, desired minus one.
    DetachNewcomer(InstanceId),
    /// Take a newcomer that does not serve (dead, or still pending) out of the group, desired minus
    /// one, before the group replaces it.
    RemoveIdleNewcomer(InstanceId),
    /// Take a newcomer that is of no use out of a group whose desired is the owner's: the group
    /// launches another.
    ReplaceNewcomer(InstanceId),
    /// The group has replaced the dead newcomer by itself: take that replacement out, desired minus
    /// one.
    TerminateExtra(InstanceId),
    /// Terminate the newcomer, which is in no group.
    TerminateNewcomer(InstanceId),
    /// The newcomer failed after the old instance had left: take the old one back in.
    ReattachOld,
    /// Terminate the old instance, which has left the group and is drained.
    TerminateOld,
    /// Resume AZRebalance, which we suspended.
    ResumeAzRebalance,
    /// MaxSize one higher again, so that the old instance finds room.
    RaiseMaxSize(u32),
    /// MaxSize back to the owner's.
    RestoreMaxSize(u32),
}

impl Action {
    /// The instance that leaves its group or is terminated by it. Where that is a node, it must be
    /// drained before.
    #[must_use]
    pub fn removes<'a>(&'a self, old: &'a InstanceId) -> Option<&'a InstanceId> {
        match self {
            Self::DetachNewcomer(id)
            | Self::RemoveIdleNewcomer(id)
            | Self::ReplaceNewcomer(id)
            | Self::TerminateExtra(id)
            | Self::TerminateNewcomer(id) => Some(id),
            Self::TerminateOld => Some(old),
            Self::Done(_)
            | Self::Wait(_)
            | Self::ReattachOld
            | Self::ResumeAzRebalance
            | Self::RaiseMaxSize(_)
            | Self::RestoreMaxSize(_) => None,
        }
    }

    /// Returns true if it ends, moves or admits an instance. It is done only while EC2 shows a newcomer that the swap
    /// launched: that launch names the old instance, and a journal alone is no order.
    #[must_use]
    pub const fn needs_proof(&self) -> bool {
        !matches!(self, Self::Done(_) | Self::Wait(_) | Self::ResumeAzRebalance | Self::RestoreMaxSize(_))
    }

    /// After it, nothing of our one is left in desired.
    #[must_use]
    pub const fn settles_desired(&self) -> bool {
        matches!(
            self,
            Self::DetachNewcomer(_)
                | Self::RemoveIdleNewcomer(_)
                | Self::ReplaceNewcomer(_)
                | Self::TerminateExtra(_)
        )
    }
}

/// What to do next.
#[must_use]
pub fn next(journal: &Journal, observed: &Observed) -> Action {
    let Some(original) = &journal.original else { return before_attach(journal, observed) };
    let Some(group) = &observed.group else { return without_group(journal, observed) };
    let swap = Swap { journal, original, observed, group };
    if goes_forward(journal, observed) { swap.finish() } else { swap.undo() }
}

/// Returns what gives its owner's settings back to the group, where that is all that can still be done: it needs no proof.
#[must_use]
pub fn settings_only(journal: &Journal, observed: &Observed) -> Option<Action> {
    let (original, group) = (journal.original.as_ref()?, observed.group.as_ref()?);
    let settings = Swap { journal, original, observed, group }.settings();
    settings.filter(|action| !action.needs_proof() && !matches!(action, Action::Wait(_) | Action::Done(_)))
}

/// Whether the swap is to be finished rather than undone: the old instance was told to go, and has left its
/// group or is leaving it.
#[must_use]
pub fn goes_forward(journal: &Journal, observed: &Observed) -> bool {
    let has_left = |group: &Group| group.member(&journal.old).is_none_or(|m| m.state == MemberState::Leaving);
    journal.stage == Stage::Retiring && observed.group.as_ref().is_some_and(has_left)
}

/// The group is untouched: only an instance may have been launched.
fn before_attach(journal: &Journal, observed: &Observed) -> Action {
    match &observed.newcomer {
        Some(newcomer) if newcomer.alive && !journal.keeps(&newcomer.id) => {
            Action::TerminateNewcomer(newcomer.id.clone())
        }
        None if observed.launch_may_be_invisible => Action::Wait("a launch may not be visible yet"),
        _ => Action::Done(End::Undone),
    }
}

/// The owner deleted the group, and with it its members; what was no member any more is left over.
fn without_group(journal: &Journal, observed: &Observed) -> Action {
    match &observed.newcomer {
        Some(newcomer) if newcomer.alive && !journal.keeps(&newcomer.id) => {
            Action::TerminateNewcomer(newcomer.id.clone())
        }
        _ if journal.stage == Stage::Retiring && observed.old_alive => Action::TerminateOld,
        _ => Action::Done(End::Undone),
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
    fn finish(&self) -> Action {
        if self.group.member(&self.journal.old).is_some() {
            return self.max_size().unwrap_or(Action::Wait("the old instance is leaving the group"));
        }
        if self.observed.old_alive && self.journal.retirement == Retirement::Detach {
            return self.let_old_go();
        }
        // Its group replaced it before we could take it out.
        let was_faster = [Some(Reason::RetireRejected), Some(Reason::InstanceGone)];
        let is_shed = !self.is_kept() && was_faster.contains(&self.journal.undo_reason());
        if is_shed && self.desired_holds_ours() {
            return self.shed_extra();
        }
        self.settings().unwrap_or(Action::Done(End::Finished))
    }

    /// The old instance is out of the group, and runs.
    fn let_old_go(&self) -> Action {
        let newcomer = self.observed.newcomer.as_ref();
        let alive = newcomer.is_some_and(|n| n.alive);
        let serves = alive && newcomer.is_some_and(|n| self.group.member(&n.id).is_some_and(Member::serves));
        let doubted = matches!(
            self.journal.undo_reason(),
            Some(Reason::NewcomerAtRisk | Reason::NewcomerNotServing | Reason::NodeNotReady)
        );
        // The group may not have noticed yet that the newcomer is dead.
        let serving = self.rest() + u32::from(serves && !doubted);
        let enough_serve = serving >= self.group.desired.min(self.original.serving);
        // The attach raises desired by one, which the undo then takes back; it must find room.
        let has_room = self.group.desired < self.group.max;
        let may_reattach =
            self.group.desired == self.original.desired && (has_room || self.may_raise().is_some());
        if may_reattach && (doubted || (!serves && !enough_serve)) {
            return self.may_raise().filter(|_| !has_room).map_or(Action::ReattachOld, Action::RaiseMaxSize);
        }
        if let Some(restore) = self.max_size() {
            return restore;
        }
        if !enough_serve {
            return Action::Wait("the old instance stays until the group serves in full");
        }
        if self.observed.draining.contains(&self.journal.old) {
            return Action::Wait("the old instance is draining");
        }
        Action::TerminateOld
    }

    fn undo(&self) -> Action {
        // Before our one is out of desired, an attach may still come to light.
        if let Some(restore) = self.max_size().filter(|_| self.journal.desired_settled) {
            return restore;
        }
        let newcomer = self.observed.newcomer.as_ref().filter(|_| !self.is_kept());
        let away = newcomer.and_then(|newcomer| self.send_away(newcomer));
        away.or_else(|| self.settings()).unwrap_or(Action::Done(End::Undone))
    }

    fn send_away(&self, newcomer: &Newcomer) -> Option<Action> {
        let id = || newcomer.id.clone();
        let ours = self.desired_holds_ours();
        let Some(member) = self.group.member(&newcomer.id) else {
            return match (newcomer.alive, self.observed.draining.contains(&newcomer.id)) {
                (true, true) => Some(Action::Wait("the newcomer is draining")),
                (true, false) => Some(Action::TerminateNewcomer(id())),
                (false, _) => (newcomer.has_group_tag && ours).then(|| self.shed_extra()),
            };
        };
        match member.state {
            MemberState::Leaving => Some(Action::Wait("the newcomer is leaving the group")),
            _ if !newcomer.alive => ours.then(|| Action::RemoveIdleNewcomer(id())),
            MemberState::InService if !ours => self.is_useless().then(|| Action::ReplaceNewcomer(id())),
            MemberState::InService if member.healthy && self.rest_lacks() => {
                Some(Action::Wait("the newcomer stays until the rest of the group serves"))
            }
            MemberState::InService => Some(Action::DetachNewcomer(id())),
            MemberState::Pending if ours => Some(Action::RemoveIdleNewcomer(id())),
            MemberState::Pending => None,
            MemberState::Other => Some(Action::Wait("the newcomer is in a state that we don't touch")),
        }
    }

    /// A member stays beyond the capacity that the owner had, since a pod can't leave its node. Once it has died, nothing
    /// is kept.
    fn is_kept(&self) -> bool {
        let is_dead = |id| self.observed.newcomer.as_ref().is_some_and(|n| &n.id == id && !n.alive);
        self.journal.kept.as_ref().is_some_and(|kept| !is_dead(&kept.instance_id))
    }

    /// What is kept is a member of the group, and nobody has told it to leave.
    fn keeps_member(&self) -> bool {
        let member = self.journal.kept.as_ref().and_then(|kept| self.group.member(&kept.instance_id));
        self.is_kept() && member.is_some_and(|member| member.state != MemberState::Leaving)
    }

    /// How many serve beside the newcomer.
    fn rest(&self) -> u32 {
        let newcomer = self.observed.newcomer.as_ref().and_then(|n| self.group.member(&n.id));
        self.group.in_service() - u32::from(newcomer.is_some_and(Member::serves))
    }

    /// Without the newcomer, fewer serve than are asked for beside it.
    fn rest_lacks(&self) -> bool {
        self.rest() < self.group.desired.saturating_sub(1).min(self.original.serving)
    }

    /// The one that the attach added is still in desired, and nobody else has changed it.
    fn desired_holds_ours(&self) -> bool {
        !self.journal.desired_settled
            && self.group.desired == self.original.desired + 1
            && self.original.desired >= self.group.min
    }

    fn is_useless(&self) -> bool {
        let settled = self.journal.desired_settled;
        !settled && self.journal.undo_reason() == Some(Reason::NewcomerNotServing)
    }

    /// Takes out what the group launched in our one's place: a member that came later, and serves.
    fn shed_extra(&self) -> Action {
        if self.group.in_service() < self.group.desired.min(self.original.serving + 1) {
            return Action::Wait("the group is launching what it misses");
        }
        let newcomer = self.observed.newcomer.as_ref().map(|n| &n.id);
        let came_later = |m: &&Member| {
            m.serves()
                && m.id != self.journal.old
                && Some(&m.id) != newcomer
                && !self.original.members.contains(&m.id)
        };
        match self.group.members.iter().find(came_later) {
            Some(extra) => Action::TerminateExtra(extra.id.clone()),
            None => Action::Wait("desired is one too high, but no member came later"),
        }
    }

    /// The owner's settings that are still not restored.
    fn settings(&self) -> Option<Action> {
        let is_ours = !self.original.az_rebalance_suspended && self.group.suspended.contains(AZ_REBALANCE);
        // The zone has one more than the others by it: Auto Scaling may choose the kept member, and nobody drains it.
        if is_ours && !self.keeps_member() {
            return Some(Action::ResumeAzRebalance);
        }
        self.raised()?;
        match self.max_size() {
            // Below desired it would make the group pick a victim; the report tells its owner.
            None if self.is_kept() => None,
            restore => {
                Some(restore.unwrap_or(Action::Wait("MaxSize stays raised until the group fits below it")))
            }
        }
    }

    /// MaxSize as we raised it, where it still is so.
    fn raised(&self) -> Option<u32> {
        self.journal.max_raised_to.filter(|raised| self.group.max == *raised && *raised > self.original.max)
    }

    /// MaxSize that was given back, and may be raised to this once more.
    fn may_raise(&self) -> Option<u32> {
        self.journal
            .max_raised_to
            .filter(|raised| self.group.max == self.original.max && *raised > self.group.max)
    }

    /// MaxSize goes back as soon as desired fits below it: members that leave, or stand by, are not in desired. A
    /// MaxSize below desired makes the group pick victims.
    fn max_size(&self) -> Option<Action> {
        self.raised()?;
        (self.group.desired <= self.original.max).then_some(Action::RestoreMaxSize(self.original.max))
    }
}

#[cfg(test)]
mod tests;
