//! The journal's word on an action: ahead of its call, and once AWS has answered. A call whose answer never came may
//! still land, so that the journal says first what may come of it.

use jiff::Timestamp;

use super::{Action, Observed, goes_forward, has_retired};
use crate::ids::InstanceId;
use crate::reason::Reason;
use crate::swap::group::{Member, MemberState};
use crate::swap::journal::{Journal, MaxRestore, Retirement, Stage};

/// Returns the reason for the undo once the retirement of the old instance was refused. [`Reason::RetireRejected`] proves
/// that our one is still in desired, which only the first call can: one that was made earlier may be why this one is
/// refused, or may land yet.
#[must_use]
pub const fn why_not_retired(is_first: bool, has_left: bool) -> Reason {
    match (is_first, has_left) {
        (true, _) => Reason::RetireRejected,
        (false, true) => Reason::InstanceGone,
        (false, false) => Reason::StepFailed,
    }
}

impl Journal {
    /// Says if it is for us to end an old instance that runs outside. One that its group terminates never does so.
    pub(super) fn ends_old(&self) -> bool {
        self.retirement == Retirement::Detach && !self.leaves_old_to_owner()
    }

    /// Says if no call of ours can have taken the old instance out: AWS has refused each, or it has served again since. If it
    /// is outside, its owner has detached it, and keeps it.
    #[must_use]
    pub fn leaves_old_to_owner(&self) -> bool {
        let is_refused = self.retire_refused || self.undo_reason() == Some(Reason::RetireRejected);
        self.old_came_back || (is_refused && !self.retired)
    }

    /// Notes what a later look may not show any more, and returns true if that is news. The old instance serves in its group
    /// again, and no call of ours can take it out. The newcomer is a member that nobody takes out, or has died in its group.
    pub fn note_look(&mut self, observed: &Observed) -> bool {
        let before = (self.old_came_back, self.newcomer_joined);
        let member = |id: &InstanceId| observed.group.as_ref().and_then(|group| group.member(id));
        let serves_again = member(&self.old).is_some_and(Member::serves) && !observed.calls_may_land;
        self.old_came_back |= self.turned_back && serves_again;
        if let Some(newcomer) = &observed.newcomer {
            let member = member(&newcomer.id);
            let stays = member.is_some_and(|member| member.state != MemberState::Leaving);
            // A detach may follow while it is a member, and none once it is out with the group's tag on it.
            let died_in_it = !newcomer.alive && newcomer.has_group_tag;
            self.newcomer_joined = stays || (died_in_it && (self.newcomer_joined || member.is_none()));
        }
        before != (self.old_came_back, self.newcomer_joined)
    }

    /// Notes the decision on an action, ahead of its call. A way back that begins here is the way from now on, and our one
    /// counts as out of desired.
    pub fn foresee(&mut self, action: &Action, observed: &Observed, now: Timestamp) {
        self.retired |= has_retired(self, observed);
        let is_retiring = self.stage == Stage::Retiring && observed.group.is_some();
        let takes_back = matches!(action, Action::ReattachOld | Action::RaiseMaxSize(_));
        if is_retiring && (takes_back || !goes_forward(self, observed)) {
            self.stage = Stage::Undoing;
            self.turned_back = true;
        }
        self.old_terminated |= *action == Action::TerminateOld;
        if action.settles_desired() {
            self.desired_settled = true;
            self.taking_out = action.removes(&self.old).cloned();
        }
        self.max_restore = match (action, self.max_restore) {
            (Action::RestoreMaxSize(_), _) => MaxRestore::Asked,
            // Our one comes back into desired, and an earlier call may still take it out.
            (Action::RaiseMaxSize(_) | Action::ReattachOld, MaxRestore::Asked | MaxRestore::Made) => {
                if observed.calls_may_land {
                    MaxRestore::Asked
                } else {
                    MaxRestore::NotAsked
                }
            }
            (_, as_before) => as_before,
        };
        self.changed_at = Some(now);
    }

    /// Notes that the newcomer can't be relied on, as its pool or EC2 says, and why.
    pub fn note_risk(&mut self, why: &str) {
        self.newcomer_at_risk = true;
        if let Some(undo) = &mut self.undo {
            undo.add(why);
        }
    }

    /// Notes that AWS has carried the action out; `before` is the journal without it. A call that was answered lands no
    /// later; but one that moves desired may show later, and in desired at another time than among the members. A newcomer
    /// that is replaced leaves desired as it is: nobody knows whose our one is then.
    pub fn acknowledge(&mut self, action: &Action, before: &Self) {
        if *action != Action::ReattachOld && !action.settles_desired() {
            self.changed_at = before.changed_at;
        }
        if matches!(action, Action::RestoreMaxSize(_)) {
            self.max_restore = MaxRestore::Made;
        }
        self.az_rebalance_resumed |= *action == Action::ResumeAzRebalance;
        if action.settles_desired() && !matches!(action, Action::ReplaceNewcomer(_)) {
            self.taking_out = None;
        }
    }

    /// Notes that AWS has refused the action; `before` is the journal without it. A refusal proves that nothing came of
    /// it only if it was not asked before: an earlier call may be the reason.
    pub fn retract(&mut self, action: &Action, before: &Self) {
        if *action == Action::ReattachOld {
            self.refused_reattaches += 1;
        }
        if action.settles_desired() && !before.desired_settled {
            self.desired_settled = false;
            self.taking_out = None;
        }
    }
}
