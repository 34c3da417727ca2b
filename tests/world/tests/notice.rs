//! The answer to the two-minute notice of a Spot member, for which EventBridge calls once or twice.

use std::time::Duration;

use serde_json::{Value, json};
use spot_world::acts::Act;
use spot_world::campaign::one_in;
use spot_world::fault::{Fault, Plan};
use spot_world::history::Ended;
use spot_world::scene::{Happening, Scene};

use crate::holds::{holds, output_of, play_or_tell, scene};

/// A notice for the first of two Spot members, without a target group, delivered so often.
fn notice(max: u32, deliveries: u8) -> Scene {
    let mut scene = scene("notice");
    (scene.group.max, scene.group.has_target_group) = (max, false);
    scene.acts = vec![(10, Act::MemberIsInterrupted(0, deliveries))];
    scene
}

/// Returns the output of the one execution, which answers the notice.
fn output(ended: &Ended) -> &Value {
    let names: Vec<&str> = ended.executions.keys().map(String::as_str).collect();
    let [answer] = names[..] else { panic!("{:?}", ended.executions) };
    output_of(ended, answer)
}

#[test]
fn a_doomed_member_is_replaced_before_it_leaves() {
    for max in [2, 3] {
        for deliveries in [1, 2] {
            let ended = play_or_tell(&notice(max, deliveries), Plan::none());
            let output = output(&ended);
            assert_eq!(
                (&output["outcome"], &output["served_at_least"]),
                (&json!("REPLACED"), &json!(2)),
                "{output}"
            );
        }
    }
}

/// The owner gives a group of one zone a second one.
const SPREADS: Happening = |world| {
    let zones: Vec<_> = world.fleet.catalog().zones.iter().take(2).cloned().collect();
    let Some(group) = world.fleet.group_mut("web") else { return };
    group.zones = zones.iter().map(|zone| zone.name.clone()).collect();
    group.subnet_ids = zones.iter().map(|zone| zone.subnet_id.clone()).collect();
};

/// AZRebalance launches before it terminates.
#[test]
fn a_replacement_that_the_group_has_launched_by_itself_is_waited_for() {
    let mut scene = scene("notice-with-room");
    scene.group.zones = 1;
    scene.happenings = vec![(Duration::from_secs(4), SPREADS)];
    scene.acts.insert(0, (8, Act::GroupRebalances));
    let ended = play_or_tell(&scene, Plan::none());
    assert_eq!(output(&ended)["outcome"], json!("REPLACED"), "{}", ended.world.chronicle);
    let mut calls = ended.world.chronicle.calls.iter();
    assert!(!calls.any(|call| call.action == "SetDesiredCapacity"), "{}", ended.world.chronicle);
}

#[test]
fn a_notice_at_a_full_group_survives_faults_at_its_calls() {
    holds(one_in(12, &scene("notice"), &Fault::ALL, 1));
}

#[test]
fn a_notice_at_a_group_with_room_survives_faults_at_its_calls() {
    holds(one_in(12, &scene("notice-with-room"), &Fault::ALL, 2));
}
