//! Whose things our calls take: those that we have launched or made, those that a launch of ours replaces, and those that
//! EC2 takes back anyway, with the extra member that a raise of ours has left. Tags say nothing here.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::before_call::leaving;
use super::inheritance::{launched, swap_of};
use super::{Oracles, Seen};
use crate::fleet::{Ec2Instance, Ec2State, Fleet};
use crate::virtual_time::now;
use crate::wire::ApiCall;

/// The time from the members that a journal knows to the effect of the raise.
const RAISE_LANDS_WITHIN: SignedDuration = SignedDuration::from_mins(2);

/// What calls of ours have made in this history, by id.
#[derive(Debug, Clone, Default)]
pub(super) struct Provenance {
    /// Instances, images and their snapshots.
    made: BTreeSet<String>,
    /// The instances that launches of ours replace.
    pub(super) replaced: BTreeSet<String>,
    /// The time of our first call that has raised desired, by group. A group that has launched by itself since, for a member
    /// that died or left, has one more than its owner asked for.
    raised_at: BTreeMap<String, Timestamp>,
}

impl Provenance {
    /// Returns true if this call may take the instance as an extra member: a recovery, or the end of an answer, takes it out
    /// of its group. The group has launched it since a call of ours raised its own desired.
    pub(super) fn may_take_as_extra(
        &self,
        call: &ApiCall,
        by: &str,
        instance: &Ec2Instance,
        fleet: &Fleet,
    ) -> bool {
        let is_recovery =
            ["InterruptionResponder", "Reconciler", "Rollback"].iter().any(|ends| by.contains(ends));
        let mut groups = fleet.groups().iter();
        let raised_at = groups
            .find(|(_, group)| group.member(&instance.id).is_some())
            .and_then(|(name, _)| self.raised_at.get(name));
        let is_since = raised_at.is_some_and(|at| instance.launched_at >= *at - RAISE_LANDS_WITHIN);
        is_recovery && is_since && call.action == "TerminateInstanceInAutoScalingGroup"
    }
}

impl Oracles {
    /// Notes what a call of ours has made, and asks what must hold of what it takes, joins or deletes. `by` is the function
    /// with its phase.
    pub(super) fn after_claim(&mut self, call: &ApiCall, by: &str, before: &Fleet, after: &Fleet) {
        match call.action.as_str() {
            "RunInstances" => {
                for newcomer in launched(before, after) {
                    let old = swap_of(&newcomer.client_token).map(|(_, old)| old.to_owned());
                    self.provenance.replaced.extend(old);
                    self.provenance.made.insert(newcomer.id.clone());
                }
            }
            "CreateImage" => {
                let (was, is) = (before.own_images(), after.own_images());
                let images = is.images.keys().filter(|id| !was.images.contains_key(*id));
                let snapshots = is.snapshots.keys().filter(|id| !was.snapshots.contains_key(*id));
                self.provenance.made.extend(images.chain(snapshots).cloned());
            }
            "SetDesiredCapacity" => self.notes_raise(call),
            "DeregisterImage" => self.is_made(call, "ImageId"),
            "DeleteSnapshot" => self.is_made(call, "SnapshotId"),
            "AttachInstances" => {
                self.notes_raise(call);
                self.are_of_a_swap(call, by, &texts(&call.list("InstanceIds")), before);
            }
            "StopInstances" => self.are_of_a_swap(call, by, &texts(&call.list("InstanceId")), before),
            _ => self.are_of_a_swap(call, by, &leaving(call), before),
        }
    }

    fn notes_raise(&mut self, call: &ApiCall) {
        let group = call.parameter("AutoScalingGroupName").unwrap_or_default();
        self.provenance.raised_at.entry(group.to_owned()).or_insert_with(now);
    }

    fn is_made(&mut self, call: &ApiCall, parameter: &str) {
        let id = call.parameter(parameter).unwrap_or_default();
        let is_ours = self.provenance.made.contains(id);
        self.holds(is_ours, || format!("{} of {id}, which no call of ours has made", call.action));
    }

    /// An instance that is ending already, or that EC2 takes back, may leave: the responder answers for it.
    fn are_of_a_swap(&mut self, call: &ApiCall, by: &str, ids: &[String], before: &Fleet) {
        for id in ids {
            let known = before.instances().get(id);
            let is_over =
                known.is_none_or(|one| matches!(one.state, Ec2State::ShuttingDown | Ec2State::Terminated));
            let Provenance { made, replaced, .. } = &self.provenance;
            let is_extra = known.is_some_and(|one| self.provenance.may_take_as_extra(call, by, one, before));
            let is_of_a_swap = made.contains(id) || replaced.contains(id) || is_extra;
            self.holds(is_of_a_swap || is_over || before.is_taken_back(id), || {
                format!("{} of {id}, which we have neither launched nor replaced", call.action)
            });
        }
    }

    /// An instance that is left is one that a person was told of by its id.
    pub(super) fn no_instance_is_left(&mut self, seen: Seen<'_>) {
        let is_told = |id: &str| seen.mailbox.messages.iter().any(|told| told.message.contains(id));
        let is_member = |id: &str| seen.fleet.groups().values().any(|group| group.member(id).is_some());
        let ours =
            |tags: &BTreeMap<String, String>| tags.get("ManagedBy").is_some_and(|by| by == "SpotOptimizer");
        for (id, instance) in seen.fleet.instances() {
            let is_kept = is_member(id) || self.owners.contains(id);
            let is_left = ours(&instance.tags) || self.marks.was_detached(id);
            let is_stray = instance.state.is_alive() && is_left && !is_kept;
            self.holds(!is_stray || is_told(id), || {
                format!("at rest {id} runs, is ours to end, and is in no group")
            });
        }
    }
}

fn texts(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}
