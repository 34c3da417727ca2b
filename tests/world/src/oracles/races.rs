//! What an owner asks for just before a call of ours, which has no condition.

use jiff::Timestamp;

use super::Oracles;
use crate::fleet::Fleet;
use crate::wire::ApiCall;

impl Oracles {
    /// Between a look and a call of ours, the owner has asked for something: what our call makes of it is not promised, since
    /// AWS has no call with a condition.
    pub(super) fn races(
        &mut self,
        call: &ApiCall,
        name: &str,
        since: Timestamp,
        before: &Fleet,
        after: &Fleet,
    ) {
        let (Some(was), Some(is)) = (before.group(name), after.group(name)) else { return };
        let Some(wish) = self.wishes.get_mut(name) else { return };
        let earlier = || self.earlier.iter().filter(|(of, at, _)| of == name && *at >= since);
        // MaxSize, or desired set to what it was before our one, takes our one from desired, too.
        let has_resized = earlier().any(|(.., before)| before.suspended == wish.suspended);
        let before_max = earlier().map(|(.., before)| before.max).find(|before| *before != wish.max);
        if has_resized && is.desired != was.desired {
            wish.desired = wish.desired.min(is.desired);
            wish.desired_at_most = wish.desired_at_most.max(is.desired);
        }
        if let Some(before) = before_max.filter(|_| is.max != was.max) {
            self.raced_max.insert(name.to_owned(), before);
        }
        if call.action == "SuspendProcesses" && earlier().next().is_some() {
            wish.suspended.retain(|process| !call.list("ScalingProcesses").contains(&process.as_str()));
        }
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
