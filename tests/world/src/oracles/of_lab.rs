//! What must hold of a stand-alone instance whose Spot twin takes over: somebody who runs has its Elastic IP and its
//! registrations at every moment, and the old one stops only for a twin that has them all.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{JUST_BEFORE, Oracles, SWAPS, Seen};
use crate::fleet::{Ec2Instance, Ec2State, Fleet};
use crate::scene::LAB_ACCOUNT;
use crate::virtual_time::now;
use crate::wire::{ApiAnswer, ApiCall, Service};

/// What the instance had at the beginning, and what has befallen the two since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabLedger {
    /// The instance that is to be replaced.
    pub old: String,
    address: Option<String>,
    target_groups: Vec<String>,
    /// The owner wants the old instance terminated, not stopped.
    terminates_old: bool,
    /// The instances under which EC2 has failed, or whose target fails its checks, and since when.
    lost: BTreeMap<String, Timestamp>,
    /// The last moment at which a swap held the lease.
    held_until: Timestamp,
    /// A loss that nobody could prevent is not made up for yet.
    is_excused: bool,
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
            lost: BTreeMap::new(),
            held_until: now(),
            is_excused: false,
        }
    }

    /// Notes an instance whose service ends by nobody's call.
    pub fn is_lost(&mut self, id: &str) {
        if !self.lost.contains_key(id) {
            self.lost.insert(id.to_owned(), now());
            self.is_excused = true;
        }
    }

    /// Returns true if an instance was lost since then.
    fn was_lost_since(&self, since: Timestamp) -> bool {
        self.lost.values().any(|at| *at >= since)
    }

    /// Returns the old instance and its twins.
    fn pair<'a>(&'a self, fleet: &'a Fleet) -> impl Iterator<Item = &'a Ec2Instance> {
        fleet.instances().values().filter(|instance| instance.id == self.old || is_twin(instance))
    }

    /// Returns what neither the old instance nor a twin has any more.
    fn missing(&self, fleet: &Fleet) -> Option<String> {
        let runs = |id: &str| self.pair(fleet).any(|one| one.id == id && one.state == Ec2State::Running);
        if let Some(address) = &self.address {
            let holder = fleet.address_holder(address);
            if !holder.is_some_and(runs) {
                return Some(format!("address {address} is with {holder:?}, which does not run"));
            }
        }
        let serves =
            |arn: &&String| self.pair(fleet).any(|one| runs(&one.id) && is_healthy(fleet, arn, &one.id));
        let group = self.target_groups.iter().find(|arn| !serves(arn))?;
        Some(format!("neither {} nor a twin is healthy in {group}", self.old))
    }

    /// Returns what one instance lacks of all that the old one had.
    fn lacks(&self, fleet: &Fleet, id: &str) -> Option<String> {
        if let Some(address) = &self.address
            && fleet.address_holder(address) != Some(id)
        {
            return Some(format!("{id} does not have address {address}"));
        }
        self.lacks_health(fleet, id)
    }

    fn lacks_health(&self, fleet: &Fleet, id: &str) -> Option<String> {
        if fleet.instances().get(id).is_none_or(|instance| instance.state != Ec2State::Running) {
            return Some(format!("{id} does not run"));
        }
        let group = self.target_groups.iter().find(|arn| !is_healthy(fleet, arn, id))?;
        Some(format!("{id} is not healthy in {group}"))
    }
}

fn is_twin(instance: &Ec2Instance) -> bool {
    instance.is_spot() && instance.tags.get("ManagedBy").is_some_and(|by| by == "SpotOptimizer")
}

fn is_healthy(fleet: &Fleet, arn: &str, id: &str) -> bool {
    fleet.is_healthy_in(&[arn.to_owned()], id)
}

impl Oracles {
    /// Asks what holds at any moment: somebody who runs has the address, and each target group has a healthy one.
    pub fn look_at_lab(&mut self, Seen { fleet, tables, .. }: Seen<'_>) {
        let Some(ledger) = &mut self.lab else { return };
        if tables.items(SWAPS).any(|row| row.contains_key("lease_owner")) {
            ledger.held_until = now();
        }
        let by_ec2 = |one: &&Ec2Instance| {
            one.state_reason.as_ref().is_some_and(|(code, _)| code.starts_with("Server."))
        };
        let dead: Vec<String> = ledger.pair(fleet).filter(by_ec2).map(|one| one.id.clone()).collect();
        for id in &dead {
            ledger.is_lost(id);
        }
        let missing = ledger.missing(fleet);
        ledger.is_excused &= missing.is_some();
        let is_excused = ledger.is_excused;
        self.holds(missing.is_none() || is_excused, || missing.unwrap_or_default());
    }

    /// A call to the instance's account is signed with a session of its role.
    pub fn is_in_account(&mut self, call: &ApiCall, account: Option<&str>) {
        let is_there = matches!(call.service, Service::Ec2 | Service::ElasticLoadBalancing);
        if self.lab.is_some() && is_there {
            self.holds(account == Some(LAB_ACCOUNT), || format!("{} in account {account:?}", call.action));
        }
    }

    /// Asks what must hold as a call of ours takes effect.
    pub fn after_call_in_lab(
        &mut self,
        call: &ApiCall,
        answer: &ApiAnswer,
        sent_at: Timestamp,
        before: &Fleet,
    ) {
        let Some(ledger) = self.lab.clone().filter(|_| answer.status == 200) else { return };
        let is_of_old = |ids: Vec<&str>| ids.contains(&ledger.old.as_str());
        match call.action.as_str() {
            "TerminateInstances" if is_of_old(call.list("InstanceId")) => {
                let old = &ledger.old;
                self.holds(ledger.terminates_old, || format!("terminated {old}, which its owner keeps"));
                self.old_leaves(call, sent_at, &ledger, before);
            }
            "StopInstances" if is_of_old(call.list("InstanceId")) => {
                self.old_leaves(call, sent_at, &ledger, before);
            }
            "AssociateAddress" => self.address_moves(call, &ledger, before),
            "RegisterTargets" => self.target_is_registered(call, &ledger),
            _ => {}
        }
    }

    /// An old instance that runs leaves only if a twin has all that it had.
    fn old_leaves(&mut self, call: &ApiCall, sent_at: Timestamp, ledger: &LabLedger, before: &Fleet) {
        let runs = |id: &str| before.instances().get(id).is_some_and(|it| it.state == Ec2State::Running);
        if !runs(&ledger.old) {
            return;
        }
        let mut twins = before.instances().values().filter(|one| is_twin(one) && runs(&one.id));
        let has_all = twins.any(|twin| ledger.lacks(before, &twin.id).is_none());
        let is_unseen = ledger.was_lost_since(sent_at - JUST_BEFORE);
        self.holds(has_all || is_unseen, || {
            format!("{} of {}, and no twin has all that it had", call.action, ledger.old)
        });
    }

    /// The address moves to a twin that has proven itself. It moves to no stranger.
    fn address_moves(&mut self, call: &ApiCall, ledger: &LabLedger, before: &Fleet) {
        let (to, what) = (call.parameter("InstanceId").unwrap_or_default(), call.parameter("AllocationId"));
        self.holds(what == ledger.address.as_deref(), || format!("moved address {what:?}"));
        if to == ledger.old {
            return;
        }
        let is_twin = before.instances().get(to).is_some_and(is_twin);
        self.holds(is_twin, || format!("moved the address to {to}, which is no twin"));
        let serves = before.instances().get(&ledger.old).is_some_and(|old| old.state == Ec2State::Running);
        let has_had_it =
            ledger.address.as_deref().and_then(|address| before.address_holder(address)) == Some(to);
        let lacking = ledger.lacks_health(before, to);
        let is_proven = lacking.is_none() && before.passes_checks(to, now());
        self.holds(!serves || has_had_it || is_proven || ledger.lost.contains_key(to), || {
            format!("moved the address to {to} while {} serves: {lacking:?}", ledger.old)
        });
    }

    /// Only the target groups that the old instance was in are touched.
    fn target_is_registered(&mut self, call: &ApiCall, ledger: &LabLedger) {
        let arn = call.parameter("TargetGroupArn").unwrap_or_default();
        let is_its = ledger.target_groups.iter().any(|known| known == arn);
        self.holds(is_its, || format!("registered in {arn}, where {} was not", ledger.old));
    }

    /// At rest, one of the two runs and has all, unless EC2 took it after the swap. A person was told of what else is left, by its name.
    pub fn lab_at_rest(&mut self, seen: Seen<'_>) {
        let Some(ledger) = self.lab.clone() else { return };
        let is_told = |id: &str| seen.mailbox.messages.iter().any(|told| told.message.contains(id));
        let running: Vec<&str> = ledger
            .pair(seen.fleet)
            .filter(|one| one.state == Ec2State::Running)
            .map(|one| one.id.as_str())
            .collect();
        let has_all = |id: &&str| ledger.lacks(seen.fleet, id).is_none();
        let is_one = running.len() == 1 && running.iter().all(has_all);
        let is_after = ledger.was_lost_since(ledger.held_until - JUST_BEFORE);
        let is_lost = is_after || (!ledger.lost.is_empty() && is_told(&ledger.old));
        self.holds(is_one || is_lost, || {
            let lacking: Vec<_> = running.iter().filter_map(|id| ledger.lacks(seen.fleet, id)).collect();
            format!("at rest {running:?} run; {lacking:?}")
        });
        let twins = ledger.pair(seen.fleet).filter(|one| is_twin(one) && one.state.is_alive());
        let twins: Vec<&str> = twins.map(|twin| twin.id.as_str()).collect();
        let is_fine = twins.len() <= 1 || twins.iter().all(|id| is_told(id));
        self.holds(is_fine, || format!("at rest there are twins {twins:?}"));
        let own = seen.fleet.own_images();
        let left = own.images.keys().chain(own.snapshots.keys()).find(|id| !is_told(id));
        self.holds(left.is_none(), || format!("at rest {left:?} is left, and nobody was told"));
        let is_lost_after =
            |id: &str| ledger.lost.get(id).is_some_and(|at| *at >= ledger.held_until - JUST_BEFORE);
        for group in seen.fleet.target_groups().values() {
            let stays = |id: &&String| !running.contains(&id.as_str()) && !is_told(id) && !is_lost_after(id);
            let left = group.targets.keys().find(stays);
            self.holds(left.is_none(), || format!("at rest {left:?} is in {}, and does not run", group.arn));
        }
    }
}

#[cfg(test)]
mod tests;
