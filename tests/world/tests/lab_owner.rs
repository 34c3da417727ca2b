//! The swap of a stand-alone instance beside the acts of its owner, with an image that fails, and with volumes that outlive
//! their instances; and an owner who asks for the old instance to come back.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use spot_world::acts::{Act, LabAct};
use spot_world::campaign::{Findings, all, all_that, sample};
use spot_world::chronicle::SentCall;
use spot_world::fault::{Fault, Plan};
use spot_world::fleet::{AwsHabits, Ec2State};
use spot_world::history::Ended;
use spot_world::scene::{Happening, Scene};
use spot_world::virtual_time::{BEGIN, now};

use crate::holds::lab::{
    OLD_DRAINS, SWAP_IS_OVER, TWIN_BOOTS, acts, alive, assert_ends, assert_twin_serves, assert_untouched,
    holder, old, person_knows_of, unhealthy_in, volumes, why_not_untouched,
};
use crate::holds::{
    faults_beside, first_call_by, holds, last_call, output, play_or_tell, scene, stopped_after,
};

fn with_image(of: Scene) -> Scene {
    Scene { input: scene("lab-image").input, ..of }
}

fn with_outliving_volumes() -> Scene {
    scene("lab-outliving-volume")
}

fn whose_image_fails() -> Scene {
    scene("lab-failing-image")
}

#[test]
fn an_image_that_fails_leaves_the_old_instance_as_it_was_and_a_person_knows() {
    let ended = play_or_tell(&whose_image_fails(), Plan::none());
    assert_ends(&ended, "by-hand", "ROLLED_BACK", &json!("IMAGE_FAILED"));
    assert_untouched(&ended);
    assert!(
        person_knows_of(&ended, &old()) && person_knows_of(&ended, "ami-1"),
        "{:?}",
        ended.world.mailbox.messages
    );
    assert!(ended.world.chronicle.calls.iter().all(|call| call.action != "RunInstances"));
}

#[test]
fn an_image_that_fails_leaves_the_old_instance_as_it_was_whatever_fails_beside_it() {
    let scene = whose_image_fails();
    let plans = faults_beside(&scene, &BTreeMap::new(), |_| true, &Fault::ALL, (120, 1));
    holds(Ok(all_that(&scene, &plans, why_not_untouched)));
}

/// A twin that never passes its status checks.
fn whose_twin_is_ill(scene: Scene) -> Scene {
    let habits = AwsHabits { passes_checks_after: SignedDuration::from_hours(9), ..AwsHabits::default() };
    Scene { habits, ..scene }
}

#[test]
fn the_volume_of_a_twin_that_never_served_goes_with_it() {
    for scene in [with_outliving_volumes(), with_image(with_outliving_volumes())] {
        let ended = play_or_tell(&whose_twin_is_ill(scene), Plan::none());
        assert_ends(&ended, "by-hand", "ROLLED_BACK", &json!("NEWCOMER_UNHEALTHY"));
        assert!(ended.world.chronicle.calls.iter().any(|call| call.action == "DeleteVolume"));
        assert_eq!(volumes(&ended), [""; 0]);
        assert_untouched(&ended);
    }
}

#[test]
fn the_volume_of_a_twin_that_had_begun_to_serve_stays_and_a_person_knows() {
    let habits = AwsHabits { turns_healthy_after: SignedDuration::from_hours(9), ..AwsHabits::default() };
    let ended = play_or_tell(&Scene { habits, ..with_outliving_volumes() }, Plan::none());
    assert_ends(&ended, "by-hand", "ROLLED_BACK", &json!("NEWCOMER_NOT_SERVING"));
    let [left] = volumes(&ended)[..] else { panic!("{:?}", volumes(&ended)) };
    assert!(person_knows_of(&ended, left), "{left}: {:?}", ended.world.mailbox.messages);
}

/// A backup policy of the account makes a volume with all tags of the twin's.
#[test]
fn a_volume_that_only_bears_the_tag_of_the_swap_is_left_alone_and_a_person_knows() {
    let copies: Happening = |world| {
        let twin = world.fleet.instances().keys().next_back().cloned().unwrap_or_default();
        world.fleet.owner_copies_volume(&twin, now());
    };
    let happenings = vec![(Duration::from_secs(TWIN_BOOTS), copies)];
    let scene = Scene { happenings, ..whose_twin_is_ill(with_outliving_volumes()) };
    let ended = play_or_tell(&scene, Plan::none());
    let [copy] = volumes(&ended)[..] else { panic!("{:?}", volumes(&ended)) };
    assert!(person_knows_of(&ended, copy), "{copy}: {:?}", ended.world.mailbox.messages);
}

#[test]
fn the_volume_of_an_old_instance_that_is_terminated_is_its_owner_s() {
    let settings = BTreeMap::from([("lab_old_instance".to_owned(), json!("terminate"))]);
    let ended = play_or_tell(&Scene { settings, ..with_image(with_outliving_volumes()) }, Plan::none());
    assert_ends(&ended, "by-hand", "SWAPPED", &Value::Null);
    assert_twin_serves(&ended);
    assert_eq!(volumes(&ended), [old().replacen("i-", "vol-", 1)]);
}

#[test]
fn the_way_back_of_a_twin_whose_volume_outlives_it_survives_faults_at_its_calls() {
    let scene = with_outliving_volumes();
    let stopped = stopped_after(&scene, "RunInstances");
    let is_meant = |call: &SentCall| call.by.starts_with("Reconciler") && !call.action.contains("Publish");
    let demand = |ended: &Ended| {
        let left = volumes(ended);
        if left.is_empty() { why_not_untouched(ended) } else { Err(format!("{left:?} is left")) }
    };
    let plans = faults_beside(&scene, &stopped, is_meant, &Fault::ALL, (120, 2));
    holds(Ok(all_that(&scene, &plans, demand)));
}

const AGAINST_THE_SWAP: [LabAct; 4] = [
    LabAct::ProtectsOldFromStop,
    LabAct::ProtectsOldFromTermination,
    LabAct::OptsOldOut,
    LabAct::RegistersOldElsewhere,
];

#[test]
fn an_owner_who_speaks_against_it_has_the_swap_undone_also_while_the_old_instance_drains() {
    let moments = [OLD_DRAINS, OLD_DRAINS, OLD_DRAINS, OLD_DRAINS, TWIN_BOOTS];
    for (act, at) in AGAINST_THE_SWAP.into_iter().cycle().zip(moments) {
        let ended = acts(Scene::of_instance(), &[(at, act)]);
        assert_ends(&ended, "by-hand", "ROLLED_BACK", &json!("INSTANCE_CHANGED"));
        assert_untouched(&ended);
    }
}

/// The tag is an order to the loop, and none to a run that is under way.
#[test]
fn an_instance_that_leaves_the_loop_during_its_swap_is_swapped() {
    let enabled = "spot-optimizer:enabled";
    let enrols = (1, LabAct::TagsOld(enabled, "true"));
    for act in [LabAct::TagsOld(enabled, "false"), LabAct::UntagsOld(enabled)] {
        let ended = acts(Scene::of_instance(), &[enrols, (TWIN_BOOTS, act)]);
        assert_ends(&ended, "by-hand", "SWAPPED", &Value::Null);
        assert_twin_serves(&ended);
    }
}

#[test]
fn a_twin_inherits_what_its_owner_tags_while_the_image_is_made() {
    let scene = with_image(Scene::of_instance());
    let begins = last_call(&scene, "CreateImage");
    let begins = play_or_tell(&scene, Plan::none()).world.chronicle.calls[begins].at;
    let meanwhile = begins.duration_since(BEGIN).as_secs().unsigned_abs() + 10;
    let tags = [LabAct::TagsOld("cost-center", "42"), LabAct::UntagsOld("Name")];
    let ended = acts(scene, &tags.map(|act| (meanwhile, act)));
    assert_ends(&ended, "by-hand", "SWAPPED", &Value::Null);
    let tags = &ended.world.fleet.instances()[assert_twin_serves(&ended)].tags;
    assert_eq!(
        (tags.get("cost-center").map(String::as_str), tags.get("Name")),
        (Some("42"), None),
        "{tags:?}"
    );
}

/// Whatever the owner may do between the plan and the launch, of which each look at the old instance tells.
const BEFORE_THE_LAUNCH: [(LabAct, &str); 9] = [
    (LabAct::ProtectsOldFromStop, "INSTANCE_CHANGED"),
    (LabAct::ProtectsOldFromTermination, "INSTANCE_CHANGED"),
    (LabAct::OptsOldOut, "INSTANCE_CHANGED"),
    (LabAct::RegistersOldElsewhere, "INSTANCE_CHANGED"),
    (LabAct::TagsOld("launched-by-autospotting", "true"), "INSTANCE_CHANGED"),
    (LabAct::StopsOld, "INSTANCE_CHANGED"),
    (LabAct::TerminatesOld, "INSTANCE_GONE"),
    (LabAct::MovesAddress, "INSTANCE_CHANGED"),
    (LabAct::TakesOldOut, "INSTANCE_CHANGED"),
];

fn assert_no_launch(ended: &Ended) {
    let own = ended.world.fleet.own_images();
    assert!(ended.world.chronicle.calls.iter().all(|call| call.action != "RunInstances"));
    assert!(own.images.is_empty() && own.snapshots.is_empty(), "{own:?}");
}

#[test]
fn an_owner_who_speaks_against_it_while_the_image_is_made_pays_for_no_twin() {
    let scene = with_image(Scene::of_instance());
    let begins = last_call(&scene, "CreateImage");
    let begins = play_or_tell(&scene, Plan::none()).world.chronicle.calls[begins].at;
    let meanwhile = begins.duration_since(BEGIN).as_secs().unsigned_abs() + 10;
    for (act, reason) in BEFORE_THE_LAUNCH {
        let ended = acts(scene.clone(), &[(meanwhile, act)]);
        assert_ends(&ended, "by-hand", "ROLLED_BACK", &json!(reason));
        assert_no_launch(&ended);
    }
}

#[test]
fn an_owner_who_speaks_against_it_as_the_launch_begins_pays_for_no_twin() {
    let begins = first_call_by(&Scene::of_instance(), "Launch");
    for (act, reason) in BEFORE_THE_LAUNCH {
        let ended = play_or_tell(&Scene::of_instance(), Plan::ActAt(begins, Act::OwnerOfInstance(act)));
        assert_ends(&ended, "by-hand", "REFUSED", &json!(reason));
        assert_no_launch(&ended);
    }
}

#[test]
fn an_address_that_its_owner_gives_back_to_the_old_instance_has_the_swap_undone() {
    let ended = acts(Scene::of_instance(), &[(OLD_DRAINS, LabAct::GivesAddressToOld)]);
    assert_ends(&ended, "by-hand", "ROLLED_BACK", &json!("INSTANCE_CHANGED"));
    assert_untouched(&ended);
}

#[test]
fn an_address_that_its_owner_gives_to_another_instance_stays_there() {
    for (at, outcome) in [(TWIN_BOOTS, "ROLLED_BACK"), (OLD_DRAINS, "SWAPPED")] {
        let ended = acts(Scene::of_instance(), &[(at, LabAct::MovesAddress)]);
        assert_eq!(output(&ended)["outcome"], json!(outcome));
        let serving = alive(&ended);
        assert!(serving.len() == 1 && !serving.contains(&holder(&ended).unwrap_or_default()), "{serving:?}");
        assert_eq!(unhealthy_in(&ended, serving[0]), None);
    }
}

#[test]
fn a_target_that_its_owner_takes_out_before_the_twin_serves_has_the_swap_undone_and_stays_out() {
    let ended = acts(Scene::of_instance(), &[(TWIN_BOOTS, LabAct::TakesOldOut)]);
    assert_ends(&ended, "by-hand", "ROLLED_BACK", &json!("INSTANCE_CHANGED"));
    assert_eq!((alive(&ended), holder(&ended)), (vec![old().as_str()], Some(old().as_str())));
    assert!(ended.world.fleet.target_groups().values().all(|group| group.targets.is_empty()));
}

#[test]
fn an_old_instance_that_its_owner_stops_is_not_replaced_before_its_twin_serves() {
    let ended = acts(Scene::of_instance(), &[(TWIN_BOOTS, LabAct::StopsOld)]);
    assert_ends(&ended, "by-hand", "ROLLED_BACK", &json!("INSTANCE_CHANGED"));
    assert_eq!(alive(&ended), [""; 0]);
    assert_eq!(ended.world.fleet.instances()[&old()].state, Ec2State::Stopped);
    let ended = acts(Scene::of_instance(), &[(OLD_DRAINS, LabAct::StopsOld)]);
    assert_ends(&ended, "by-hand", "SWAPPED", &Value::Null);
    assert_eq!(holder(&ended), Some(assert_twin_serves(&ended)));
}

#[test]
fn a_twin_takes_over_from_an_old_instance_that_its_owner_terminates() {
    for at in [TWIN_BOOTS, OLD_DRAINS] {
        let ended = acts(Scene::of_instance(), &[(at, LabAct::TerminatesOld)]);
        assert_eq!(holder(&ended), Some(assert_twin_serves(&ended)), "{}", ended.world.chronicle);
    }
}

#[test]
fn an_old_instance_that_its_owner_starts_after_the_swap_runs_beside_its_twin() {
    let ended = acts(Scene::of_instance(), &[(SWAP_IS_OVER, LabAct::StartsOld)]);
    assert_eq!(ended.world.fleet.instances()[&old()].state, Ec2State::Running);
    assert_eq!(holder(&ended), Some(assert_twin_serves(&ended)));
}

/// Plays one in so many of the acts, each beside each call. The seed decides which.
fn beside_calls(scene: &Scene, (n, seed): (usize, u64), acts: &[LabAct]) -> Findings {
    let calls = play_or_tell(scene, Plan::none()).world.chronicle.calls.len();
    let each = acts
        .iter()
        .flat_map(|act| (0..calls).map(move |number| (Plan::ActAt(number, Act::OwnerOfInstance(*act)), 1)));
    all(scene, &sample(n, seed, each))
}

#[test]
fn an_owner_may_act_beside_the_calls_of_a_swap() {
    let acts = [
        LabAct::StopsOld,
        LabAct::StartsOld,
        LabAct::TerminatesOld,
        LabAct::GivesAddressToOld,
        LabAct::MovesAddress,
        LabAct::TakesOldOut,
        LabAct::TagsOld("spot-optimizer:enabled", "false"),
        LabAct::AsksForOld,
    ];
    holds(Ok(beside_calls(&Scene::of_instance(), (97, 4), &[&acts[..], &AGAINST_THE_SWAP].concat())));
}

#[test]
fn an_owner_may_act_beside_the_calls_of_a_swap_that_terminates_the_old_instance() {
    let settings = BTreeMap::from([("lab_old_instance".to_owned(), json!("terminate"))]);
    let scene = Scene { settings, ..scene("lab-image") };
    let acts = [LabAct::StopsOld, LabAct::TerminatesOld, LabAct::ProtectsOldFromTermination];
    holds(Ok(beside_calls(&scene, (97, 5), &acts)));
}

fn asks_for_old() -> Scene {
    let acts = vec![(SWAP_IS_OVER, Act::OwnerOfInstance(LabAct::AsksForOld))];
    Scene { acts, ..Scene::of_instance() }
}

#[test]
fn an_old_instance_comes_back_if_its_owner_asks_for_it() {
    let ended = play_or_tell(&asks_for_old(), Plan::none());
    assert_ends(&ended, "by-hand", "SWAPPED", &Value::Null);
    assert_ends(&ended, "bring-back", "BROUGHT_BACK", &Value::Null);
    assert_untouched(&ended);
}

#[test]
fn an_old_instance_comes_back_after_its_twin_has_died() {
    let mut scene = asks_for_old();
    scene.acts.push((SWAP_IS_OVER - 100, Act::NewcomerDies));
    let ended = play_or_tell(&scene, Plan::none());
    assert_ends(&ended, "bring-back", "BROUGHT_BACK", &Value::Null);
    assert_untouched(&ended);
}

/// Nothing has replaced it yet.
#[test]
fn an_old_instance_does_not_come_back_from_a_swap_that_is_under_way() {
    let first = first_call_by(&Scene::of_instance(), "WaitForHealth");
    let act = Act::OwnerOfInstance(LabAct::AsksForOld);
    let ended = play_or_tell(&Scene::of_instance(), Plan::ActAt(first, act));
    assert_ends(&ended, "bring-back", "REFUSED", &json!("INSTANCE_CHANGED"));
    assert_ends(&ended, "by-hand", "SWAPPED", &Value::Null);
}

#[test]
fn an_old_instance_comes_back_or_its_twin_serves_whatever_fails() {
    let asked_at: Timestamp = BEGIN + SignedDuration::from_secs(SWAP_IS_OVER.cast_signed());
    let either = |ended: &Ended| match (why_not_untouched(ended), &alive(ended)[..]) {
        (Ok(()), _) => Ok(()),
        (Err(_), [twin])
            if *twin != old() && holder(ended) == Some(*twin) && unhealthy_in(ended, twin).is_none() =>
        {
            Ok(())
        }
        (Err(why), _) => Err(why),
    };
    let scene = asks_for_old();
    let plans = faults_beside(&scene, &BTreeMap::new(), |call| call.at >= asked_at, &Fault::ALL, (120, 3));
    holds(Ok(all_that(&scene, &plans, either)));
}

#[test]
fn the_volume_of_a_twin_stays_if_its_owner_asks_for_the_old_instance_and_a_person_knows() {
    let acts = vec![(SWAP_IS_OVER, Act::OwnerOfInstance(LabAct::AsksForOld))];
    let ended = play_or_tell(&Scene { acts, ..with_outliving_volumes() }, Plan::none());
    assert_ends(&ended, "bring-back", "BROUGHT_BACK", &Value::Null);
    assert_untouched(&ended);
    let [left] = volumes(&ended)[..] else { panic!("{:?}", volumes(&ended)) };
    assert!(person_knows_of(&ended, left), "{left}: {:?}", ended.world.mailbox.messages);
}

#[test]
fn an_old_instance_that_comes_back_without_leftovers_alerts_nobody() {
    let told = play_or_tell(&asks_for_old(), Plan::none()).world.mailbox.messages;
    assert!(told.is_empty(), "{told:?}");
}
