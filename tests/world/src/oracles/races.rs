//! What an owner asks for just before a call of ours, which has no condition.

use jiff::Timestamp;

use super::{JUST_BEFORE, Oracles};
use crate::fleet::Fleet;
use crate::virtual_time::now;
use crate::wire::ApiCall;

/// Somebody else has moved the desired capacity of a group.
#[derive(Debug, Clone)]
pub(super) struct Move {
    pub(super) group: String,
    at: Timestamp,
    from: i64,
    to: i64,
    /// Our one was in the number that it was moved from.
    held_ours: bool,
}

impl Oracles {
    /// Somebody else has moved the desired capacity of a group, and `wished` is what was asked for before.
    pub(crate) fn moves_desired(&mut self, group: &str, (from, to): (i64, i64), wished: Option<u32>) {
        let held_ours = wished.is_some_and(|wished| from > i64::from(wished));
        self.moved_desired.push(Move { group: group.to_owned(), at: now(), from, to, held_ours });
    }

    /// Between a look and a call of ours, the owner has asked for something: what our call makes of it is not promised, since
    /// AWS has no call with a condition.
    pub(super) fn races(
        &mut self,
        call: &ApiCall,
        name: &str,
        sent_at: Timestamp,
        before: &Fleet,
        after: &Fleet,
    ) {
        let (Some(was), Some(is)) = (before.group(name), after.group(name)) else { return };
        if is.desired != was.desired {
            self.races_for_desired(call, name, sent_at, (was.desired, is.desired));
        }
        let since = sent_at - JUST_BEFORE;
        let Some(wish) = self.wishes.get_mut(name) else { return };
        let earlier = || self.earlier.iter().filter(|(of, at, _)| of == name && *at >= since);
        let before_max = earlier().map(|(.., before)| before.max).find(|before| *before != wish.max);
        if let Some(before) = before_max.filter(|_| is.max != was.max || sets_max(call)) {
            self.raced_max.entry(name.to_owned()).or_default().insert(before);
        }
        if call.action == "SuspendProcesses" && earlier().next().is_some() {
            wish.suspended.retain(|process| !call.list("ScalingProcesses").contains(&process.as_str()));
        }
    }

    /// A call of ours has changed desired from `was` to `is`. It may take one that is not ours if it could not know: the wish
    /// differs from one of just before, or others have moved desired since the last look before the call. They may have moved it
    /// to what the owner has asked for all the time: by a MaxSize below our one, or to the number of before. And a number with
    /// our one in it that others have moved away and then back looks like the one that we left.
    fn races_for_desired(&mut self, call: &ApiCall, name: &str, sent_at: Timestamp, (was, is): (u32, u32)) {
        let Some(wish) = self.wishes.get_mut(name) else { return };
        let (since, lost_at) = (sent_at - JUST_BEFORE, self.lost_desired_at.get(name));
        // What one decrement has taken excuses no second one.
        let is_left = |at: Timestamp| lost_at.is_none_or(|lost| at > *lost);
        let mut earlier =
            self.earlier.iter().filter(|(of, at, _)| of == name && *at >= since && is_left(*at));
        let wish_differs = earlier.any(|(.., before)| before.desired != wish.desired);
        let seen_at = self.groups_seen_at.iter().rfind(|seen| **seen <= sent_at);
        let is_unseen = |at: Timestamp| seen_at.is_none_or(|seen| at > *seen);
        let moves: Vec<&Move> =
            self.moved_desired.iter().filter(|it| it.group == name && is_left(it.at)).collect();
        let is_moved_unseen = moves.iter().any(|it| it.at >= since && is_unseen(it.at));
        let stands = |number: i64| number == i64::from(was) && was == wish.desired;
        let is_back = moves.split_last().is_some_and(|(last, before)| {
            let since = self.raised_at;
            let ours = |it: &&&Move| it.held_ours && since.is_none_or(|raised| it.at >= raised);
            stands(last.to) && before.iter().filter(ours).any(|it| it.from == last.to)
        });
        if !wish_differs && !is_moved_unseen && !is_back {
            return;
        }
        // MaxSize cuts all that is above it. Any other call takes one.
        let cuts = call.action == "UpdateAutoScalingGroup";
        let at_least = if cuts { 0 } else { wish.desired.saturating_sub(1) };
        let left = wish.desired.min(is.max(at_least));
        if left < wish.desired && !cuts {
            self.lost_desired_at.insert(name.to_owned(), now());
        }
        wish.desired = left;
        wish.desired_at_most = wish.desired_at_most.max(is);
    }

    /// SetDesiredCapacity is an absolute number, and our one is in it. What the owner has asked for since the look may be lost.
    pub(super) fn overwrites(&mut self, call: &ApiCall, name: &str, since: Timestamp, after: &Fleet) {
        let is_set =
            call.action == "SetDesiredCapacity" && call.parameter("AutoScalingGroupName") == Some(name);
        let number = call.parameter("DesiredCapacity").and_then(|number| number.parse::<u32>().ok());
        let (Some(number), Some(is)) = (number.filter(|_| is_set), after.group(name)) else { return };
        let mut earlier = self.earlier.iter().filter(|(of, at, _)| of == name && *at >= since);
        let Some(wish) = self.wishes.get_mut(name) else { return };
        let has_resized = earlier.any(|(.., before)| before.desired != wish.desired);
        // A higher number that stands is the owner's.
        if has_resized && is.desired == number {
            wish.desired = wish.desired.min(number.saturating_sub(1));
        }
    }
}

/// It may set what the owner has just asked for himself: a way back then takes it for ours.
fn sets_max(call: &ApiCall) -> bool {
    call.action == "UpdateAutoScalingGroup" && call.parameter("MaxSize").is_some()
}
