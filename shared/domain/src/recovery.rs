//! How a swap ends once it is no longer certain how far it came: one pure decision from the
//! journal and from what AWS shows. The rollback of an execution and the reconciler both ask it,
//! again and again, doing one action at a time, until it says [`Action::Done`].
//!
//! Two rules stand above all: an instance leaves the group only while as many serve as are
//! desired, and the old instance is terminated only after that.

use crate::group::{AZ_REBALANCE, Group, MemberState};
use crate::ids::InstanceId;
use crate::journal::{Journal, Retirement, Stage};

/// The newcomer as EC2 shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    /// The instance that carries the swap's tag.
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
    /// Instances that a target group is still draining.
    pub draining: Vec<InstanceId>,
}

/// How a swap ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The newcomer serves, the old instance is gone.
    Finished,
    /// The group is as its owner had it.
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
    /// Take a dead newcomer out of the group, desired minus one, before the group replaces it.
    RemoveDeadNewcomer(InstanceId),
    /// Terminate the newcomer, which is in no group.
    TerminateNewcomer(InstanceId),
    /// The group took the dead newcomer out by itself and still wants N+1: back to this many.
    LowerDesired(u32),
    /// The newcomer failed after the old instance had left: take the old one back in.
    ReattachOld,
    /// Terminate the old instance, which has left the group and is drained.
    TerminateOld,
    /// MaxSize back to the owner's.
    RestoreMaxSize(u32),
    /// Resume AZRebalance, which we suspended.
    ResumeAzRebalance,
}

/// What to do next.
#[must_use]
pub fn next(journal: &Journal, observed: &Observed) -> Action {
    let Some(group) = &observed.group else { return without_group(observed) };
    let old_left = group.member(&journal.old).is_none_or(|m| m.state == MemberState::Leaving);
    if journal.stage == Stage::Retiring && old_left {
        finish(journal, observed, group)
    } else {
        undo(journal, observed, group)
    }
}

/// The owner deleted the group, and with it its members: only our newcomer may be left over.
fn without_group(observed: &Observed) -> Action {
    match &observed.newcomer {
        Some(newcomer) if newcomer.alive => Action::TerminateNewcomer(newcomer.id.clone()),
        _ => Action::Done(End::Undone),
    }
}

fn finish(journal: &Journal, observed: &Observed, group: &Group) -> Action {
    if group.member(&journal.old).is_some() {
        return Action::Wait("the old instance is leaving the group");
    }
    let newcomer_serves = observed
        .newcomer
        .as_ref()
        .is_some_and(|n| n.alive && group.member(&n.id).is_some_and(crate::group::Member::serves));
    let enough_serve = group.in_service() >= group.desired;
    if observed.old_alive && journal.retirement == Retirement::Detach {
        if !newcomer_serves && !enough_serve {
            // Only while there is room: an attach above MaxSize is refused.
            return if group.desired < group.max {
                Action::ReattachOld
            } else {
                Action::Wait("the newcomer failed; the old instance stays until the group has healed")
            };
        }
        if !enough_serve {
            return Action::Wait("the old instance stays until the group serves in full");
        }
        if observed.draining.contains(&journal.old) {
            return Action::Wait("the old instance is draining");
        }
        return Action::TerminateOld;
    }
    settings(journal, group).unwrap_or(Action::Done(End::Finished))
}

fn undo(journal: &Journal, observed: &Observed, group: &Group) -> Action {
    if let Some(action) = observed.newcomer.as_ref().and_then(|n| send_away(journal, observed, group, n)) {
        return action;
    }
    settings(journal, group).unwrap_or(Action::Done(End::Undone))
}

fn send_away(journal: &Journal, observed: &Observed, group: &Group, newcomer: &Newcomer) -> Option<Action> {
    let id = || newcomer.id.clone();
    match group.member(&newcomer.id) {
        Some(m) if !newcomer.alive && m.state != MemberState::Leaving => {
            Some(Action::RemoveDeadNewcomer(id()))
        }
        Some(m) if m.state == MemberState::InService => {
            Some(if m.healthy && group.in_service() < group.desired {
                Action::Wait("the newcomer stays until the rest of the group serves")
            } else {
                Action::DetachNewcomer(id())
            })
        }
        Some(_) => Some(Action::Wait("the newcomer is on its way into or out of the group")),
        None if newcomer.alive && observed.draining.contains(&newcomer.id) => {
            Some(Action::Wait("the newcomer is draining"))
        }
        None if newcomer.alive => Some(Action::TerminateNewcomer(id())),
        None if newcomer.has_group_tag
            && !journal.newcomer_removed
            && group.desired > journal.original.desired =>
        {
            Some(Action::LowerDesired(group.desired - 1))
        }
        None => None,
    }
}

/// The owner's settings that are still not restored.
fn settings(journal: &Journal, group: &Group) -> Option<Action> {
    if let Some(raised) = journal.max_raised_to
        && group.max == raised
        && raised > journal.original.max
    {
        let members = u32::try_from(group.members.len()).unwrap_or(u32::MAX);
        if group.desired.max(members) > journal.original.max {
            // A MaxSize below the current size makes the group pick victims.
            return Some(Action::Wait("MaxSize stays raised until the group fits below it"));
        }
        return Some(Action::RestoreMaxSize(journal.original.max));
    }
    let ours = !journal.original.az_rebalance_suspended && group.suspended.contains(AZ_REBALANCE);
    ours.then_some(Action::ResumeAzRebalance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::tests::{group_of, id, member};
    use crate::journal::{Original, SwapId};
    use jiff::Timestamp;
    use proptest::prelude::*;

    const OLD: u32 = 0;
    const NEW: u32 = 99;

    /// A group that obeys, with the rules of AWS that matter here. Every step checks the invariants.
    #[derive(Debug, Clone)]
    struct World {
        journal: Journal,
        seen: Observed,
    }

    impl World {
        /// A swap in a group of `n`, cut after `calls` of its seven changing calls.
        fn cut_after(calls: u32, n: u32, at_max: bool, retirement: Retirement) -> Self {
            let mut group = group_of(n);
            group.max = if at_max { n } else { n + 1 };
            let journal = Journal {
                swap_id: SwapId::new(&id(OLD), Timestamp::UNIX_EPOCH),
                stage: Stage::Attaching,
                old: id(OLD),
                original: Original { desired: n, max: group.max, az_rebalance_suspended: false },
                max_raised_to: at_max.then_some(n + 1),
                retirement,
                newcomer_removed: false,
                undo: None,
            };
            let seen = Observed { group: Some(group), old_alive: true, newcomer: None, draining: vec![] };
            let mut world = Self { journal, seen };
            let steps: [fn(&mut Self); 7] = [
                |w| w.seen.newcomer = Some(Newcomer { id: id(NEW), alive: true, has_group_tag: false }),
                |w| {
                    w.group().suspended.insert(AZ_REBALANCE.into());
                },
                |w| w.group().max = w.group().max.max(w.group().desired + 1),
                |w| w.attach(NEW),
                |w| w.journal.stage = Stage::Retiring,
                |w| {
                    w.remove(OLD, true);
                    w.seen.old_alive = w.journal.retirement == Retirement::Detach;
                },
                |w| w.seen.old_alive = false,
            ];
            steps.iter().take(calls as usize).for_each(|step| step(&mut world));
            world
        }

        fn group(&mut self) -> &mut Group {
            self.seen.group.as_mut().unwrap()
        }

        fn attach(&mut self, n: u32) {
            assert!(self.group().desired < self.group().max, "attach above MaxSize is refused by AWS");
            self.group().members.push(member(n));
            self.group().desired += 1;
            if n == NEW {
                self.seen.newcomer.as_mut().unwrap().has_group_tag = true;
            }
        }

        fn remove(&mut self, n: u32, decrement: bool) {
            self.group().members.retain(|m| m.id != id(n));
            if decrement {
                self.group().desired -= 1;
            }
        }

        fn newcomer_dies(&mut self, group_noticed: bool) {
            if let Some(newcomer) = self.seen.newcomer.as_mut() {
                newcomer.alive = false;
                if group_noticed && self.group().member(&id(NEW)).is_some() {
                    self.remove(NEW, false);
                    self.group().members.push(member(50)); // the group's own replacement
                }
            }
        }

        fn perform(&mut self, action: &Action) {
            match action {
                Action::DetachNewcomer(_) => {
                    self.remove(NEW, true);
                    self.seen.newcomer.as_mut().unwrap().has_group_tag = false;
                }
                Action::RemoveDeadNewcomer(_) => {
                    self.journal.newcomer_removed = true;
                    self.remove(NEW, true);
                }
                Action::TerminateNewcomer(_) => self.seen.newcomer.as_mut().unwrap().alive = false,
                Action::LowerDesired(to) => {
                    self.group().desired = *to;
                    let extra = self.group().members.iter().position(|m| m.id == id(50));
                    if let Some(extra) = extra {
                        self.group().members.remove(extra);
                    }
                }
                Action::ReattachOld => self.attach(OLD),
                Action::TerminateOld => self.seen.old_alive = false,
                Action::RestoreMaxSize(to) => {
                    assert!(self.group().members.len() <= *to as usize, "AWS would pick victims");
                    self.group().max = *to;
                }
                Action::ResumeAzRebalance => {
                    self.group().suspended.remove(AZ_REBALANCE);
                }
                Action::Done(_) | Action::Wait(_) => {}
            }
        }

        /// Runs to the end; panics where it does not come to one.
        fn recover(&mut self) -> End {
            for _ in 0..20 {
                let serving_before = self.group().in_service();
                match next(&self.journal, &self.seen) {
                    Action::Done(end) => return end,
                    Action::Wait(why) => panic!("nothing moves, yet it waits: {why}"),
                    action => {
                        self.perform(&action);
                        let serving = self.group().in_service();
                        assert!(
                            serving >= self.journal.original.desired || serving >= serving_before,
                            "{action:?} dropped capacity to {serving}"
                        );
                    }
                }
            }
            panic!("no end after 20 actions");
        }
    }

    proptest! {
        /// Cut anywhere, with the newcomer alive or dead, noticed or not: recovery ends, capacity
        /// holds at every step, and nothing of ours is left.
        #[test]
        fn a_swap_cut_anywhere_ends_clean(
            calls in 0_u32..=7,
            n in 1_u32..6,
            at_max in any::<bool>(),
            hook in any::<bool>(),
            death in prop::option::of(any::<bool>()),
            undoing in any::<bool>(),
        ) {
            let retirement = if hook { Retirement::TerminateInGroup } else { Retirement::Detach };
            let mut world = World::cut_after(calls, n, at_max, retirement);
            if let Some(noticed) = death {
                world.newcomer_dies(noticed);
            }
            if undoing && world.journal.stage == Stage::Attaching {
                world.journal.stage = Stage::Undoing;
            }
            let end = world.recover();
            let old_serves = world.group().member(&id(OLD)).is_some();
            let newcomer_alive = world.seen.newcomer.clone().is_some_and(|n| n.alive);
            let original = world.journal.original.clone();
            let group = world.group().clone();
            prop_assert_eq!(group.desired, original.desired);
            prop_assert_eq!(group.max, original.max);
            prop_assert!(!group.suspended.contains(AZ_REBALANCE));
            match end {
                End::Undone => prop_assert!(old_serves && !newcomer_alive, "{:?}", world),
                End::Finished => prop_assert!(!old_serves && !world.seen.old_alive, "{:?}", world),
            }
        }
    }

    #[test]
    fn the_newcomer_is_kept_while_the_rest_does_not_serve() {
        let mut world = World::cut_after(4, 2, false, Retirement::Detach);
        world.group().members[1].healthy = false;
        assert!(matches!(next(&world.journal, &world.seen), Action::Wait(_)));
        world.group().members[1].healthy = true;
        assert_eq!(next(&world.journal, &world.seen), Action::DetachNewcomer(id(NEW)));
    }

    #[test]
    fn the_old_instance_is_terminated_only_when_drained() {
        let mut world = World::cut_after(6, 2, false, Retirement::Detach);
        world.seen.draining = vec![id(OLD)];
        assert!(matches!(next(&world.journal, &world.seen), Action::Wait(_)));
        world.seen.draining.clear();
        assert_eq!(next(&world.journal, &world.seen), Action::TerminateOld);
    }

    #[test]
    fn what_the_owner_suspended_stays_suspended() {
        let mut world = World::cut_after(0, 1, false, Retirement::Detach);
        world.journal.original.az_rebalance_suspended = true;
        world.group().suspended.insert(AZ_REBALANCE.into());
        assert_eq!(next(&world.journal, &world.seen), Action::Done(End::Undone));
    }

    #[test]
    fn max_size_is_not_lowered_onto_a_group_that_has_grown() {
        let mut world = World::cut_after(3, 2, true, Retirement::Detach);
        world.seen.newcomer = None;
        world.group().desired = 3;
        assert!(matches!(next(&world.journal, &world.seen), Action::Wait(_)));
    }

    #[test]
    fn a_deleted_group_leaves_only_the_newcomer_to_tidy() {
        let mut world = World::cut_after(1, 1, false, Retirement::Detach);
        world.seen.group = None;
        assert_eq!(next(&world.journal, &world.seen), Action::TerminateNewcomer(id(NEW)));
        world.seen.newcomer = None;
        assert_eq!(next(&world.journal, &world.seen), Action::Done(End::Undone));
    }
}
