//! What a group and its owner may do while a swap is recovered.

use super::*;

/// As many as at the attach serve beside the newcomer. It stays for another one that comes in time, and for none that nobody
/// launches.
#[test]
fn a_newcomer_stays_while_another_one_comes_into_service() {
    let (pending, ill) = (MemberState::Pending, MemberState::InService);
    for (another, in_time, waits) in [
        (Some(pending), true, true),
        (Some(ill), true, true),
        (Some(pending), false, false),
        (Some(ill), false, false),
        (None, true, false),
    ] {
        let mut world = World::cut_after(5, 2, false, Retirement::Detach);
        world.journal.stage = Stage::Undoing;
        world.group().desired += 1;
        world.group().members.extend(another.map(|state| Member { state, ..member(51) }));
        world.seen.not_serving = vec![id(51)];
        world.seen.awaits_others = in_time;
        world.journal.original.as_mut().unwrap().desired += 1;
        let decision = next(&world.journal, &world.seen);
        assert_eq!(matches!(decision, Decision::Wait(_)), waits, "{another:?} {in_time}: {decision:?}");
    }
}

#[test]
fn the_newcomer_is_kept_while_the_rest_does_not_serve() {
    let mut world = World::cut_after(5, 2, false, Retirement::Detach);
    world.group().members[1].healthy = false;
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)));
    world.group().members[1].healthy = true;
    assert_eq!(next(&world.journal, &world.seen), Do(Action::DetachNewcomer(id(NEW))));
}

#[test]
fn a_newcomer_in_a_group_that_its_owner_has_resized_is_part_of_it() {
    for wanted in [2, 5] {
        let mut world = World::cut_after(5, 2, false, Retirement::Detach);
        world.group().desired = wanted;
        assert_eq!(next(&world.journal, &world.seen), Do(Action::ResumeAzRebalance));
    }
}

#[test]
fn the_groups_own_replacement_goes_only_once_it_serves() {
    let mut world = World::cut_after(5, 2, false, Retirement::Detach);
    world.newcomer_dies(true);
    world.tick();
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "a pending one is no capacity");
    world.tick();
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateExtra(id(51))));
}

/// Its terminating hooks may take hours, and EC2 forgets it before.
#[test]
fn a_dead_newcomer_in_its_hooks_holds_up_nothing() {
    let mut world = World::cut_after(5, 2, false, Retirement::TerminateInGroup);
    world.newcomer_dies(false);
    let group = world.group();
    let dead = group.members.iter_mut().find(|member| member.id == id(NEW)).unwrap();
    (dead.state, dead.healthy) = (MemberState::Leaving, false);
    world.seen.calls_may_land = true;
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "our call may be the reason");
    world.seen.calls_may_land = false;
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "the group launches another one");
    // As many serve as at the attach, and the group has not begun to launch.
    world.journal.original.as_mut().unwrap().serving = 1;
    world.seen.awaits_others = true;
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "its launch does not show yet");
    world.seen.awaits_others = false;
    assert!(!matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "nobody launches");
    world.group().members.push(Member { state: MemberState::Pending, ..member(51) });
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "it does not serve yet");
    world.group().members.pop();
    world.group().members.push(member(51));
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateExtra(id(51))));
    let dead = world.group().members.iter_mut().find(|member| member.id == id(NEW)).unwrap();
    dead.healthy = true;
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "its owner may detach it");
}

#[test]
fn a_replacement_that_its_owner_protects_stays_and_a_person_is_told() {
    let mut world = World::cut_after(5, 2, true, Retirement::Detach);
    world.journal.stage = Stage::Undoing;
    world.journal.undo = Some(Undo { reason: Reason::NewcomerAtRisk, detail: String::new() });
    world.newcomer_dies(true);
    world.tick();
    world.tick();
    world.group().suspended.clear();
    let protect = |world: &mut World, is_protected| {
        world.group().members.iter_mut().filter(|m| m.id == id(51)).for_each(|m| m.protected = is_protected);
    };
    protect(&mut world, true);
    assert_eq!(next(&world.journal, &world.seen), Decision::Done(End::Undone));
    let told = doubt(&world.journal, &world.seen).unwrap();
    assert!(told.contains("is 3, and was 2") && told.contains("MaxSize, which is 3, to 2"), "{told}");
    protect(&mut world, false);
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateExtra(id(51))));
}

/// A swap of a group with a terminating lifecycle hook, whose newcomer serves, goes back.
fn undone_with_a_hook() -> World {
    let mut world = World::cut_after(5, 2, false, Retirement::TerminateInGroup);
    world.journal.stage = Stage::Undoing;
    world.journal.undo = Some(Undo { reason: Reason::NewcomerAtRisk, detail: String::new() });
    world
}

#[test]
fn a_serving_newcomer_leaves_through_the_hook_of_its_group() {
    let mut world = undone_with_a_hook();
    world.group().members[1].healthy = false;
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "the rest does not serve");
    world.group().members[1].healthy = true;
    assert_eq!(next(&world.journal, &world.seen), Do(Action::RemoveNewcomer(id(NEW))));
    assert_eq!(world.recover(), End::Undone);
    assert_eq!(world.group().desired, 2);
    let mut resized = undone_with_a_hook();
    resized.group().desired = 5;
    assert_eq!(
        next(&resized.journal, &resized.seen),
        Do(Action::ResumeAzRebalance),
        "it is part of the group"
    );
}

/// Auto Scaling may count a member that is Terminating already out of desired a second time.
#[test]
fn a_newcomer_is_told_once_to_leave_through_its_hook_while_the_call_may_land() {
    let mut world = undone_with_a_hook();
    let remove = Action::RemoveNewcomer(id(NEW));
    world.journal.foresee(&remove, &world.seen, Timestamp::UNIX_EPOCH);
    world.seen.calls_may_land = true;
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "its answer is not known");
    world.seen.calls_may_land = false;
    assert_eq!(next(&world.journal, &world.seen), Do(remove), "it never landed");
    let newcomer = world.group().members.iter_mut().find(|m| m.id == id(NEW)).unwrap();
    newcomer.state = MemberState::Leaving;
    world.group().desired = 2;
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "its hook runs");
}

#[test]
fn the_old_instance_is_terminated_only_when_drained() {
    let mut world = World::cut_after(7, 2, false, Retirement::Detach);
    world.seen.draining = vec![id(OLD)];
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)));
    world.seen.draining.clear();
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateOld));
}

#[test]
fn a_newcomer_at_risk_brings_the_old_instance_back() {
    let mut world = World::cut_after(7, 2, false, Retirement::Detach);
    for reason in [Reason::NewcomerAtRisk, Reason::NewcomerNotServing, Reason::NodeNotReady] {
        world.journal.undo = Some(Undo { reason, detail: String::new() });
        assert_eq!(next(&world.journal, &world.seen), Do(Action::ReattachOld), "{reason}");
    }
}

#[test]
fn a_newcomer_at_risk_is_asked_about_where_the_old_instance_could_come_back() {
    let mut world = World::cut_after(7, 2, false, Retirement::Detach);
    assert!(hangs_on_newcomer(&world.journal, &world.seen));
    let mut at_risk = world.journal.clone();
    at_risk.undo = Some(Undo { reason: Reason::ExecutionDied, detail: "it died".into() });
    at_risk.note_risk("its pool is poisoned");
    assert_eq!(next(&at_risk, &world.seen), Do(Action::ReattachOld));
    assert_eq!(at_risk.undo.unwrap().detail, "it died; its pool is poisoned");
    world.journal.refused_reattaches = REATTACHES;
    assert!(!hangs_on_newcomer(&world.journal, &world.seen), "AWS refuses to take it back");
    let before_it_left = World::cut_after(5, 2, false, Retirement::Detach);
    assert!(!hangs_on_newcomer(&before_it_left.journal, &before_it_left.seen));
}

#[test]
fn an_old_instance_that_its_owner_has_detached_is_not_terminated() {
    let mut world = World::cut_after(7, 2, false, Retirement::Detach);
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateOld));
    world.journal.undo = Some(Undo { reason: Reason::ExecutionDied, detail: String::new() });
    world.journal.retire_refused = true;
    assert!(world.journal.leaves_old_to_owner());
    world.recover();
    assert!(world.seen.old_alive);
    world.seen.group = None;
    assert!(!matches!(next(&world.journal, &world.seen), Do(Action::TerminateOld)), "nor with its group");
    let mut again = world.journal.clone();
    again.foresee_retirement(1, Timestamp::UNIX_EPOCH);
    assert!(!again.leaves_old_to_owner(), "the next call may do it");
    world.journal.retired = true;
    assert!(!world.journal.leaves_old_to_owner(), "an answer says that our call took it out");
}

/// Some tags outlive the detach, or so AWS may do.
#[test]
fn an_old_instance_that_a_way_back_has_terminated_did_not_die_as_a_member() {
    let mut world = World::cut_after(7, 2, false, Retirement::Detach);
    world.seen.old_has_group_tag = true;
    world.journal.undo = Some(Undo { reason: Reason::ExecutionDied, detail: String::new() });
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateOld));
    world.journal.foresee(&Action::TerminateOld, &world.seen, Timestamp::UNIX_EPOCH);
    world.seen.old_alive = false;
    world.group().members.push(member(51));
    world.group().desired = 3; // a policy has scaled out
    world.group().suspended.clear();
    assert_eq!(next(&world.journal, &world.seen), Decision::Done(End::Finished));
    assert!(doubt(&world.journal, &world.seen).is_some());
}

#[test]
fn az_rebalance_is_resumed_once_and_when_no_call_can_suspend_it_any_more() {
    let mut world = World::cut_after(4, 1, false, Retirement::Detach);
    world.seen.newcomer = None;
    world.seen.calls_may_land = true;
    assert!(matches!(recover(&world.journal, &world.seen), Decision::Wait(_)));
    world.seen.calls_may_land = false;
    assert_eq!(recover(&world.journal, &world.seen), Do(Action::ResumeAzRebalance));
    let before = world.journal.clone();
    world.journal.acknowledge(&Action::ResumeAzRebalance, &before);
    assert_eq!(recover(&world.journal, &world.seen), Decision::Done(End::Undone), "the owner's wish");
}

#[test]
fn nobody_comes_in_the_place_of_an_old_instance_where_fewer_are_asked_for() {
    let mut world = World::cut_after(5, 2, false, Retirement::Detach);
    let is_full = |world: &World| is_full_without_newcomer(&world.journal, &world.seen);
    assert!(is_full(&world), "two beside the newcomer, and two are asked for beside our one");
    world.group().members.retain(|member| member.id != id(OLD));
    world.seen.old_alive = false;
    assert!(!is_full(&world), "its group launches another one");
    world.group().desired = 2;
    assert!(!is_full(&world), "desired as it was is not one that a policy has lowered by two");
    world.group().desired = 1;
    assert!(is_full(&world));
}

#[test]
fn what_the_owner_suspended_stays_suspended() {
    let mut world = World::cut_after(2, 1, false, Retirement::Detach);
    world.journal.original.as_mut().unwrap().az_rebalance_suspended = true;
    world.group().suspended.insert(AZ_REBALANCE.into());
    world.seen.newcomer = None;
    assert_eq!(next(&world.journal, &world.seen), Decision::Done(End::Undone));
}

#[test]
fn max_size_is_the_owners_again_while_the_old_instance_still_leaves() {
    let mut world = World::cut_after(7, 2, true, Retirement::TerminateInGroup);
    let mut leaving = member(OLD);
    leaving.state = MemberState::Leaving;
    world.group().members.push(leaving);
    assert_eq!(next(&world.journal, &world.seen), Do(Action::RestoreMaxSize(2)));
    world.set_max(2);
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)));
}

#[test]
fn max_size_is_not_given_back_before_the_newcomer_is_out_of_the_way() {
    let mut world = World::cut_after(5, 2, true, Retirement::Detach);
    world.journal.stage = Stage::Undoing;
    world.group().desired = 2; // as the group showed it before the attach
    world.group().members.pop();
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateNewcomer(id(NEW))));
}

#[test]
fn members_that_stand_by_are_not_in_desired() {
    let mut world = World::cut_after(8, 2, true, Retirement::Detach);
    let mut standby = member(7);
    standby.state = MemberState::parse("Standby");
    world.group().members.push(standby);
    world.group().suspended.clear();
    assert_eq!(next(&world.journal, &world.seen), Do(Action::RestoreMaxSize(2)));
}

#[test]
fn an_old_instance_that_comes_back_finds_room_in_a_group_at_its_max() {
    let mut world = World::cut_after(7, 2, true, Retirement::Detach);
    assert_eq!(next(&world.journal, &world.seen), Do(Action::RestoreMaxSize(2)));
    world.set_max(2);
    world.newcomer_dies(true);
    assert_eq!(next(&world.journal, &world.seen), Do(Action::RaiseMaxSize(3)));
    world.set_max(3);
    assert_eq!(next(&world.journal, &world.seen), Do(Action::ReattachOld));
    assert_eq!(world.recover(), End::Undone);
    assert_eq!((world.group().max, world.group().desired), (2, 2));
}

#[test]
fn max_size_is_not_lowered_onto_a_group_that_has_grown() {
    let mut world = World::cut_after(3, 2, true, Retirement::Detach);
    world.seen.newcomer = None;
    world.group().desired = 3;
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)));
}

#[test]
fn a_launch_that_may_be_invisible_is_waited_for() {
    let mut world = World::cut_after(0, 1, false, Retirement::Detach);
    world.seen.launch_may_be_invisible = true;
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)));
    world.seen.launch_may_be_invisible = false;
    assert_eq!(next(&world.journal, &world.seen), Decision::Done(End::Undone));
}

#[test]
fn a_deleted_group_leaves_the_newcomer_and_a_detached_old_instance_to_tidy() {
    let mut world = World::cut_after(7, 1, false, Retirement::Detach);
    world.seen.group = None;
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateNewcomer(id(NEW))));
    world.seen.newcomer = None;
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateOld));
    (world.journal.stage, world.journal.turned_back) = (Stage::Undoing, true);
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateOld), "it was about to come back");
    world.seen.old_alive = false;
    assert_eq!(next(&world.journal, &world.seen), Decision::Done(End::Undone));
}

#[test]
fn a_dead_newcomer_that_its_group_has_not_noticed_does_not_count() {
    let mut world = World::cut_after(7, 1, false, Retirement::Detach);
    world.newcomer_dies(false);
    assert_eq!(next(&world.journal, &world.seen), Do(Action::ReattachOld));
}

#[test]
fn a_newcomer_that_stays_pending_is_taken_out() {
    let mut world = World::cut_after(5, 1, false, Retirement::Detach);
    world.group().members[1].state = MemberState::Pending;
    assert_eq!(next(&world.journal, &world.seen), Do(Action::RemoveNewcomer(id(NEW))));
}

#[test]
fn an_unhealthy_member_from_before_holds_up_nothing() {
    let mut world = World::cut_after(5, 3, false, Retirement::Detach);
    world.group().members[1].healthy = false;
    world.journal.original.as_mut().unwrap().serving = 2;
    assert_eq!(next(&world.journal, &world.seen), Do(Action::DetachNewcomer(id(NEW))));
}

#[test]
fn without_a_newcomer_to_prove_it_the_owner_still_gets_back_his_settings() {
    let mut world = World::cut_after(5, 2, true, Retirement::Detach);
    world.journal.stage = Stage::Undoing;
    world.group().desired = 2;
    let settings = |world: &World| settings_only(&world.journal, &world.seen);
    assert_eq!(settings(&world), Some(Action::ResumeAzRebalance));
    world.group().suspended.clear();
    assert_eq!(settings(&world), Some(Action::RestoreMaxSize(2)));
    world.group().desired = 3;
    assert_eq!(settings(&world), None, "desired does not fit below it");
    world.group().max = 2;
    assert_eq!(settings(&world), None, "nothing is left to give back");
}

#[test]
fn a_newcomer_that_is_left_outside_of_a_finished_swap_is_terminated() {
    let mut world = World::cut_after(8, 2, false, Retirement::Detach);
    world.remove(&id(NEW), true);
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateNewcomer(id(NEW))));
    world.seen.draining = vec![id(NEW)];
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)));
}

#[test]
fn what_may_be_left_is_told() {
    let mut world = World::cut_after(5, 2, true, Retirement::Detach);
    world.journal.undo = Some(Undo { reason: Reason::ExecutionDied, detail: String::new() });
    let told = doubt(&world.journal, &world.seen).unwrap();
    assert!(told.contains("is 3, and was 2") && told.contains("MaxSize, which is 3, to 2"), "{told}");
    world.journal.desired_settled = true; // and AWS has said so: whoever raised it since, it is not ours
    assert_eq!(doubt(&world.journal, &world.seen), None);
}

#[test]
fn nothing_ends_while_a_call_may_land() {
    let mut world = World::cut_after(2, 2, true, Retirement::Detach);
    world.seen.newcomer = None;
    world.seen.calls_may_land = true;
    assert!(matches!(recover(&world.journal, &world.seen), Decision::Wait(_)));
    world.seen.calls_may_land = false;
    assert_eq!(recover(&world.journal, &world.seen), Decision::Done(End::Undone));
}

#[test]
fn what_needs_no_proof_touches_no_instance() {
    for action in [Action::ResumeAzRebalance, Action::RestoreMaxSize(1)] {
        assert!(!action.needs_proof() && action.removes(&id(OLD)).is_none(), "{action:?}");
    }
    for action in
        [Action::TerminateOld, Action::ReattachOld, Action::RaiseMaxSize(2), Action::TerminateExtra(id(3))]
    {
        assert!(action.needs_proof(), "{action:?}");
    }
}
