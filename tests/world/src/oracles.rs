//! The promises of `design.md`, asked after every effect and at rest. The owner's ledger says what the owner has asked for.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use spot_domain::settings::Settings;

use crate::excuses::Excuses;
use crate::fleet::{AutoScalingGroup, Fleet};
use crate::mailbox::Mailbox;
use crate::tables::Tables;
use crate::tables::attribute::AttributeMap;
use crate::virtual_time::now;
use crate::wire::{ApiAnswer, ApiCall, Service};

mod before_call;
mod claims;
mod deaths;
mod inheritance;
mod loop_runs;
mod notices;
mod of_lab;
mod of_nodes;
mod prices;
mod provenance;
mod races;

pub use before_call::Marks;
pub use inheritance::StandingTags;
pub use notices::Notices;
pub use of_lab::{LabLedger, OwnersDeeds};

/// The table of leases and journals.
pub const SWAPS: &str = "spot-optimizer-swaps";
/// The table of poisoned pools.
pub const POOL_RISK: &str = "spot-optimizer-pool-risk";
/// The table of interruptions by account.
pub const SIGHTINGS: &str = "spot-optimizer-sightings";
/// The table of what the loop remembers.
pub const GROUPS: &str = "spot-optimizer-groups";
/// The age that the answer of the gate may have when a launch is sent, and the age of what it has read.
const GATE_LASTS: SignedDuration = SignedDuration::from_secs(45);
/// What happened so shortly before a call may not show to its caller.
const JUST_BEFORE: SignedDuration = SignedDuration::from_secs(30);

/// What the oracles look at.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The fleet.
    pub fleet: &'a Fleet,
    /// The tables.
    pub tables: &'a Tables,
    /// What was published.
    pub mailbox: &'a Mailbox,
}

/// What the owner of a group has asked for. The code under test gives all of it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Desired capacity, at least.
    pub desired: u32,
    /// Desired capacity at most. Who resizes the group while our one is in it may have counted it or not: nobody can tell, so
    /// that it stays.
    pub desired_at_most: u32,
    /// MaxSize.
    pub max: u32,
    /// Suspended processes.
    pub suspended: BTreeSet<String>,
}

/// The promises, and the first one that was broken.
#[derive(Debug, Clone)]
pub struct Oracles {
    /// What the owners ask for, by group.
    pub wishes: BTreeMap<String, Wish>,
    /// The first broken promise.
    pub broken: Option<String>,
    /// How many fewer may serve because of others.
    pub excuses: Excuses,
    /// The settings in force.
    pub settings: Settings,
    /// What the owners have asked for before, by group and the time of the change.
    earlier: Vec<(String, Timestamp, Wish)>,
    /// The last swap began so late to raise desired.
    raised_at: Option<Timestamp>,
    /// What others have made of desired: also what the owner has asked for all the time.
    moved_desired: Vec<races::Move>,
    /// When a decrement of ours has last taken what others had asked for, by group.
    lost_desired_at: BTreeMap<String, Timestamp>,
    /// When groups were described without a fault.
    groups_seen_at: Vec<Timestamp>,
    /// What MaxSize was before a change of the owner that a call of ours may have overwritten, by group: the call says
    /// which, and not how many more.
    raced_max: BTreeMap<String, BTreeSet<u32>>,
    /// What is an owner's or a stranger's alone: instances, images and snapshots.
    owners: BTreeSet<String>,
    /// Stage and revision of the journal that was last written, by row and swap.
    journals: BTreeMap<(String, String), (usize, u64)>,
    /// When each pool was poisoned.
    poisoned: BTreeMap<String, Timestamp>,
    /// Since when something has been so.
    pub marks: Marks,
    /// Since when instances bear their tags.
    pub tags: StandingTags,
    /// The notices that the risk manager hears of.
    pub notices: Notices,
    /// The stand-alone instance that is swapped, if one is.
    pub lab: Option<LabLedger>,
    /// Since when nodes are cordoned, by name.
    cordoned: BTreeMap<String, Timestamp>,
    /// The workloads of which we have evicted a pod.
    evicted: BTreeSet<String>,
    /// What Spot has cost, and when EC2 has told it.
    spot_prices: prices::SpotPrices,
    /// What we have launched, made and replaced.
    provenance: provenance::Provenance,
    /// The dead instances that a look before a departure has shown.
    seen_dead: BTreeSet<String>,
}

/// The stages in the order in which a swap goes through them.
const STAGES: [&str; 5] = ["Capturing", "Launching", "Attaching", "Retiring", "Undoing"];

const ATTACHING: usize = 2;

/// Returns true if a swap or an answer is in progress that may have raised desired.
#[must_use]
pub fn may_hold_ours(tables: &Tables) -> bool {
    let stage = |row: &AttributeMap| row.get("stage").and_then(|stage| stage.as_s()).map(str::to_owned);
    tables.items(SWAPS).filter_map(stage).any(|stage| STAGES[ATTACHING..].contains(&stage.as_str()))
}

/// Returns true if the row tells of a swap that has begun, and that has launched nothing yet.
fn is_unattempted(row: &AttributeMap) -> bool {
    let journal = row.get("journal").and_then(|journal| journal.as_s());
    let journal = journal.and_then(|journal| serde_json::from_str::<Value>(journal).ok());
    journal.is_some_and(|journal| journal["is_unattempted"] == true)
}

impl Oracles {
    /// Returns the promises to the owners of these groups.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        let wish = |group: &AutoScalingGroup| Wish {
            desired: group.desired,
            desired_at_most: group.desired,
            max: group.max,
            suspended: group.suspended.clone(),
        };
        let settings = Settings::default();
        Self {
            wishes: fleet.groups().iter().map(|(name, group)| (name.clone(), wish(group))).collect(),
            broken: None,
            excuses: Excuses::default(),
            earlier: Vec::new(),
            raised_at: None,
            moved_desired: Vec::new(),
            lost_desired_at: BTreeMap::new(),
            groups_seen_at: Vec::new(),
            raced_max: BTreeMap::new(),
            owners: BTreeSet::new(),
            journals: BTreeMap::new(),
            poisoned: BTreeMap::new(),
            marks: Marks::of(fleet, &settings),
            settings,
            tags: StandingTags::of(fleet),
            notices: Notices::default(),
            lab: None,
            cordoned: BTreeMap::new(),
            evicted: BTreeSet::new(),
            spot_prices: prices::SpotPrices::of(fleet),
            provenance: provenance::Provenance::default(),
            seen_dead: BTreeSet::new(),
        }
    }

    /// A pool was poisoned at that moment.
    pub fn is_poisoned(&mut self, pool: &str, at: jiff::Timestamp) {
        self.poisoned.insert(pool.to_owned(), at);
    }

    /// An owner changes what he asks for. `may_hold_ours`: a swap or an answer in progress may have raised desired. Returns the
    /// desired capacity that he asked for before.
    pub fn owner_asks(
        &mut self,
        group: &str,
        may_hold_ours: bool,
        change: impl FnOnce(&mut Wish),
    ) -> Option<u32> {
        let wish = self.wishes.get_mut(group)?;
        let before = wish.clone();
        change(wish);
        if wish.desired != before.desired && may_hold_ours {
            wish.desired_at_most += 1;
        }
        let wished = before.desired;
        self.earlier.push((group.to_owned(), now(), before));
        Some(wished)
    }

    /// Returns the desired capacity that the owner of a group asks for.
    pub(crate) fn wished(&self, group: &str) -> Option<u32> {
        self.wishes.get(group).map(|wish| wish.desired)
    }

    /// An owner or a stranger has something for himself: an instance, an image or a snapshot.
    pub fn is_the_owners(&mut self, id: &str) {
        self.owners.insert(id.to_owned());
    }

    /// Returns the fewest members that the owner has asked for since then.
    fn asked_since(&self, group: &str, since: Timestamp) -> usize {
        let earlier = self.earlier.iter().filter(|(of, at, _)| of == group && *at >= since);
        let asked = earlier.map(|(.., wish)| wish).chain(self.wishes.get(group)).map(|wish| wish.desired);
        asked.min().unwrap_or(0) as usize
    }

    fn holds(&mut self, promise: bool, what: impl FnOnce() -> String) {
        if !promise && self.broken.is_none() {
            self.broken = Some(what());
        }
    }

    /// The code under test has done what the world can't play: its history shows nothing.
    pub fn is_not_played(&mut self, what: &str) {
        self.holds(false, || what.to_owned());
    }

    /// Asks what holds at any moment.
    pub fn look(&mut self, seen: Seen<'_>) {
        self.excuses.note_deaths(seen.fleet, now());
        self.marks.look(seen.fleet, &self.settings);
        self.tags.look(seen.fleet);
        self.spot_prices.look(seen.fleet);
        self.look_at_lab(seen);
        for (name, group) in seen.fleet.groups() {
            let Some(wish) = self.wishes.get(name).cloned() else { continue };
            let Wish { desired, desired_at_most, max, .. } = wish;
            self.holds((desired..=desired_at_most + 1).contains(&group.desired), || {
                format!("desired of {name} is {}, and its owner asks for {desired}", group.desired)
            });
            let raced = self.raced_max.get(name).into_iter().flatten();
            let is_asked = raced.chain([&max]).any(|max| (*max..=max + 1).contains(&group.max));
            self.holds(is_asked, || {
                format!("MaxSize of {name} is {}, and its owner asks for {max}", group.max)
            });
            let serving = seen.fleet.serving(name).len();
            let missing = (desired as usize).saturating_sub(serving);
            let excused = self.excuses.of(name);
            self.holds(missing <= excused, || {
                format!(
                    "{serving} members of {name} serve, and {desired} must, of which {excused} are excused"
                )
            });
            self.excuses.catch_up(name, missing, now());
        }
    }

    /// Asks what must hold after a changing call of ours. The call is judged by what could be seen when it was sent. `by` is the
    /// function with its phase.
    pub fn after_call(
        &mut self,
        call: &ApiCall,
        by: &str,
        answer: &ApiAnswer,
        sent_at: Timestamp,
        before: &Fleet,
        seen: Seen<'_>,
    ) {
        for name in seen.fleet.groups().keys() {
            self.races(call, name, sent_at, before, seen.fleet);
            if answer.status == 200 {
                self.overwrites(call, name, sent_at - JUST_BEFORE, seen.fleet);
            }
            self.members_stay(call, name, sent_at, before, seen.fleet);
        }
        self.after_call_in_lab(call, answer, sent_at, before);
        if call.action == "AttachInstances" && answer.body.contains("<Code>ValidationError</Code>") {
            self.marks.attach_is_refused(call);
        }
        if answer.status == 200 {
            self.after_claim(call, by, before, seen.fleet);
        }
        match call.service {
            Service::DynamoDb => {
                self.after_write(seen.tables);
                self.after_poison(seen.tables);
            }
            Service::Ec2 if call.action == "RunInstances" && answer.status == 200 => {
                self.after_launch(sent_at, before, seen.fleet);
                self.after_inheritance(sent_at, before, seen.fleet);
                self.after_purchase(sent_at, before, seen.fleet);
            }
            _ => {}
        }
        self.look(seen);
    }

    /// A call of ours takes no member that has to serve. One that EC2 takes back anyway may leave, and no swap has to make up
    /// for a member whose health checks fail.
    fn members_stay(
        &mut self,
        call: &ApiCall,
        name: &str,
        sent_at: Timestamp,
        before: &Fleet,
        after: &Fleet,
    ) {
        let lasting =
            |fleet: &Fleet| fleet.serving(name).into_iter().filter(|id| !fleet.is_taken_back(id)).count();
        let (were, are) = (lasting(before), lasting(after));
        let asked = self.asked_since(name, sent_at - JUST_BEFORE);
        let unseen = self.excuses.losses_since(name, sent_at - JUST_BEFORE);
        let leaving = before_call::leaving(call);
        let ill = self.marks.fallen_ill(after, name, &leaving)
            + self.marks.noticed_since(before, name, sent_at - JUST_BEFORE);
        self.holds(are >= were || are + unseen + ill >= asked, || {
            let action = &call.action;
            format!("{action} left {are} of {were} serving members of {name}; {asked} must, {unseen} died or were taken just before")
        });
        let fewer = before.serving(name).len().saturating_sub(after.serving(name).len());
        if fewer > 0 {
            self.excuses.fewer_serve(name, fewer, SignedDuration::ZERO, now());
        }
    }

    /// A stage is never entered twice, and no older revision is written.
    fn after_write(&mut self, tables: &Tables) {
        for row in tables.items(SWAPS) {
            let text = |name: &str| row.get(name).and_then(|value| value.as_s()).map(str::to_owned);
            let (Some(target), Some(swap), Some(stage)) = (text("target"), text("swap_id"), text("stage"))
            else {
                continue;
            };
            let revision = row
                .get("revision")
                .and_then(|value| value.to_json()["N"].as_str()?.parse().ok())
                .unwrap_or(0_u64);
            let Some(stage) = STAGES.iter().position(|known| stage == **known) else {
                self.holds(false, || format!("stage {stage} of {target} is none"));
                continue;
            };
            if text("closed_swap").as_ref() == Some(&swap) && is_unattempted(row) {
                self.journals.remove(&(target.clone(), swap.clone()));
            }
            let last = self.journals.insert((target.clone(), swap.clone()), (stage, revision));
            let (was, rev) = last.unwrap_or_default();
            if was < ATTACHING && stage >= ATTACHING {
                self.begins_to_raise();
            }
            self.holds(was <= stage, || {
                format!("{swap} went back from {} to {}", STAGES[was], STAGES[stage])
            });
            self.holds(rev <= revision, || format!("{swap} went back from revision {rev} to {revision}"));
        }
    }

    /// Desired may be raised from now on, by a look that may not have shown what the owner asked for just before.
    fn begins_to_raise(&mut self) {
        self.raised_at = Some(now());
        let since = now() - JUST_BEFORE;
        for (group, at, before) in &self.earlier {
            if let Some(wish) = self.wishes.get_mut(group).filter(|_| *at >= since)
                && wish.desired != before.desired
            {
                wish.desired_at_most += 1;
            }
        }
    }

    /// A Spot launch goes into a pool that was clear a moment before. A repeated call launches nothing.
    fn after_launch(&mut self, sent_at: Timestamp, before: &Fleet, after: &Fleet) {
        for (id, instance) in after.instances() {
            let zone = after.catalog().zones.iter().find(|zone| zone.name == instance.zone);
            let pool =
                zone.map(|zone| format!("#{}#{}", zone.id, instance.instance_type)).unwrap_or_default();
            let is_forbidden = self
                .poisoned
                .iter()
                .any(|(poisoned, at)| poisoned.ends_with(&pool) && sent_at.duration_since(*at) > GATE_LASTS);
            let is_new = instance.is_spot() && !before.instances().contains_key(id);
            self.holds(!is_new || !is_forbidden, || {
                format!("{id} was launched into {pool}, which is poisoned")
            });
        }
    }

    /// Asks what must hold once everything has ended: nothing of ours is left, and the owner has what he asked for.
    pub fn at_rest(&mut self, seen: Seen<'_>) {
        self.look(seen);
        for (name, wish) in self.wishes.clone() {
            let Some(group) = seen.fleet.group(&name) else { continue };
            let is_asked = (wish.desired..=wish.desired_at_most).contains(&group.desired);
            let told =
                |setting: &str| seen.mailbox.messages.iter().any(|told| told.message.contains(setting));
            let is_fine = (is_asked || told("desired"))
                && (group.max == wish.max
                    || self.raced_max.get(&name).is_some_and(|numbers| numbers.contains(&group.max))
                    || told("MaxSize"))
                && (group.suspended == wish.suspended || told("AZRebalance"));
            self.holds(is_fine, || {
                let left = (group.desired, group.max, &group.suspended);
                format!("at rest {name} has {left:?}; its owner asked for {wish:?}, and nobody was told")
            });
            let serving = seen.fleet.serving(&name).len();
            let missing = (group.desired as usize).saturating_sub(serving);
            self.holds(missing <= self.excuses.of(&name) || told(&name), || {
                format!("at rest {serving} members of {name} serve of {}", group.desired)
            });
        }
        if self.lab.is_some() {
            self.lab_at_rest(seen);
        } else {
            self.no_instance_is_left(seen);
        }
        self.notices_at_rest(seen.tables);
        for row in seen.tables.items(SWAPS) {
            self.holds(!row.contains_key("lease_owner"), || format!("at rest a lease is held: {row:?}"));
        }
    }
}

#[cfg(test)]
mod tests;
