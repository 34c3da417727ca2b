//! The swap of a stand-alone instance beside the acts of its owner on the twin.

use serde_json::{Value, json};
use spot_world::acts::{Act, LabAct, TwinAct};
use spot_world::campaign::{Findings, all, sample};
use spot_world::fault::Plan;
use spot_world::fleet::Ec2State;
use spot_world::history::Ended;
use spot_world::scene::Scene;

use crate::holds::lab::{
    OLD_DRAINS, SWAP_IS_OVER, TWIN_BOOTS, alive, assert_ends, assert_twin_serves, assert_untouched, holder,
    old, person_knows_of, unhealthy_in,
};
use crate::holds::{holds, last_call, output, play_or_tell, scene};

/// Plays the swap of the instance, whose owner acts on it or on its twin at these seconds.
fn swap_beside<const N: usize>(acts: [(u64, Act); N]) -> Ended {
    play_or_tell(&Scene { acts: acts.into(), ..Scene::of_instance() }, Plan::none())
}

const fn of_twin(act: TwinAct) -> Act {
    Act::OwnerOfTwin(act)
}

fn assert_rolled_back(ended: &Ended) {
    assert_eq!(output(ended)["outcome"], json!("ROLLED_BACK"), "{}", output(ended));
}

/// Returns the first twin, dead or alive.
fn twin(ended: &Ended) -> &str {
    let twin = ended.world.fleet.instances().values().find(|it| it.is_spot());
    let Some(twin) = twin else { panic!("no twin:\n{}", ended.world.chronicle) };
    &twin.id
}

#[test]
fn the_old_instance_serves_again_if_its_owner_terminates_the_twin() {
    for at in [TWIN_BOOTS, OLD_DRAINS] {
        let ended = swap_beside([(at, of_twin(TwinAct::Terminates))]);
        assert_rolled_back(&ended);
        assert_untouched(&ended);
    }
}

#[test]
fn a_twin_that_its_owner_terminates_after_the_swap_is_his_to_end() {
    let ended = swap_beside([(SWAP_IS_OVER, of_twin(TwinAct::Terminates))]);
    assert_ends(&ended, "by-hand", "SWAPPED", &Value::Null);
    assert_eq!(alive(&ended), [""; 0]);
    assert_eq!(ended.world.fleet.instances()[&old()].state, Ec2State::Stopped);
}

#[test]
fn a_twin_that_its_owner_tags_opts_out_or_registers_elsewhere_takes_over() {
    for act in [TwinAct::Tags, TwinAct::OptsOut, TwinAct::RegistersElsewhere] {
        let ended = swap_beside([(TWIN_BOOTS, of_twin(act))]);
        assert_ends(&ended, "by-hand", "SWAPPED", &Value::Null);
        let twin = assert_twin_serves(&ended);
        assert_eq!((alive(&ended), holder(&ended)), (vec![twin], Some(twin)));
        let is_tagged = ended.world.fleet.instances()[twin].tags.contains_key("cost-center");
        assert_eq!(is_tagged, act == TwinAct::Tags);
    }
}

#[test]
fn a_twin_that_its_owner_has_come_to_use_outlives_the_way_back_and_a_person_knows() {
    let ends_the_swap = (OLD_DRAINS, Act::OwnerOfInstance(LabAct::ProtectsOldFromStop));
    for act in [TwinAct::OptsOut, TwinAct::RegistersElsewhere] {
        for at in [TWIN_BOOTS, OLD_DRAINS] {
            let ended = swap_beside([(at, of_twin(act)), ends_the_swap]);
            assert_ends(&ended, "by-hand", "ROLLED_BACK", &json!("INSTANCE_CHANGED"));
            let (old, twin) = (old(), twin(&ended));
            assert_eq!(alive(&ended), [old.as_str(), twin]);
            assert_eq!((holder(&ended), unhealthy_in(&ended, &old)), (Some(old.as_str()), None));
            assert!(person_knows_of(&ended, twin), "{:?}", ended.world.mailbox.messages);
        }
    }
}

#[test]
fn a_twin_that_its_owner_has_come_to_use_does_not_give_way_to_the_old_instance() {
    let asks = (SWAP_IS_OVER, Act::OwnerOfInstance(LabAct::AsksForOld));
    for act in [TwinAct::OptsOut, TwinAct::RegistersElsewhere] {
        let ended = swap_beside([(SWAP_IS_OVER - 100, of_twin(act)), asks]);
        assert_ends(&ended, "bring-back", "REFUSED", &json!("INSTANCE_CHANGED"));
        assert_eq!(holder(&ended), Some(assert_twin_serves(&ended)));
    }
}

/// The rollback hears the owner who has changed his mind since he asked.
#[test]
fn a_twin_that_its_owner_opts_out_while_the_old_instance_comes_back_stays_and_a_person_knows() {
    let asks = (SWAP_IS_OVER, Act::OwnerOfInstance(LabAct::AsksForOld));
    let ended = swap_beside([asks, (SWAP_IS_OVER + 20, of_twin(TwinAct::OptsOut))]);
    assert_ends(&ended, "bring-back", "BROUGHT_BACK", &Value::Null);
    let (old, twin) = (old(), twin(&ended));
    assert_eq!((alive(&ended), holder(&ended)), (vec![old.as_str(), twin], Some(old.as_str())));
    assert!(person_knows_of(&ended, twin), "{:?}", ended.world.mailbox.messages);
}

#[test]
fn a_twin_that_its_owner_takes_out_has_the_swap_undone() {
    let registered = last_call(&Scene::of_instance(), "RegisterTargets") + 1;
    let plan = Plan::ActAt(registered, of_twin(TwinAct::TakesOut));
    let ended = play_or_tell(&Scene::of_instance(), plan);
    assert_ends(&ended, "by-hand", "ROLLED_BACK", &json!("INSTANCE_CHANGED"));
    assert_untouched(&ended);
    let ended = swap_beside([(OLD_DRAINS, of_twin(TwinAct::TakesOut))]);
    assert_ends(&ended, "by-hand", "ROLLED_BACK", &json!("NEWCOMER_NOT_SERVING"));
    assert_untouched(&ended);
}

#[test]
fn a_twin_that_its_owner_takes_out_after_the_old_instance_has_stopped_stays_out() {
    let scene = Scene::of_instance();
    let stopped = last_call(&scene, "StopInstances") + 1;
    for plan in [Plan::ActAt(stopped, of_twin(TwinAct::TakesOut)), Plan::none()] {
        let acts = vec![(SWAP_IS_OVER, of_twin(TwinAct::TakesOut))];
        let ended = play_or_tell(&Scene { acts, ..scene.clone() }, plan);
        assert_ends(&ended, "by-hand", "SWAPPED", &Value::Null);
        let twin = twin(&ended);
        assert_eq!((alive(&ended), holder(&ended)), (vec![twin], Some(twin)));
        assert!(unhealthy_in(&ended, twin).is_some());
    }
}

/// Plays one in so many of the acts on the twin, each beside each call since its launch. The seed decides which.
fn beside_calls(scene: &Scene, (n, seed): (usize, u64)) -> Findings {
    let calls = play_or_tell(scene, Plan::none()).world.chronicle.calls.len();
    let launched = last_call(scene, "RunInstances") + 1;
    let each = TwinAct::ALL
        .into_iter()
        .flat_map(|act| (launched..calls).map(move |number| (Plan::ActAt(number, of_twin(act)), 1)));
    all(scene, &sample(n, seed, each))
}

#[test]
fn an_owner_may_act_on_the_twin_beside_the_calls_of_a_swap() {
    holds(Ok(beside_calls(&Scene::of_instance(), (37, 6))));
}

#[test]
fn an_owner_may_act_on_the_twin_beside_the_calls_of_a_swap_by_an_image() {
    holds(Ok(beside_calls(&scene("lab-image"), (37, 7))));
}

/// The owner speaks against the swap while it retires the old instance, so that each call of the way back is one, too.
#[test]
fn an_owner_may_act_on_the_twin_beside_the_calls_of_a_way_back() {
    let acts = vec![(OLD_DRAINS, Act::OwnerOfInstance(LabAct::OptsOldOut))];
    holds(Ok(beside_calls(&Scene { acts, ..Scene::of_instance() }, (37, 8))));
}
