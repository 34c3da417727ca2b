//! The promises of `design.md`, asked after every effect and at rest. The owner's ledger says what the owner has asked for.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use crate::fleet::{AutoScalingGroup, Fleet};
use crate::mailbox::Mailbox;
use crate::tables::Tables;
use crate::virtual_time::now;
use crate::wire::{ApiAnswer, ApiCall, CallBody, Service};

/// The table of leases and journals.
pub const SWAPS: &str = "spot-optimizer-swaps";
/// The table of poisoned pools.
pub const POOL_RISK: &str = "spot-optimizer-pool-risk";
/// The age that the answer of the gate may have at a launch, and the time that the call may be under way.
const GATE_LASTS: SignedDuration = SignedDuration::from_secs(75);

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
    /// Desired capacity.
    pub desired: u32,
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
    /// Somebody besides us acts: an owner, EC2 or Auto Scaling took a member, or it stopped being healthy.
    pub is_disturbed: bool,
    /// Stage and revision of the journal that was last written, by row and swap.
    journals: BTreeMap<(String, String), (usize, u64)>,
    /// When each pool was poisoned.
    poisoned: BTreeMap<String, jiff::Timestamp>,
}

/// The stages in the order in which a swap goes through them.
const STAGES: [&str; 5] = ["Capturing", "Launching", "Attaching", "Retiring", "Undoing"];

impl Oracles {
    /// Returns the promises to the owners of these groups.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        let wish = |group: &AutoScalingGroup| Wish {
            desired: group.desired,
            max: group.max,
            suspended: group.suspended.clone(),
        };
        Self {
            wishes: fleet.groups().iter().map(|(name, group)| (name.clone(), wish(group))).collect(),
            broken: None,
            is_disturbed: false,
            journals: BTreeMap::new(),
            poisoned: BTreeMap::new(),
        }
    }

    /// A pool was poisoned.
    pub fn is_poisoned(&mut self, pool: &str) {
        self.poisoned.insert(pool.to_owned(), now());
    }

    fn holds(&mut self, promise: bool, what: impl FnOnce() -> String) {
        if !promise && self.broken.is_none() {
            self.broken = Some(what());
        }
    }

    /// Asks what holds at any moment.
    pub fn look(&mut self, seen: Seen<'_>) {
        for (name, group) in seen.fleet.groups() {
            let Some(wish) = self.wishes.get(name).cloned() else { continue };
            let Wish { desired, max, .. } = wish;
            let beyond = i64::from(group.desired) - i64::from(desired);
            self.holds((0..=1).contains(&beyond), || {
                format!("desired of {name} is {}, and its owner asks for {desired}", group.desired)
            });
            let raised = i64::from(group.max) - i64::from(max);
            self.holds((0..=1).contains(&raised), || {
                format!("MaxSize of {name} is {}, and its owner asks for {max}", group.max)
            });
            let serving = seen.fleet.serving(name).len();
            let is_enough = self.is_disturbed || serving >= desired as usize;
            self.holds(is_enough, || format!("{serving} members of {name} serve, and {desired} must"));
        }
    }

    /// Asks what must hold after a changing call of ours.
    pub fn after_call(&mut self, call: &ApiCall, answer: &ApiAnswer, before: &Fleet, seen: Seen<'_>) {
        for name in seen.fleet.groups().keys() {
            let (were, are) = (before.serving(name).len(), seen.fleet.serving(name).len());
            let asked = self.wishes.get(name).map_or(0, |wish| wish.desired as usize);
            self.holds(are >= were || are >= asked, || {
                format!("{} left {are} of {were} serving members of {name}; {asked} must", call.action)
            });
        }
        match call.service {
            Service::DynamoDb => self.after_write(seen.tables),
            Service::Ec2 if call.action == "RunInstances" && answer.status == 200 => self.after_launch(call),
            _ => {}
        }
        self.look(seen);
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
            let last = self.journals.insert((target.clone(), swap.clone()), (stage, revision));
            let (was, rev) = last.unwrap_or_default();
            self.holds(was <= stage, || {
                format!("{swap} went back from {} to {}", STAGES[was], STAGES[stage])
            });
            self.holds(rev <= revision, || format!("{swap} went back from revision {rev} to {revision}"));
        }
    }

    /// A Spot launch goes into a pool that was clear a moment before.
    fn after_launch(&mut self, call: &ApiCall) {
        let CallBody::Query(parameters) = &call.body else { return };
        let of = |name: &str| parameters.get(name).map(String::as_str).unwrap_or_default();
        if of("InstanceMarketOptions.MarketType") != "spot" {
            return;
        }
        let of_type = format!("#{}", of("InstanceType"));
        let forbidden = self.poisoned.iter().find(|(pool, at)| {
            pool.ends_with(&of_type)
                && pool.contains(zone_id(of("Placement.AvailabilityZone")))
                && now().duration_since(**at) > GATE_LASTS
        });
        let forbidden = forbidden.map(|(pool, _)| pool.clone());
        self.holds(forbidden.is_none(), || format!("launched into {forbidden:?}, which is poisoned"));
    }

    /// Asks what must hold once everything has ended: nothing of ours is left, and the owner has what he asked for.
    pub fn at_rest(&mut self, seen: Seen<'_>) {
        let is_told = !seen.mailbox.messages.is_empty();
        self.look(seen);
        for (name, wish) in self.wishes.clone() {
            let Some(group) = seen.fleet.group(&name) else { continue };
            let left = Wish { desired: group.desired, max: group.max, suspended: group.suspended.clone() };
            self.holds(left == wish || is_told, || {
                format!("at rest {name} has {left:?}; its owner asked for {wish:?}, and nobody was told")
            });
            let serving = seen.fleet.serving(&name).len();
            self.holds(serving == group.desired as usize || is_told || self.is_disturbed, || {
                format!("at rest {serving} members of {name} serve of {}", group.desired)
            });
        }
        self.no_instance_is_left(seen, is_told);
        for row in seen.tables.items(SWAPS) {
            self.holds(!row.contains_key("lease_owner"), || format!("at rest a lease is held: {row:?}"));
        }
    }

    fn no_instance_is_left(&mut self, seen: Seen<'_>, is_told: bool) {
        let is_member = |id: &str| seen.fleet.groups().values().any(|group| group.member(id).is_some());
        let ours =
            |tags: &BTreeMap<String, String>| tags.get("ManagedBy").is_some_and(|by| by == "SpotOptimizer");
        for (id, instance) in seen.fleet.instances() {
            let is_stray = instance.state.is_alive() && ours(&instance.tags) && !is_member(id);
            self.holds(!is_stray || is_told, || format!("at rest {id} runs, is ours, and is in no group"));
        }
    }
}

fn zone_id(zone: &str) -> &str {
    match zone.chars().last() {
        Some('a') => "use1-az1",
        Some('b') => "use1-az2",
        Some('c') => "use1-az3",
        _ => "?",
    }
}
