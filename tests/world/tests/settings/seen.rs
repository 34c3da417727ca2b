//! What a history shows of a setting, as a number.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use spot_world::chronicle::SentCall;
use spot_world::history::Ended;
use spot_world::machine::Outcome;
use spot_world::oracles::POOL_RISK;
use spot_world::tables::attribute::to_json;
use spot_world::virtual_time::BEGIN;

use crate::holds::outcome_of;

/// What is seen where nothing is.
const NOTHING: i64 = -1;

fn count(all: impl Iterator) -> i64 {
    i64::try_from(all.count()).unwrap_or(i64::MAX)
}

fn calls<'a>(ended: &'a Ended, action: &'a str) -> impl Iterator<Item = &'a SentCall> {
    ended.world.chronicle.calls.iter().filter(move |call| call.action == action)
}

/// Returns the number of Spot instances that run.
pub(crate) fn spot(ended: &Ended) -> i64 {
    count(ended.world.fleet.instances().values().filter(|it| it.is_spot() && it.state.is_alive()))
}

/// Returns the number of executions.
pub(crate) fn executions(ended: &Ended) -> i64 {
    count(ended.executions.keys())
}

/// Returns the number of executions that have succeeded.
pub(crate) fn successes(ended: &Ended) -> i64 {
    count(ended.executions.values().filter(|end| matches!(end, Outcome::Succeeded(_))))
}

/// Returns 1 if the report says that the node or the instance was swapped.
pub(crate) fn swapped(ended: &Ended) -> i64 {
    let is_swapped = |report: &Value| report["outcome"] == "SWAPPED";
    i64::from(outcome_of(ended, "by-hand").is_ok_and(is_swapped))
}

/// Returns the number of swaps that the report calls rolled back.
pub(crate) fn rolled_back(ended: &Ended) -> i64 {
    let report = outcome_of(ended, "by-hand").ok();
    report.and_then(|report| report["rolled_back"].as_array()).map_or(NOTHING, |left| count(left.iter()))
}

/// Returns the most newcomers that were launched and not attached yet.
pub(crate) fn launched_ahead(ended: &Ended) -> i64 {
    let (mut waiting, mut most) = (0, 0);
    for call in ended.world.chronicle.calls.iter().filter(|call| matches!(call.effect, Some((_, 200)))) {
        waiting += match call.action.as_str() {
            "RunInstances" => 1,
            "AttachInstances" => -1,
            _ => 0,
        };
        most = most.max(waiting);
    }
    most
}

/// Returns how often a newcomer's status checks were looked at.
pub(crate) fn looks_at_checks(ended: &Ended) -> i64 {
    count(calls(ended, "DescribeInstanceStatus").filter(|call| call.by.ends_with("WaitForHealth")))
}

/// Returns the number of requests to stop an instance.
pub(crate) fn stops(ended: &Ended) -> i64 {
    count(calls(ended, "StopInstances"))
}

/// Returns the days for which the notice of second 10 poisons a pool; 0 if it poisons none.
pub(crate) fn days_of_poison(ended: &Ended) -> i64 {
    let mut rows = ended.world.tables.items(POOL_RISK).map(to_json);
    let poisoned = rows.find(|row| row["is_poisoned"]["BOOL"] == true);
    let until = poisoned.and_then(|row| row["poison_expires_at"]["N"].as_str()?.parse::<i64>().ok());
    until.map_or(0, |until| (until - BEGIN.as_second() - 10) / SignedDuration::from_hours(24).as_secs())
}

/// Returns the seconds until the execution that a user has started ends.
pub(crate) fn seconds_of_run(ended: &Ended) -> i64 {
    let mut all = ended.world.executions.all();
    let run = all.find(|(_, record)| record.name == "by-hand").and_then(|(_, record)| record.ended.as_ref());
    run.map_or(NOTHING, |(at, _)| at.duration_since(BEGIN).as_secs())
}

/// Returns the seconds from the end of the execution to the first write of the reconciler.
pub(crate) fn reconciler_waits(ended: &Ended) -> i64 {
    let mut calls = ended.world.chronicle.calls.iter();
    let acts = calls.find(|call| call.by.starts_with("Reconciler") && !call.is_read);
    acts.map_or(NOTHING, |acts| acts.at.duration_since(BEGIN).as_secs() - seconds_of_run(ended))
}

/// Returns the beginning and the end of each run of the loop, in seconds since the beginning of the history.
fn runs(ended: &Ended) -> Vec<(i64, i64)> {
    let all = ended.world.executions.all().filter(|(_, record)| record.name.starts_with("loop-"));
    let runs = all.filter_map(|(_, record)| Some((record.started, record.ended.as_ref()?.0)));
    let second = |at: Timestamp| at.duration_since(BEGIN).as_secs();
    runs.map(|(from, to)| (second(from), second(to))).collect()
}

/// Returns the number of runs of the loop.
pub(crate) fn runs_of_loop(ended: &Ended) -> i64 {
    count(runs(ended).iter())
}

/// Returns the second in which the loop starts its first run.
pub(crate) fn loop_starts(ended: &Ended) -> i64 {
    runs(ended).iter().map(|(from, _)| *from).min().unwrap_or(NOTHING)
}

/// Returns the most runs of the loop that were under way at once.
pub(crate) fn runs_at_once(ended: &Ended) -> i64 {
    let runs = runs(ended);
    let beside = |at: i64| count(runs.iter().filter(|(from, to)| (*from..*to).contains(&at)));
    runs.iter().map(|(from, _)| beside(*from)).max().unwrap_or(0)
}

/// Returns 1 if the group bears the tag of its last run.
pub(crate) fn has_run_tag(ended: &Ended) -> i64 {
    let group = ended.world.fleet.group("web");
    i64::from(group.is_some_and(|group| group.tags.contains_key("spot-optimizer:last-run")))
}
