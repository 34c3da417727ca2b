//! A group that obeys, with the rules of AWS that matter here, and swaps cut anywhere in it.

use super::*;
use crate::swap::group::tests::{group_of, id, member};
use crate::swap::journal::{Kept, NodeJournal, NodeSwap, SwapKind, Undo};
use jiff::Timestamp;
use proptest::prelude::*;

mod acknowledged;
mod groups;
mod kept;

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
            not_serving: Vec::new(),
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
            Action::TerminateExtra(gone) => self.remove(gone, true),
            Action::RemoveNewcomer(gone) => {
                self.remove(gone, true);
                self.seen.newcomer.as_mut().unwrap().alive = false;
            }
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
