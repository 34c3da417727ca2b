//! What the loop may do: it starts one run of an enrolled group at a time, and changes nothing itself.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::Value;

use super::{GROUPS, Oracles, POOL_RISK, SIGHTINGS};
use crate::executions::Executions;
use crate::tables::Tables;
use crate::virtual_time::now;
use crate::wire::{ApiCall, Service};

/// A sweep has seen what its owner did to a group so long ago: one of its calls may have been lost since.
const SEEN_AFTER: SignedDuration = SignedDuration::from_secs(60);

impl Oracles {
    /// Asks what must hold as a changing call of the watcher or of the risk manager is sent: it concerns their own tables,
    /// it tells of something, or it is a start. `by` is the function with its phase.
    pub(super) fn before_change(&mut self, call: &ApiCall, by: &str) {
        let table = call.body_text("TableName");
        let tells = matches!(call.action.as_str(), "PutEvents" | "Publish");
        if by.starts_with("GroupWatcher") {
            let starts = call.service == Service::StepFunctions && call.action == "StartExecution";
            self.holds(tells || starts || table == GROUPS, || format!("the watcher calls {call:?}"));
            if starts {
                self.before_start(call);
            }
        }
        if by.starts_with("RiskManager") {
            let is_own = [POOL_RISK, SIGHTINGS].contains(&table);
            self.holds(tells || is_own, || format!("the risk manager calls {call:?}"));
        }
    }

    /// The owner of the group has asked for the loop.
    fn before_start(&mut self, call: &ApiCall) {
        let input: Value = serde_json::from_str(call.body_text("input")).unwrap_or_default();
        let name = input["asg_name"].as_str().unwrap_or_default();
        let is_out = match self.marks.not_enrolled_since(name) {
            Some(since) => now().duration_since(since) > SEEN_AFTER,
            None => !self.wishes.contains_key(name),
        };
        self.holds(!is_out, || format!("the watcher starts a run of {name:?}, which is not enrolled"));
    }

    /// No group has two runs of the loop at once.
    pub fn look_at_runs(&mut self, executions: &Executions) {
        let mut running: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (_, record) in executions.all().filter(|(_, record)| record.ended.is_none()) {
            if record.name.starts_with("loop-") {
                running
                    .entry(record.input["asg_name"].as_str().unwrap_or_default())
                    .or_default()
                    .push(&record.name);
            }
        }
        let twice = running.iter().find(|(_, names)| names.len() > 1);
        self.holds(twice.is_none(), || format!("two runs of the loop at once: {twice:?}"));
    }

    /// No execution that has ended is counted among those that run.
    pub fn loop_at_rest(&mut self, tables: &Tables) {
        let row = tables.item(GROUPS, "running", None);
        let counted = row.and_then(|row| row.get("executions")).map(|executions| executions.to_json());
        self.holds(counted.is_none(), || format!("at rest the loop counts {counted:?} among those that run"));
    }
}
