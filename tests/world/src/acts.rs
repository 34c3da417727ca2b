//! The acts of others: the owner of a group and its policies, EC2, Auto Scaling and its health checks.
//!
//! The world keeps the owner's ledger beside each act. A size that is set to what it already is shows to nobody, and is
//! no wish: who sets desired or MaxSize to the number that our one has made of it can't be told from nobody.

mod lab;
mod mended;
mod text;
mod twin;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::event_bridge::SpotNotice;
use crate::excuses::GROUP_FOLLOWS;
use crate::fleet::{Ec2Instance, Fleet};
use crate::oracles::{POOL_RISK, may_hold_ours};
use crate::scene::REGION;
use crate::virtual_time::now;
use crate::world::World;

pub use lab::LabAct;
pub use text::UnknownAct;
pub use twin::TwinAct;

/// The time from the notice of an interruption to the end of the instance.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html>
const NOTICE: SignedDuration = SignedDuration::from_secs(120);
/// How long a policy needs the room that we made: longer than an execution waits for it.
const PEAK: SignedDuration = SignedDuration::from_hours(2);
/// The processes that an owner suspends.
const PROCESSES: [&str; 3] = ["AZRebalance", "Launch", "Terminate"];

/// A policy has scaled a group out beyond its owner's MaxSize.
#[derive(Debug, Clone)]
pub(crate) struct RoomTaken {
    group: String,
    since: Timestamp,
}

/// An act of somebody else. A number that says which member counts around the members of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A scaling policy asks for so many more or fewer.
    PolicyScales(i32),
    /// The owner sets desired.
    OwnerSetsDesired(u32),
    /// The owner sets MaxSize.
    OwnerSetsMax(u32),
    /// The owner opts the group out.
    OwnerOptsOut,
    /// The owner protects a member from scale-in.
    OwnerProtects(usize),
    /// The owner detaches a member, and the group launches another.
    OwnerDetaches(usize),
    /// The owner detaches a member, and asks for one fewer.
    OwnerTakesOut(usize),
    /// The owner suspends a process.
    OwnerSuspends(&'static str),
    /// EC2 fails under a member.
    MemberDies(usize),
    /// EC2 fails under the newest instance of ours.
    NewcomerDies,
    /// The risk manager poisons the pool of the newest instance of ours.
    NewcomersPoolIsPoisoned,
    /// EC2 gives notice to the newest instance of ours, which EventBridge delivers so often.
    NewcomerIsInterrupted(u8),
    /// EC2 gives notice to a member, if it is Spot.
    MemberIsInterrupted(usize, u8),
    /// EC2 recommends to replace a member, if it is Spot. Nothing happens to the member by itself.
    MemberIsAtRisk(usize),
    /// AZRebalance launches one beyond desired.
    GroupRebalances,
    /// EC2 has no capacity for the group's type in one of the zones.
    CapacityIsShort(usize),
    /// EC2 has capacity again.
    CapacityIsBack,
    /// Every Spot price rises to the On-Demand price of its type. EC2 takes no more.
    SpotPricesRise,
    /// Somebody else marks what is theirs with the tags of the swap in progress: instances, and images in a LAB account.
    TagsAreForged,
    /// The health checks of the target groups fail for a member.
    TargetTurnsUnhealthy(usize),
    /// They pass again, for all members.
    TargetsTurnHealthy,
    /// The owner of the stand-alone instance acts.
    OwnerOfInstance(LabAct),
    /// The owner of the stand-alone instance acts on its twin.
    OwnerOfTwin(TwinAct),
}

impl From<u32> for Act {
    fn from(number: u32) -> Self {
        let (kind, rest) = (number % 17, number / 17);
        let which = usize::try_from(rest).unwrap_or_default();
        let deliveries = 1 + u8::from(rest % 3 == 2);
        match kind {
            0 | 1 => Self::PolicyScales([1, -1, 2, -2][which % 4]),
            2 => Self::OwnerSetsDesired(rest % 5),
            3 => Self::OwnerSetsMax(1 + rest % 6),
            4 => Self::OwnerOptsOut,
            5 => Self::OwnerProtects(which),
            6 => Self::OwnerDetaches(which),
            7 => Self::OwnerSuspends(PROCESSES[which % PROCESSES.len()]),
            8 => Self::MemberDies(which),
            9 => Self::NewcomerDies,
            10 => Self::NewcomersPoolIsPoisoned,
            11 => Self::NewcomerIsInterrupted(deliveries),
            12 => Self::MemberIsInterrupted(which, deliveries),
            13 => Self::GroupRebalances,
            14 if rest % 2 == 0 => Self::CapacityIsShort(which),
            14 => Self::CapacityIsBack,
            15 => Self::MemberIsAtRisk(which),
            _ if rest % 3 == 2 => Self::TargetsTurnHealthy,
            _ => Self::TargetTurnsUnhealthy(which),
        }
    }
}

/// Returns the desired capacity of a group; 0 for one that does not exist.
fn desired_of(fleet: &Fleet, name: &str) -> i64 {
    fleet.group(name).map_or(0, |group| group.desired.into())
}

impl World {
    /// An act takes place, if the group that the scene is about still exists. An account without groups has its newcomer.
    pub fn befalls(&mut self, act: Act) {
        self.passes();
        let name = self.fleet.groups().keys().next().cloned().unwrap_or_default();
        if name.is_empty() && self.oracles.lab.is_none() {
            return;
        }
        self.chronicle.notes(format_args!("-- {act:?}"));
        let id = self.instance_of(act, &name);
        match (act, id.as_deref()) {
            (Act::PolicyScales(by), _) => self.policy_scales(&name, by),
            (Act::OwnerSetsDesired(to), _) => self.owner_sets_desired(&name, to),
            (Act::OwnerSetsMax(to), _) => self.owner_sets_max(&name, to),
            (Act::OwnerOptsOut, _) => self.owner_opts_out(&name),
            (Act::OwnerSuspends(process), _) => self.owner_suspends(&name, process),
            (Act::GroupRebalances, _) => self.group_rebalances(&name),
            (Act::CapacityIsShort(zone), _) => self.capacity_is_short(zone),
            (Act::CapacityIsBack, _) => self.fleet.accept_launches(),
            (Act::SpotPricesRise, _) => self.fleet.spot_prices_rise(),
            (Act::TagsAreForged, _) => self.tags_are_forged(),
            (Act::TargetsTurnHealthy, _) => self.targets_turn_healthy(&name),
            (Act::OwnerOfInstance(act), _) => self.owner_of_instance_acts(act),
            (Act::OwnerOfTwin(act), Some(id)) => self.owner_of_twin_acts(act, id),
            (Act::MemberDies(_) | Act::NewcomerDies, Some(id)) => self.dies(id),
            (Act::NewcomersPoolIsPoisoned, Some(id)) => self.poisons(id, self.oracles.settings.poison_for()),
            (Act::NewcomerIsInterrupted(times) | Act::MemberIsInterrupted(_, times), Some(id)) => {
                self.interrupts(id, times);
            }
            (Act::MemberIsAtRisk(_), Some(id)) => self.is_at_risk(id),
            (Act::OwnerProtects(_), Some(id)) => {
                self.fleet.protect(&name, id, true);
            }
            (Act::OwnerDetaches(_), Some(id)) => self.owner_detaches(&name, id, false),
            (Act::OwnerTakesOut(_), Some(id)) => self.owner_detaches(&name, id, true),
            (Act::TargetTurnsUnhealthy(_), Some(id)) => self.target_turns_unhealthy(&name, id),
            (_, None) => {}
        }
        self.passes();
    }

    /// Returns the instance that an act is about.
    fn instance_of(&self, act: Act, group: &str) -> Option<String> {
        match act {
            Act::MemberDies(which)
            | Act::MemberIsInterrupted(which, _)
            | Act::MemberIsAtRisk(which)
            | Act::OwnerProtects(which)
            | Act::OwnerDetaches(which)
            | Act::OwnerTakesOut(which)
            | Act::TargetTurnsUnhealthy(which) => {
                let members = &self.fleet.group(group)?.members;
                Some(members.get(which.checked_rem(members.len())?)?.instance_id.clone())
            }
            Act::NewcomerDies
            | Act::NewcomersPoolIsPoisoned
            | Act::NewcomerIsInterrupted(_)
            | Act::OwnerOfTwin(_) => self.newcomer(),
            _ => None,
        }
    }

    /// Returns the newest instance that a swap has launched and that is alive.
    fn newcomer(&self) -> Option<String> {
        let ours = |instance: &&Ec2Instance| {
            instance.state.is_alive()
                && !instance.is_a_strangers()
                && instance.tags.get("ManagedBy").is_some_and(|by| by == "SpotOptimizer")
        };
        let newest = self.fleet.instances().values().filter(ours).max_by_key(|instance| instance.launched_at);
        newest.map(|instance| instance.id.clone())
    }

    /// A policy scales what it sees, our one included. What it takes of the room that our MaxSize has made is no wish: the
    /// room goes with us.
    pub fn policy_scales(&mut self, name: &str, by: i32) {
        let before = desired_of(&self.fleet, name);
        self.fleet.scale(name, by, now());
        let by = desired_of(&self.fleet, name) - before;
        let min = self.fleet.group(name).map_or(0, |group| group.min);
        let may_hold_ours = may_hold_ours(&self.tables);
        let wished = self.oracles.owner_asks(name, may_hold_ours, |wish| {
            let asked = u32::try_from(i64::from(wish.desired) + by).unwrap_or(0);
            wish.desired_at_most = wish.desired_at_most.saturating_add_signed(i32::try_from(by).unwrap_or(0));
            wish.desired = asked.min(wish.max).max(min);
            wish.desired_at_most = wish.desired_at_most.max(wish.desired);
        });
        if by != 0 {
            self.oracles.moves_desired(name, (before, before + by), wished);
        }
        if by > 0 && self.beyond_max(name) > 0 {
            self.room_taken.get_or_insert_with(|| RoomTaken { group: name.to_owned(), since: now() });
        }
        self.group_follows(name, by.unsigned_abs());
    }

    /// A policy that has scaled out beyond the owner's MaxSize, into the room that we made, scales in again at the end of its
    /// peak. If the room is gone before, there is nothing to give back.
    pub(crate) fn policy_gives_room_back(&mut self) {
        let Some(RoomTaken { group, since }) = self.room_taken.take() else { return };
        let beyond = self.beyond_max(&group);
        if beyond == 0 {
            return;
        }
        if now().duration_since(since) < PEAK {
            self.room_taken = Some(RoomTaken { group, since });
            return;
        }
        self.chronicle.notes(format_args!("-- the policy of {group} scales in by {beyond}"));
        let before = desired_of(&self.fleet, &group);
        self.fleet.scale(&group, -beyond, now());
        let wished = self.oracles.wished(&group);
        self.oracles.moves_desired(&group, (before, desired_of(&self.fleet, &group)), wished);
        self.group_follows(&group, beyond.unsigned_abs().into());
    }

    /// Returns how far desired is above the owner's MaxSize.
    fn beyond_max(&self, name: &str) -> i32 {
        let asked = self.fleet.group(name).zip(self.oracles.wishes.get(name));
        let above = asked.map_or(0, |(group, wish)| group.desired.saturating_sub(wish.max));
        i32::try_from(above).unwrap_or_default()
    }

    /// The owner sets desired, within his own bounds.
    pub fn owner_sets_desired(&mut self, name: &str, to: u32) {
        let (Some(group), Some(wish)) = (self.fleet.group(name), self.oracles.wishes.get(name)) else {
            return;
        };
        let (before, to) = (group.desired, to.max(group.min).min(wish.max));
        // Of what he asks for, our one may be a part that does not serve yet.
        let more = to.saturating_sub(wish.desired);
        if to != before && self.fleet.set_desired(name, to) {
            let may_hold_ours = may_hold_ours(&self.tables);
            let wished = self.oracles.owner_asks(name, may_hold_ours, |wish| {
                (wish.desired, wish.desired_at_most) = (to, to);
            });
            self.oracles.moves_desired(name, (before.into(), to.into()), wished);
            self.group_follows(name, u64::from(before.abs_diff(to).max(more)));
        }
    }

    /// The owner sets MaxSize. Below desired, it lowers desired.
    pub fn owner_sets_max(&mut self, name: &str, to: u32) {
        let Some(group) = self.fleet.group(name) else { return };
        let before = group.desired;
        if to != group.max && to >= group.min && self.fleet.set_max(name, to) {
            let after = self.fleet.group(name).map_or(before, |group| group.desired);
            let may_hold_ours = may_hold_ours(&self.tables);
            let wished = self.oracles.owner_asks(name, may_hold_ours, |wish| {
                wish.max = to;
                wish.desired = wish.desired.min(to);
                wish.desired_at_most = wish.desired_at_most.min(to);
            });
            if after != before {
                self.oracles.moves_desired(name, (before.into(), after.into()), wished);
            }
            self.group_follows(name, u64::from(before.abs_diff(after)));
        }
    }

    fn owner_opts_out(&mut self, name: &str) {
        let tag = self.oracles.settings.opt_out_tag.clone();
        if let Some(group) = self.fleet.group_mut(name) {
            group.tags.insert(tag, ("true".to_owned(), false));
        }
    }

    /// The owner suspends a process. If we have suspended it, nothing tells his wish from ours.
    fn owner_suspends(&mut self, name: &str, process: &str) {
        let is_new = self.fleet.group(name).is_some_and(|group| !group.suspended.contains(process));
        if is_new && self.fleet.suspend(name, process) {
            let may_hold_ours = may_hold_ours(&self.tables);
            self.oracles.owner_asks(name, may_hold_ours, |wish| {
                wish.suspended.insert(process.to_owned());
            });
        }
    }

    /// The owner detaches a member to keep it for himself.
    fn owner_detaches(&mut self, name: &str, id: &str, decrement: bool) {
        let before = desired_of(&self.fleet, name);
        if self.fleet.owner_detaches(name, id, decrement, now()) {
            if decrement {
                let may_hold_ours = may_hold_ours(&self.tables);
                let wished = self.oracles.owner_asks(name, may_hold_ours, |wish| {
                    wish.desired = wish.desired.saturating_sub(1);
                    wish.desired_at_most = wish.desired_at_most.saturating_sub(1);
                });
                self.oracles.moves_desired(name, (before, desired_of(&self.fleet, name)), wished);
            }
            self.oracles.is_the_owners(id);
            self.oracles.excuses.note_detached(name, now());
            self.group_follows(name, 1);
        }
    }

    fn dies(&mut self, id: &str) {
        self.chronicle.notes(format_args!("   {id} dies"));
        self.fleet.instance_dies(id, now());
    }

    fn group_rebalances(&mut self, name: &str) {
        if let Some(activity) = self.fleet.rebalance(name, now()) {
            self.chronicle.notes(format_args!("   {name}: {activity:?}"));
            self.group_follows(name, 1);
        }
    }

    /// Auto Scaling needs a while: which member it takes meanwhile, and which one serves already, is its choice.
    fn group_follows(&mut self, name: &str, members: u64) {
        let members = usize::try_from(members).unwrap_or(usize::MAX);
        if members > 0 {
            self.oracles.excuses.fewer_serve(name, members, GROUP_FOLLOWS, now());
        }
    }

    /// Poisons the pool of an instance for so long, as the risk manager writes it.
    fn poisons(&mut self, id: &str, lasts: SignedDuration) {
        let Some(pool) = self.pool_of(id) else { return };
        let seconds = |at: Timestamp| json!({"N": at.as_second().to_string()});
        let row = json!({
            "pool": {"S": pool}, "is_poisoned": {"BOOL": true}, "poisoned_at": seconds(now()),
            "poison_expires_at": seconds(now() + lasts), "cause": {"S": "interruption"},
            "interruptions": {"N": "1"},
        });
        match self.tables.put(POOL_RISK, &row) {
            Ok(()) => self.oracles.is_poisoned(&pool, now()),
            Err(error) => self.chronicle.notes(format_args!("   {pool} is not poisoned: {error}")),
        }
    }

    fn pool_of(&self, id: &str) -> Option<String> {
        let instance = self.fleet.instances().get(id)?;
        let zone = self.fleet.catalog().zones.iter().find(|zone| zone.name == instance.zone)?;
        Some(format!("{REGION}#{}#{}", zone.id, instance.instance_type))
    }

    /// EC2 gives notice to a Spot instance. The risk manager hears of it, and the responder, some of them twice.
    fn interrupts(&mut self, id: &str, deliveries: u8) {
        if self.fleet.interrupt(id, now() + NOTICE) {
            self.chronicle.notes(format_args!("   EC2 gives notice to {id}"));
            self.is_told_of(SpotNotice::Interruption, id, deliveries);
        }
    }

    fn is_at_risk(&mut self, id: &str) {
        if self.fleet.instances().get(id).is_some_and(|it| it.is_spot() && it.state.is_alive()) {
            self.is_told_of(SpotNotice::RebalanceRecommendation, id, 1);
        }
    }

    /// Both functions hear of a notice. If the risk manager does not run, the pool is poisoned at once, where the settings say
    /// so: but that of a LAB instance is no pool of others. A notice that does not reach the stack as EC2 has sent it
    /// poisons nothing.
    fn is_told_of(&mut self, notice: SpotNotice, id: &str, deliveries: u8) {
        let habits = &self.fleet.habits;
        let event = self.event_bridge.sends_notice(notice, id, deliveries, habits, now());
        if self.oracles.lab.is_some() || !self.event_bridge.hands_over(habits) {
            return;
        }
        match (self.pool_of(id), self.oracles.poison_of(&event)) {
            (Some(pool), _) if self.event_bridge.tells_risk_manager() => {
                self.oracles.notice_is_given(&event, pool);
            }
            (_, Some(lasts)) => self.poisons(id, lasts),
            (_, None) => {}
        }
    }
}
