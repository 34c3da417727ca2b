//! How the answer to a two-minute notice ends once nobody knows how far it came. Desired may be one higher by us, MaxSize
//! too, and the doomed instance may have been told to leave with decrement. The same rules end an answer that went well.
//!
//! An instance of the group's own launch replaces the doomed one, so that no ClientToken tells which it is. What counts is
//! how many serve.

use jiff::{SignedDuration, Timestamp};

use super::{Decision, End};
use crate::ids::InstanceId;
use crate::swap::decrement::Decremented;
use crate::swap::group::{AZ_REBALANCE, Group, Member, MemberState};
use crate::swap::journal::{AnswerJournal, Journal, MaxRestore, Original, Raise, Stage, SwapKind};

/// The time before its end at which the doomed instance leaves, whatever serves by then: its hooks and target groups
/// need the rest.
pub const RELEASE_BEFORE_END: SignedDuration = SignedDuration::from_secs(40);

/// What AWS shows of an answer.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The group; `None` once it is deleted.
    pub group: Option<Group>,
    /// Members that have died unseen, and those that came later and do not serve yet.
    pub not_serving: Vec<InstanceId>,
    /// The last changing call is so recent that it may still land, or not show yet.
    pub calls_may_land: bool,
    /// The moment of the look.
    pub now: Timestamp,
}

/// A change of the group. A recovery makes one at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Take the doomed instance out of the group, desired minus one.
    Release(InstanceId),
    /// The doomed instance is gone, and the group has replaced it: take a member that came later out, desired minus one.
    TerminateExtra(InstanceId),
    /// MaxSize back to the owner's.
    RestoreMaxSize(u32),
}

impl Action {
    /// Returns the instance that leaves its group.
    #[must_use]
    pub const fn removes(&self) -> Option<&InstanceId> {
        match self {
            Self::Release(id) | Self::TerminateExtra(id) => Some(id),
            Self::RestoreMaxSize(_) => None,
        }
    }
}

/// Returns the next thing to do for an answer.
#[must_use]
pub fn next(journal: &Journal, observed: &Observed) -> Decision<Action> {
    // Nothing was raised yet, or there is no group any more.
    let Some(position) = Position::of(journal, observed) else { return Decision::Done(End::Undone) };
    position.next()
}

/// Says what may be left in desired, and nothing proves whose that is; or what the owner has asked for, and our call lowered.
#[must_use]
pub fn doubt(journal: &Journal, observed: &Observed) -> Option<String> {
    let answer = Position::of(journal, observed)?;
    if let Some(remark) = answer.lowered_another() {
        return Some(remark);
    }
    answer.is_in_doubt().then(|| {
        let max = journal.raised_max(answer.group.max).map(|_| format!(", and then set MaxSize back to {}", answer.original.max));
        format!(
            "desired capacity is {}, it was {} before {} was interrupted, and nothing proves whose the rest is; lower it by \
             hand if it is nobody's{}",
            answer.group.desired,
            answer.original.desired,
            journal.old,
            max.unwrap_or_default()
        )
    })
}

/// Returns true if as many serve without the doomed instance as served with it: it may leave.
#[must_use]
pub fn is_replaced(journal: &Journal, observed: &Observed) -> bool {
    Position::of(journal, observed).is_some_and(|answer| answer.rest_serves())
}

/// Returns true if the doomed instance has to leave now, whatever serves.
#[must_use]
pub fn is_time_up(ends_at: Timestamp, now: Timestamp) -> bool {
    ends_at.duration_since(now) <= RELEASE_BEFORE_END
}

/// Says if the doomed instance, which was about to leave with decrement and did not, has to wait on: there is time, and our
/// one is in desired, or does not show yet.
#[must_use]
pub fn has_to_wait(journal: &Journal, observed: &Observed) -> bool {
    let is_time_left = |answer: &Position<'_>| !is_time_up(answer.answer.ends_at, observed.now);
    Position::of(journal, observed).filter(is_time_left).is_some_and(|answer| answer.counts_on_ours())
}

struct Position<'a> {
    journal: &'a Journal,
    observed: &'a Observed,
    group: &'a Group,
    original: &'a Original,
    answer: AnswerJournal,
}

impl<'a> Position<'a> {
    fn of(journal: &'a Journal, observed: &'a Observed) -> Option<Self> {
        let (group, original) = (observed.group.as_ref()?, journal.original.as_ref()?);
        Some(Self { journal, observed, group, original, answer: journal.kind.answer()? })
    }

    fn next(&self) -> Decision<Action> {
        // A call that lowers desired is never made beside another one: desired might fall by two.
        if self.observed.calls_may_land && self.journal.taking_out.is_some() {
            return Decision::Wait("a member may be leaving the group, and desired falling with it");
        }
        if self.holds_ours() {
            if let Some(decision) = self.take_out() {
                return decision;
            }
        } else if self.observed.calls_may_land && self.may_show_later() {
            return Decision::Wait("the raise of desired may not show yet");
        }
        self.max_size().unwrap_or(Decision::Done(self.end()))
    }

    /// MaxSize was raised, or may have been, and this description is older.
    fn max_may_show_later(&self) -> bool {
        let is_as_before = self.group.max == self.original.max;
        self.journal.max_raised_to.is_some() && is_as_before && self.observed.calls_may_land
    }

    /// Our one is in desired, and nobody else has changed it.
    fn holds_ours(&self) -> bool {
        !self.is_lowered()
            && self.is_proven()
            && self.journal.has_our_room(self.group.max)
            && self.group.desired == self.original.desired + 1
            && self.original.desired >= self.group.min
    }

    /// AWS has answered that desired is higher by us; or it is higher than the owner's MaxSize, which we alone raised.
    fn is_proven(&self) -> bool {
        let has_room_by_us = self.journal.max_raised_to == Some(self.group.max);
        match self.answer.raise {
            Raise::Made | Raise::MadeAgain => true,
            Raise::Asked => has_room_by_us && self.group.desired > self.original.max,
            Raise::NotAsked | Raise::Refused | Raise::NotNeeded => false,
        }
    }

    /// Our one has left desired, or may have. If the member that was to leave with it stays, the call never landed.
    fn is_lowered(&self) -> bool {
        let member = self.journal.taking_out.as_ref().and_then(|id| self.group.member(id));
        self.journal.desired_settled && member.is_none_or(is_leaving)
    }

    fn may_show_later(&self) -> bool {
        !self.is_lowered() && self.may_be_raised()
    }

    const fn may_be_raised(&self) -> bool {
        matches!(self.answer.raise, Raise::Asked | Raise::Made | Raise::MadeAgain)
    }

    /// A raise had no answer, and may land once our one has left desired: it would come back, and nothing would prove it ours.
    const fn raise_may_land(&self) -> bool {
        self.observed.calls_may_land && matches!(self.answer.raise, Raise::Asked | Raise::MadeAgain)
    }

    /// Nobody else has changed desired, as far as the description shows.
    fn counts_on_ours(&self) -> bool {
        let is_as_before = self.group.desired == self.original.desired;
        self.holds_ours() || (is_as_before && self.observed.calls_may_land && self.may_show_later())
    }

    fn take_out(&self) -> Option<Decision<Action>> {
        if self.raise_may_land() {
            return Some(Decision::Wait("a raise of desired had no answer, and may land again"));
        }
        if self.journal.max_may_go_back(self.observed.calls_may_land) {
            return Some(Decision::Wait("MaxSize may be going back, and desired falling with it"));
        }
        let doomed = self.group.member(&self.journal.old).filter(|member| !is_leaving(member));
        if doomed.is_none() {
            return self.shed_extra();
        }
        if self.rest_serves() || is_time_up(self.answer.ends_at, self.observed.now) {
            return Some(Decision::Do(Action::Release(self.journal.old.clone())));
        }
        Some(Decision::Wait("the replacement does not serve yet"))
    }

    /// The group replaces the doomed one, and has launched one more by our raise. One that does not serve yet goes first.
    fn shed_extra(&self) -> Option<Decision<Action>> {
        if !self.rest_serves() {
            return Some(Decision::Wait("the group is launching what it misses"));
        }
        let later = || self.group.members.iter().filter(|member| self.came_later(member));
        if let Some(idle) = later().find(|member| member.state == MemberState::Pending) {
            return Some(Decision::Do(Action::TerminateExtra(idle.id.clone())));
        }
        let wanted = self.group.desired.min(self.original.serving.saturating_add(1));
        if self.rest() < wanted {
            return Some(Decision::Wait("the group is launching what it misses"));
        }
        // One that its owner protects from scale-in is at work: what desired is too high by, a person is told.
        later()
            .find(|m| m.serves() && !m.protected)
            .map(|extra| Decision::Do(Action::TerminateExtra(extra.id.clone())))
    }

    fn came_later(&self, member: &Member) -> bool {
        self.original.came_later(&member.id, None) && !is_leaving(member)
    }

    /// Returns how many serve beside the doomed instance.
    fn rest(&self) -> u32 {
        let serves = |member: &&Member| {
            member.serves()
                && member.id != self.journal.old
                && !self.observed.not_serving.contains(&member.id)
        };
        u32::try_from(self.group.members.iter().filter(serves).count()).unwrap_or(u32::MAX)
    }

    fn rest_serves(&self) -> bool {
        self.rest() >= self.original.desired.min(self.original.serving)
    }

    /// Somebody else changed desired between the last look and our call.
    fn lowered_another(&self) -> Option<String> {
        let from = self.answer.lowered_from?;
        Decremented { from, to: from.saturating_sub(1) }.remark(&self.journal.old, self.original.desired)
    }

    /// Desired is higher than it was, and our one may be in it.
    fn is_in_doubt(&self) -> bool {
        let is_out = self.journal.desired_settled && self.journal.taking_out.is_none();
        self.may_be_raised() && !is_out && self.group.desired > self.original.desired
    }

    /// MaxSize goes back as soon as desired fits below it: a MaxSize below desired makes the group pick victims.
    fn max_size(&self) -> Option<Decision<Action>> {
        if self.max_may_show_later() {
            return Some(Decision::Wait("the raise of MaxSize may not show yet"));
        }
        self.journal.raised_max(self.group.max)?;
        if self.group.desired <= self.original.max {
            return Some(Decision::Do(Action::RestoreMaxSize(self.original.max)));
        }
        (!self.is_in_doubt()).then_some(Decision::Wait("MaxSize stays raised until the group fits below it"))
    }

    fn end(&self) -> End {
        if self.journal.desired_settled { End::Finished } else { End::Undone }
    }
}

const fn is_leaving(member: &Member) -> bool {
    matches!(member.state, MemberState::Leaving)
}

/// The journal's word on the raise of desired, and on an action of an answer: ahead of its call, and once AWS has answered.
impl Journal {
    /// Notes the group as its owner has it, ahead of the raise of desired by one. Returns that note.
    pub fn foresee_raise(&mut self, group: &Group, now: Timestamp) -> Original {
        self.changed_at = Some(now);
        self.max_raised_to = (group.desired >= group.max).then(|| group.desired + 1);
        self.note_raise(Raise::Asked);
        self.note_group(group)
    }

    /// Notes the group as it is while a replacement of its own launch starts: nothing is raised. Returns that note.
    pub fn foresee_own_replacement(&mut self, group: &Group) -> Original {
        self.note_raise(Raise::NotNeeded);
        self.note_group(group)
    }

    /// Says if the group has launched the replacement by itself, beyond desired: the doomed instance leaves without decrement.
    #[must_use]
    pub fn counts_on_own_replacement(&self) -> bool {
        self.kind.answer().is_some_and(|answer| answer.raise == Raise::NotNeeded)
    }

    fn note_group(&mut self, group: &Group) -> Original {
        self.stage = Stage::Attaching;
        let original = Original {
            desired: group.desired,
            max: group.max,
            az_rebalance_suspended: group.suspended.contains(AZ_REBALANCE),
            serving: group.in_service(),
            // One that is still starting has to serve like one that came later.
            members: group
                .members
                .iter()
                .filter(|m| m.state != MemberState::Pending)
                .map(|m| m.id.clone())
                .collect(),
            not_serving: Vec::new(),
        };
        self.original = Some(original.clone());
        original
    }

    /// Notes AWS's answer to the raise. `is_again`: an earlier try of it had none, and a refusal says nothing of its call.
    pub fn acknowledge_raise(&mut self, is_refused: bool, is_again: bool) {
        self.note_raise(match (is_refused, is_again) {
            (false, false) => Raise::Made,
            (false, true) => Raise::MadeAgain,
            (true, false) => Raise::Refused,
            (true, true) => Raise::Asked,
        });
    }

    /// Notes that the raise is about to be asked.
    pub fn ask_raise(&mut self, now: Timestamp) {
        self.changed_at = Some(now);
        self.note_raise(Raise::Asked);
    }

    /// Notes that AWS has refused the raise for now, so that it can't land: the next try is the first.
    pub fn withdraw_raise(&mut self) {
        self.note_raise(Raise::NotAsked);
    }

    fn note_raise(&mut self, raise: Raise) {
        if let SwapKind::Answer(answer) = &mut self.kind {
            answer.raise = raise;
        }
    }

    /// Notes the decision on an action, ahead of its call.
    pub fn foresee_answer(&mut self, action: &Action, now: Timestamp) {
        if let Some(id) = action.removes() {
            self.desired_settled = true;
            self.taking_out = Some(id.clone());
            if self.stage == Stage::Attaching {
                self.stage = Stage::Retiring;
            }
        } else {
            self.max_restore = MaxRestore::Asked;
        }
        self.changed_at = Some(now);
    }

    /// Notes that AWS has carried the action out; `before` is the journal without it, `lowered` what AWS names of desired.
    pub fn acknowledge_answer(&mut self, action: &Action, before: &Self, lowered: Option<Decremented>) {
        if action.removes().is_some() {
            self.taking_out = None;
            if let SwapKind::Answer(answer) = &mut self.kind {
                answer.lowered_from = lowered.map(|lowered| lowered.from);
            }
        } else {
            // Nothing of ours is left in MaxSize.
            (self.max_raised_to, self.max_restore) = (None, MaxRestore::Made);
            self.changed_at = before.changed_at;
        }
    }

    /// Notes that AWS has refused the action, so that this call has changed nothing; `before` is the journal without it.
    /// The refusal says nothing about an earlier call.
    pub fn retract_answer(&mut self, action: &Action, before: &Self) {
        if action.removes().is_some() && !before.desired_settled {
            self.desired_settled = false;
            self.taking_out = None;
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
