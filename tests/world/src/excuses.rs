//! How many members fewer may serve than the owner asks for, and for how long: what others have done to a group.
//!
//! An excuse is worth a number of members. It lasts until as many serve again; one that is not over yet lasts in any case.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::fleet::Fleet;

/// How long a death may be unknown to those who ask Auto Scaling.
pub const DEATH_UNSEEN: SignedDuration = SignedDuration::from_secs(90);
/// How long a group needs to follow a change of its size, with a boot, a registration and a scale-in.
pub const GROUP_FOLLOWS: SignedDuration = SignedDuration::from_mins(3);

#[derive(Debug, Clone, Copy)]
struct Excuse {
    members: usize,
    /// Until then it counts in full.
    holds_until: Timestamp,
}

/// The excuses of all groups.
#[derive(Debug, Clone, Default)]
pub struct Excuses {
    by_group: BTreeMap<String, Vec<Excuse>>,
    /// The groups that have lost a member to a death or to their owner, and the times.
    losses: Vec<(String, Timestamp)>,
    dead: BTreeSet<String>,
}

impl Excuses {
    /// So many members fewer may serve: for so long, and from then on until they are replaced.
    pub fn fewer_serve(&mut self, group: &str, members: usize, at_least: SignedDuration, now: Timestamp) {
        let excuse = Excuse { members, holds_until: now + at_least };
        self.by_group.entry(group.to_owned()).or_default().push(excuse);
    }

    /// Returns how many fewer may serve.
    #[must_use]
    pub fn of(&self, group: &str) -> usize {
        self.by_group.get(group).into_iter().flatten().map(|excuse| excuse.members).sum()
    }

    /// Its owner has taken a member out of the group.
    pub fn note_detached(&mut self, group: &str, now: Timestamp) {
        self.losses.push((group.to_owned(), now));
    }

    /// Returns how many members have died or were taken by their owner since then.
    #[must_use]
    pub fn losses_since(&self, group: &str, since: Timestamp) -> usize {
        self.losses.iter().filter(|(of, at)| of == group && *at >= since).count()
    }

    /// Notes each member whose end is nobody's call: EC2 has failed, or has taken it back.
    pub fn note_deaths(&mut self, fleet: &Fleet, now: Timestamp) {
        for (name, group) in fleet.groups() {
            for member in &group.members {
                let instance = fleet.instances().get(&member.instance_id);
                let why = instance.and_then(|instance| instance.state_reason.as_ref());
                let is_of_ec2 = why.is_some_and(|(code, _)| code.starts_with("Server."));
                if is_of_ec2 && self.dead.insert(member.instance_id.clone()) {
                    self.losses.push((name.clone(), now));
                    self.fewer_serve(name, 1, DEATH_UNSEEN, now);
                }
            }
        }
    }

    /// So many serve fewer than the owner asks for: excuses for more are over, unless they hold for a while in any case.
    pub fn catch_up(&mut self, group: &str, missing: usize, now: Timestamp) {
        let Some(excuses) = self.by_group.get_mut(group) else { return };
        let mut left = missing;
        for excuse in excuses.iter_mut().filter(|excuse| excuse.holds_until <= now) {
            excuse.members = excuse.members.min(left);
            left -= excuse.members;
        }
        excuses.retain(|excuse| excuse.members > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{AwsHabits, GroupSpec};
    use crate::virtual_time::BEGIN;

    fn at(seconds: i64) -> Timestamp {
        BEGIN + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn an_excuse_is_over_with_the_replacement_and_does_not_come_back() {
        let mut excuses = Excuses::default();
        excuses.fewer_serve("web", 2, SignedDuration::ZERO, at(0));
        excuses.catch_up("web", 2, at(1));
        assert_eq!((excuses.of("web"), excuses.of("api")), (2, 0));
        excuses.catch_up("web", 1, at(2));
        assert_eq!(excuses.of("web"), 1);
        excuses.catch_up("web", 0, at(3));
        excuses.catch_up("web", 2, at(4));
        assert_eq!(excuses.of("web"), 0);
    }

    #[test]
    fn a_death_excuses_one_member_once_and_longer_than_it_can_be_unseen() {
        let mut fleet = Fleet::with_group(&GroupSpec::default(), AwsHabits::default(), at(0));
        let id = fleet.serving("web")[0].to_owned();
        let mut excuses = Excuses::default();
        excuses.note_deaths(&fleet, at(0));
        assert_eq!(excuses.of("web"), 0);
        fleet.instance_dies(&id, at(5));
        excuses.note_deaths(&fleet, at(5));
        excuses.note_deaths(&fleet, at(6));
        excuses.catch_up("web", 0, at(94));
        assert_eq!((excuses.of("web"), excuses.losses_since("web", at(5))), (1, 1));
        excuses.catch_up("web", 0, at(95));
        assert_eq!((excuses.of("web"), excuses.losses_since("web", at(6))), (0, 0));
    }

    #[test]
    fn what_somebody_calls_for_is_no_excuse() {
        let mut fleet = Fleet::with_group(&GroupSpec::default(), AwsHabits::default(), at(0));
        let id = fleet.serving("web")[0].to_owned();
        fleet.owner_terminates(&id, at(0));
        let mut excuses = Excuses::default();
        excuses.note_deaths(&fleet, at(0));
        assert_eq!(excuses.of("web"), 0);
    }
}
