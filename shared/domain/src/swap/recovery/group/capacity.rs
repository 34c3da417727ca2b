//! The capacity of a group in the middle of a swap: how many serve, if desired still has our one, and if a member stays
//! beyond what the owner had.

use std::collections::BTreeSet;

use super::{Newcomer, Observed, Swap, has_retired};
use crate::ids::InstanceId;
use crate::swap::group::{Group, Member, MemberState};
use crate::swap::journal::Journal;

/// Says if the group has, beside the newcomer, as many in service as it is asked for: it launches no other.
#[must_use]
pub fn is_full_without_newcomer(journal: &Journal, observed: &Observed) -> bool {
    let Some(group) = &observed.group else { return false };
    let rest = serving_beside(journal, observed, group, observed.newcomer.as_ref());
    let swap = journal.original.as_ref().map(|original| Swap { journal, original, observed, group });
    let has_ours = swap.is_some_and(|swap| swap.desired_holds_ours());
    rest >= group.desired.saturating_sub(u32::from(has_ours))
}

/// Returns how many serve beside this newcomer. The group may not have noticed yet that the old instance is dead, and it does
/// not wait until its target groups send requests to a member.
fn serving_beside(journal: &Journal, observed: &Observed, group: &Group, newcomer: Option<&Newcomer>) -> u32 {
    let old = (!observed.old_alive).then_some(&journal.old);
    let beside = old.into_iter().chain(newcomer.map(|newcomer| &newcomer.id));
    let uncounted: BTreeSet<&InstanceId> = beside.chain(&observed.not_serving).collect();
    let serves = |member: &&Member| member.serves() && !uncounted.contains(&member.id);
    u32::try_from(group.members.iter().filter(serves).count()).unwrap_or(u32::MAX)
}

impl Swap<'_> {
    /// A member stays beyond the capacity that the owner had, since a pod can't leave its node. Once it has died, nothing
    /// is kept.
    pub(super) fn is_kept(&self) -> bool {
        let is_dead = |id| self.observed.newcomer.as_ref().is_some_and(|n| &n.id == id && !n.alive);
        self.journal.kind.kept().is_some_and(|kept| !is_dead(&kept.instance_id))
    }

    /// Says if the kept instance is a member of the group that nobody has told to leave.
    pub(super) fn keeps_member(&self) -> bool {
        let member = self.journal.kind.kept().and_then(|kept| self.group.member(&kept.instance_id));
        self.is_kept() && member.is_some_and(|member| member.state != MemberState::Leaving)
    }

    /// Returns how many serve, a living newcomer included.
    pub(super) fn serving(&self) -> u32 {
        let dead = self.observed.newcomer.as_ref().filter(|newcomer| !newcomer.alive);
        serving_beside(self.journal, self.observed, self.group, dead)
    }

    /// Returns how many serve beside the newcomer.
    pub(super) fn rest(&self) -> u32 {
        serving_beside(self.journal, self.observed, self.group, self.observed.newcomer.as_ref())
    }

    /// Without the newcomer, fewer serve than are asked for beside it. As many as at the attach are enough, unless there is time
    /// for another one that starts, is ill, or is about to be replaced.
    pub(super) fn rest_lacks(&self) -> bool {
        let asked = self.group.desired.saturating_sub(1);
        let newcomer = self.observed.newcomer.as_ref().map(|newcomer| &newcomer.id);
        let may_serve = self.group.others_may_serve(newcomer, &self.observed.not_serving);
        let waits = self.observed.awaits_others && may_serve;
        let least = if waits { asked } else { asked.min(self.original.serving) };
        self.rest() < least
    }

    /// The one that the attach added is still in desired, and nobody else has changed it.
    pub(super) fn desired_holds_ours(&self) -> bool {
        !self.is_settled()
            && !self.may_have_lost_ours()
            && self.journal.has_our_room(self.group.max)
            && self.group.desired == self.original.desired + 1
            && self.original.desired >= self.group.min
    }

    /// Our one has left desired, or may have. If the instance that was to leave with it stays, the call never landed.
    pub(super) fn is_settled(&self) -> bool {
        let member = self.journal.taking_out.as_ref().and_then(|id| self.group.member(id));
        self.journal.desired_settled && member.is_none_or(|member| member.state == MemberState::Leaving)
    }

    /// The old instance was detached, and nothing says that it has been a member since: with it our one left desired.
    fn may_have_lost_ours(&self) -> bool {
        let is_outside = self.group.member(&self.journal.old).is_none();
        self.journal.turned_back && is_outside && !self.observed.old_has_group_tag
    }

    /// Desired is higher than it was, and nothing proves whose that is.
    pub(super) fn is_in_doubt(&self) -> bool {
        let is_proven = self.journal.desired_settled && self.journal.taking_out.is_none();
        let is_proven = is_proven || has_retired(self.journal, self.observed);
        let is_recovery = self.journal.undo.is_some() && !self.is_kept();
        is_recovery && !is_proven && self.group.desired > self.original.desired
    }
}
