//! Random histories: a tape of numbers decides on the fault of each call and on the acts of others.

use std::env;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::json;
use spot_world::cluster::ClusterSpec;
use spot_world::fault::Plan;
use spot_world::fleet::{GroupSpec, InstanceSpec};
use spot_world::history::play;
use spot_world::scene::Scene;

/// The number of histories: as many as a deep run asks for (`make test-deep`), or so many.
fn histories(otherwise: u32) -> u32 {
    env::var("HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

fn groups() -> impl Strategy<Value = Scene> {
    (1_u32..4, 0_u32..3, any::<bool>(), 1_usize..4).prop_map(|(size, room, has_target_group, zones)| {
        let group = GroupSpec { size, max: size + room, has_target_group, zones, ..GroupSpec::default() };
        Scene { group, ..Scene::default() }
    })
}

fn nodes() -> impl Strategy<Value = Scene> {
    (1_u32..3, 0_u32..2).prop_map(|(size, room)| {
        let group = GroupSpec { size, max: size + room, ..GroupSpec::default() };
        Scene { group, nodes: Some(ClusterSpec::default()), ..Scene::default() }
    })
}

fn instances() -> impl Strategy<Value = Scene> {
    (any::<bool>(), 0_u8..3, any::<bool>()).prop_map(|(has_address, target_groups, captures_image)| {
        let lab = Some(InstanceSpec { has_address, target_groups });
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

fn plays(scene: &Scene, tape: Vec<u32>, seed: u8) -> Result<(), TestCaseError> {
    let played = play(scene, Plan::Tape(tape), seed.into());
    played.map(drop).map_err(|broken| TestCaseError::fail(broken.to_string()))
}

fn tapes() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(any::<u32>(), 0..160)
}

proptest! {
    #![proptest_config(config(60))]

    /// Whatever goes wrong and whoever acts, in whatever order: every promise holds.
    #[test]
    fn no_tape_breaks_a_promise(scene in groups(), tape in tapes(), seed: u8) {
        plays(&scene, tape, seed)?;
    }
}

proptest! {
    #![proptest_config(config(12))]

    #[test]
    fn no_tape_breaks_a_promise_of_a_node(scene in nodes(), tape in tapes(), seed: u8) {
        plays(&scene, tape, seed)?;
    }

    #[test]
    fn no_tape_breaks_a_promise_of_an_instance(scene in instances(), tape in tapes(), seed: u8) {
        plays(&scene, tape, seed)?;
    }
}
