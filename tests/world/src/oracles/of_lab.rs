//! What must hold of a stand-alone instance whose Spot twin takes over: somebody who runs has its Elastic IP and its
//! registrations at every moment, and the old one stops only for a twin that has them all. What its owner does is his.

use jiff::Timestamp;

use super::before_call::SEEN_AFTER;
use super::{JUST_BEFORE, Oracles, SWAPS, Seen};
use crate::fleet::{Ec2Instance, Ec2State, Fleet, TargetPhase};
use crate::scene::LAB_ACCOUNT;
use crate::virtual_time::now;
use crate::wire::{ApiAnswer, ApiCall, Service};

mod ledger;

pub use ledger::{LabLedger, OwnersDeeds};

use ledger::{is_marked, is_twin};

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
        let missing = ledger.takes_stock(fleet);
        self.holds(missing.is_none(), || missing.unwrap_or_default());
    }

    /// A call to the instance's account is signed with a session of its role.
    pub fn is_in_account(&mut self, call: &ApiCall) {
        let is_there = matches!(call.service, Service::Ec2 | Service::ElasticLoadBalancing);
        if self.lab.is_some() && is_there {
            let account = call.account.as_deref();
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
        let target = call.parameter("Targets.member.1.Id").unwrap_or_default();
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
            "DeregisterTargets" if target == ledger.old => {
                self.old_is_let_out(call, sent_at, &ledger, before);
            }
            "AssociateAddress" => self.address_moves(call, sent_at, &ledger, before),
            "RegisterTargets" => self.target_is_registered(call, sent_at, &ledger, before),
            "DeleteVolume" => self.volume_goes(call, &ledger, before),
            "RunInstances" => return self.launch_is_wanted(sent_at, &ledger, before),
            "TerminateInstances" => return self.twin_is_not_kept(call, sent_at, &ledger),
            _ => return,
        }
        if let Some(lab) = self.lab.as_mut().filter(|lab| lab.has_changed_since(sent_at - JUST_BEFORE)) {
            lab.is_unseen();
        }
    }

    /// An old instance that runs leaves only if a twin has all that it had.
    fn old_leaves(&mut self, call: &ApiCall, sent_at: Timestamp, ledger: &LabLedger, before: &Fleet) {
        if !runs(before, &ledger.old) {
            return;
        }
        let mut twins = before.instances().values().filter(|one| is_twin(one) && runs(before, &one.id));
        let has_all = twins.any(|twin| ledger.lacks(before, &twin.id).is_none());
        let is_unseen = ledger.has_changed_since(sent_at - JUST_BEFORE);
        self.holds(has_all || is_unseen, || {
            format!("{} of {}, and no twin has all that it had", call.action, ledger.old)
        });
        self.is_not_kept(call, sent_at, ledger);
    }

    fn old_is_let_out(&mut self, call: &ApiCall, sent_at: Timestamp, ledger: &LabLedger, before: &Fleet) {
        if let Some(lab) = &mut self.lab {
            lab.let_out.extend(call.parameter("TargetGroupArn").map(str::to_owned));
        }
        if runs(before, &ledger.old) {
            self.is_not_kept(call, sent_at, ledger);
        }
    }

    /// What the owner wants to keep stays, once that could be seen.
    fn is_not_kept(&mut self, call: &ApiCall, sent_at: Timestamp, ledger: &LabLedger) {
        let is_kept = ledger.deeds.keeps_old.is_some_and(|at| at < sent_at - JUST_BEFORE);
        self.holds(!is_kept, || format!("{} of {}, which its owner keeps", call.action, ledger.old));
    }

    /// A twin that its owner has come to use stays, once that could be seen.
    fn twin_is_not_kept(&mut self, call: &ApiCall, sent_at: Timestamp, ledger: &LabLedger) {
        let is_seen = |at: &Timestamp| *at < sent_at - JUST_BEFORE;
        let is_kept = |id: &&str| ledger.deeds.keeps_twins.get(*id).is_some_and(is_seen);
        let kept = call.list("InstanceId").into_iter().find(is_kept);
        self.holds(kept.is_none(), || format!("terminated {kept:?}, which its owner keeps"));
    }

    /// No twin is launched for an old instance that its owner keeps or has ended, once that could be seen.
    fn launch_is_wanted(&mut self, sent_at: Timestamp, ledger: &LabLedger, before: &Fleet) {
        let is_seen = |at: Option<Timestamp>| at.is_some_and(|at| at < sent_at - SEEN_AFTER);
        let is_over = is_seen(ledger.deeds.ended_old) && !runs(before, &ledger.old);
        let is_refused = is_over || is_seen(ledger.deeds.keeps_old);
        self.holds(!is_refused, || {
            format!("launched for {}, which its owner keeps or has ended", ledger.old)
        });
    }

    /// The address moves to a twin that has proven itself. It moves to no stranger, and stays where its owner has put it.
    fn address_moves(&mut self, call: &ApiCall, sent_at: Timestamp, ledger: &LabLedger, before: &Fleet) {
        let (to, what) = (call.parameter("InstanceId").unwrap_or_default(), call.parameter("AllocationId"));
        self.holds(what == ledger.address.as_deref(), || format!("moved address {what:?}"));
        self.address_is_not_his(to, sent_at, ledger, before);
        if let Some(lab) = &mut self.lab {
            lab.address_moved = true;
        }
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
        let is_just_out = |at: &Timestamp| *at >= sent_at - JUST_BEFORE;
        let is_unseen = ledger.lost.contains_key(to) || ledger.deeds.took_twin_out.values().any(is_just_out);
        self.holds(!serves || has_had_it || is_proven || is_unseen, || {
            format!("moved the address to {to} while {} serves: {lacking:?}", ledger.old)
        });
    }

    /// The owner's own move of the address stands, once it could be seen. An old instance that does not run has no use for it.
    fn address_is_not_his(&mut self, to: &str, sent_at: Timestamp, ledger: &LabLedger, before: &Fleet) {
        let (Some(address), Some((holder, at))) = (&ledger.address, &ledger.deeds.moved_address) else {
            return;
        };
        let is_there = before.address_holder(address) == Some(holder.as_str()) && to != holder;
        let is_of_use = *holder != ledger.old || runs(before, holder);
        self.holds(!is_there || !is_of_use || *at >= sent_at - JUST_BEFORE, || {
            format!("moved the address to {to}, and its owner has given it to {holder}")
        });
    }

    /// Only the target groups that the old instance was in are touched, and of those only what its owner has left as it was.
    fn target_is_registered(
        &mut self,
        call: &ApiCall,
        sent_at: Timestamp,
        ledger: &LabLedger,
        before: &Fleet,
    ) {
        let arn = call.parameter("TargetGroupArn").unwrap_or_default();
        let is_its = ledger.target_groups.iter().any(|known| known == arn);
        self.holds(is_its, || format!("registered in {arn}, where {} was not", ledger.old));
        let is_seen = |at: &Timestamp| *at < sent_at - JUST_BEFORE;
        let is_old = call.parameter("Targets.member.1.Id") == Some(ledger.old.as_str());
        // AWS does not tell who has taken a target out: where we did, too, the owner's wish can't be known.
        let is_his =
            is_old && !ledger.let_out.contains(arn) && ledger.deeds.took_out.get(arn).is_some_and(is_seen);
        self.holds(!is_his, || format!("registered {} in {arn}, and its owner has taken it out", ledger.old));
        // Once a twin has drained, AWS does not tell it from one that was never registered. Without the old instance, it serves.
        let target = before.target_groups().get(arn).zip(call.parameter("Targets.member.1.Id"));
        let target = target.and_then(|(group, id)| group.targets.get(id));
        let drains = target.is_some_and(|target| target.phase == TargetPhase::Draining);
        let is_twins = !is_old && drains && runs(before, &ledger.old);
        let is_his = is_twins && ledger.deeds.took_twin_out.get(arn).is_some_and(is_seen);
        self.holds(!is_his, || format!("registered a twin in {arn}, and its owner has taken it out"));
    }

    /// A volume is deleted only if a twin was launched with it, and never served.
    fn volume_goes(&mut self, call: &ApiCall, ledger: &LabLedger, before: &Fleet) {
        let id = call.parameter("VolumeId").unwrap_or_default();
        let twin = before.instances().values().find(|one| is_twin(one) && one.volume_id() == id);
        let is_ours = twin.is_some_and(|twin| !ledger.has_served.contains(&twin.id));
        self.holds(is_ours, || format!("deleted {id}, which is no volume of a twin without traffic"));
    }

    /// At rest, one of the two runs and has all, unless EC2 or the owner took it. A person was told of what else is left, by its name.
    pub fn lab_at_rest(&mut self, seen: Seen<'_>) {
        let Some(ledger) = self.lab.clone() else { return };
        let is_told = |id: &str| seen.mailbox.messages.iter().any(|told| told.message.contains(id));
        let running: Vec<&str> = ledger
            .pair(seen.fleet)
            .filter(|one| one.state == Ec2State::Running)
            .map(|one| one.id.as_str())
            .collect();
        let is_after = ledger.was_lost_since(ledger.held_until - JUST_BEFORE);
        let is_lost = is_after || (!ledger.lost.is_empty() && is_told(&ledger.old));
        let lacks = |id: &str| ledger.lacks_at_rest(seen.fleet, id, is_lost);
        // Its owner has come to use a twin, and a person was told of it.
        let is_kept = |id: &str| ledger.deeds.keeps_twins.contains_key(id) && is_told(id);
        let is_fine = match running[..] {
            [] => is_lost || ledger.deeds.ended_old.is_some(),
            [one] => lacks(one).is_empty() || (ledger.deeds.ended_old.is_some() && is_kept(one)),
            // The owner has started the old one beside its twin.
            [one, other] => {
                let may_both_run = ledger.deeds.started_old.is_some() || is_kept(one) || is_kept(other);
                may_both_run && (lacks(one).is_empty() || lacks(other).is_empty())
            }
            _ => false,
        };
        self.holds(is_fine, || {
            let lacking: Vec<_> = running.iter().map(|id| lacks(id)).collect();
            format!("at rest {running:?} run; they lack {lacking:?}")
        });
        let twins = ledger.pair(seen.fleet).filter(|one| is_twin(one) && one.state.is_alive());
        let twins: Vec<&str> = twins.map(|twin| twin.id.as_str()).collect();
        let is_fine = twins.len() <= 1 || twins.iter().all(|id| is_told(id));
        self.holds(is_fine, || format!("at rest there are twins {twins:?}"));
        let own = seen.fleet.own_images();
        let mut made = own.images.keys().chain(own.snapshots.keys());
        let left = made.find(|id| !is_told(id) && !self.owners.contains(*id)).cloned();
        self.holds(left.is_none(), || format!("at rest {left:?} is left, and nobody was told"));
        self.no_volume_is_left(&ledger, seen);
        // What its owner has stopped or terminated is registered as he left it. So is what he has registered elsewhere.
        let is_his = |id: &str| id == ledger.old && ledger.deeds.ended_old.is_some();
        for group in
            seen.fleet.target_groups().values().filter(|group| ledger.target_groups.contains(&group.arn))
        {
            let stays = |id: &&String| {
                let is_excused = is_told(id) || ledger.was_lost_after(id, JUST_BEFORE) || is_his(id);
                !running.contains(&id.as_str()) && !is_excused
            };
            let left = group.targets.keys().find(stays);
            self.holds(left.is_none(), || format!("at rest {left:?} is in {}, and does not run", group.arn));
        }
    }

    /// A volume of a twin is left only if a person was told of it, or if it is its owner's: the twin ended after its swap.
    fn no_volume_is_left(&mut self, ledger: &LabLedger, seen: Seen<'_>) {
        let is_told = |id: &str| seen.mailbox.messages.iter().any(|told| told.message.contains(id));
        let is_the_owners = |id: &str| ledger.was_lost_after(&id.replacen("vol-", "i-", 1), JUST_BEFORE);
        let mut ours = seen.fleet.free_volumes().values().filter(|volume| is_marked(&volume.tags));
        let left = ours.find(|volume| !is_told(&volume.id) && !is_the_owners(&volume.id));
        self.holds(left.is_none(), || format!("at rest {left:?} is left, and nobody was told"));
    }
}

fn runs(fleet: &Fleet, id: &str) -> bool {
    fleet.instances().get(id).is_some_and(|instance| instance.state == Ec2State::Running)
}

#[cfg(test)]
mod tests;
