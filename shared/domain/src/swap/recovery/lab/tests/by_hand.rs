//! Single histories.

use super::*;

#[test]
fn the_volumes_of_a_newcomer_that_replaced_the_old_one_stay() {
    let mut world = World::new(OldInstance::Stop, false, 0, false);
    world.run(Cut::after(10));
    assert_eq!(world.recover(), End::Finished);
    assert!(world.seen.volumes.iter().all(|volume| volume.is_attached) && !world.seen.volumes.is_empty());
}

#[test]
fn an_old_instance_is_brought_back_after_its_swap_and_what_the_newcomer_left_stays() {
    for dies in [false, true] {
        let mut world = World::new(OldInstance::Stop, true, 1, false);
        world.run(Cut::after(20));
        assert_eq!(world.seen.old, OldState::Stopped);
        if dies {
            world.newcomer_dies();
        }
        world.journal.stage = Stage::Undoing;
        (world.lab.leaving, world.lab.stopping, world.lab.is_over) = (true, true, true);
        assert_eq!(world.recover(), End::Undone);
        assert!(world.serves(AddressAt::Old, |t| t.old) && world.seen.old == OldState::Running);
        assert!(world.seen.newcomer.as_ref().is_some_and(|n| !n.alive) && !world.seen.volumes.is_empty());
    }
}

#[test]
fn what_stays_is_named() {
    let mut world = World::new(OldInstance::Stop, true, 1, false);
    world.run(Cut::after(20));
    assert_eq!(
        world.seen.remarks(&world.lab),
        Vec::<String>::new(),
        "a newcomer that serves keeps what it has"
    );
    world.newcomer_dies();
    world.seen.left_alone = vec!["image ami-9 bears the tag".into()];
    let remarks = world.seen.remarks(&world.lab);
    assert!(
        remarks.len() == 3 && remarks[0].contains("ami-9") && remarks[1].contains("vol-1"),
        "{remarks:?}"
    );
    let mut never_served = World::new(OldInstance::Stop, true, 1, false);
    never_served.run(Cut::after(1));
    never_served.newcomer_dies();
    assert_eq!(never_served.recover(), End::Undone);
    assert_eq!(never_served.seen.remarks(&never_served.lab), Vec::<String>::new(), "its volume has gone");
}

#[test]
fn a_volume_is_deleted_only_once_the_newcomer_has_let_go_of_it() {
    let mut world = World::new(OldInstance::Stop, false, 0, false);
    world.run(Cut::after(1));
    world.journal.stage = Stage::Undoing;
    world.seen.newcomer = Some(Newcomer { id: newcomer(), alive: false });
    assert!(matches!(next(&world.journal, &world.lab, &world.seen), Decision::Wait(_)));
    world.seen.volumes[0].is_attached = false;
    assert_eq!(next(&world.journal, &world.lab, &world.seen), Do(Action::DeleteVolume("vol-1".into())));
}

#[test]
fn a_newcomer_that_serves_outlives_an_old_one_that_does_not() {
    let mut world = World::new(OldInstance::Stop, false, 1, false);
    world.run(Cut::after(3));
    assert!(world.lab.leaving);
    world.journal.undo = Some(Undo { reason: Reason::InstanceChanged, detail: String::new() });
    world.seen.targets[0].old = TargetState::Unhealthy;
    assert!(matches!(next(&world.journal, &world.lab, &world.seen), Decision::Wait(_)));
    world.seen.targets[0].newcomer = TargetState::Unhealthy;
    assert_eq!(next(&world.journal, &world.lab, &world.seen), Do(Action::DeregisterNewcomer(0)));
}

#[test]
fn an_address_that_its_owner_moved_elsewhere_stays_there() {
    let mut world = World::new(OldInstance::Stop, true, 0, false);
    world.run(Cut::after(2));
    assert_eq!(world.seen.address, AddressAt::Newcomer);
    world.seen.address = AddressAt::Elsewhere;
    assert_eq!(world.recover(), End::Undone);
    assert_eq!(world.seen.address, AddressAt::Elsewhere);
}

#[test]
fn an_old_instance_that_its_owner_stopped_is_not_started() {
    let mut world = World::new(OldInstance::Stop, false, 0, false);
    world.run(Cut::after(1));
    world.seen.old = OldState::Stopped;
    world.old_taken = true;
    assert_eq!(world.recover(), End::Undone);
    assert_eq!(world.seen.old, OldState::Stopped);
}

#[test]
fn a_launch_that_may_be_invisible_is_waited_for() {
    let mut world = World::new(OldInstance::Stop, false, 0, true);
    world.journal.stage = Stage::Undoing;
    world.seen.launch_may_be_invisible = true;
    assert!(matches!(next(&world.journal, &world.lab, &world.seen), Decision::Wait(_)));
}

#[test]
fn the_address_moves_only_once_every_target_group_finds_the_newcomer_healthy() {
    let mut world = World::new(OldInstance::Stop, true, 2, false);
    world.seen.newcomer = Some(Newcomer { id: newcomer(), alive: true });
    world.seen.targets[0].newcomer = TargetState::Healthy;
    assert_eq!(take_over(&world.lab, &world.seen), TakeOver::Register(1));
    world.seen.targets[1].newcomer = TargetState::Unhealthy;
    assert!(matches!(take_over(&world.lab, &world.seen), TakeOver::Wait(_)));
    world.seen.targets[1].newcomer = TargetState::Healthy;
    assert_eq!(take_over(&world.lab, &world.seen), TakeOver::MoveAddress);
    world.seen.old = OldState::Stopped;
    assert!(matches!(take_over(&world.lab, &world.seen), TakeOver::Undo(Reason::InstanceChanged, _)));
}

#[test]
fn an_old_instance_that_its_owner_has_put_back_is_healthy_before_the_newcomer_goes() {
    let mut world = World::new(OldInstance::Stop, false, 1, false);
    world.serves_beside_the_old();
    world.decide_to_recover();
    world.journal.stage = Stage::Undoing;
    world.seen.targets[0].old = TargetState::Checking; // we have not taken it out
    assert!(matches!(next(&world.journal, &world.lab, &world.seen), Decision::Wait(_)));
    world.seen.targets[0].old = TargetState::Healthy;
    assert_eq!(next(&world.journal, &world.lab, &world.seen), Do(Action::DeregisterNewcomer(0)));
}

#[test]
fn a_newcomer_that_its_owner_has_come_to_use_leaves_the_service_and_stays() {
    let mut world = World::new(OldInstance::Stop, false, 1, false);
    world.serves_beside_the_old();
    world.journal.stage = Stage::Undoing;
    world.seen.volumes.clear();
    world.lab.kept.insert(newcomer(), "it bears a tag".into());
    assert_eq!(next(&world.journal, &world.lab, &world.seen), Do(Action::DeregisterNewcomer(0)));
    world.seen.targets[0].newcomer = TargetState::Absent;
    assert_eq!(next(&world.journal, &world.lab, &world.seen), Decision::Done(End::Undone));
    let remarks = world.seen.remarks(&world.lab);
    assert!(matches!(&remarks[..], [one] if one.contains(newcomer().as_str())), "{remarks:?}");
    world.seen.strays = vec!["i-00000003".parse().unwrap()];
    let stray = Action::TerminateNewcomer("i-00000003".parse().unwrap());
    assert_eq!(next(&world.journal, &world.lab, &world.seen), Do(stray));
}

#[test]
fn a_newcomer_that_its_owner_takes_out_of_a_target_group_is_not_put_back() {
    let mut world = World::new(OldInstance::Stop, false, 1, false);
    world.seen.newcomer = Some(Newcomer { id: newcomer(), alive: true });
    world.seen.targets[0].newcomer = TargetState::Draining;
    assert!(matches!(take_over(&world.lab, &world.seen), TakeOver::Undo(Reason::InstanceChanged, _)));
    world.seen.targets[0].newcomer = TargetState::Absent;
    world.serves_beside_the_old();
    (world.lab.leaving, world.lab.stopping, world.seen.old) = (true, true, OldState::Stopped);
    (world.seen.targets[0].old, world.seen.targets[0].newcomer) = (TargetState::Absent, TargetState::Absent);
    assert_eq!(next(&world.journal, &world.lab, &world.seen), Decision::Done(End::Finished));
}
