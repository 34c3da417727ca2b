//! Whether a group is scaling, or is about to by its schedule. A newcomer that comes at such a time is counted with
//! the group's own, and its swap is undone after it was paid for: the launch waits.

use jiff::{SignedDuration, Timestamp};

use crate::group::{Group, MemberState};

/// The process that performs scheduled actions.
const SCHEDULED_ACTIONS: &str = "ScheduledActions";
/// An action may come so much later than its time.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-scheduled-scaling.html>
const ACTION_DELAY: SignedDuration = SignedDuration::from_mins(2);

/// A scheduled action of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledAction {
    /// Its name.
    pub name: String,
    /// When it comes next.
    pub at: Timestamp,
}

/// Says that the group is launching or about to choose a victim. One that has fewer than are desired may stay so: EC2
/// has no capacity for it.
#[must_use]
pub fn scaling(group: &Group) -> Option<String> {
    let in_service = group.members.iter().filter(|m| m.state == MemberState::InService).count();
    let pending = group.members.iter().filter(|m| m.state == MemberState::Pending).count();
    let desired = group.desired;
    (in_service > desired as usize || pending > 0).then(|| {
        format!(
            "its group is scaling: {desired} instances desired, {in_service} in service, {pending} pending"
        )
    })
}

/// Returns the next of the actions that comes between now and `until`; none where the owner has suspended them.
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
    use crate::group::tests::{group_of, member};

    #[test]
    fn a_group_scales_while_it_launches_or_has_one_too_many() {
        let mut group = group_of(2);
        assert_eq!(scaling(&group), None);
        group.members.push(member(7));
        assert!(scaling(&group).is_some(), "a victim is being chosen");
        group.members[2].state = MemberState::Leaving;
        assert_eq!(scaling(&group), None, "it is chosen, and nobody comes for it");
        group.members.truncate(1);
        assert_eq!(scaling(&group), None, "EC2 may have no capacity for the second one");
        group.members.push(member(8));
        group.members[1].state = MemberState::Pending;
        let why = scaling(&group).unwrap();
        assert_eq!(why, "its group is scaling: 2 instances desired, 1 in service, 1 pending");
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
