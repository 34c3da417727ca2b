//! The check that a group is scaling, or is about to scale by its schedule. A newcomer that arrives at such a
//! time counts with the group's own, so that its swap is undone after it was paid for. The launch therefore
//! waits.

use jiff::{SignedDuration, Timestamp};

use crate::swap::group::{Group, MemberState};

/// The process that performs scheduled actions.
const SCHEDULED_ACTIONS: &str = "ScheduledActions";
/// The most by which an action may come later than its time.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-scheduled-scaling.html>
const ACTION_DELAY: SignedDuration = SignedDuration::from_mins(2);

/// A scheduled action of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledAction {
    /// The action's name.
    pub name: String,
    /// The next time at which the action runs.
    pub at: Timestamp,
}

/// The time within which a group begins to launch the members that it lacks. A group that lacks members for
/// longer may stay so: EC2 has no capacity for it.
const SHORT_FOR: SignedDuration = SignedDuration::from_mins(1);

/// Returns a sentence if the group is launching, about to launch, or about to choose a victim.
///
/// `short_since` is the time at which the group was first seen with fewer members than desired. This function
/// keeps `short_since` up to date.
pub fn scaling(group: &Group, short_since: &mut Option<Timestamp>, now: Timestamp) -> Option<String> {
    let count = |state| group.members.iter().filter(|member| member.state == state).count();
    let (in_service, pending) = (count(MemberState::InService), count(MemberState::Pending));
    let desired = group.desired as usize;
    let short = in_service + pending < desired;
    let since = short.then(|| short_since.unwrap_or(now));
    *short_since = since;
    let is_about_to_launch = since.is_some_and(|since| now.duration_since(since) < SHORT_FOR);
    (in_service > desired || pending > 0 || is_about_to_launch).then(|| {
        format!(
            "its group is scaling: {desired} instances desired, {in_service} in service, {pending} pending"
        )
    })
}

/// Returns the first action that is due between now and `until`; none if the owner has suspended scheduled
/// actions.
#[must_use]
pub fn due<'a>(
    group: &Group,
    actions: &'a [ScheduledAction],
    now: Timestamp,
    until: Timestamp,
) -> Option<&'a ScheduledAction> {
    if group.suspended.contains(SCHEDULED_ACTIONS) {
        return None;
    }
    let is_due =
        |action: &&ScheduledAction| action.at <= until && now.duration_since(action.at) <= ACTION_DELAY;
    actions.iter().filter(is_due).min_by_key(|action| action.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swap::group::tests::{group_of, member};

    #[test]
    fn a_group_scales_while_it_launches_or_has_one_too_many() {
        let scaling = |group: &Group| scaling(group, &mut None, Timestamp::UNIX_EPOCH);
        let mut group = group_of(2);
        assert_eq!(scaling(&group), None);
        group.members.push(member(7));
        assert!(scaling(&group).is_some(), "a victim is being chosen");
        group.members[2].state = MemberState::Leaving;
        assert_eq!(scaling(&group), None, "it is chosen, and nobody comes for it");
        group.members.truncate(1);
        group.members.push(member(8));
        group.members[1].state = MemberState::Pending;
        let why = scaling(&group).unwrap();
        assert_eq!(why, "its group is scaling: 2 instances desired, 1 in service, 1 pending");
    }

    #[test]
    fn a_group_that_lacks_a_member_is_about_to_launch_it_for_a_minute() {
        let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
        let (whole, mut short, mut since) = (group_of(2), group_of(2), None);
        short.members.truncate(1);
        for (now, is_scaling) in [(0, true), (59, true), (60, false), (600, false)] {
            assert_eq!(scaling(&short, &mut since, at(now)).is_some(), is_scaling, "after {now} s");
        }
        assert_eq!(scaling(&whole, &mut since, at(601)), None);
        assert!(scaling(&short, &mut since, at(602)).is_some(), "it lacks another one");
    }

    #[test]
    fn an_action_is_due_from_shortly_before_its_time_until_it_must_have_come() {
        let group = group_of(1);
        let at = |minutes: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        let action = |name: &str, minutes| ScheduledAction { name: name.to_owned(), at: at(minutes) };
        let actions = [action("evening", 100), action("noon", 60)];
        let name = |now| due(&group, &actions, at(now), at(now + 15)).map(|action| action.name.as_str());
        assert_eq!((name(44), name(45), name(62), name(63)), (None, Some("noon"), Some("noon"), None));
        let all = due(&group, &actions, at(50), at(200)).map(|action| action.name.as_str());
        assert_eq!(all, Some("noon"), "the first one counts");
    }

    #[test]
    fn suspended_actions_do_not_come() {
        let mut group = group_of(1);
        let actions = [ScheduledAction { name: "noon".to_owned(), at: Timestamp::UNIX_EPOCH }];
        let due_now = |group: &Group| due(group, &actions, Timestamp::UNIX_EPOCH, Timestamp::MAX).is_some();
        assert!(due_now(&group));
        group.suspended.insert(SCHEDULED_ACTIONS.to_owned());
        assert!(!due_now(&group));
    }
}
