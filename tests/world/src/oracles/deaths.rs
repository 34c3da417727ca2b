//! A newcomer whose death a look of its swap has shown replaces nobody. No excuse counts against that.

use super::Oracles;
use super::inheritance::swap_of;
use crate::fleet::{Ec2Instance, Ec2State, Fleet};
use crate::virtual_time::now;
use crate::wire::{ApiAnswer, ApiCall};

/// The phases that look at the newcomer before the old instance leaves.
const LOOKS: [&str; 2] = ["ClusterOptimizer WaitForInService", RETIRES];
const RETIRES: &str = "ClusterOptimizer RetireOld";

impl Oracles {
    /// Notes the dead instances that a description shows to the phases before a departure, and when one of groups was made. It
    /// is not old, and its answer arrives.
    pub fn after_look(&mut self, call: &ApiCall, by: &str, answer: &ApiAnswer, fleet: &Fleet) {
        if call.action == "DescribeAutoScalingGroups" && answer.status == 200 {
            self.groups_seen_at.push(now());
        }
        if call.action != "DescribeInstances" || answer.status != 200 || !LOOKS.contains(&by) {
            return;
        }
        let is_dead = |one: &&Ec2Instance| matches!(one.state, Ec2State::ShuttingDown | Ec2State::Terminated);
        let dead = fleet.instances().values().filter(is_dead).map(|one| &one.id);
        self.seen_dead.extend(dead.filter(|id| answer.body.contains(id.as_str())).cloned());
    }

    /// Asks what must hold as a retirement is sent: no look has shown the death of the newcomer.
    pub(super) fn before_retirement(&mut self, call: &ApiCall, by: &str, id: &str, fleet: &Fleet) {
        if by != RETIRES {
            return;
        }
        let Some(newcomer) = newcomer_of(fleet, id) else { return };
        let is_seen = self.seen_dead.contains(&newcomer.id);
        self.holds(!is_seen, || {
            format!("{} of {id}, and a look has shown that newcomer {} is dead", call.action, newcomer.id)
        });
    }
}

/// Returns the last instance that a swap has launched in the place of this one.
pub(super) fn newcomer_of<'a>(fleet: &'a Fleet, old: &str) -> Option<&'a Ec2Instance> {
    let replaces = |one: &&Ec2Instance| swap_of(&one.client_token).is_some_and(|(_, of)| of == old);
    fleet.instances().values().filter(replaces).max_by_key(|one| one.launched_at)
}
