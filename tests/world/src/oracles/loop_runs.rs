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
/// From the quarter of an hour that a run is named after to the sweep that no longer counts it, if it was never started.
const COUNTS_FOR_SECONDS: i64 = 46 * 60;

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

    /// No execution that has ended is counted among those that run. One that was counted and never started may be about to
    /// start: it counts for two quarters of an hour, and a sweep must follow.
    pub fn loop_at_rest(&mut self, tables: &Tables, executions: &Executions) {
        let row = tables.item(GROUPS, "running", None);
        let counted = row.and_then(|row| row.get("executions")).map(|executions| executions.to_json());
        let counted: Vec<String> = counted
            .and_then(|executions| serde_json::from_value(executions["SS"].clone()).ok())
            .unwrap_or_default();
        let may_be_starting = |arn: &String| {
            let quarter = arn.rsplit('-').next().and_then(|second| second.parse::<i64>().ok());
            executions.get(arn).is_none()
                && quarter.is_some_and(|quarter| now().as_second() - quarter < COUNTS_FOR_SECONDS)
        };
        let counted: Vec<String> = counted.into_iter().filter(|arn| !may_be_starting(arn)).collect();
        self.holds(counted.is_empty(), || {
            format!("at rest the loop counts {counted:?} among those that run")
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::executions::CLUSTER_SWAP;
    use crate::fault::Plan;
    use crate::fleet::GroupSpec;
    use crate::oracles::SWAPS;
    use crate::scene::Scene;
    use crate::wire::CallBody;
    use crate::world::World;

    fn world(tag: &str) -> World {
        let tags = [("spot-optimizer:enabled".to_owned(), tag.to_owned())].into();
        let group = GroupSpec { tags, ..GroupSpec::default() };
        Scene { group, ..Scene::default() }.world(Plan::none())
    }

    /// Returns the promise that a call breaks as it is sent.
    fn sends(world: &mut World, by: &str, service: Service, action: &str, body: Value) -> Option<String> {
        let (region, action) = ("us-east-1".to_owned(), action.to_owned());
        let call = ApiCall { service, account: None, region, action, body: CallBody::Json(body) };
        world.oracles.before_change(&call, by);
        world.oracles.broken.take()
    }

    fn starts(world: &mut World, group: &str) -> Option<String> {
        let body = json!({"input": json!({"asg_name": group}).to_string()});
        sends(world, "GroupWatcher event", Service::StepFunctions, "StartExecution", body)
    }

    #[test]
    fn a_start_for_an_enrolled_group_keeps_the_promise_and_any_other_breaks_it() {
        assert_eq!(starts(&mut world("true"), "web"), None);
        for (tag, group) in [("false", "web"), ("", "web"), ("true", "api"), ("true", "")] {
            let broken = starts(&mut world(tag), group);
            assert!(broken.is_some_and(|broken| broken.contains("not enrolled")), "{tag} {group}");
        }
    }

    #[test]
    fn the_watcher_and_the_risk_manager_write_to_their_own_tables_alone() {
        let mut world = world("true");
        for (by, own) in [("GroupWatcher event", GROUPS), ("RiskManager event", POOL_RISK)] {
            for table in [GROUPS, POOL_RISK, SWAPS] {
                let body = json!({"TableName": table});
                let broken = sends(&mut world, by, Service::DynamoDb, "UpdateItem", body);
                assert_eq!(broken.is_none(), table == own, "{by} writes to {table}");
            }
            assert_eq!(sends(&mut world, by, Service::EventBridge, "PutEvents", json!({})), None);
            assert!(sends(&mut world, by, Service::Ec2, "TerminateInstances", json!({})).is_some());
        }
    }

    #[test]
    fn two_runs_of_one_group_at_once_break_the_promise() {
        let (mut world, at) = (world("true"), now());
        let mut start = |name: &str, group: &str| {
            world.executions.start(CLUSTER_SWAP, name, json!({"asg_name": group}), at).unwrap();
            world.oracles.look_at_runs(&world.executions);
            world.oracles.broken.take()
        };
        assert_eq!(
            (start("loop-web-1", "web"), start("loop-api-1", "api"), start("by-hand", "web")),
            (None, None, None)
        );
        assert!(start("loop-web-2", "web").is_some_and(|broken| broken.contains("two runs")));
    }

    #[test]
    fn a_run_that_counts_for_ever_breaks_the_promise() {
        let counts = |name: &str| {
            let mut world = world("true");
            let arn =
                format!("arn:aws:states:us-east-1:123456789012:execution:spot-optimizer-ClusterSwap:{name}");
            let row = json!({"group": {"S": "running"}, "executions": {"SS": [arn]}});
            world.tables.put(GROUPS, &row).unwrap();
            world
                .executions
                .start(CLUSTER_SWAP, "loop-web-1767603000", json!({"asg_name": "web"}), now())
                .unwrap();
            world.oracles.loop_at_rest(&world.tables, &world.executions);
            world.oracles.broken.is_some()
        };
        assert!(!counts("loop-web-1767603600"), "it was never started, and may still be");
        assert!(counts("loop-web-1767603000"), "it was started");
        assert!(counts("loop-web-1767600000"), "nobody starts it any more");
    }
}
