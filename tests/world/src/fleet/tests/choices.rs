//! The choices of AWS and of the owner.

use super::*;
use crate::fleet::{GroupActivity, PoolRefusal, ScheduledScaling};

#[test]
fn a_group_launches_what_it_lacks_into_the_emptiest_zone() {
    let mut scene = Scene::of(&of_size(2));
    scene.fleet.set_desired("web", 3);
    assert_eq!(scene.fleet.unsettled(), ["web"]);
    let acts = scene.fleet.group_acts("web", 0, scene.now);
    let id = scene.member(2);
    assert_eq!(acts, [GroupActivity::Launched(id.clone())]);
    let instance = &scene.fleet.instances()[&id];
    assert_eq!((instance.zone.as_str(), instance.is_spot()), ("us-east-1c", false));
    assert_eq!(scene.states()[&id], LifecycleState::Pending);
    assert!(scene.fleet.unsettled().is_empty() && scene.fleet.group_acts("web", 0, scene.now).is_empty());
    scene.wait(29);
    assert_eq!(scene.states()[&id], LifecycleState::Pending);
    scene.wait(1);
    assert_eq!(scene.states()[&id], LifecycleState::InService);
}

#[test]
fn a_group_goes_to_the_next_zone_if_the_emptiest_has_no_capacity() {
    let mut scene = Scene::of(&of_size(2));
    scene.fleet.refuse_launches(PoolRefusal::insufficient_capacity("m5.large", "us-east-1c"));
    scene.fleet.set_desired("web", 3);
    scene.fleet.group_acts("web", 0, scene.now);
    let id = scene.member(2);
    assert_eq!(scene.fleet.instances()[&id].zone, "us-east-1a");
    for zone in ["us-east-1a", "us-east-1b"] {
        scene.fleet.refuse_launches(PoolRefusal::insufficient_capacity("m5.large", zone));
    }
    scene.fleet.set_desired("web", 4);
    let acts = scene.fleet.group_acts("web", 0, scene.now);
    assert_eq!(acts, [GroupActivity::LaunchRefused("InsufficientInstanceCapacity".to_owned())]);
    assert_eq!(scene.fleet.unsettled(), ["web"]);
}

#[test]
fn the_schedule_chooses_the_victim_among_the_unprotected() {
    for victim in 0..4 {
        let mut scene = Scene::of(&of_size(3));
        let (kept, candidates) = (scene.member(0), [scene.member(1), scene.member(2)]);
        scene.fleet.protect("web", &kept, true);
        scene.fleet.set_desired("web", 2);
        let acts = scene.fleet.group_acts("web", victim, scene.now);
        let chosen = &candidates[victim % 2];
        assert_eq!(acts, [GroupActivity::Terminates(chosen.clone())]);
        assert_eq!(scene.states()[chosen], LifecycleState::Terminating);
        assert!(scene.fleet.group_acts("web", victim, scene.now).is_empty());
    }
}

#[test]
fn a_group_of_protected_members_terminates_none() {
    let mut scene = Scene::of(&of_size(1));
    let id = scene.member(0);
    scene.fleet.protect("web", &id, true);
    scene.fleet.set_desired("web", 0);
    assert!(scene.fleet.group_acts("web", 7, scene.now).is_empty());
    assert_eq!(scene.states()[&id], LifecycleState::InService);
}

#[test]
fn suspended_processes_stop_launches_and_terminations() {
    let mut scene = Scene::of(&of_size(2));
    scene.fleet.suspend("web", "Launch");
    scene.fleet.suspend("web", "Terminate");
    for desired in [3, 1] {
        scene.fleet.set_desired("web", desired);
        assert!(scene.fleet.group_acts("web", 0, scene.now).is_empty(), "{desired}");
    }
    scene.fleet.resume("web", "Terminate", scene.now);
    assert_eq!(scene.fleet.group_acts("web", 0, scene.now).len(), 1);
}

#[test]
fn rebalancing_launches_one_beyond_desired_and_only_then_terminates() {
    let mut scene = Scene::of(&GroupSpec::default());
    assert_eq!(scene.fleet.rebalance("web", scene.now), None, "one member can't be out of balance");
    let newcomer = scene.newcomer("a");
    assert_done(&scene.attach(&newcomer));
    scene.wait(10);
    let Some(GroupActivity::Launched(extra)) = scene.fleet.rebalance("web", scene.now) else {
        panic!("two members are in one zone")
    };
    assert_eq!((scene.desired(), scene.states().len()), (2, 3), "beyond MaxSize");
    assert!(scene.fleet.group_acts("web", 0, scene.now).is_empty(), "the extra one is not in service yet");
    assert_eq!(scene.fleet.rebalance("web", scene.now), None, "one at a time");
    scene.wait(30);
    assert_eq!(scene.states()[&extra], LifecycleState::InService);
    assert_eq!(scene.fleet.group_acts("web", 1, scene.now), [GroupActivity::Terminates(newcomer)]);
}

#[test]
fn suspended_rebalancing_launches_nothing() {
    let mut scene = Scene::of(&GroupSpec::default());
    let newcomer = scene.newcomer("a");
    assert_done(&scene.attach(&newcomer));
    scene.fleet.suspend("web", "AZRebalance");
    assert_eq!(scene.fleet.rebalance("web", scene.now), None);
    scene.fleet.resume("web", "AZRebalance", scene.now);
    assert!(scene.fleet.rebalance("web", scene.now).is_some());
}

#[test]
fn an_interrupted_member_serves_until_its_end_and_is_replaced_on_demand() {
    let mut scene = Scene::of(&of_size(0));
    let id = scene.newcomer("a");
    assert_done(&scene.attach(&id));
    scene.wait(10);
    scene.fleet.interrupt(&id, scene.now + SignedDuration::from_secs(120));
    scene.wait(119);
    assert_eq!(scene.fleet.serving("web"), [id.as_str()]);
    scene.wait(1);
    assert!(scene.fleet.serving("web").is_empty());
    assert_eq!(scene.states().len(), 1, "the group has not noticed");
    scene.wait(90);
    assert!(scene.states().is_empty());
    scene.fleet.group_acts("web", 0, scene.now);
    let replacement = scene.member(0);
    assert!(!scene.fleet.instances()[&replacement].is_spot());
}

#[test]
fn a_scaling_policy_stays_within_the_bounds() {
    let mut scene = Scene::of(&GroupSpec { size: 2, min: 1, max: 3, ..GroupSpec::default() });
    for (by, desired) in [(5, 3), (-1, 2), (-9, 1)] {
        assert!(scene.fleet.scale("web", by, scene.now));
        assert_eq!(scene.desired(), desired);
    }
    scene.fleet.suspend("web", "AlarmNotification");
    assert!(!scene.fleet.scale("web", 1, scene.now));
    assert_eq!(scene.desired(), 1);
}

#[test]
fn an_owner_is_refused_as_any_caller() {
    let mut scene = Scene::of(&GroupSpec::default());
    let (id, now) = (scene.member(0), scene.now);
    assert!(!scene.fleet.set_desired("web", 3) && !scene.fleet.set_desired("web", 0));
    assert!(!scene.fleet.set_max("web", 0) && !scene.fleet.set_min("web", 3));
    assert!(!scene.fleet.owner_detaches("web", &id, true, now), "below MinSize");
    assert!(scene.fleet.set_min("web", 0) && scene.fleet.owner_detaches("web", &id, true, now));
}

#[test]
fn a_deleted_group_goes_with_its_last_member_without_hooks() {
    let hooks = vec![terminating_hook(None)];
    let mut scene = Scene::of(&GroupSpec { size: 2, hooks, ..GroupSpec::default() });
    assert!(scene.fleet.delete_group("web", scene.now));
    assert!(scene.states().values().all(|state| *state == LifecycleState::Terminating));
    assert!(scene.fleet.group_acts("web", 0, scene.now).is_empty());
    scene.wait(30);
    assert!(scene.fleet.group("web").is_none());
    assert!(scene.fleet.instances().values().all(|instance| !instance.state.is_alive()));
}

#[test]
fn a_detaching_member_outlives_its_group() {
    let mut scene = Scene::of(&of_size(2));
    let id = scene.member(0);
    assert_done(&scene.detach(&id));
    scene.fleet.delete_group("web", scene.now);
    scene.wait(30);
    assert!(scene.fleet.group("web").is_none() && scene.fleet.instances()[&id].state.is_alive());
}

#[test]
fn an_owner_that_resumes_the_health_check_lets_it_find_the_dead() {
    let mut scene = Scene::of(&GroupSpec::default());
    let id = scene.member(0);
    scene.fleet.suspend("web", "ReplaceUnhealthy");
    scene.fleet.owner_terminates(&id, scene.now);
    scene.wait(600);
    scene.fleet.resume("web", "ReplaceUnhealthy", scene.now);
    assert_eq!(scene.states().len(), 1);
    scene.wait(90);
    assert!(scene.states().is_empty());
}

#[test]
fn a_scheduled_action_sets_desired_within_the_bounds_unless_it_is_suspended() {
    for (suspended, desired) in [(false, 2), (true, 1)] {
        let mut scene = Scene::of(&GroupSpec::default());
        let at = scene.now + SignedDuration::from_secs(60);
        scene.fleet.schedule("web", ScheduledScaling { name: "rush".to_owned(), at, desired: 9 });
        if suspended {
            scene.fleet.suspend("web", "ScheduledActions");
        }
        scene.wait(59);
        assert_eq!(scene.desired(), 1);
        scene.wait(1);
        assert_eq!(scene.desired(), desired);
        assert!(scene.fleet.group("web").unwrap().scheduled.is_empty());
    }
}

#[test]
fn a_policy_launches_spot_once_it_has_its_share_on_demand() {
    let overrides = vec!["c5.large".to_owned()];
    for (percentage, spot) in [(100, false), (51, false), (50, true), (0, true)] {
        let mut scene = Scene::of(&GroupSpec { overrides: overrides.clone(), ..GroupSpec::default() });
        scene.fleet.group_mut("web").unwrap().on_demand_percentage = percentage;
        scene.fleet.set_desired("web", 2);
        scene.fleet.group_acts("web", 0, scene.now);
        let instance = &scene.fleet.instances()[&scene.member(1)];
        assert_eq!((instance.is_spot(), instance.instance_type.as_str()), (spot, "c5.large"), "{percentage}");
    }
}
