//! Scenes in which a missing safety check shows. `tests/world/mutants.toml` names the mutants that each of them notices.

mod hooks;

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;
use spot_world::acts::Act;
use spot_world::campaign::{Selection, all, selected};
use spot_world::chronicle::SentCall;
use spot_world::executions::CLUSTER_SWAP;
use spot_world::fault::{Fault, Plan};
use spot_world::fleet::{GroupSpec, LifecycleHook, PoolRefusal};
use spot_world::history::{Ended, play};
use spot_world::machine::Outcome;
use spot_world::oracles::{POOL_RISK, SWAPS};
use spot_world::scene::{ACCOUNT, Happening, REGION, Scene};
use spot_world::tables::{TableSpec, Tables};
use spot_world::virtual_time::now;
use spot_world::world::World;

use crate::holds::{holds, poison, put};

const WEB: &str = "web";
/// The pools of the default group.
const POOLS: [&str; 3] =
    ["us-east-1#use1-az1#m5.large", "us-east-1#use1-az2#m5.large", "us-east-1#use1-az3#m5.large"];

fn of(group: GroupSpec) -> Scene {
    Scene { group, ..Scene::default() }
}

fn with_a_slow_drain() -> GroupSpec {
    GroupSpec {
        deregistration_delay: SignedDuration::from_secs(300),
        ..GroupSpec::full_behind_load_balancer()
    }
}

fn with_a_terminating_hook() -> GroupSpec {
    // MinSize must not hold back a decrement too many.
    GroupSpec { hooks: vec![LifecycleHook::at_termination(20)], min: 0, ..GroupSpec::default() }
}

fn from_the_beginning(scene: Scene, happens: Happening) -> Scene {
    Scene { happenings: vec![(Duration::ZERO, happens)], ..scene }
}

/// Plays the swap of the group, with what happens in the middle of each of these seconds.
fn holds_at_each(group: &GroupSpec, seconds: impl IntoIterator<Item = u64>, happens: Happening) {
    for second in seconds {
        let at = Duration::from_millis(second * 1000 + 500);
        let scene = Scene { happenings: vec![(at, happens)], ..of(group.clone()) };
        if let Err(broken) = play(&scene, Plan::none(), 1) {
            eprintln!("{broken}");
            panic!("at {second} s: {}", broken.promise);
        }
    }
}

fn without_a_fault(scene: &Scene) -> Ended {
    play(scene, Plan::none(), 1).unwrap_or_else(|broken| panic!("{broken}"))
}

/// Plays these calls × each fault.
fn holds_under_faults(scene: &Scene, calls: &[&str]) {
    let selection = Selection::of_environment().or_calls(calls);
    holds(selected(scene, 1, &selection));
}

fn is_on_spot(ended: &Ended) -> bool {
    let fleet = &ended.world.fleet;
    fleet.groups().values().all(|group| {
        let is_spot = |id: &String| fleet.instances().get(id).is_some_and(|instance| instance.is_spot());
        group.members.iter().all(|member| is_spot(&member.instance_id))
    })
}

fn launches_nothing(ended: &Ended) {
    assert!(ended.world.fleet.instances().values().all(|instance| !instance.is_spot()));
}

fn newcomer(world: &World) -> Option<String> {
    let mut instances = world.fleet.instances().values();
    let newcomer = instances.find(|it| it.state.is_alive() && it.tags.contains_key("ManagedBy"));
    newcomer.map(|instance| instance.id.clone())
}

/// Writes a row that says that a swap of the group has raised its MaxSize. The execution that it names is another group's.
fn forge_a_row(world: &mut World) {
    let input = json!({"asg_name": "other"});
    let execution = world.executions.start(CLUSTER_SWAP, "other", input, now());
    let execution = execution.unwrap_or_else(|error| panic!("{error}"));
    let Some(group) = world.fleet.group(WEB).cloned() else { return };
    let (old, since) = (&group.members[0].instance_id, now().as_millisecond());
    let journal = json!({
        "swap_id": format!("{old}-{since}"), "stage": "Attaching", "old": old, "launching_since": now().to_string(),
        "attempt": 0, "newcomer": "i-0fffffffffffffff1", "max_raised_to": 2, "retirement": "Detach",
        "desired_settled": false, "undo": null,
        "original": {
            "desired": 1, "max": 1, "az_rebalance_suspended": true, "serving": 1, "members": [old],
        },
    });
    let leased = json!({"Group": {"arn": group.arn, "name": WEB}});
    let row = json!({
        "target": {"S": group.arn}, "leased": {"S": leased.to_string()}, "account_id": {"S": ACCOUNT},
        "region": {"S": REGION}, "lease_owner": {"S": execution}, "lease_since": {"N": since.to_string()},
        "journal": {"S": journal.to_string()}, "stage": {"S": "Attaching"}, "revision": {"N": "0"},
        "swap_id": {"S": format!("{old}-{since}")},
    });
    put(world, SWAPS, &row);
}

/// A person deletes what the row tells of a swap, and its lease.
fn clear_the_row(world: &mut World) {
    let Some(arn) = world.fleet.group(WEB).map(|group| group.arn.clone()) else { return };
    put(world, SWAPS, &json!({"target": {"S": arn}}));
}

#[test]
fn every_kind_of_group_is_on_spot_in_the_end() {
    let two = GroupSpec { size: 2, max: 2, ..GroupSpec::default() };
    let groups = [
        GroupSpec::default(),
        two,
        GroupSpec::full_behind_load_balancer(),
        with_a_slow_drain(),
        with_a_terminating_hook(),
    ];
    for group in groups {
        let ended = without_a_fault(&of(group.clone()));
        assert!(matches!(ended.executions["by-hand"], Outcome::Succeeded(_)), "{:?}", ended.executions);
        assert!(is_on_spot(&ended), "{group:?} is not on Spot:\n{}", ended.world.chronicle);
        assert!(ended.world.mailbox.messages.is_empty(), "{:?}", ended.world.mailbox.messages);
    }
}

#[test]
fn a_poisoned_pool_is_not_launched_into() {
    let scene =
        from_the_beginning(Scene::default(), |world| poison(world, &POOLS, SignedDuration::from_mins(5)));
    launches_nothing(&without_a_fault(&scene));
}

#[test]
fn a_pool_whose_row_is_malformed_is_not_launched_into() {
    let scene = from_the_beginning(Scene::default(), |world| {
        for pool in POOLS {
            put(world, POOL_RISK, &json!({"pool": {"S": pool}, "is_poisoned": {"S": "perhaps"}}));
        }
    });
    launches_nothing(&without_a_fault(&scene));
}

#[test]
fn a_row_that_no_execution_has_left_is_not_carried_out() {
    let in_half_an_hour = Duration::from_mins(30);
    let happenings: Vec<(Duration, Happening)> =
        vec![(Duration::ZERO, forge_a_row), (in_half_an_hour, clear_the_row)];
    without_a_fault(&Scene { happenings, ..Scene::default() });
}

/// The first pool has no capacity, and three writes are lost: by the second launch, the proof has expired.
#[test]
fn a_launch_after_slow_writes_asks_the_gate_again() {
    let overrides = ["m5.large", "m5a.large"].map(str::to_owned).to_vec();
    let scene = from_the_beginning(of(GroupSpec { overrides, ..GroupSpec::default() }), |world| {
        for zone in ["us-east-1a", "us-east-1b", "us-east-1c"] {
            world.fleet.refuse_launches(PoolRefusal::insufficient_capacity("m5.large", zone));
        }
    });
    let calls = without_a_fault(&scene).world.chronicle.calls;
    let launches: Vec<usize> =
        calls.iter().enumerate().filter(|(_, call)| call.action == "RunInstances").map(|(n, _)| n).collect();
    let [first, second] = launches[..] else { panic!("launches {launches:?}:\n{calls:?}") };
    // Each launch comes right after its write, and the first write is sent three times.
    let lost = [first - 1, first, second + 1].map(|n| (n, Fault::RequestLost));
    holds(Ok(all(&scene, &[(Plan::At(lost.into()), 1)])));
}

#[test]
fn nothing_is_launched_while_the_gate_does_not_answer() {
    let scene = from_the_beginning(Scene::default(), |world| {
        let table = |name: &str, hash: &str| TableSpec {
            name: name.to_owned(),
            hash: hash.to_owned(),
            range: None,
            ttl: None,
        };
        let names = [("spot-optimizer-accounts", "account_id"), ("spot-optimizer-settings", "scope")];
        let known = names.into_iter().chain([(SWAPS, "target")]);
        world.tables = Tables::new(known.map(|(name, hash)| table(name, hash)));
    });
    launches_nothing(&without_a_fault(&scene));
}

#[test]
fn nothing_is_launched_where_nobody_hears_of_interruptions() {
    let scene = from_the_beginning(Scene::default(), |world| world.mailbox.rules.clear());
    launches_nothing(&without_a_fault(&scene));
}

#[test]
fn an_impaired_newcomer_replaces_nobody() {
    let impaired: Happening = |world| {
        if let Some(newcomer) = newcomer(world) {
            world.fleet.status_checks_fail(&newcomer);
        }
    };
    let scene = Scene { happenings: vec![(Duration::from_secs(5), impaired)], ..Scene::default() };
    let ended = without_a_fault(&scene);
    assert!(newcomer(&ended.world).is_none(), "an impaired newcomer stays:\n{}", ended.world.chronicle);
}

#[test]
fn a_newcomer_without_healthy_targets_is_undone_under_each_fault() {
    let unhealthy: Happening = |world| {
        if let Some(newcomer) = newcomer(world) {
            world.fleet.set_target_health(&newcomer, false);
        }
    };
    let happenings = (150..200).step_by(3).map(|second| (Duration::from_secs(second), unhealthy)).collect();
    let scene = Scene { happenings, ..of(GroupSpec::full_behind_load_balancer()) };
    let ended = without_a_fault(&scene);
    assert!(newcomer(&ended.world).is_none(), "it stays:\n{}", ended.world.chronicle);
    holds_under_faults(&scene, &["Rollback autoscaling:Detach", "Rollback ec2:Terminate"]);
}

#[test]
fn a_newcomer_that_has_died_replaces_nobody() {
    holds_at_each(&GroupSpec::default(), (130..180).step_by(5), |world| {
        let Some(newcomer) = newcomer(world) else { return };
        world.fleet.instance_dies(&newcomer, now());
    });
}

/// Neither a Spot request tells of its death nor its group, whose owner has suspended the health checks.
#[test]
fn an_on_demand_newcomer_that_has_died_replaces_nobody() {
    let group = GroupSpec { spot: 1, ..GroupSpec::default() };
    let input =
        [("replace".to_owned(), json!(["i-00000000000000002"])), ("to".to_owned(), json!("ON_DEMAND"))];
    let scene = from_the_beginning(Scene { input: input.into(), ..of(group) }, |world| {
        world.fleet.suspend(WEB, "HealthCheck");
        for wish in world.oracles.wishes.values_mut() {
            wish.suspended.insert("HealthCheck".to_owned());
        }
    });
    let ended = without_a_fault(&scene);
    assert!(!is_on_spot(&ended));
    let calls = ended.world.chronicle.calls;
    let is_before = |call: &SentCall| {
        let is_look = call.by.ends_with("WaitForInService") && call.action == "DescribeInstances";
        is_look || call.by.ends_with("RetireOld")
    };
    let of_retirement = (0..calls.len()).filter(|number| is_before(&calls[*number]));
    let plans: Vec<_> = of_retirement.map(|number| (Plan::ActAt(number, Act::NewcomerDies), 1)).collect();
    holds(Ok(all(&scene, &plans)));
}

#[test]
fn a_newcomer_that_ec2_takes_back_replaces_nobody() {
    holds_at_each(&GroupSpec::default(), (20..80).step_by(10), |world| {
        let Some(newcomer) = newcomer(world) else { return };
        world.oracles.marks.is_doomed(&newcomer);
        world.fleet.interrupt(&newcomer, now() + SignedDuration::from_mins(2));
    });
}

#[test]
fn a_newcomer_in_a_pool_that_is_poisoned_meanwhile_replaces_nobody() {
    holds_at_each(&GroupSpec::default(), (10..180).step_by(10), |world| {
        poison(world, &POOLS, SignedDuration::ZERO);
    });
}

#[test]
fn an_old_instance_that_comes_back_is_healthy_before_the_newcomer_leaves() {
    holds_at_each(&with_a_slow_drain(), (10..400).step_by(30), |world| {
        poison(world, &POOLS, SignedDuration::ZERO);
    });
}

#[test]
fn a_member_that_its_owner_protects_meanwhile_stays() {
    holds_at_each(&GroupSpec::default(), (20..80).step_by(10), |world| {
        let members = world.fleet.group(WEB).map(|group| group.members.clone()).unwrap_or_default();
        for member in members {
            world.fleet.protect(WEB, &member.instance_id, true);
        }
    });
}

#[test]
fn a_group_that_its_owner_opts_out_meanwhile_stays() {
    holds_at_each(&GroupSpec::default(), (20..80).step_by(10), |world| {
        let Some(group) = world.fleet.group_mut(WEB) else { return };
        group.tags.insert("spot-optimizer:opt-out".to_owned(), ("true".to_owned(), false));
    });
}

#[test]
fn a_newcomer_warms_up_before_it_replaces() {
    let scene = from_the_beginning(Scene::default(), |world| {
        if let Some(group) = world.fleet.group_mut(WEB) {
            group.warm_up_seconds = Some(180);
        }
    });
    assert!(is_on_spot(&without_a_fault(&scene)));
}

#[test]
fn a_process_that_its_owner_has_suspended_stays_suspended() {
    let scene = from_the_beginning(Scene::default(), |world| {
        world.fleet.suspend(WEB, "AZRebalance");
        for wish in world.oracles.wishes.values_mut() {
            wish.suspended.insert("AZRebalance".to_owned());
        }
    });
    assert!(is_on_spot(&without_a_fault(&scene)));
}

#[test]
fn capacity_that_its_owner_sets_meanwhile_is_not_lowered() {
    let group = GroupSpec { size: 2, min: 1, max: 4, ..GroupSpec::default() };
    holds_at_each(&group, (150..176).step_by(2), |world| {
        world.owner_sets_desired(WEB, 2);
    });
}

#[test]
fn two_runs_of_one_group_do_not_meet() {
    holds_at_each(&GroupSpec::default(), (0..200).step_by(20), |world| {
        let started = world.executions.start(CLUSTER_SWAP, "second", json!({"asg_name": WEB}), now());
        assert!(started.is_ok());
    });
}
