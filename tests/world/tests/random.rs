//! Random histories: faults at some of the calls, and acts of others beside some. One that breaks a promise shrinks to those
//! that it takes.

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::SignedDuration;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestError, TestRunner};
use serde_json::json;
use spot_world::acts::{Act, LabAct, TwinAct};
use spot_world::campaign::{Failure, tally};
use spot_world::cluster::ClusterSpec;
use spot_world::fault::{Fault, Plan, Strike};
use spot_world::fleet::{AwsHabits, GroupSpec, InstanceSpec, LifecycleHook};
use spot_world::history::play;
use spot_world::replay;
use spot_world::scene::Scene;

/// The number of histories: as many as a deep run asks for (`make test-deep`), or so many.
fn histories(otherwise: u32) -> u32 {
    env::var("HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

fn groups() -> impl Strategy<Value = Scene> {
    let heartbeat = prop::sample::select(vec![0, 0, 300, 3_600]);
    (1_u32..4, 0_u32..3, any::<bool>(), 1_usize..4, heartbeat).prop_map(
        |(size, room, has_target_group, zones, heartbeat)| {
            let hooks = LifecycleHook::with_heartbeat(heartbeat).into_iter().collect();
            let max = size + room;
            let group = GroupSpec { size, max, has_target_group, zones, hooks, ..GroupSpec::default() };
            Scene { group, ..Scene::default() }
        },
    )
}

fn nodes() -> impl Strategy<Value = Scene> {
    (1_u32..3, 0_u32..2).prop_map(|(size, room)| {
        let group = GroupSpec { size, max: size + room, ..GroupSpec::default() };
        Scene { group, nodes: Some(ClusterSpec::default()), ..Scene::default() }
    })
}

fn instances() -> impl Strategy<Value = Scene> {
    (any::<bool>(), 0_u8..3, any::<bool>()).prop_map(|(has_address, target_groups, captures_image)| {
        let lab = Some(InstanceSpec { has_address, target_groups, ..InstanceSpec::default() });
        let input = [("capture_image".to_owned(), json!(captures_image))].into();
        Scene { lab, input, ..Scene::default() }
    })
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        max_shrink_iters: 300,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("proptest-regressions"))),
        ..ProptestConfig::with_cases(histories(cases))
    }
}

/// Tells the histories of a test from the steps by which its first failure shrinks.
struct Counted(AtomicBool);

static OF_GROUPS: Counted = Counted(AtomicBool::new(false));
static OF_NODES: Counted = Counted(AtomicBool::new(false));
static OF_INSTANCES: Counted = Counted(AtomicBool::new(false));

impl Counted {
    /// Returns true for a history that counts. What is played after a failure is a step of its shrinking.
    fn counts(&self, has_failed: bool) -> bool {
        !self.0.fetch_or(has_failed, Ordering::Relaxed)
    }
}

/// Plays a history. If it breaks a promise, the failure tells the command that plays it again.
fn plays(counted: &Counted, scene: &Scene, plan: Plan, seed: u8) -> Result<(), TestCaseError> {
    let played = play(scene, plan.clone(), seed.into());
    if counted.counts(played.is_err()) {
        tally(1, usize::from(played.is_err()));
    }
    let Err(broken) = played else { return Ok(()) };
    let replay = replay::command(scene, &plan, seed.into());
    Err(TestCaseError::fail(Failure { plan, seed: seed.into(), replay, broken }.to_string()))
}

/// What others do beside the swap of a group or a node.
fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => any::<u32>().prop_map(Act::from),
        1 => Just(Act::TagsAreForged),
        1 => Just(Act::SpotPricesRise),
    ]
}

/// What others do beside the swap of an instance, its owner among them. A target group of his that he makes a second time would
/// take the place of the first, without its targets: that act is played alone, on the old instance
/// (`lab_owner.rs`) and on the twin (`lab_twin.rs`).
fn acts_beside_instance() -> impl Strategy<Value = Act> {
    let may_repeat = |act: &LabAct| *act != LabAct::RegistersOldElsewhere;
    let of_owner = LabAct::ALL.into_iter().filter(may_repeat).map(Act::OwnerOfInstance);
    let of_twin = TwinAct::ALL.into_iter().filter(|act| *act != TwinAct::RegistersElsewhere);
    let of_owner: Vec<_> = of_owner.chain(of_twin.map(Act::OwnerOfTwin)).collect();
    prop_oneof![2 => any::<u32>().prop_map(Act::from), 1 => prop::sample::select(of_owner)]
}

/// A history without a fault has some 80 calls, a way back some more.
fn plans(acts: impl Strategy<Value = Act>) -> impl Strategy<Value = Plan> {
    let fault = prop::sample::select(&Fault::ALL[..]).prop_map(Strike::Fault);
    let strike = prop_oneof![2 => fault, 1 => acts.prop_map(Strike::Act)];
    prop::collection::btree_map(0_usize..160, strike, 0..16).prop_map(Plan::Random)
}

/// AWS may answer its open questions one way or the other. That a second termination counts is not among them: with a call
/// that comes twice it is known to break (`habits.rs`). Nor are those that these scenes meet seldom or never: forwarding, a
/// policy beside SetDesiredCapacity, the operation of a Spot instance.
fn habits() -> impl Strategy<Value = AwsHabits> {
    let of_groups = any::<[bool; 8]>();
    let of_images = any::<[bool; 3]>();
    (of_groups, of_images, lags()).prop_map(|(of_groups, of_images, lags)| {
        let [wildcards, detached, dead, leaving, tags, announces, interrupted, hooks] = of_groups;
        let [source, snapshots, deregisters] = of_images;
        AwsHabits {
            client_token_takes_wildcards: wildcards,
            detached_keeps_group_tag: detached,
            dead_detaching_keeps_group_tag: dead,
            max_covers_leaving: leaving,
            attach_refuses_too_many_tags: tags,
            attach_announces_launch: announces,
            refuses_to_terminate_interrupted: interrupted,
            hooks_of_dead_are_completed: hooks,
            pending_image_names_source: source,
            pending_image_names_snapshots: snapshots,
            pending_image_deregisters: deregisters,
            ..lags
        }
    })
}

/// Descriptions may be late, and EC2 may take a snapshot for used.
fn lags() -> impl Strategy<Value = AwsHabits> {
    (0_i64..15, 0_i64..160, 0_i64..300, 0_i64..1_000).prop_map(|(leaving, targets, snapshots, tags)| {
        AwsHabits {
            terminated_keeps_tags_for: SignedDuration::from_secs(tags),
            leaving_shows_after: SignedDuration::from_secs(leaving),
            targets_known_after: SignedDuration::from_secs(targets),
            snapshot_in_use_after: SignedDuration::from_secs(snapshots),
            ..AwsHabits::default()
        }
    })
}

proptest! {
    #![proptest_config(config(60))]

    /// Whatever goes wrong and whoever acts, in whatever order: every promise holds.
    #[test]
    fn no_plan_breaks_a_promise(
        scene in groups(), habits in habits(), plan in plans(acts()), seed: u8,
    ) {
        plays(&OF_GROUPS, &Scene { habits, ..scene }, plan, seed)?;
    }
}

proptest! {
    #![proptest_config(config(12))]

    #[test]
    fn no_plan_breaks_a_promise_of_a_node(
        scene in nodes(), habits in habits(), plan in plans(acts()), seed: u8,
    ) {
        plays(&OF_NODES, &Scene { habits, ..scene }, plan, seed)?;
    }

    #[test]
    fn no_plan_breaks_a_promise_of_an_instance(
        scene in instances(), habits in habits(), plan in plans(acts_beside_instance()), seed: u8,
    ) {
        plays(&OF_INSTANCES, &Scene { habits, ..scene }, plan, seed)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn every_random_scene_has_a_command_that_plays_it_again(
        scene in prop_oneof![groups(), nodes(), instances()], habits in habits(), plan in plans(acts()),
    ) {
        let drawn = Scene { habits, ..scene };
        prop_assert!(replay::command(&drawn, &plan, 1).is_some());
    }
}

/// What a promise that a doubled launch broke would shrink to.
#[test]
fn a_plan_that_breaks_a_promise_shrinks_to_what_it_takes() {
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..config(10_000) });
    let broken = runner.run(&plans(acts()), |plan| {
        let Plan::Random(strikes) = &plan else { return Ok(()) };
        let is_doubled = |strike: &Strike| matches!(strike, Strike::Fault(Fault::Twice));
        prop_assert!(!strikes.range(20..40).any(|(_, strike)| is_doubled(strike)));
        Ok(())
    });
    let Err(TestError::Fail(_, Plan::Random(strikes))) = broken else { panic!("{broken:?}") };
    assert_eq!(strikes, [(20, Strike::Fault(Fault::Twice))].into());
}

#[test]
fn the_steps_of_a_shrinking_are_no_histories() {
    let counted = Counted(AtomicBool::new(false));
    let counts = [false, true, true, false].map(|has_failed| counted.counts(has_failed));
    assert_eq!(counts, [true, true, false, false]);
}
