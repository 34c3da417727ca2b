//! What AWS does by itself: it boots, stops and buries instances, checks and drains targets, finishes an image.

use super::aws::{Holder, Machine, Power, Truth, Who};
use super::*;

/// A change that is due.
#[derive(Debug, Clone, Copy)]
enum Due {
    Power(Who, Power),
    Boots(Who),
    Target(usize, usize, TargetState),
    ImageIsAvailable,
}

impl Truth {
    /// AWS does one of the things that are due; returns false if there is none.
    pub(super) fn aws_acts(&mut self, which: usize) -> bool {
        let due = self.due();
        let Some(choice) = which.checked_rem(due.len()) else { return false };
        match due[choice] {
            Due::Power(who, power) => self.turns(who, power),
            Due::Boots(who) => self.machine(who).into_iter().for_each(|machine| machine.is_booted = true),
            Due::Target(group, place, state) => {
                let fails = self.groups[group][place] == TargetState::Healthy;
                self.struck += u32::from(fails);
                self.groups[group][place] = state;
            }
            Due::ImageIsAvailable => self.image = Some(true),
        }
        true
    }

    /// Everything that is due is done, as if hours passed.
    pub(super) fn comes_to_rest(&mut self) {
        while self.aws_acts(0) {}
    }

    fn due(&self) -> Vec<Due> {
        let mut due: Vec<Due> = self.all().filter_map(|(who, machine)| next_power(who, machine)).collect();
        let machines = [Some(self.old), self.new[0], self.new[1]];
        for (n, group) in self.groups.iter().enumerate() {
            for (place, (state, machine)) in group.iter().zip(machines).enumerate() {
                let next = machine.and_then(|machine| next_state(*state, machine));
                due.extend(next.map(|next| Due::Target(n, place, next)));
            }
        }
        due.extend((self.image == Some(false)).then_some(Due::ImageIsAvailable));
        due
    }

    fn turns(&mut self, who: Who, power: Power) {
        self.machine(who).into_iter().for_each(|machine| machine.power = power);
        if power == Power::Terminated {
            if self.address == Holder::Of(who) {
                self.address = Holder::Nobody;
            }
            if let Who::New(attempt) = who {
                self.volumes[attempt] = self.volumes[attempt].map(|_| false);
            }
        }
    }
}

fn next_power(who: Who, machine: Machine) -> Option<Due> {
    Some(match machine.power {
        Power::Pending => Due::Power(who, Power::Running),
        Power::Running if !machine.is_booted => Due::Boots(who),
        Power::Stopping => Due::Power(who, Power::Stopped),
        Power::ShuttingDown => Due::Power(who, Power::Terminated),
        Power::Running | Power::Stopped | Power::Terminated => return None,
    })
}

fn next_state(state: TargetState, machine: Machine) -> Option<TargetState> {
    let is_well = machine.serves() && machine.answers;
    match state {
        TargetState::Draining => Some(TargetState::Absent),
        // A terminated instance is deregistered by AWS.
        state if state.is_registered() && machine.power == Power::Terminated => Some(TargetState::Draining),
        TargetState::Checking | TargetState::Unhealthy if is_well => Some(TargetState::Healthy),
        TargetState::Checking | TargetState::Healthy if !is_well => Some(TargetState::Unhealthy),
        _ => None,
    }
}
