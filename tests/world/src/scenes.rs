//! The main scenes by name, so that a failure can be played again: `cargo run -p spot-world --example replay -- NAME`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::acts::Act;
use crate::cluster::{BudgetSpec, ClusterSpec, WorkloadKind, WorkloadSpec};
use crate::event_bridge::Wakes;
use crate::fleet::{AwsHabits, GroupSpec, InstanceSpec, LifecycleHook, PoolRefusal};
use crate::scene::{Happening, Scene};
use crate::world::World;

/// The names of the scenes.
pub const NAMES: [&str; 18] = [
    "group",
    "full-group",
    "full-group-of-two",
    "group-at-its-max",
    "group-with-room",
    "group-with-hook",
    "group-elsewhere",
    "group-of-two-types",
    "launch-ahead",
    "node",
    "node-with-budget",
    "lab",
    "lab-image",
    "lab-failing-image",
    "lab-outliving-volume",
    "notice",
    "notice-with-room",
    "loop",
];

/// Returns the scene of this name.
#[must_use]
pub fn named(name: &str) -> Option<Scene> {
    let full = GroupSpec::full_behind_load_balancer;
    Some(match name {
        "group" => Scene::default(),
        "full-group" => of(full()),
        "full-group-of-two" => of(GroupSpec { size: 2, max: 2, ..full() }),
        "group-at-its-max" => of(GroupSpec { size: 1, max: 1, ..GroupSpec::default() }),
        "group-with-room" => of(GroupSpec { size: 2, max: 4, ..GroupSpec::default() }),
        "group-with-hook" => {
            of(GroupSpec { hooks: vec![LifecycleHook::at_termination(20)], ..GroupSpec::default() })
        }
        "group-elsewhere" => Scene { is_elsewhere: true, ..Scene::default() },
        "group-of-two-types" => of_two_types(),
        "launch-ahead" => of(GroupSpec { size: 4, max: 5, ..GroupSpec::default() }),
        "node" => of_nodes(2, ClusterSpec::default()),
        "node-with-budget" => of_nodes(1, tight_budget()),
        "lab" => Scene::of_instance(),
        "lab-image" => with_image(AwsHabits::default()),
        "lab-failing-image" => with_image(AwsHabits { images_fail: true, ..AwsHabits::default() }),
        "lab-outliving-volume" => {
            let instance = InstanceSpec { has_address: true, target_groups: 1, volume_outlives: true };
            Scene { lab: Some(instance), ..Scene::default() }
        }
        "notice" => of_notice(2, true, 2),
        "notice-with-room" => of_notice(3, false, 1),
        "loop" => of_loop(),
        _ => return None,
    })
}

/// Returns the name of a scene, whatever wakes its reconciler and whenever its executions time out.
#[must_use]
pub fn name_of(scene: &Scene) -> Option<&'static str> {
    let plain = Scene { wakes: Wakes::default(), machine_timeout: None, ..scene.clone() };
    let told = format!("{plain:?}");
    NAMES.into_iter().find(|name| named(name).is_some_and(|scene| format!("{scene:?}") == told))
}

fn of(group: GroupSpec) -> Scene {
    Scene { group, ..Scene::default() }
}

/// A group of m5a.large, which has no Spot capacity for its own type: it moves to m5.large.
fn of_two_types() -> Scene {
    let overrides = ["m5a.large", "m5.large"].map(str::to_owned).to_vec();
    let group = GroupSpec { instance_type: "m5a.large".to_owned(), overrides, ..GroupSpec::default() };
    let is_short: Happening = own_type_is_short;
    Scene { happenings: vec![(Duration::ZERO, is_short)], ..of(group) }
}

fn own_type_is_short(world: &mut World) {
    world.fleet.refuse_launches(PoolRefusal {
        is_spot: Some(true),
        zone: None,
        ..PoolRefusal::insufficient_capacity("m5a.large", "any")
    });
}

/// An instance whose twin starts from an image of its disks.
fn with_image(habits: AwsHabits) -> Scene {
    let input = BTreeMap::from([("capture_image".to_owned(), json!(true))]);
    Scene { habits, input, ..Scene::of_instance() }
}

/// A group of so many nodes, with room for one more.
fn of_nodes(size: u32, nodes: ClusterSpec) -> Scene {
    let group = GroupSpec { size, max: size + 1, ..GroupSpec::default() };
    Scene { nodes: Some(nodes), ..of(group) }
}

/// Two workloads. One has no budget, and of the other only one pod may be away.
fn tight_budget() -> ClusterSpec {
    let set = |name, replicas| WorkloadSpec::of(WorkloadKind::ReplicaSet, name, replicas);
    let workloads = vec![set("web", 4), set("api", 2)];
    ClusterSpec { workloads, budgets: vec![BudgetSpec::of("web", 3)], ..ClusterSpec::default() }
}

fn enrolled() -> BTreeMap<String, String> {
    BTreeMap::from([("spot-optimizer:enabled".to_owned(), "true".to_owned())])
}

/// A notice for the first of two Spot members, delivered so often.
fn of_notice(max: u32, has_target_group: bool, deliveries: u8) -> Scene {
    let tags = enrolled();
    let group = GroupSpec { size: 2, spot: 2, max, has_target_group, tags, ..GroupSpec::default() };
    let acts = vec![(10, Act::MemberIsInterrupted(0, deliveries))];
    Scene { is_quiet: true, acts, ..of(group) }
}

/// A tagged group that EC2 interrupts once it is on Spot, and one without the tag.
fn of_loop() -> Scene {
    let overrides = ["m5.large", "m5a.large", "c5.large"].map(str::to_owned).to_vec();
    Scene {
        group: GroupSpec { zones: 1, overrides, tags: enrolled(), ..GroupSpec::default() },
        other_groups: vec![GroupSpec { name: "worker".to_owned(), ..GroupSpec::default() }],
        is_quiet: true,
        once_on_spot: vec![Act::MemberIsInterrupted(0, 1)],
        to_risk_manager: vec![vec![0, 1]],
        watched_from: Some(20),
        ..Scene::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scene_has_one_name() {
        for name in NAMES {
            let scene = named(name).map(|scene| Scene { machine_timeout: Some(60), ..scene });
            assert_eq!(scene.as_ref().and_then(name_of), Some(name));
        }
        assert!(named("none").is_none());
        assert_eq!(name_of(&of(GroupSpec { size: 7, max: 8, ..GroupSpec::default() })), None);
    }
}
