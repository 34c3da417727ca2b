//! What is swapped in another account: its rule as AWS shows it, and its notices as they come over the stack's bus.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use spot_world::acts::Act;
use spot_world::campaign::{all_that, spread};
use spot_world::executions::CLUSTER_SWAP;
use spot_world::fault::Plan;
use spot_world::fleet::{AwsHabits, GroupSpec};
use spot_world::history::Ended;
use spot_world::oracles::POOL_RISK;
use spot_world::scene::{ACCOUNT, Happening, PROD_ACCOUNT, Scene};
use spot_world::virtual_time::now;
use spot_world::wire::Service;

use super::{FEW, SEED, assert_swaps, histories, plans, sampled};
use crate::holds::{self, play_or_tell};

/// A group of another PROD account, and an instance of a LAB account.
fn places(habits: &AwsHabits) -> [Scene; 2] {
    ["group-elsewhere", "lab"].map(|name| Scene { habits: habits.clone(), ..holds::scene(name) })
}

fn launches_nothing(ended: &Ended) -> Result<(), String> {
    match ended.world.chronicle.calls.iter().find(|call| call.action == "RunInstances") {
        Some(launch) => Err(format!("{} has launched where the gate is blind", launch.by)),
        None => Ok(()),
    }
}

#[test]
fn a_place_is_swapped_where_aws_shows_its_rule_as_it_was_made() {
    for scene in places(&AwsHabits::default()) {
        let ended = play_or_tell(&scene, Plan::none());
        assert_swaps(&ended);
        assert!(launches_nothing(&ended).is_err(), "{}", ended.world.chronicle);
        sampled(&scene, "DescribeRule", FEW, "");
    }
}

/// With a fault at a look at the rule, too.
#[test]
fn a_place_is_blind_and_nothing_is_launched_there_where_aws_shows_its_rule_otherwise() {
    let unseen = [
        AwsHabits { targets_name_bus_by_arn: false, ..AwsHabits::default() },
        AwsHabits { rules_show_to_roles: false, ..AwsHabits::default() },
    ];
    for scene in unseen.iter().flat_map(places) {
        let ended = play_or_tell(&scene, Plan::none());
        let end = ended.executions["by-hand"].to_string();
        assert!(end.contains("GATE_BLIND"), "{end}:\n{}", ended.world.chronicle);
        assert_eq!(launches_nothing(&ended), Ok(()), "{}", ended.world.chronicle);
        let calls = &ended.world.chronicle.calls;
        let looks = plans(&scene, calls, |call| call.is_read && call.service == Service::EventBridge);
        let sample = spread(&looks, histories(FEW), &mut fastrand::Rng::with_seed(SEED));
        holds::holds(Ok(all_that(&scene, &sample, launches_nothing)));
        let settings = [("blind_gate".to_owned(), json!("allow"))].into();
        let allowed = play_or_tell(&Scene { settings, ..scene }, Plan::none());
        let end = allowed.executions["by-hand"].to_string();
        assert!(end.contains(r#""gate":"blind""#), "{end}:\n{}", allowed.world.chronicle);
        assert!(launches_nothing(&allowed).is_err(), "{}", allowed.world.chronicle);
    }
}

/// A user swaps the group.
const IS_SWAPPED: Happening = |world| {
    let input = json!({"asg_name": "web", "account_id": PROD_ACCOUNT});
    // The name is not taken.
    let _ = world.executions.start(CLUSTER_SWAP, "by-hand", input, now());
};

/// EC2 interrupts a Spot member of a group elsewhere. Some minutes later, the group has replaced it by an On-Demand one.
fn interrupted(habits: AwsHabits) -> Scene {
    let overrides = ["m5.large", "m5a.large"].map(str::to_owned).to_vec();
    let tags = [("spot-optimizer:enabled".to_owned(), "true".to_owned())].into();
    let group = GroupSpec { size: 2, spot: 1, max: 4, zones: 1, overrides, tags, ..GroupSpec::default() };
    Scene {
        group,
        is_elsewhere: true,
        habits,
        is_quiet: true,
        acts: vec![(10, Act::MemberIsInterrupted(0, 1))],
        to_risk_manager: vec![vec![0]],
        happenings: vec![(Duration::from_mins(8), IS_SWAPPED)],
        ..Scene::default()
    }
}

/// Returns the number of poisoned pools, and the types of the Spot members that serve.
fn pools_and_types(ended: &Ended) -> (usize, BTreeSet<&str>) {
    let fleet = &ended.world.fleet;
    let serving = fleet.serving("web").into_iter().map(|id| &fleet.instances()[id]);
    let types = serving.filter(|it| it.is_spot()).map(|it| it.instance_type.as_str());
    (ended.world.tables.items(POOL_RISK).count(), types.collect())
}

#[test]
fn a_forwarded_notice_poisons_its_pool_and_a_later_swap_takes_another() {
    let scene = interrupted(AwsHabits::default());
    let ended = play_or_tell(&scene, Plan::none());
    assert_swaps(&ended);
    assert_eq!(pools_and_types(&ended), (1, BTreeSet::from(["m5a.large"])), "{}", ended.world.chronicle);
    assert_eq!(ended.executions.len(), 2, "the responder has answered, too: {:?}", ended.executions);
    sampled(&scene, "AssumeRole", FEW, "");
}

/// The gate sees the rule, and neither the policy of the bus nor what AWS stamps: the pool looks clear. Nobody answers the notice.
fn assert_unheard(ended: &Ended) {
    assert_swaps(ended);
    assert_eq!(pools_and_types(ended), (0, BTreeSet::from(["m5.large"])), "{}", ended.world.chronicle);
    assert_eq!(ended.executions.len(), 1, "{:?}", ended.executions);
}

/// Its alarm is all that tells of it.
#[test]
fn a_notice_that_the_bus_refuses_lies_in_the_queue_of_its_account() {
    let scene = interrupted(AwsHabits { bus_admits_forwarded: false, ..AwsHabits::default() });
    let ended = play_or_tell(&scene, Plan::none());
    assert_unheard(&ended);
    let bridge = &ended.world.event_bridge;
    let accounts: Vec<_> = bridge.undelivered.iter().map(|event| &event["account"]).collect();
    assert_eq!((accounts, bridge.dead_letters.len()), (vec![&json!(PROD_ACCOUNT)], 0));
    sampled(&scene, "AssumeRole", FEW / 2, "");
}

/// The risk manager finds no such instance in the account that the event names. No other pool is poisoned for it.
#[test]
fn a_notice_that_is_stamped_anew_ends_in_the_dead_letter_queue() {
    let scene = interrupted(AwsHabits { forwarded_keeps_origin: false, ..AwsHabits::default() });
    let ended = play_or_tell(&scene, Plan::none());
    assert_unheard(&ended);
    let bridge = &ended.world.event_bridge;
    let accounts: Vec<_> = bridge.dead_letters.iter().map(|event| &event["account"]).collect();
    assert_eq!((accounts, bridge.undelivered.len()), (vec![&json!(ACCOUNT)], 0));
    sampled(&scene, "AssumeRole", FEW / 2, "");
}
