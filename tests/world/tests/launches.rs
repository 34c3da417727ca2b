//! What is launched, and where: a newcomer bears the tags of the instance that it replaces, and its pool is cheaper.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;
use spot_world::acts::Act;
use spot_world::campaign::{Selection, beside_calls, one_in_of};
use spot_world::fault::Plan;
use spot_world::fleet::{Ec2Instance, GroupSpec, InstanceSpec};
use spot_world::history::Ended;
use spot_world::oracles::StandingTags;
use spot_world::scene::{Happening, Scene};

use crate::holds::{holds, play_or_tell, scene};

/// The tags of a group, which it puts on its members.
const OF_GROUP: [(&str, &str); 2] = [("team", "payments"), ("Name", "web")];

fn tagged_group() -> Scene {
    let tags = OF_GROUP.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    Scene { group: GroupSpec { tags, ..GroupSpec::default() }, ..Scene::default() }
}

/// A person has tagged each instance that there is at the beginning.
fn tagged(scene: Scene) -> Scene {
    let tags: Happening = |world| {
        let ids: Vec<String> = world.fleet.instances().keys().cloned().collect();
        for id in ids {
            world.fleet.tag_instance(&id, "cost-center", Some("7"));
            world.fleet.tag_instance(&id, "ManagedBy", Some("a-person"));
        }
        world.oracles.tags = StandingTags::of(&world.fleet);
    };
    Scene { happenings: vec![(Duration::ZERO, tags)], ..scene }
}

fn newcomer(ended: &Ended) -> Ec2Instance {
    let launched = ended.world.fleet.instances().values().find(|instance| instance.is_spot());
    launched.cloned().unwrap_or_else(|| panic!("nothing was launched:\n{}", ended.world.chronicle))
}

fn has(instance: &Ec2Instance, (key, value): (&str, &str)) -> bool {
    instance.tags.get(key).is_some_and(|has| has == value)
}

#[test]
fn a_newcomer_bears_the_tags_of_the_group_and_of_the_old_instance() {
    let newcomer = newcomer(&play_or_tell(&tagged(tagged_group()), Plan::none()));
    for tag in OF_GROUP.into_iter().chain([("cost-center", "7"), ("ManagedBy", "SpotOptimizer")]) {
        assert!(has(&newcomer, tag), "{tag:?}: {newcomer:?}");
    }
}

#[test]
fn a_newcomer_bears_its_tags_whatever_befalls_its_launch() {
    let selection = Selection::of_environment().or_calls(&["Launch ec2:RunInstances"]);
    holds(one_in_of(2, &tagged(tagged_group()), 1, &selection));
    holds(one_in_of(2, &tagged(lab(false)), 2, &selection));
}

/// A stand-alone instance with an address.
fn lab(captures_image: bool) -> Scene {
    let lab = Some(InstanceSpec { has_address: true, ..InstanceSpec::default() });
    let input = [("capture_image".to_owned(), json!(captures_image))].into();
    Scene { lab, input, ..Scene::default() }
}

#[test]
fn a_twin_bears_the_tags_of_the_instance_and_its_volume_those_of_the_old_one_s() {
    for captures_image in [false, true] {
        let twin = newcomer(&play_or_tell(&tagged(lab(captures_image)), Plan::none()));
        for tag in [("Name", "lab"), ("cost-center", "7"), ("ManagedBy", "SpotOptimizer")] {
            assert!(has(&twin, tag), "{tag:?}: {twin:?}");
        }
        for (key, value) in [("backup", "daily"), ("ManagedBy", "SpotOptimizer")] {
            assert!(twin.volume_tags.get(key).is_some_and(|has| has == value), "{key}: {twin:?}");
        }
    }
}

#[test]
fn a_group_moves_to_the_type_that_has_capacity() {
    let newcomer = newcomer(&play_or_tell(&scene("group-of-two-types"), Plan::none()));
    assert_eq!(newcomer.instance_type, "m5.large");
}

#[test]
fn no_launch_goes_into_a_pool_whose_price_has_risen_before_it_was_asked() {
    holds(beside_calls(&scene("group-of-two-types"), Act::SpotPricesRise, 1));
}

/// The prices are known when the run begins, and rise while it lasts.
#[test]
fn a_long_run_asks_for_prices_again() {
    let mut scene = scene("group-of-two-types");
    (scene.group.size, scene.group.max) = (7, 8);
    (scene.group.has_target_group, scene.group.deregistration_delay) = (true, SignedDuration::from_mins(15));
    scene.acts = vec![(300, Act::SpotPricesRise)];
    scene.settings = [("poll_seconds".to_owned(), json!(30))].into();
    let ended = play_or_tell(&scene, Plan::none());
    let of_market = |is_spot: bool| {
        let alive = ended.world.fleet.instances().values().filter(|instance| instance.state.is_alive());
        alive.filter(|instance| instance.is_spot() == is_spot).count()
    };
    assert!(of_market(true) > 0 && of_market(false) > 0, "{}", ended.world.chronicle);
}
