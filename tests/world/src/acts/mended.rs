//! What AWS lacks, and what a person mends who is told of it.

use jiff::SignedDuration;

use crate::fleet::PoolRefusal;
use crate::machine::Outcome;
use crate::virtual_time::now;
use crate::world::World;

impl World {
    pub(super) fn capacity_is_short(&mut self, zone: usize) {
        let catalog = self.fleet.catalog();
        let Some(zone) = catalog.zones.get(zone % catalog.zones.len().max(1)).map(|zone| zone.name.clone())
        else {
            return;
        };
        self.fleet.refuse_launches(PoolRefusal {
            instance_type: None,
            ..PoolRefusal::insufficient_capacity("m5.large", &zone)
        });
    }

    pub(super) fn target_turns_unhealthy(&mut self, name: &str, id: &str) {
        self.fleet.set_target_health(id, false);
        self.oracles.excuses.fewer_serve(name, 1, SignedDuration::ZERO, now());
    }

    pub(super) fn targets_turn_healthy(&mut self, name: &str) {
        let Some(group) = self.fleet.group(name) else { return };
        let ids: Vec<String> = group.members.iter().map(|member| member.instance_id.clone()).collect();
        for id in ids {
            self.fleet.set_target_health(&id, true);
        }
    }

    /// Returns true if a person knows that something is wrong. A message tells, the rule on executions that fail, or the alarm on
    /// events that no function takes.
    #[must_use]
    pub fn is_a_person_told(&self) -> bool {
        let has_failed = |end: &Outcome| matches!(end, Outcome::Failed { .. } | Outcome::TimedOut);
        let mut ends = self.executions.all().filter_map(|(_, record)| record.ended.as_ref());
        self.has_dead_letters || !self.mailbox.messages.is_empty() || ends.any(|(_, end)| has_failed(end))
    }

    /// A person mends what a way back may wait for: EC2 has capacity again, targets are healthy, and groups may launch
    /// and terminate.
    pub fn a_person_mends(&mut self) {
        self.chronicle.notes(format_args!("-- a person mends what is missing"));
        self.fleet.accept_launches();
        let names: Vec<String> = self.fleet.groups().keys().cloned().collect();
        for name in names {
            self.targets_turn_healthy(&name);
            for process in ["Launch", "Terminate"] {
                self.fleet.resume(&name, process, now());
                if let Some(wish) = self.oracles.wishes.get_mut(&name) {
                    wish.suspended.remove(process);
                }
            }
        }
    }
}
