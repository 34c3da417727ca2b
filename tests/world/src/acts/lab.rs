//! The acts of the owner of a stand-alone instance, before its swap, beside it and after.

use serde_json::json;

use crate::executions::LAB_SWAP;
use crate::fleet::Ec2State;
use crate::oracles::SWAPS;
use crate::scene::LAB_ACCOUNT;
use crate::virtual_time::now;
use crate::world::World;

/// An act of the owner. One that AWS would refuse, or that changes nothing, does not take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabAct {
    /// He stops the old instance, which runs.
    StopsOld,
    /// He starts the old instance, which is stopped.
    StartsOld,
    /// He terminates the old instance.
    TerminatesOld,
    /// He gives the Elastic IP to the old instance, which runs.
    GivesAddressToOld,
    /// He gives the Elastic IP to another instance of his.
    MovesAddress,
    /// He takes the old instance out of its target groups.
    TakesOldOut,
    /// He registers the old instance, which runs, in another target group of his.
    RegistersOldElsewhere,
    /// He sets `DisableApiTermination` on the old instance.
    ProtectsOldFromTermination,
    /// He sets `DisableApiStop` on the old instance.
    ProtectsOldFromStop,
    /// He opts the old instance out.
    OptsOldOut,
    /// He gives the old instance a tag that says nothing against a swap.
    TagsOld(&'static str, &'static str),
    /// He takes a tag away from the old instance.
    UntagsOld(&'static str),
    /// He asks for the old instance to come back: he starts an execution with `bring_back`, by the name of `bring-back`.
    AsksForOld,
}

/// The tag by which an owner orders the loop to convert what is theirs, and to keep it on Spot.
const ENABLED_TAG: &str = "spot-optimizer:enabled";

impl LabAct {
    /// Every kind of act, with the tags that histories are played with.
    pub const ALL: [Self; 14] = [
        Self::StopsOld,
        Self::StartsOld,
        Self::TerminatesOld,
        Self::GivesAddressToOld,
        Self::MovesAddress,
        Self::TakesOldOut,
        Self::RegistersOldElsewhere,
        Self::ProtectsOldFromTermination,
        Self::ProtectsOldFromStop,
        Self::OptsOldOut,
        Self::TagsOld(ENABLED_TAG, "true"),
        Self::TagsOld(ENABLED_TAG, "false"),
        Self::UntagsOld(ENABLED_TAG),
        Self::AsksForOld,
    ];
}

impl World {
    /// The owner acts, and the ledger knows.
    pub(super) fn owner_of_instance_acts(&mut self, act: LabAct) {
        let Self { fleet, oracles, executions, tables, .. } = self;
        let Some(ledger) = &mut oracles.lab else { return };
        let (old, deeds, now) = (ledger.old.clone(), &mut ledger.deeds, now());
        let state = fleet.instances().get(&old).map(|instance| instance.state);
        let is_up = matches!(state, Some(Ec2State::Pending | Ec2State::Running));
        let is_there = is_up || matches!(state, Some(Ec2State::Stopping | Ec2State::Stopped));
        match act {
            LabAct::StopsOld if fleet.owner_stops(&old, now) => deeds.ended_old = Some(now),
            LabAct::StartsOld if fleet.owner_starts(&old, now) => deeds.started_old = Some(now),
            LabAct::TerminatesOld if is_there => {
                fleet.owner_terminates(&old, now);
                deeds.ended_old = is_up.then_some(now).or(deeds.ended_old);
            }
            LabAct::GivesAddressToOld | LabAct::MovesAddress => {
                let to = (act == LabAct::GivesAddressToOld).then_some(old.as_str());
                let may_take = to.is_none() || state == Some(Ec2State::Running);
                let address = ledger.address.as_deref().filter(|_| may_take);
                let moved = address.and_then(|address| fleet.owner_moves_address(address, to));
                if let Some(to) = moved {
                    // Back where the swap has found it, it is a part of what the twin takes over.
                    let is_as_found = to == old && !ledger.address_moved;
                    deeds.moved_address = (!is_as_found).then_some((to, now));
                }
            }
            LabAct::TakesOldOut => {
                for arn in fleet.owner_deregisters(&old, now) {
                    let targets = fleet.target_groups().get(&arn).map(|group| &group.targets);
                    let has_twin = targets.is_some_and(|targets| targets.keys().any(|id| *id != old));
                    deeds.left_to_twin.extend(has_twin.then(|| arn.clone()));
                    deeds.took_out.insert(arn, now);
                }
            }
            LabAct::TagsOld(key, value) => fleet.tag_instance(&old, key, Some(value)),
            LabAct::UntagsOld(key) => fleet.tag_instance(&old, key, None),
            LabAct::RegistersOldElsewhere if state == Some(Ec2State::Running) => {
                let arn = fleet.owner_registers_elsewhere(&old);
                // Before its swap, that is part of what its twin takes over.
                if tables.items(SWAPS).any(|row| row.contains_key("lease_owner")) {
                    deeds.keeps_old = Some(now);
                } else {
                    ledger.target_groups.push(arn);
                }
            }
            LabAct::ProtectsOldFromTermination | LabAct::ProtectsOldFromStop | LabAct::OptsOldOut
                if is_there =>
            {
                match act {
                    LabAct::ProtectsOldFromTermination => fleet.protect_from_termination(&old, true),
                    LabAct::ProtectsOldFromStop => fleet.protect_from_stop(&old, true),
                    _ => fleet.tag_instance(&old, &oracles.settings.opt_out_tag, Some("true")),
                }
                deeds.keeps_old = Some(now);
            }
            LabAct::AsksForOld => {
                let input = json!({"instance_id": old, "account_id": LAB_ACCOUNT, "bring_back": true});
                // A second wish is the first.
                let _ = executions.start(LAB_SWAP, "bring-back", input, now);
                deeds.asked_for_old = Some(now);
            }
            _ => {}
        }
        oracles.tags.look(fleet);
    }
}
