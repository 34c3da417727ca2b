//! The loop: the group watcher converts a tagged group, EC2 interrupts it, and the loop brings it back to Spot.

use std::collections::BTreeMap;

use serde_json::json;
use spot_world::acts::Act;
use spot_world::campaign::{Selection, one_in_of};
use spot_world::fault::Plan;
use spot_world::fleet::GroupSpec;
use spot_world::history::Ended;
use spot_world::scene::Scene;

use crate::holds::{holds, play_or_tell, scene};

/// A tagged group and one without the tag. EC2 interrupts the first as often as it is on Spot.
fn looped(interruptions: usize) -> Scene {
    Scene { once_on_spot: vec![Act::MemberIsInterrupted(0, 1); interruptions], ..scene("loop") }
}

/// Returns the types of the members of a group, with an asterisk for those on Spot.
fn members(ended: &Ended, group: &str) -> Vec<String> {
    let fleet = &ended.world.fleet;
    let member = |id: &str| {
        let instance = &fleet.instances()[id];
        format!("{}{}", instance.instance_type, if instance.is_spot() { "*" } else { "" })
    };
    fleet.serving(group).into_iter().map(member).collect()
}

/// Returns the executions of the loop by the seconds of their starts and ends.
fn runs(ended: &Ended) -> BTreeMap<i64, i64> {
    let all = ended.world.executions.all().filter(|(_, record)| record.name.starts_with("loop-"));
    let ended_at = |record: &spot_world::executions::ExecutionRecord| {
        record.ended.as_ref().map_or(0, |(at, _)| at.as_second())
    };
    all.map(|(_, record)| (record.started.as_second(), ended_at(record))).collect()
}

#[test]
fn a_tagged_group_is_converted_interrupted_and_returns_to_spot_in_another_pool() {
    for (interruptions, end) in [(0, "m5.large*"), (1, "m5a.large*"), (2, "c5.large*")] {
        let ended = play_or_tell(&looped(interruptions), Plan::none());
        assert_eq!(members(&ended, "web"), [end], "{}", ended.world.chronicle);
        assert_eq!(members(&ended, "worker"), ["m5.large"], "it has no tag");
        assert_eq!(runs(&ended).len(), 1 + interruptions, "{:?}", ended.executions);
    }
}

#[test]
fn a_group_whose_owner_takes_the_tag_back_is_left_alone() {
    let mut scene = looped(0);
    scene.watched_from = Some(100);
    scene.happenings = vec![(std::time::Duration::from_secs(30), |world| {
        if let Some(group) = world.fleet.group_mut("web") {
            group.tags.insert("spot-optimizer:enabled".to_owned(), ("false".to_owned(), true));
        }
    })];
    let ended = play_or_tell(&scene, Plan::none());
    assert_eq!((members(&ended, "web"), runs(&ended).len()), (vec!["m5.large".to_owned()], 0));
}

#[test]
fn no_more_runs_than_the_settings_allow_are_under_way_at_once() {
    let worker = GroupSpec { name: "worker".to_owned(), ..looped(0).group };
    let scene = Scene {
        settings: [("max_groups_at_once".to_owned(), json!(1))].into(),
        other_groups: vec![worker],
        ..looped(0)
    };
    let ended = play_or_tell(&scene, Plan::none());
    assert_eq!(
        (members(&ended, "web"), members(&ended, "worker")),
        (vec!["m5.large*".to_owned()], vec!["m5.large*".to_owned()])
    );
    let runs: Vec<(i64, i64)> = runs(&ended).into_iter().collect();
    assert_eq!(runs.len(), 2);
    assert!(runs.windows(2).all(|two| two[0].1 <= two[1].0), "{runs:?}");
}

/// Every call of every sweep × each fault: one in so many.
#[test]
fn the_loop_survives_faults_at_the_calls_of_its_sweeps() {
    holds(one_in_of(24, &looped(1), 1, &Selection::of_environment().or_calls(&["GroupWatcher"])));
}

/// A sweep right before the names of its executions change: its repetition gives another name.
#[test]
fn a_sweep_that_is_repeated_under_another_name_starts_one_run() {
    let scene = Scene { watched_from: Some(895), ..looped(0) };
    let selection = Selection::of_environment()
        .or_calls(&["GroupWatcher event states", "GroupWatcher event dynamodb:Update"]);
    holds(one_in_of(5, &scene, 2, &selection));
}

#[test]
fn the_way_back_to_spot_survives_faults_of_the_risk_manager_and_the_responder() {
    holds(one_in_of(
        16,
        &looped(1),
        3,
        &Selection::of_environment().or_calls(&["RiskManager", "InterruptionResponder"]),
    ));
}
