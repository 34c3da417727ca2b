//! What the chapters about a stand-alone instance and its twin share.

use serde_json::{Value, json};
use spot_world::acts::{Act, LabAct};
use spot_world::fault::Plan;
use spot_world::history::Ended;
use spot_world::scene::Scene;

use super::{output_of, play_or_tell};

/// The status checks of the twin have not passed at this second.
pub(crate) const TWIN_BOOTS: u64 = 100;
/// The old instance drains at this second.
pub(crate) const OLD_DRAINS: u64 = 230;
/// The swap is over at this second.
pub(crate) const SWAP_IS_OVER: u64 = 900;

/// Plays the scene, whose owner acts on the old instance at these seconds.
pub(crate) fn acts(scene: Scene, acts: &[(u64, LabAct)]) -> Ended {
    let acts = acts.iter().map(|(at, act)| (*at, Act::OwnerOfInstance(*act))).collect();
    play_or_tell(&Scene { acts, ..scene }, Plan::none())
}

pub(crate) fn assert_ends(ended: &Ended, execution: &str, outcome: &str, reason: &Value) {
    let output = output_of(ended, execution);
    assert_eq!((&output["outcome"], &output["reason"]), (&json!(outcome), reason), "{output}");
}

pub(crate) fn old() -> String {
    Scene::of_instance().first_instance()
}

pub(crate) fn alive(ended: &Ended) -> Vec<&str> {
    let alive = ended.world.fleet.instances().values().filter(|it| it.state.is_alive());
    alive.map(|it| it.id.as_str()).collect()
}

pub(crate) fn holder(ended: &Ended) -> Option<&str> {
    ended.world.fleet.addresses().values().next()?.instance_id.as_deref()
}

/// Returns the first target group of the beginning that the instance is not healthy in.
pub(crate) fn unhealthy_in(ended: &Ended, id: &str) -> Option<String> {
    let fleet = &ended.world.fleet;
    let mut groups = fleet.target_groups().keys().filter(|arn| arn.contains("/lab-"));
    groups.find(|&arn| !fleet.is_healthy_in(std::slice::from_ref(arn), id)).cloned()
}

/// Says why the old instance is not alone, with all that it had, or what is left beside it.
pub(crate) fn why_not_untouched(ended: &Ended) -> Result<(), String> {
    let (old, own) = (old(), ended.world.fleet.own_images());
    if alive(ended) != [old.as_str()] {
        return Err(format!("{:?} are alive", alive(ended)));
    }
    if holder(ended) != Some(old.as_str()) {
        return Err(format!("the address is with {:?}", holder(ended)));
    }
    if let Some(group) = unhealthy_in(ended, &old) {
        return Err(format!("the old instance is not healthy in {group}"));
    }
    let is_clean = own.images.is_empty() && own.snapshots.is_empty();
    if is_clean { Ok(()) } else { Err(format!("{own:?} is left")) }
}

pub(crate) fn assert_untouched(ended: &Ended) {
    assert_eq!(why_not_untouched(ended), Ok(()), "{}", ended.world.chronicle);
}

/// Asserts that a twin runs, with the address and healthy, and returns it.
pub(crate) fn assert_twin_serves(ended: &Ended) -> &str {
    let instances = ended.world.fleet.instances();
    let twins: Vec<_> = instances.values().filter(|it| it.is_spot() && it.state.is_alive()).collect();
    let [twin] = twins[..] else { panic!("{twins:?}\n{}", ended.world.chronicle) };
    assert_eq!(unhealthy_in(ended, &twin.id), None);
    &twin.id
}

/// Returns true if a message to people names this.
pub(crate) fn person_knows_of(ended: &Ended, of: &str) -> bool {
    ended.world.mailbox.messages.iter().any(|told| told.message.contains(of))
}

pub(crate) fn volumes(ended: &Ended) -> Vec<&str> {
    ended.world.fleet.free_volumes().keys().map(String::as_str).collect()
}
