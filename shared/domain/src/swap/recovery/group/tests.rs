//! A group that obeys, with the rules of AWS that matter here, and swaps cut anywhere in it.

use super::*;
use crate::swap::group::tests::{group_of, id, member};
use crate::swap::journal::{Kept, NodeJournal, NodeSwap, SwapKind, Undo};
use jiff::Timestamp;
use proptest::prelude::*;

const OLD: u32 = 0;
const NEW: u32 = 99;

#[derive(Debug, Clone)]
struct World {
    journal: Journal,
    seen: Observed,
    /// What the owner asks for.
    wanted: u32,
    /// Ids of what the group launches by itself.
    launched: u32,
}

impl World {
    /// A swap in a group of `n`, cut after `calls` of its eight changing calls.
    fn cut_after(calls: usize, n: u32, at_max: bool, retirement: Retirement) -> Self {
        let mut group = group_of(n);
        group.max = if at_max { n } else { n + 4 };
        let mut world = Self {
            journal: Journal::new(&id(OLD), Timestamp::UNIX_EPOCH, retirement, SwapKind::Group),
            seen: Observed {
                group: Some(group),
                old_alive: true,
                old_has_group_tag: true,
                ..Observed::default()
            },
            wanted: n,
            launched: 50,
        };
        let steps: [fn(&mut Self); 8] = [
            |w| w.seen.newcomer = Some(Newcomer { id: id(NEW), alive: true, has_group_tag: false }),
            Self::write_attaching,
            |w| w.group().max = w.journal.max_raised_to.unwrap_or(w.group().max),
            |w| {
                w.group().suspended.insert(AZ_REBALANCE.into());
            },
            |w| w.attach(NEW),
            |w| w.journal.stage = Stage::Retiring,
            |w| {
                w.remove(&id(OLD), true);
                w.seen.old_alive = w.journal.retirement == Retirement::Detach;
                w.seen.old_has_group_tag = w.journal.retirement != Retirement::Detach;
            },
            |w| w.seen.old_alive = false,
        ];
        steps.iter().take(calls).for_each(|step| step(&mut world));
        world
    }

    fn write_attaching(&mut self) {
        let group = self.group().clone();
        self.journal.stage = Stage::Attaching;
        self.journal.newcomer = Some(id(NEW));
        self.journal.max_raised_to = (group.desired == group.max).then_some(group.max + 1);
        self.journal.original = Some(Original {
            desired: group.desired,
            max: group.max,
            az_rebalance_suspended: false,
            serving: group.in_service(),
            members: group.members.iter().map(|m| m.id.clone()).collect(),
        });
    }

    fn group(&mut self) -> &mut Group {
        self.seen.group.as_mut().unwrap()
    }

    fn attach(&mut self, n: u32) {
        assert!(self.group().desired < self.group().max, "attach above MaxSize is refused by AWS");
        self.group().members.push(member(n));
        self.group().desired += 1;
        match n {
            NEW => self.seen.newcomer.as_mut().unwrap().has_group_tag = true,
            _ => self.seen.old_has_group_tag = true,
        }
    }

    fn remove(&mut self, gone: &InstanceId, decrement: bool) {
        self.group().members.retain(|m| &m.id != gone);
        if decrement {
            assert!(self.group().desired > self.group().min, "AWS refuses to go below MinSize");
            self.group().desired -= 1;
        }
    }

    fn newcomer_dies(&mut self, group_noticed: bool) {
        if let Some(newcomer) = self.seen.newcomer.as_mut() {
            newcomer.alive = false;
            if group_noticed && self.group().member(&id(NEW)).is_some() {
                self.remove(&id(NEW), false);
            }
        }
    }

    /// The owner, or a scaling policy, sets desired; a group that shrinks picks any victim.
    fn owner_wants(&mut self, wanted: u32, victim: usize) {
        let wanted = wanted.clamp(1, self.group().max);
        self.wanted = wanted;
        self.group().desired = wanted;
        while self.group().members.len() > wanted as usize {
            let at = victim % self.group().members.len();
            let gone = self.group().members.remove(at);
            self.seen.old_alive &= gone.id != id(OLD);
            if gone.id == id(NEW) {
                self.seen.newcomer.as_mut().unwrap().alive = false;
            }
        }
    }

    /// Time passes: what is pending serves, and the group launches what it misses.
    fn tick(&mut self) {
        for member in &mut self.group().members {
            if member.state == MemberState::Pending {
                member.state = MemberState::InService;
            }
        }
        let dead = self.seen.newcomer.as_ref().is_some_and(|n| !n.alive);
        if dead && self.group().member(&id(NEW)).is_some() {
            self.remove(&id(NEW), false);
        }
        while self.group().members.len() < self.group().desired as usize {
            self.launched += 1;
            let mut replacement = member(self.launched);
            replacement.state = MemberState::Pending;
            self.group().members.push(replacement);
        }
    }

    fn perform(&mut self, action: &Action) {
        match action {
            Action::DetachNewcomer(newcomer) => {
                self.remove(newcomer, true);
                self.seen.newcomer.as_mut().unwrap().has_group_tag = false;
            }
            Action::RemoveIdleNewcomer(gone) | Action::TerminateExtra(gone) => self.remove(gone, true),
            Action::ReplaceNewcomer(gone) => {
                self.remove(gone, false);
                self.seen.newcomer.as_mut().unwrap().alive = false;
            }
            Action::TerminateNewcomer(_) => self.seen.newcomer.as_mut().unwrap().alive = false,
            Action::TerminateStray(gone) => self.seen.strays.retain(|stray| stray != gone),
            Action::ReattachOld => self.attach(OLD),
            Action::TerminateOld => {
                let before = self.journal.original.as_ref().map_or(0, |original| original.desired);
                assert!(self.serving() >= self.wanted.min(before), "the old instance went too early");
                self.seen.old_alive = false;
            }
            Action::RaiseMaxSize(to) => {
                assert!(*to == self.journal.max_raised_to.unwrap() && self.group().desired < *to);
                self.group().max = *to;
            }
            Action::RestoreMaxSize(to) => {
                assert!(self.group().members.len() <= *to as usize, "AWS would pick victims");
                self.group().max = *to;
            }
            Action::ResumeAzRebalance => {
                self.group().suspended.remove(AZ_REBALANCE);
            }
        }
    }

    fn carries_out(&mut self, action: &Action) {
        let without = self.journal.clone();
        self.journal.foresee(action, &self.seen, Timestamp::UNIX_EPOCH);
        self.perform(action);
        self.journal.acknowledge(action, &without);
    }

    /// Does the next thing.
    fn step(&mut self) {
        if let Do(action) = next(&self.journal, &self.seen) {
            self.carries_out(&action);
        }
    }

    fn set_max(&mut self, max: u32) {
        self.group().max = max;
    }

    /// Runs to the end; panics where it does not come to one, or where an action costs capacity.
    fn recover(&mut self) -> End {
        for _ in 0..30 {
            let before = self.serving();
            match next(&self.journal, &self.seen) {
                Decision::Done(end) => return end,
                // Somebody wants more than the owner's MaxSize allows, which only we made possible:
                // it waits until they don't, and a person is told.
                Decision::Wait(_) if self.outgrown() => return End::Undone,
                Decision::Wait(_) => self.tick(),
                Do(action) => {
                    self.carries_out(&action);
                    let after = self.serving();
                    assert!(after >= self.wanted || after >= before, "{action:?}: {before} → {after} serve");
                }
            }
        }
        panic!("no end after 30 looks: {:?}", next(&self.journal, &self.seen));
    }

    fn outgrown(&mut self) -> bool {
        let max = self.journal.original.as_ref().map_or(u32::MAX, |original| original.max);
        let settled = self.seen.newcomer.as_ref().is_none_or(|n| !n.alive) || self.journal.newcomer.is_none();
        self.wanted > max && settled && !self.group().suspended.contains(AZ_REBALANCE)
    }

    /// What really serves: a newcomer that is dead, or never healthy in its target groups, does not,
    /// whatever the group believes.
    fn serving(&mut self) -> u32 {
        let dead = self.seen.newcomer.as_ref().is_some_and(|n| !n.alive);
        let useless = self.journal.undo_reason() == Some(Reason::NewcomerNotServing);
        let believed = (dead || useless) && self.group().member(&id(NEW)).is_some_and(Member::serves);
        self.group().in_service() - u32::from(believed)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Cut anywhere, with the newcomer alive or dead, noticed or not, and whatever the owner wants
    /// by then: recovery ends, capacity holds at every step, nothing of ours is left.
    #[test]
    fn a_swap_cut_anywhere_ends_clean(
        calls in 0_usize..=8,
        n in 1_u32..6,
        at_max in any::<bool>(),
        hook in any::<bool>(),
        death in prop::option::of(any::<bool>()),
        owner in prop::option::of((0_u32..4, any::<usize>())),
        undoing in any::<bool>(),
        reason in prop::sample::select(vec![
            Reason::ExecutionDied,
            Reason::NewcomerAtRisk,
            Reason::NewcomerNotServing,
            Reason::NodeNotReady,
        ]),
    ) {
        let retirement = if hook { Retirement::TerminateInGroup } else { Retirement::Detach };
        let mut world = World::cut_after(calls, n, at_max, retirement);
        if let Some(noticed) = death {
            world.newcomer_dies(noticed);
        }
        // One more than at the start is what we would have made of it: nobody could tell.
        let owner = owner.filter(|(extra, _)| (n + extra).min(world.group().max) != n + 1);
        if let Some((extra, victim)) = owner {
            world.owner_wants(n + extra, victim);
        }
        if undoing && world.journal.stage != Stage::Retiring {
            world.journal.stage = Stage::Undoing;
        }
        world.journal.undo = Some(Undo { reason, detail: String::new() });
        let end = world.recover();
        let group = world.group().clone();
        let newcomer_alive = world.seen.newcomer.clone().is_some_and(|n| n.alive);
        prop_assert_eq!(group.desired, world.wanted);
        prop_assert!(!group.suspended.contains(AZ_REBALANCE));
        if let Some(original) = &world.journal.original {
            prop_assert!(group.max == original.max || group.desired > original.max);
        }
        let stray = |alive: bool, n| alive && group.member(&id(n)).is_none();
        prop_assert!(!stray(newcomer_alive, NEW), "newcomer astray: {:?}", world);
        prop_assert!(!stray(world.seen.old_alive, OLD), "old astray: {:?}", world);
        if end == End::Undone && owner.is_none() {
            prop_assert!(group.member(&id(OLD)).is_some() && !newcomer_alive, "{:?}", world);
        }
    }

    /// Cut anywhere before the old instance leaves, and whatever the owner wants by then: a newcomer whose pods can't leave
    /// holds nothing up, and goes only by dying.
    #[test]
    fn a_newcomer_that_stays_holds_nothing_up(
        calls in 1_usize..=6,
        n in 1_u32..6,
        at_max in any::<bool>(),
        death in prop::option::of(any::<bool>()),
        owner in prop::option::of((0_u32..4, any::<usize>())),
    ) {
        let mut world = World::cut_after(calls, n, at_max, Retirement::Detach);
        kept(&mut world, id(NEW));
        if let Some(noticed) = death {
            world.newcomer_dies(noticed);
        }
        let owner = owner.filter(|(extra, _)| (n + extra).min(world.group().max) != n + 1);
        if let Some((extra, victim)) = owner {
            world.owner_wants(n + extra, victim);
        }
        let was_alive = world.seen.newcomer.clone().is_some_and(|n| n.alive);
        let was_suspended = world.group().suspended.contains(AZ_REBALANCE);
        prop_assert_eq!(world.recover(), End::Undone);
        prop_assert_eq!(world.seen.newcomer.clone().is_some_and(|n| n.alive), was_alive);
        let is_member = |m: &Member| m.state != MemberState::Leaving;
        let stays = was_alive && world.group().member(&id(NEW)).is_some_and(is_member);
        prop_assert_eq!(world.group().suspended.contains(AZ_REBALANCE), was_suspended && stays);
        let original = world.journal.original.clone();
        let (max, desired) = (world.group().max, world.group().desired);
        prop_assert!(original.is_none_or(|original| max == original.max || desired > original.max));
        if owner.is_none() {
            prop_assert!(world.group().member(&id(OLD)).is_some());
        }
    }
}

#[test]
fn the_newcomer_is_kept_while_the_rest_does_not_serve() {
    let mut world = World::cut_after(5, 2, false, Retirement::Detach);
    world.group().members[1].healthy = false;
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)));
    world.group().members[1].healthy = true;
    assert_eq!(next(&world.journal, &world.seen), Do(Action::DetachNewcomer(id(NEW))));
}

#[test]
fn a_newcomer_in_a_group_that_its_owner_has_resized_is_part_of_it() {
    for wanted in [2, 5] {
        let mut world = World::cut_after(5, 2, false, Retirement::Detach);
        world.group().desired = wanted;
        assert_eq!(next(&world.journal, &world.seen), Do(Action::ResumeAzRebalance));
    }
}

#[test]
fn the_groups_own_replacement_goes_only_once_it_serves() {
    let mut world = World::cut_after(5, 2, false, Retirement::Detach);
    world.newcomer_dies(true);
    world.tick();
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "a pending one is no capacity");
    world.tick();
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateExtra(id(51))));
}

#[test]
fn the_old_instance_is_terminated_only_when_drained() {
    let mut world = World::cut_after(7, 2, false, Retirement::Detach);
    world.seen.draining = vec![id(OLD)];
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)));
    world.seen.draining.clear();
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateOld));
}

#[test]
fn a_newcomer_at_risk_brings_the_old_instance_back() {
    let mut world = World::cut_after(7, 2, false, Retirement::Detach);
    for reason in [Reason::NewcomerAtRisk, Reason::NewcomerNotServing, Reason::NodeNotReady] {
        world.journal.undo = Some(Undo { reason, detail: String::new() });
        assert_eq!(next(&world.journal, &world.seen), Do(Action::ReattachOld), "{reason}");
    }
}

#[test]
fn what_the_owner_suspended_stays_suspended() {
    let mut world = World::cut_after(2, 1, false, Retirement::Detach);
    world.journal.original.as_mut().unwrap().az_rebalance_suspended = true;
    world.group().suspended.insert(AZ_REBALANCE.into());
    world.seen.newcomer = None;
    assert_eq!(next(&world.journal, &world.seen), Decision::Done(End::Undone));
}

#[test]
fn max_size_is_the_owners_again_while_the_old_instance_still_leaves() {
    let mut world = World::cut_after(7, 2, true, Retirement::TerminateInGroup);
    let mut leaving = member(OLD);
    leaving.state = MemberState::Leaving;
    world.group().members.push(leaving);
    assert_eq!(next(&world.journal, &world.seen), Do(Action::RestoreMaxSize(2)));
    world.set_max(2);
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)));
}

#[test]
fn max_size_is_not_given_back_before_the_newcomer_is_out_of_the_way() {
    let mut world = World::cut_after(5, 2, true, Retirement::Detach);
    world.journal.stage = Stage::Undoing;
    world.group().desired = 2; // as the group showed it before the attach
    world.group().members.pop();
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateNewcomer(id(NEW))));
}

#[test]
fn members_that_stand_by_are_not_in_desired() {
    let mut world = World::cut_after(8, 2, true, Retirement::Detach);
    let mut standby = member(7);
    standby.state = MemberState::parse("Standby");
    world.group().members.push(standby);
    world.group().suspended.clear();
    assert_eq!(next(&world.journal, &world.seen), Do(Action::RestoreMaxSize(2)));
}

#[test]
fn an_old_instance_that_comes_back_finds_room_in_a_group_at_its_max() {
    let mut world = World::cut_after(7, 2, true, Retirement::Detach);
    assert_eq!(next(&world.journal, &world.seen), Do(Action::RestoreMaxSize(2)));
    world.set_max(2);
    world.newcomer_dies(true);
    assert_eq!(next(&world.journal, &world.seen), Do(Action::RaiseMaxSize(3)));
    world.set_max(3);
    assert_eq!(next(&world.journal, &world.seen), Do(Action::ReattachOld));
    assert_eq!(world.recover(), End::Undone);
    assert_eq!((world.group().max, world.group().desired), (2, 2));
}

#[test]
fn max_size_is_not_lowered_onto_a_group_that_has_grown() {
    let mut world = World::cut_after(3, 2, true, Retirement::Detach);
    world.seen.newcomer = None;
    world.group().desired = 3;
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)));
}

#[test]
fn a_launch_that_may_be_invisible_is_waited_for() {
    let mut world = World::cut_after(0, 1, false, Retirement::Detach);
    world.seen.launch_may_be_invisible = true;
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)));
    world.seen.launch_may_be_invisible = false;
    assert_eq!(next(&world.journal, &world.seen), Decision::Done(End::Undone));
}

#[test]
fn a_deleted_group_leaves_the_newcomer_and_a_detached_old_instance_to_tidy() {
    let mut world = World::cut_after(7, 1, false, Retirement::Detach);
    world.seen.group = None;
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateNewcomer(id(NEW))));
    world.seen.newcomer = None;
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateOld));
    (world.journal.stage, world.journal.turned_back) = (Stage::Undoing, true);
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateOld), "it was about to come back");
    world.seen.old_alive = false;
    assert_eq!(next(&world.journal, &world.seen), Decision::Done(End::Undone));
}

#[test]
fn a_dead_newcomer_that_its_group_has_not_noticed_does_not_count() {
    let mut world = World::cut_after(7, 1, false, Retirement::Detach);
    world.newcomer_dies(false);
    assert_eq!(next(&world.journal, &world.seen), Do(Action::ReattachOld));
}

#[test]
fn a_newcomer_that_stays_pending_is_taken_out() {
    let mut world = World::cut_after(5, 1, false, Retirement::Detach);
    world.group().members[1].state = MemberState::Pending;
    assert_eq!(next(&world.journal, &world.seen), Do(Action::RemoveIdleNewcomer(id(NEW))));
}

#[test]
fn an_unhealthy_member_from_before_holds_up_nothing() {
    let mut world = World::cut_after(5, 3, false, Retirement::Detach);
    world.group().members[1].healthy = false;
    world.journal.original.as_mut().unwrap().serving = 2;
    assert_eq!(next(&world.journal, &world.seen), Do(Action::DetachNewcomer(id(NEW))));
}

#[test]
fn without_a_newcomer_to_prove_it_the_owner_still_gets_back_his_settings() {
    let mut world = World::cut_after(5, 2, true, Retirement::Detach);
    world.journal.stage = Stage::Undoing;
    world.group().desired = 2;
    let settings = |world: &World| settings_only(&world.journal, &world.seen);
    assert_eq!(settings(&world), Some(Action::ResumeAzRebalance));
    world.group().suspended.clear();
    assert_eq!(settings(&world), Some(Action::RestoreMaxSize(2)));
    world.group().desired = 3;
    assert_eq!(settings(&world), None, "desired does not fit below it");
    world.group().max = 2;
    assert_eq!(settings(&world), None, "nothing is left to give back");
}

#[test]
fn a_newcomer_that_is_left_outside_of_a_finished_swap_is_terminated() {
    let mut world = World::cut_after(8, 2, false, Retirement::Detach);
    world.remove(&id(NEW), true);
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateNewcomer(id(NEW))));
    world.seen.draining = vec![id(NEW)];
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)));
}

#[test]
fn what_may_be_left_is_told() {
    let mut world = World::cut_after(5, 2, true, Retirement::Detach);
    world.journal.undo = Some(Undo { reason: Reason::ExecutionDied, detail: String::new() });
    let told = doubt(&world.journal, &world.seen).unwrap();
    assert!(told.contains("is 3, and was 2") && told.contains("MaxSize, which is 3, to 2"), "{told}");
    world.journal.desired_settled = true; // and AWS has said so: whoever raised it since, it is not ours
    assert_eq!(doubt(&world.journal, &world.seen), None);
}

#[test]
fn nothing_ends_while_a_call_may_land() {
    let mut world = World::cut_after(2, 2, true, Retirement::Detach);
    world.seen.newcomer = None;
    world.seen.calls_may_land = true;
    assert!(matches!(recover(&world.journal, &world.seen), Decision::Wait(_)));
    world.seen.calls_may_land = false;
    assert_eq!(recover(&world.journal, &world.seen), Decision::Done(End::Undone));
}

#[test]
fn what_needs_no_proof_touches_no_instance() {
    for action in [Action::ResumeAzRebalance, Action::RestoreMaxSize(1)] {
        assert!(!action.needs_proof() && action.removes(&id(OLD)).is_none(), "{action:?}");
    }
    for action in
        [Action::TerminateOld, Action::ReattachOld, Action::RaiseMaxSize(2), Action::TerminateExtra(id(3))]
    {
        assert!(action.needs_proof(), "{action:?}");
    }
}

fn keeps(journal: &mut Journal, kept: Kept) {
    let node = NodeSwap {
        cluster: "one".parse().unwrap(),
        kubeconfig_secret: None,
        old: "ip-10-0-0-1".parse().unwrap(),
        evict_local_storage: false,
        evict_unmanaged: false,
    };
    journal.kind = SwapKind::Node(Box::new(NodeJournal { node, leaving: None, kept: Some(kept) }));
}

fn kept(world: &mut World, id: InstanceId) {
    world.journal.stage = Stage::Undoing;
    keeps(&mut world.journal, Kept { instance_id: id, why: String::new() });
}

#[test]
fn a_newcomer_whose_pods_cant_leave_stays_and_the_way_back_ends() {
    for (calls, at_max) in [(1, false), (5, false), (5, true)] {
        let mut world = World::cut_after(calls, 2, at_max, Retirement::Detach);
        kept(&mut world, id(NEW));
        assert_eq!(world.recover(), End::Undone, "cut after {calls}");
        assert!(world.seen.newcomer.clone().unwrap().alive && world.seen.old_alive);
        let is_member = calls == 5;
        assert_eq!(world.group().suspended.contains(AZ_REBALANCE), is_member, "a rebalance would take it");
        let members = if is_member { 3 } else { 2 };
        assert_eq!((world.group().in_service(), world.group().desired), (members, members));
        assert_eq!(world.group().max, if at_max { 3 } else { 6 }, "a lower MaxSize would pick a victim");
    }
}

#[test]
fn a_newcomer_that_was_kept_and_dies_is_taken_out_of_desired() {
    let mut world = World::cut_after(5, 2, true, Retirement::Detach);
    kept(&mut world, id(NEW));
    world.newcomer_dies(false);
    assert_eq!(world.recover(), End::Undone);
    assert_eq!((world.group().desired, world.group().max), (2, 2));
    assert!(!world.group().suspended.contains(AZ_REBALANCE));
}

#[test]
fn the_groups_own_replacement_stays_too_if_its_pods_cant_leave() {
    let mut world = World::cut_after(5, 2, false, Retirement::Detach);
    world.newcomer_dies(true);
    world.tick();
    world.tick();
    kept(&mut world, id(51));
    assert_eq!(world.recover(), End::Undone);
    assert_eq!(world.group().desired, 3);
    assert!(world.group().member(&id(51)).is_some());
    assert!(world.group().suspended.contains(AZ_REBALANCE));
}

#[test]
fn a_newcomer_that_its_owner_has_told_to_leave_keeps_no_process_suspended() {
    let mut world = World::cut_after(5, 2, false, Retirement::Detach);
    kept(&mut world, id(NEW));
    assert_eq!(next(&world.journal, &world.seen), Decision::Done(End::Undone));
    let leaving = world.group().members.iter_mut().find(|m| m.id == id(NEW)).unwrap();
    leaving.state = MemberState::Leaving;
    assert_eq!(next(&world.journal, &world.seen), Do(Action::ResumeAzRebalance));
}

#[test]
fn a_group_that_is_gone_takes_nothing_with_it_that_is_kept() {
    let mut world = World::cut_after(1, 2, false, Retirement::Detach);
    kept(&mut world, id(NEW));
    world.seen.group = None;
    assert_eq!(next(&world.journal, &world.seen), Decision::Done(End::Undone));
}

/// A swap whose old instance is out of its group, and whose group a policy has raised since.
fn outgrown_after(calls: usize, reason: Reason) -> World {
    let mut world = World::cut_after(calls, 2, true, Retirement::Detach);
    world.journal.undo = Some(Undo { reason, detail: String::new() });
    world.group().suspended.clear();
    world.group().desired = 3;
    world.group().members.push(member(51));
    world
}

#[test]
fn reader_1_an_old_instance_that_was_detached_leaves_no_doubt() {
    let mut world = outgrown_after(7, Reason::NewcomerAtRisk);
    assert_eq!(doubt(&world.journal, &world.seen), None, "it runs outside, without the group's tag");
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateOld));
    world.step();
    assert_eq!(doubt(&world.journal, &world.seen), None, "EC2 may show no tags of one that has ended");
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "MaxSize is still raised");
    world.group().desired = 2;
    world.group().members.pop();
    assert_eq!(next(&world.journal, &world.seen), Do(Action::RestoreMaxSize(2)));
}

#[test]
fn reader_1_what_proves_nothing_leaves_the_doubt() {
    for reason in [Reason::RetireRejected, Reason::InstanceGone] {
        assert!(doubt_of(&outgrown_after(7, reason)), "{reason}: the group, or its owner, was faster");
    }
    let mut came_back = outgrown_after(7, Reason::NewcomerAtRisk);
    (came_back.journal.stage, came_back.journal.turned_back) = (Stage::Undoing, true);
    assert!(doubt_of(&came_back), "an attach may have put our one back");
    assert!(doubt_of(&outgrown_after(8, Reason::NewcomerAtRisk)), "a dead one without tags proves nothing");
    let mut hook = outgrown_after(7, Reason::NewcomerAtRisk);
    hook.journal.retirement = Retirement::TerminateInGroup;
    assert!(doubt_of(&hook), "no detach of ours took the tag away");
}

fn doubt_of(world: &World) -> bool {
    doubt(&world.journal, &world.seen).is_some()
}

#[test]
fn reader_3_an_old_instance_that_cant_come_back_holds_nothing_up() {
    let mut world = World::cut_after(7, 2, false, Retirement::Detach);
    world.newcomer_dies(true);
    for _ in 0..2 {
        assert_eq!(next(&world.journal, &world.seen), Do(Action::ReattachOld));
        let before = world.journal.clone();
        world.journal.foresee(&Action::ReattachOld, &world.seen, Timestamp::UNIX_EPOCH);
        world.journal.retract(&Action::ReattachOld, &before);
    }
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "one serves, of two");
    world.tick();
    world.tick();
    assert_eq!(
        next(&world.journal, &world.seen),
        Do(Action::TerminateOld),
        "its group has replaced the newcomer"
    );
    world.recover();
    assert_eq!((world.group().desired, world.group().in_service(), world.seen.old_alive), (2, 2, false));
}

#[test]
fn reader_3_a_newcomer_at_risk_counts_where_the_old_instance_cant_come_back() {
    let mut world = World::cut_after(7, 2, false, Retirement::Detach);
    world.journal.undo = Some(Undo { reason: Reason::NewcomerAtRisk, detail: String::new() });
    (world.journal.stage, world.journal.turned_back) = (Stage::Undoing, true);
    world.journal.refused_reattaches = 1;
    assert_eq!(
        next(&world.journal, &world.seen),
        Do(Action::ReattachOld),
        "the look may have been older than MaxSize"
    );
    world.seen.calls_may_land = true;
    assert!(
        matches!(next(&world.journal, &world.seen), Decision::Wait(_)),
        "the second look is no older one"
    );
    world.journal.refused_reattaches = 2;
    assert!(
        matches!(next(&world.journal, &world.seen), Decision::Wait(_)),
        "an earlier attach may still show"
    );
    world.seen.calls_may_land = false;
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateOld));
    assert_eq!(world.recover(), End::Finished);
}

#[test]
fn reader_5_a_decrement_that_was_answered_may_show_later() {
    let at = Timestamp::from_second(100).unwrap();
    let before = Journal { changed_at: None, ..World::cut_after(5, 2, false, Retirement::Detach).journal };
    let seen = World::cut_after(5, 2, false, Retirement::Detach).seen;
    let after = |action: Action| {
        let mut journal = before.clone();
        journal.foresee(&action, &seen, at);
        journal.acknowledge(&action, &before);
        journal
    };
    for action in [
        Action::DetachNewcomer(id(NEW)),
        Action::RemoveIdleNewcomer(id(NEW)),
        Action::ReplaceNewcomer(id(NEW)),
        Action::TerminateExtra(id(7)),
        Action::ReattachOld,
    ] {
        assert_eq!(after(action.clone()).changed_at, Some(at), "{action:?}");
    }
    assert_eq!(after(Action::ResumeAzRebalance).changed_at, None, "nothing is concluded from it");
    let settled = after(Action::DetachNewcomer(id(NEW)));
    let stale = Observed { calls_may_land: true, ..seen };
    assert!(matches!(recover(&settled, &stale), Do(Action::ResumeAzRebalance) | Decision::Wait(_)));
    let mut stale = stale;
    stale.group.as_mut().unwrap().suspended.clear();
    assert!(
        matches!(recover(&settled, &stale), Decision::Wait(_)),
        "the look shows the newcomer as a member"
    );
}

#[test]
fn reader_9_only_the_first_retirement_that_is_refused_proves_anything() {
    for has_left in [false, true] {
        assert_eq!(why_not_retired(true, has_left), Reason::RetireRejected);
        assert_ne!(why_not_retired(false, has_left), Reason::RetireRejected);
    }
}

#[test]
fn reader_10_an_old_instance_that_its_group_terminates_is_not_taken_back() {
    let mut world = World::cut_after(7, 2, false, Retirement::TerminateInGroup);
    (world.journal.stage, world.journal.turned_back) = (Stage::Undoing, true);
    world.journal.undo = Some(Undo { reason: Reason::NewcomerAtRisk, detail: String::new() });
    world.seen.old_alive = true; // as EC2 showed it a moment ago
    world.seen.calls_may_land = true;
    world.group().suspended.clear();
    assert!(matches!(recover(&world.journal, &world.seen), Decision::Wait(_)));
    world.seen.old_alive = false;
    world.seen.calls_may_land = false;
    assert_eq!(recover(&world.journal, &world.seen), Decision::Done(End::Finished));
}

#[test]
fn reader_10_a_desired_that_may_be_old_decides_nothing() {
    for reason in [Reason::NewcomerAtRisk, Reason::NewcomerNotServing] {
        let mut world = World::cut_after(7, 2, false, Retirement::Detach);
        world.journal.undo = Some(Undo { reason, detail: String::new() });
        world.group().desired = 3; // as it was before the detach
        world.seen.calls_may_land = true;
        assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "{reason}");
        world.group().desired = 2;
        assert_eq!(next(&world.journal, &world.seen), Do(Action::ReattachOld), "{reason}");
    }
    let mut goes_well = World::cut_after(7, 2, false, Retirement::Detach);
    goes_well.seen.calls_may_land = true;
    assert_eq!(next(&goes_well.journal, &goes_well.seen), Do(Action::TerminateOld), "no swap waits for it");
}

#[test]
fn reader_8_an_old_instance_that_died_while_it_was_detached_took_our_one_along() {
    let mut world = outgrown_after(8, Reason::ExecutionDied);
    world.seen.old_has_group_tag = true;
    assert_eq!(
        next(&world.journal, &world.seen),
        Do(Action::TerminateExtra(id(51))),
        "nobody has answered the detach"
    );
    world.journal.retired = true;
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "a policy has launched it");
}

#[test]
fn a_second_newcomer_goes_before_a_swap_ends_whichever_way() {
    for (calls, expected) in [(0, End::Undone), (1, End::Undone), (8, End::Finished)] {
        let mut world = World::cut_after(calls, 3, false, Retirement::Detach);
        world.seen.strays = vec![id(77)];
        assert_eq!(world.recover(), expected, "after {calls} calls");
        assert!(world.seen.strays.is_empty(), "after {calls} calls");
    }
}

#[test]
fn a_second_newcomer_that_its_pods_keep_in_service_holds_up_no_end() {
    let mut world = World::cut_after(8, 3, false, Retirement::Detach);
    world.seen.strays = vec![id(77)];
    keeps(&mut world.journal, Kept { instance_id: id(77), why: "default/web-0 can't be evicted".into() });
    assert_eq!(world.recover(), End::Finished);
    assert_eq!(world.seen.strays, [id(77)]);
}
