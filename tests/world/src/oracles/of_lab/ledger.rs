//! What a stand-alone instance had at the beginning, what has befallen it and its twin since, and what its owner has done.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::fleet::{Ec2Instance, Ec2State, Fleet};
use crate::virtual_time::now;

/// What the instance had at the beginning, and what has befallen the two since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabLedger {
    /// The instance that is to be replaced.
    pub old: String,
    /// Its Elastic IP at the beginning.
    pub address: Option<String>,
    /// The target groups that it was in when its swap began.
    pub target_groups: Vec<String>,
    /// The owner wants the old instance terminated, not stopped.
    pub(super) terminates_old: bool,
    /// What the owner has done.
    pub deeds: OwnersDeeds,
    /// The instances under which EC2 has failed, or whose target fails its checks, and since when.
    pub(super) lost: BTreeMap<String, Timestamp>,
    /// The last moment at which a swap held the lease.
    pub(super) held_until: Timestamp,
    /// Of the address and the target groups, those that a loss has taken, and that nobody has again yet.
    pub(super) excused: BTreeSet<String>,
    /// A loss is so new that what it has taken is not noted yet.
    is_just_lost: bool,
    /// The target groups that we have taken the old instance out of.
    pub(super) let_out: BTreeSet<String>,
    /// We have moved the address.
    pub address_moved: bool,
    /// The twins that have had the address, or were healthy in a target group.
    pub(super) has_served: BTreeSet<String>,
}

/// What the owner of the instance has done, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnersDeeds {
    /// He stopped or terminated the old instance while it ran: its service is his to end.
    pub ended_old: Option<Timestamp>,
    /// He started the old instance, which was stopped.
    pub started_old: Option<Timestamp>,
    /// He protected the old instance, opted it out, or gave it more traffic: it is to stay.
    pub keeps_old: Option<Timestamp>,
    /// He gave the address to this instance.
    pub moved_address: Option<(String, Timestamp)>,
    /// He took the old instance out of these target groups. Of one that it had left by our call, nobody can tell.
    pub took_out: BTreeMap<String, Timestamp>,
    /// Those of them that the twin was in: if the old instance leaves for the twin, the twin serves there.
    pub left_to_twin: BTreeSet<String>,
    /// He asked for the old instance to come back.
    pub asked_for_old: Option<Timestamp>,
    /// He opted these twins out, or gave them traffic of his own: they are to stay.
    pub keeps_twins: BTreeMap<String, Timestamp>,
    /// He took a twin out of these target groups.
    pub took_twin_out: BTreeMap<String, Timestamp>,
}

impl OwnersDeeds {
    /// Returns true if the owner has done something since then.
    fn is_any_since(&self, since: Timestamp) -> bool {
        let moved = self.moved_address.as_ref().map(|(_, at)| *at);
        let deeds = [self.ended_old, self.started_old, self.keeps_old, moved, self.asked_for_old];
        let taken_out = self.took_out.values().chain(self.took_twin_out.values()).copied();
        deeds.into_iter().flatten().chain(taken_out).any(|at| at >= since)
    }

    /// Notes that the owner has come to use a twin.
    pub fn uses_twin(&mut self, id: &str) {
        self.keeps_twins.entry(id.to_owned()).or_insert_with(now);
    }

    /// Returns the instance that the owner gave the address to.
    pub(super) fn address_is_for(&self) -> Option<&str> {
        self.moved_address.as_ref().map(|(to, _)| to.as_str())
    }
}

impl LabLedger {
    /// Returns the ledger of an instance with all that it has now.
    #[must_use]
    pub fn of(fleet: &Fleet, old: &str, terminates_old: bool) -> Self {
        let has = |id: &Option<String>| id.as_deref() == Some(old);
        let addresses = fleet.addresses().values().filter(|address| has(&address.instance_id));
        let groups = fleet.target_groups().values().filter(|group| group.targets.contains_key(old));
        Self {
            old: old.to_owned(),
            address: addresses.map(|address| address.allocation_id.clone()).next(),
            target_groups: groups.map(|group| group.arn.clone()).collect(),
            terminates_old,
            deeds: OwnersDeeds::default(),
            lost: BTreeMap::new(),
            held_until: now(),
            excused: BTreeSet::new(),
            is_just_lost: false,
            let_out: BTreeSet::new(),
            address_moved: false,
            has_served: BTreeSet::new(),
        }
    }

    /// Notes an instance whose service ends by nobody's call.
    pub fn is_lost(&mut self, id: &str) {
        if !self.lost.contains_key(id) {
            self.lost.insert(id.to_owned(), now());
            self.is_just_lost = true;
        }
    }

    /// Notes the target groups that the owner has taken a twin out of. Nobody may serve there until somebody has it again, as
    /// after a loss.
    pub fn twin_is_taken_out(&mut self, target_groups: Vec<String>) {
        self.is_just_lost |= !target_groups.is_empty();
        self.deeds.took_twin_out.extend(target_groups.into_iter().map(|arn| (arn, now())));
    }

    /// Notes that a call of ours lands whose caller can't have seen the last loss, or the last deed of the owner: what it
    /// takes is excused.
    pub(super) fn is_unseen(&mut self) {
        self.is_just_lost = true;
    }

    /// Returns true if an instance was lost since then.
    pub(super) fn was_lost_since(&self, since: Timestamp) -> bool {
        self.lost.values().any(|at| *at >= since)
    }

    /// Returns true if something has happened since then that is not our doing.
    pub(super) fn has_changed_since(&self, since: Timestamp) -> bool {
        self.was_lost_since(since) || self.deeds.is_any_since(since)
    }

    /// Returns true for an instance that was lost once no swap was under way any more, or so late that nobody saw it.
    pub(super) fn was_lost_after(&self, id: &str, unseen: SignedDuration) -> bool {
        self.lost.get(id).is_some_and(|at| *at >= self.held_until - unseen)
    }

    /// Returns the old instance and its twins.
    pub(super) fn pair<'a>(&'a self, fleet: &'a Fleet) -> impl Iterator<Item = &'a Ec2Instance> {
        fleet.instances().values().filter(|instance| instance.id == self.old || is_twin(instance))
    }

    /// Looks at what is missing: that which a loss has just taken is excused until somebody has it again. Returns the words
    /// for the first that is not.
    pub(super) fn takes_stock(&mut self, fleet: &Fleet) -> Option<String> {
        let missing = self.missing(fleet);
        if std::mem::take(&mut self.is_just_lost) {
            self.excused.extend(missing.keys().cloned());
        }
        self.excused.retain(|what| missing.contains_key(what));
        let serving: Vec<String> =
            self.pair(fleet).filter(|it| self.serves(fleet, it)).map(|it| it.id.clone()).collect();
        self.has_served.extend(serving);
        missing.into_iter().find(|(what, _)| !self.excused.contains(what)).map(|(_, words)| words)
    }

    /// Returns what neither the old instance nor a twin has any more, although the owner asks for it: each with the words.
    fn missing(&self, fleet: &Fleet) -> BTreeMap<String, String> {
        let mut missing = BTreeMap::new();
        if self.deeds.ended_old.is_some() {
            return missing;
        }
        let runs = |id: &str| self.pair(fleet).any(|one| one.id == id && one.state == Ec2State::Running);
        if let Some(address) = &self.address {
            let holder = fleet.address_holder(address);
            let is_his = holder.is_some() && holder == self.deeds.address_is_for();
            if !is_his && !holder.is_some_and(runs) {
                let words = format!("address {address} is with {holder:?}, which does not run");
                missing.insert(address.clone(), words);
            }
        }
        for arn in self.target_groups.iter().filter(|arn| !self.deeds.took_out.contains_key(*arn)) {
            let serves = |one: &Ec2Instance| runs(&one.id) && is_healthy(fleet, arn, &one.id);
            if !self.pair(fleet).any(serves) {
                let words = format!("neither {} nor a twin is healthy in {arn}", self.old);
                missing.insert(arn.clone(), words);
            }
        }
        missing
    }

    /// Returns true for a twin that has the address, or is healthy in a target group.
    fn serves(&self, fleet: &Fleet, one: &Ec2Instance) -> bool {
        let has_address =
            self.address.as_ref().is_some_and(|it| fleet.address_holder(it) == Some(one.id.as_str()));
        let is_healthy = || self.target_groups.iter().any(|arn| is_healthy(fleet, arn, &one.id));
        one.id != self.old && (has_address || is_healthy())
    }

    /// Returns what one instance lacks of all that the old one had. The address may be where the owner has put it, unless
    /// that is the old instance.
    pub(super) fn lacks(&self, fleet: &Fleet, id: &str) -> Option<String> {
        self.lacks_address(fleet, id)
            .map(|address| format!("{id} does not have address {address}"))
            .or_else(|| self.lacks_health(fleet, id))
    }

    fn lacks_address(&self, fleet: &Fleet, id: &str) -> Option<&String> {
        let address = self.address.as_ref()?;
        let holder = fleet.address_holder(address);
        let is_his =
            holder.is_some() && holder != Some(self.old.as_str()) && holder == self.deeds.address_is_for();
        (holder != Some(id) && !is_his).then_some(address)
    }

    pub(super) fn lacks_health(&self, fleet: &Fleet, id: &str) -> Option<String> {
        if fleet.instances().get(id).is_none_or(|instance| instance.state != Ec2State::Running) {
            return Some(format!("{id} does not run"));
        }
        let group = self.unhealthy_in(fleet, id).next()?;
        Some(format!("{id} is not healthy in {group}"))
    }

    /// Returns the target groups that the instance should be healthy in, and is not. The owner has taken the old one out of
    /// some.
    fn unhealthy_in<'a>(&'a self, fleet: &'a Fleet, id: &'a str) -> impl Iterator<Item = &'a String> {
        let OwnersDeeds { took_out, left_to_twin, .. } = &self.deeds;
        let is_old = id == self.old;
        let is_asked =
            move |arn: &&String| !took_out.contains_key(*arn) || (!is_old && left_to_twin.contains(*arn));
        self.target_groups.iter().filter(is_asked).filter(move |arn| !is_healthy(fleet, arn, id))
    }

    /// Returns what the one instance that runs at rest lacks, and that no loss has taken for good.
    pub(super) fn lacks_at_rest(&self, fleet: &Fleet, id: &str, is_excusable: bool) -> Vec<String> {
        let is_old_s = |address: &&String| {
            let holder = fleet.address_holder(address);
            holder.is_some() && holder == self.deeds.address_is_for()
        };
        let address = self.lacks_address(fleet, id).filter(|address| !is_old_s(address));
        // What the owner has taken the twin out of is his.
        let is_asked = |what: &&String| id == self.old || !self.deeds.took_twin_out.contains_key(*what);
        let lacking = address.into_iter().chain(self.unhealthy_in(fleet, id).filter(is_asked));
        lacking.filter(|what| !(is_excusable && self.excused.contains(*what))).cloned().collect()
    }
}

pub(super) fn is_twin(instance: &Ec2Instance) -> bool {
    instance.is_spot() && !instance.is_a_strangers() && is_marked(&instance.tags)
}

/// Returns true for the tags of what a swap has made.
pub(super) fn is_marked(tags: &BTreeMap<String, String>) -> bool {
    tags.get("ManagedBy").is_some_and(|by| by == "SpotOptimizer")
}

fn is_healthy(fleet: &Fleet, arn: &str, id: &str) -> bool {
    fleet.is_healthy_in(&[arn.to_owned()], id)
}
