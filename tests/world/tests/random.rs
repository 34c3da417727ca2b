//! Random histories: a tape of numbers decides on the fault of each call and on the acts of others.

use std::env;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use spot_world::fault::Plan;
use spot_world::fleet::GroupSpec;
use spot_world::history::play;
use spot_world::scene::Scene;

/// The number of histories: as many as a deep run asks for (`make test-deep`), or so many.
fn histories(otherwise: u32) -> u32 {
    env::var("HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

fn scenes() -> impl Strategy<Value = Scene> {
    (1_u32..4, 0_u32..3, any::<bool>(), 1_usize..4).prop_map(|(size, room, has_target_group, zones)| {
        let group = GroupSpec { size, max: size + room, has_target_group, zones, ..GroupSpec::default() };
        Scene { group, ..Scene::default() }
    })
}

fn config() -> ProptestConfig {
    ProptestConfig {
        max_shrink_iters: 300,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("proptest-regressions"))),
        ..ProptestConfig::with_cases(histories(60))
    }
}

proptest! {
    #![proptest_config(config())]

    /// Whatever goes wrong and whoever acts, in whatever order: every promise holds.
    #[test]
    fn no_tape_breaks_a_promise(scene in scenes(), tape in prop::collection::vec(any::<u32>(), 0..160), seed: u8) {
        if let Err(broken) = play(&scene, Plan::Tape(tape), seed.into()) {
            return Err(TestCaseError::fail(broken.to_string()));
        }
    }
}
