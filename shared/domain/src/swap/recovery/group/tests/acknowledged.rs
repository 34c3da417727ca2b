//! Who has been taken out of desired, by the calls that AWS has acknowledged; and a second newcomer.

use super::*;
use crate::swap::journal::MaxRestore;

/// A swap whose old instance is out of its group, and whose group a policy has raised since.
fn outgrown_after(calls: usize, reason: Reason) -> World {
    let mut world = World::cut_after(calls, 2, true, Retirement::Detach);
    world.journal.undo = Some(Undo { reason, detail: String::new() });
    world.group().suspended.clear();
    world.group().desired = 3;
    world.group().members.push(member(51));
    world
}

#[test]
fn reader_1_an_old_instance_that_was_detached_leaves_no_doubt() {
    let mut world = outgrown_after(7, Reason::NewcomerAtRisk);
    assert_eq!(doubt(&world.journal, &world.seen), None, "it runs outside, without the group's tag");
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateOld));
    world.step();
    assert_eq!(doubt(&world.journal, &world.seen), None, "EC2 may show no tags of one that has ended");
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "MaxSize is still raised");
    world.group().desired = 2;
    world.group().members.pop();
    assert_eq!(next(&world.journal, &world.seen), Do(Action::RestoreMaxSize(2)));
}

#[test]
fn reader_1_what_proves_nothing_leaves_the_doubt() {
    for reason in [Reason::RetireRejected, Reason::InstanceGone] {
        assert!(doubt_of(&outgrown_after(7, reason)), "{reason}: the group, or its owner, was faster");
    }
    let mut came_back = outgrown_after(7, Reason::NewcomerAtRisk);
    (came_back.journal.stage, came_back.journal.turned_back) = (Stage::Undoing, true);
    assert!(doubt_of(&came_back), "an attach may have put our one back");
    assert!(doubt_of(&outgrown_after(8, Reason::NewcomerAtRisk)), "a dead one without tags proves nothing");
    let mut hook = outgrown_after(7, Reason::NewcomerAtRisk);
    hook.journal.retirement = Retirement::TerminateInGroup;
    assert!(doubt_of(&hook), "no detach of ours took the tag away");
}

fn doubt_of(world: &World) -> bool {
    doubt(&world.journal, &world.seen).is_some()
}

#[test]
fn an_old_instance_that_served_again_is_its_owners_if_it_is_outside() {
    for is_served in [true, false] {
        let mut world = World::cut_after(7, 1, false, Retirement::Detach);
        world.newcomer_dies(false);
        world.step();
        world.seen.calls_may_land = !is_served;
        assert_eq!(next(&world.journal, &world.seen), Do(Action::RemoveNewcomer(id(NEW))));
        world.step();
        world.journal.note_look(&world.seen);
        world.seen.calls_may_land = false;
        world.remove(&id(OLD), false);
        world.seen.old_has_group_tag = false;
        let comes_back = next(&world.journal, &world.seen) == Do(Action::ReattachOld);
        assert_eq!(comes_back, !is_served, "a call of ours may still have taken it out");
    }
}

#[test]
fn a_newcomer_has_joined_its_group_until_it_leaves_it_alive() {
    let mut world = World::cut_after(5, 2, false, Retirement::Detach);
    assert!(world.journal.note_look(&world.seen) && world.journal.newcomer_joined);
    assert!(!world.journal.note_look(&world.seen), "that is no news");
    let newcomer = world.group().members.iter_mut().find(|member| member.id == id(NEW)).unwrap();
    newcomer.state = MemberState::Leaving;
    world.seen.newcomer.as_mut().unwrap().alive = false;
    assert!(
        !world.journal.note_look(&world.seen) && world.journal.newcomer_joined,
        "it has died in the group"
    );
    world.seen.newcomer.as_mut().unwrap().alive = true;
    let is_news = world.journal.note_look(&world.seen);
    assert!(is_news && !world.journal.newcomer_joined, "its owner may detach it");
    // It is out and dead: the tag tells what became of it.
    for (has_group_tag, has_joined) in [(true, true), (false, false)] {
        world.remove(&id(NEW), false);
        let newcomer = world.seen.newcomer.as_mut().unwrap();
        (newcomer.alive, newcomer.has_group_tag) = (false, has_group_tag);
        world.journal.note_look(&world.seen);
        assert_eq!(world.journal.newcomer_joined, has_joined);
    }
}

#[test]
fn reader_3_an_old_instance_that_cant_come_back_holds_nothing_up() {
    let mut world = World::cut_after(7, 2, false, Retirement::Detach);
    world.newcomer_dies(true);
    for _ in 0..2 {
        assert_eq!(next(&world.journal, &world.seen), Do(Action::ReattachOld));
        let before = world.journal.clone();
        world.journal.foresee(&Action::ReattachOld, &world.seen, Timestamp::UNIX_EPOCH);
        world.journal.retract(&Action::ReattachOld, &before);
    }
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "one serves, of two");
    world.tick();
    world.tick();
    assert_eq!(
        next(&world.journal, &world.seen),
        Do(Action::TerminateOld),
        "its group has replaced the newcomer"
    );
    world.recover();
    assert_eq!((world.group().desired, world.group().in_service(), world.seen.old_alive), (2, 2, false));
}

#[test]
fn reader_3_a_newcomer_at_risk_counts_where_the_old_instance_cant_come_back() {
    let mut world = World::cut_after(7, 2, false, Retirement::Detach);
    world.journal.undo = Some(Undo { reason: Reason::NewcomerAtRisk, detail: String::new() });
    (world.journal.stage, world.journal.turned_back) = (Stage::Undoing, true);
    world.journal.refused_reattaches = 1;
    assert_eq!(
        next(&world.journal, &world.seen),
        Do(Action::ReattachOld),
        "the look may have been older than MaxSize"
    );
    world.seen.calls_may_land = true;
    assert!(
        matches!(next(&world.journal, &world.seen), Decision::Wait(_)),
        "the second look is no older one"
    );
    world.journal.refused_reattaches = 2;
    assert!(
        matches!(next(&world.journal, &world.seen), Decision::Wait(_)),
        "an earlier attach may still show"
    );
    world.seen.calls_may_land = false;
    assert_eq!(next(&world.journal, &world.seen), Do(Action::TerminateOld));
    assert_eq!(world.recover(), End::Finished);
}

#[test]
fn reader_5_a_decrement_that_was_answered_may_show_later() {
    let at = Timestamp::from_second(100).unwrap();
    let before = Journal { changed_at: None, ..World::cut_after(5, 2, false, Retirement::Detach).journal };
    let seen = World::cut_after(5, 2, false, Retirement::Detach).seen;
    let after = |action: Action| {
        let mut journal = before.clone();
        journal.foresee(&action, &seen, at);
        journal.acknowledge(&action, &before);
        journal
    };
    for action in [
        Action::DetachNewcomer(id(NEW)),
        Action::RemoveNewcomer(id(NEW)),
        Action::ReplaceNewcomer(id(NEW)),
        Action::TerminateExtra(id(7)),
        Action::ReattachOld,
    ] {
        assert_eq!(after(action.clone()).changed_at, Some(at), "{action:?}");
    }
    assert_eq!(after(Action::ResumeAzRebalance).changed_at, None, "nothing is concluded from it");
    let settled = after(Action::DetachNewcomer(id(NEW)));
    let stale = Observed { calls_may_land: true, ..seen };
    assert!(matches!(recover(&settled, &stale), Do(Action::ResumeAzRebalance) | Decision::Wait(_)));
    let mut stale = stale;
    stale.group.as_mut().unwrap().suspended.clear();
    assert!(
        matches!(recover(&settled, &stale), Decision::Wait(_)),
        "the look shows the newcomer as a member"
    );
}

#[test]
fn a_max_size_that_its_owner_has_set_meanwhile_is_not_ours_to_give_back() {
    let mut world = restoring();
    world.journal.max_restore = MaxRestore::NotAsked;
    world.journal.foresee_retirement(10, Timestamp::UNIX_EPOCH);
    assert_eq!(world.journal.max_restore, MaxRestore::NotAsked, "its owner has set 10");
    let raised = world.journal.max_raised_to.unwrap();
    world.journal.foresee_retirement(raised, Timestamp::UNIX_EPOCH);
    assert_eq!(world.journal.max_restore, MaxRestore::Asked);
}

#[test]
fn our_one_that_comes_back_may_still_be_cut_by_a_max_size_that_goes_back_late() {
    for (may_land, expected) in [(true, MaxRestore::Asked), (false, MaxRestore::NotAsked)] {
        for action in [Action::ReattachOld, Action::RaiseMaxSize(3)] {
            let mut world = restoring();
            world.journal.max_restore = MaxRestore::Made;
            world.seen.calls_may_land = may_land;
            world.journal.foresee(&action, &world.seen, Timestamp::UNIX_EPOCH);
            assert_eq!(world.journal.max_restore, expected, "{action:?}");
        }
    }
}

/// An attach takes the old instance back, and its group counts it before its target groups do.
#[test]
fn a_newcomer_stays_until_the_old_instance_that_came_back_is_healthy_in_its_targets() {
    let mut world = World::cut_after(7, 2, false, Retirement::Detach);
    world.journal.undo = Some(Undo { reason: Reason::NewcomerAtRisk, detail: String::new() });
    (world.journal.stage, world.journal.turned_back) = (Stage::Undoing, true);
    let old = world.journal.old.clone();
    world.group().desired = 3;
    world.group().members.push(Member { id: old.clone(), ..member(1) });
    world.seen.not_serving = vec![old];
    let waits = next(&world.journal, &world.seen);
    assert!(matches!(waits, Decision::Wait(_)), "two of three would serve: {waits:?}");
    world.seen.not_serving.clear();
    assert_eq!(next(&world.journal, &world.seen), Do(Action::DetachNewcomer(id(NEW))));
}

/// A swap of a full group whose newcomer is dead. MaxSize was told to go back while desired was lower.
fn restoring() -> World {
    let mut world = World::cut_after(5, 2, true, Retirement::Detach);
    world.newcomer_dies(false);
    let restore = Action::RestoreMaxSize(2);
    world.journal.foresee(&restore, &world.seen, Timestamp::UNIX_EPOCH);
    world
}

#[test]
fn a_max_size_that_may_go_back_is_waited_for_before_desired_is_lowered() {
    let mut world = restoring();
    world.seen.calls_may_land = true;
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "it may land, and cut desired");
    world.seen.calls_may_land = false;
    let remove = Do(Action::RemoveNewcomer(id(NEW)));
    assert_eq!(next(&world.journal, &world.seen), remove, "it never landed");
    let answered = {
        let mut journal = world.journal.clone();
        journal.acknowledge(&Action::RestoreMaxSize(2), &world.journal);
        journal
    };
    assert_ne!(next(&answered, &world.seen), remove, "the look is older than the answer");
}

#[test]
fn an_old_instance_that_comes_back_is_our_one_again_whatever_became_of_max_size() {
    let mut world = restoring();
    let before = world.journal.clone();
    world.journal.acknowledge(&Action::RestoreMaxSize(2), &before);
    assert!(!world.journal.has_our_room(3));
    for back in [Action::RaiseMaxSize(3), Action::ReattachOld] {
        let mut journal = world.journal.clone();
        journal.foresee(&back, &world.seen, Timestamp::UNIX_EPOCH);
        assert!(journal.has_our_room(3), "{back:?}");
    }
}

#[test]
fn reader_9_only_the_first_retirement_that_is_refused_proves_anything() {
    for has_left in [false, true] {
        assert_eq!(why_not_retired(true, has_left), Reason::RetireRejected);
        assert_ne!(why_not_retired(false, has_left), Reason::RetireRejected);
    }
}

#[test]
fn reader_10_an_old_instance_that_its_group_terminates_is_not_taken_back() {
    let mut world = World::cut_after(7, 2, false, Retirement::TerminateInGroup);
    (world.journal.stage, world.journal.turned_back) = (Stage::Undoing, true);
    world.journal.undo = Some(Undo { reason: Reason::NewcomerAtRisk, detail: String::new() });
    world.seen.old_alive = true; // as EC2 showed it a moment ago
    world.seen.calls_may_land = true;
    world.group().suspended.clear();
    assert!(matches!(recover(&world.journal, &world.seen), Decision::Wait(_)));
    world.seen.old_alive = false;
    world.seen.calls_may_land = false;
    assert_eq!(recover(&world.journal, &world.seen), Decision::Done(End::Finished));
}

#[test]
fn reader_10_a_desired_that_may_be_old_decides_nothing() {
    for reason in [Reason::NewcomerAtRisk, Reason::NewcomerNotServing] {
        let mut world = World::cut_after(7, 2, false, Retirement::Detach);
        world.journal.undo = Some(Undo { reason, detail: String::new() });
        world.group().desired = 3; // as it was before the detach
        world.seen.calls_may_land = true;
        assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "{reason}");
        world.group().desired = 2;
        assert_eq!(next(&world.journal, &world.seen), Do(Action::ReattachOld), "{reason}");
    }
    let mut goes_well = World::cut_after(7, 2, false, Retirement::Detach);
    goes_well.seen.calls_may_land = true;
    assert_eq!(next(&goes_well.journal, &goes_well.seen), Do(Action::TerminateOld), "no swap waits for it");
}

#[test]
fn reader_8_an_old_instance_that_died_while_it_was_detached_took_our_one_along() {
    let mut world = outgrown_after(8, Reason::ExecutionDied);
    world.seen.old_has_group_tag = true;
    assert_eq!(
        next(&world.journal, &world.seen),
        Do(Action::TerminateExtra(id(51))),
        "nobody has answered the detach"
    );
    world.journal.retired = true;
    assert!(matches!(next(&world.journal, &world.seen), Decision::Wait(_)), "a policy has launched it");
}

#[test]
fn a_second_newcomer_goes_before_a_swap_ends_whichever_way() {
    for (calls, expected) in [(0, End::Undone), (1, End::Undone), (8, End::Finished)] {
        let mut world = World::cut_after(calls, 3, false, Retirement::Detach);
        world.seen.strays = vec![id(77)];
        assert_eq!(world.recover(), expected, "after {calls} calls");
        assert!(world.seen.strays.is_empty(), "after {calls} calls");
    }
}

#[test]
fn a_second_newcomer_that_its_pods_keep_in_service_holds_up_no_end() {
    let mut world = World::cut_after(8, 3, false, Retirement::Detach);
    world.seen.strays = vec![id(77)];
    keeps(&mut world.journal, Kept { instance_id: id(77), why: "default/web-0 can't be evicted".into() });
    assert_eq!(world.recover(), End::Finished);
    assert_eq!(world.seen.strays, [id(77)]);
}
