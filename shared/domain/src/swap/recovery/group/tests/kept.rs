//! Instances whose pods can't leave: they stay, and the swap ends.

use super::*;

#[test]
fn a_newcomer_whose_pods_cant_leave_stays_and_the_way_back_ends() {
    for (calls, at_max) in [(1, false), (5, false), (5, true)] {
        let mut world = World::cut_after(calls, 2, at_max, Retirement::Detach);
        kept(&mut world, id(NEW));
        assert_eq!(world.recover(), End::Undone, "cut after {calls}");
        assert!(world.seen.newcomer.clone().unwrap().alive && world.seen.old_alive);
        let is_member = calls == 5;
        assert_eq!(world.group().suspended.contains(AZ_REBALANCE), is_member, "a rebalance would take it");
        let members = if is_member { 3 } else { 2 };
        assert_eq!((world.group().in_service(), world.group().desired), (members, members));
        assert_eq!(world.group().max, if at_max { 3 } else { 6 }, "a lower MaxSize would pick a victim");
    }
}

#[test]
fn a_newcomer_that_was_kept_and_dies_is_taken_out_of_desired() {
    let mut world = World::cut_after(5, 2, true, Retirement::Detach);
    kept(&mut world, id(NEW));
    world.newcomer_dies(false);
    assert_eq!(world.recover(), End::Undone);
    assert_eq!((world.group().desired, world.group().max), (2, 2));
    assert!(!world.group().suspended.contains(AZ_REBALANCE));
}

#[test]
fn the_groups_own_replacement_stays_too_if_its_pods_cant_leave() {
    let mut world = World::cut_after(5, 2, false, Retirement::Detach);
    world.newcomer_dies(true);
    world.tick();
    world.tick();
    kept(&mut world, id(51));
    assert_eq!(world.recover(), End::Undone);
    assert_eq!(world.group().desired, 3);
    assert!(world.group().member(&id(51)).is_some());
    assert!(world.group().suspended.contains(AZ_REBALANCE));
}

#[test]
fn a_newcomer_that_its_owner_has_told_to_leave_keeps_no_process_suspended() {
    let mut world = World::cut_after(5, 2, false, Retirement::Detach);
    kept(&mut world, id(NEW));
    assert_eq!(next(&world.journal, &world.seen), Decision::Done(End::Undone));
    let leaving = world.group().members.iter_mut().find(|m| m.id == id(NEW)).unwrap();
    leaving.state = MemberState::Leaving;
    assert_eq!(next(&world.journal, &world.seen), Do(Action::ResumeAzRebalance));
}

#[test]
fn a_group_that_is_gone_takes_nothing_with_it_that_is_kept() {
    let mut world = World::cut_after(1, 2, false, Retirement::Detach);
    kept(&mut world, id(NEW));
    world.seen.group = None;
    assert_eq!(next(&world.journal, &world.seen), Decision::Done(End::Undone));
}
