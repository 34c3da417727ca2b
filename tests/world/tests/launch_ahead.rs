//! Launches for the members of a group: ahead of their turn, refused in some pools, from a template that has moved, and
//! beside a schedule.

use std::time::Duration;

use jiff::SignedDuration;
use spot_world::campaign::one_in;
use spot_world::fault::{Fault, Plan};
use spot_world::fleet::{GroupSpec, PoolRefusal, ScheduledScaling, TemplateVersion};
use spot_world::history::Ended;
use spot_world::machine::Outcome;
use spot_world::scene::{Happening, Scene};
use spot_world::virtual_time::now;
use spot_world::world::World;

use crate::holds::{holds, output as report, play_or_tell, scene};

fn four_on_demand() -> Scene {
    scene("launch-ahead")
}

#[test]
fn a_group_of_four_moves_with_newcomers_that_are_launched_ahead() {
    let ended = play_or_tell(&four_on_demand(), Plan::none());
    assert!(matches!(ended.executions["by-hand"], Outcome::Succeeded(_)), "{:?}", ended.executions);
    let fleet = &ended.world.fleet;
    let spot = fleet.serving("web").into_iter().filter(|id| fleet.instances()[*id].is_spot());
    assert_eq!(spot.count(), 4);
    let calls = ended.world.chronicle.calls.iter().map(|call| call.action.as_str());
    let changing: Vec<&str> =
        calls.filter(|action| ["RunInstances", "AttachInstances"].contains(action)).collect();
    assert!(
        changing.windows(2).any(|two| two == ["RunInstances"; 2]),
        "none was launched ahead: {changing:?}"
    );
}

#[test]
fn a_swap_that_launches_ahead_survives_faults_at_its_calls() {
    holds(one_in(120, &four_on_demand(), &Fault::ALL, 1));
}

#[test]
fn the_reconciler_ends_all_swaps_of_an_execution_that_is_stopped() {
    holds(one_in(60, &four_on_demand(), &[Fault::StoppedBefore, Fault::StoppedAfter], 1));
}

#[test]
fn the_reconciler_finishes_the_swap_whose_old_instance_was_leaving_and_ends_those_ahead() {
    let calls = play_or_tell(&four_on_demand(), Plan::none()).world.chronicle.calls;
    let mut retired = calls.iter().enumerate().filter(|(_, call)| call.action == "DetachInstances");
    let (second, _) = retired.nth(1).unwrap_or_else(|| panic!("none is detached"));
    let ended = play_or_tell(&four_on_demand(), Plan::At([(second, Fault::StoppedAfter)].into()));
    assert!(matches!(ended.executions["by-hand"], Outcome::Aborted), "{:?}", ended.executions);
    let fleet = &ended.world.fleet;
    let launched = fleet.instances().values().filter(|it| it.is_spot()).count();
    assert!(launched > 2, "none was ahead");
    let alive: Vec<_> = fleet.instances().values().filter(|it| it.state.is_alive()).collect();
    assert_eq!((alive.len(), alive.iter().filter(|it| it.is_spot()).count()), (4, 2));
    assert_eq!(fleet.serving("web").len(), 4);
}

/// Plays the swap of two members, in two zones, whose group may launch two types.
fn two_of_two_types(refused: Happening) -> Ended {
    two_of_two_types_by(refused, Plan::none())
}

fn two_of_two_types_by(refused: Happening, plan: Plan) -> Ended {
    let overrides = ["m5.large", "m5a.large"].map(str::to_owned).to_vec();
    let group = GroupSpec { size: 2, max: 3, overrides, ..GroupSpec::default() };
    let scene = Scene { group, happenings: vec![(Duration::ZERO, refused)], ..Scene::default() };
    play_or_tell(&scene, plan)
}

fn launches(ended: &Ended) -> usize {
    ended.world.chronicle.calls.iter().filter(|call| call.action == "RunInstances").count()
}

fn spot_quota_of(instance_type: &str) -> PoolRefusal {
    PoolRefusal { instance_type: Some(instance_type.to_owned()), ..PoolRefusal::spot_quota() }
}

fn denied(instance_type: Option<&str>) -> PoolRefusal {
    PoolRefusal {
        instance_type: instance_type.map(str::to_owned),
        status: 403,
        code: "UnauthorizedOperation".to_owned(),
        message: "You are not authorized to perform this operation.".to_owned(),
        ..PoolRefusal::spot_quota()
    }
}

/// Nothing is left of the member's own type in one zone, nor of the quota of the other type.
fn refuse_one_zone(world: &mut World) {
    world.fleet.refuse_launches(PoolRefusal::insufficient_capacity("m5.large", "us-east-1a"));
    world.fleet.refuse_launches(spot_quota_of("m5a.large"));
}

#[test]
fn a_quota_of_one_class_of_types_leaves_members_of_other_zones_their_turn() {
    let ended = two_of_two_types(refuse_one_zone);
    let report = report(&ended);
    assert_eq!(report["swapped"].as_array().map(Vec::len), Some(1), "{report}");
    assert_eq!(report["skipped"][0]["reason"], "NO_CAPACITY", "{report}");
    assert!(report.get("ended_by").is_none(), "{report}");
}

/// The repetition begins with the attempt that the quota refuses.
#[test]
fn a_quota_leaves_members_of_other_zones_their_turn_also_in_a_step_that_is_repeated() {
    let calls = two_of_two_types(refuse_one_zone).world.chronicle.calls;
    let is_refused = |status: u16| (400..500).contains(&status);
    let last = calls.iter().rposition(|call| {
        call.action == "RunInstances" && call.effect.is_some_and(|(_, status)| is_refused(status))
    });
    let last = last.unwrap_or_else(|| panic!("no launch meets the quota"));
    let ended = two_of_two_types_by(refuse_one_zone, Plan::At([(last, Fault::Throttled)].into()));
    let report = report(&ended);
    assert_eq!(report["rolled_back"][0]["reason"], "QUOTA_EXCEEDED", "{report}");
    assert_eq!(report["swapped"].as_array().map(Vec::len), Some(1), "{report}");
    assert!(report.get("ended_by").is_none(), "{report}");
}

#[test]
fn a_denial_of_one_type_leaves_the_next_type_its_turn() {
    let ended = two_of_two_types(|world| world.fleet.refuse_launches(denied(Some("m5.large"))));
    let report = report(&ended);
    assert_eq!(report["swapped"].as_array().map(Vec::len), Some(2), "{report}");
    assert!(report.get("ended_by").is_none(), "{report}");
}

#[test]
fn a_denial_of_every_type_ends_the_run_with_the_first_member() {
    let ended = two_of_two_types(|world| world.fleet.refuse_launches(denied(None)));
    let report = report(&ended);
    assert_eq!(report["ended_by"]["reason"], "NOT_AUTHORIZED", "{report}");
    assert_eq!((report["remaining"].as_u64(), launches(&ended)), (Some(1), 2), "{report}");
}

#[test]
fn a_launch_waits_for_an_action_that_is_due_before_its_newcomer_has_warmed_up() {
    let ended = after_a_change(|world| {
        let at = now() + SignedDuration::from_mins(20);
        let action = ScheduledScaling { name: "morning".to_owned(), at, desired: 1 };
        assert!(world.fleet.schedule("web", action));
        if let Some(group) = world.fleet.group_mut("web") {
            group.warm_up_seconds = Some(1800);
        }
    });
    assert_eq!(report(&ended)["swapped"].as_array().map(Vec::len), Some(1), "{}", report(&ended));
    let fleet = &ended.world.fleet;
    let newcomer = fleet.instances().values().find(|instance| instance.is_spot());
    let (Some(newcomer), Some(group)) = (newcomer, fleet.group("web")) else { panic!("{}", report(&ended)) };
    // The group was an hour old as the run began.
    let waited = newcomer.launched_at.duration_since(group.created_at) - SignedDuration::from_hours(1);
    assert!(waited >= SignedDuration::from_mins(20), "it was launched after {waited}");
}

fn change_each_template(world: &mut World, change: fn(&mut TemplateVersion)) {
    let templates = world.fleet.catalog_mut().templates.values_mut();
    templates.flat_map(|template| template.versions.values_mut()).for_each(change);
}

/// Plays the swap of one member, whose group's template has changed since its launch.
fn after_a_change(change: Happening) -> Ended {
    play_or_tell(&Scene { happenings: vec![(Duration::ZERO, change)], ..Scene::default() }, Plan::none())
}

#[test]
fn a_template_that_has_moved_to_another_type_is_followed() {
    let ended = after_a_change(|world| {
        change_each_template(world, |version| version.instance_type = "c5.large".to_owned());
    });
    let report = report(&ended);
    let pool = report["swapped"][0]["pool"].as_str().unwrap_or_default();
    assert!(pool.ends_with("#c5.large"), "{report}");
}

#[test]
fn a_newcomer_that_is_billed_for_another_system_is_undone() {
    let ended = after_a_change(|world| {
        let operation = ("ami-0windows".to_owned(), "RunInstances:0002".to_owned());
        world.fleet.catalog_mut().usage_operations.extend([operation]);
        change_each_template(world, |version| version.image_id = "ami-0windows".to_owned());
    });
    let report = report(&ended);
    assert_eq!(report["rolled_back"][0]["reason"], "NOT_CHEAPER", "{report}");
    let alive = ended.world.fleet.instances().values().filter(|instance| instance.state.is_alive());
    assert_eq!((alive.count(), launches(&ended)), (1, 1), "{report}");
}
