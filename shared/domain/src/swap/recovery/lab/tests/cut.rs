//! Swaps that are cut at any call, and calls that land late.

use super::*;

proptest! {
    /// A call of the retirement gets no answer, and lands within the quiet period. The way back begins meanwhile, and ends
    /// with one instance that serves.
    #[test]
    fn a_call_that_lands_late_leaves_the_service_with_one_of_the_two(
        answered in 0_usize..4,
        late_by in 0_usize..8,
        terminate: bool,
        has_address: bool,
        groups in 0_usize..3,
    ) {
        const QUIET: usize = 8;
        let how = if terminate { OldInstance::Terminate } else { OldInstance::Stop };
        let mut world = World::new(how, has_address, groups, false);
        world.serves_beside_the_old();
        let mut lost = None;
        for _ in 0..40 {
            let decision = world.decide();
            if decision.action().is_some() && world.calls == answered {
                lost = decision.action().cloned();
                break;
            }
            world.calls += usize::from(decision.action().is_some());
            world.carries_out(&decision);
        }
        let Some(lost) = lost else { return Ok(()) }; // it had not so many calls
        world.journal.undo = Some(Undo { reason: Reason::NewcomerAtRisk, detail: String::new() });
        world.journal.stage = Stage::Undoing;
        for look in 0.. {
            prop_assert!(look < 60, "it does not end: {:?}", world);
            if look == late_by {
                lands(&mut world, &lost);
            }
            world.seen.calls_may_land = look < QUIET;
            let decision = world.decide();
            if let Decision::Done(_) = decision {
                prop_assert!(look >= late_by, "it ended before the call landed");
                break;
            }
            world.carries_out(&decision);
            world.tick();
        }
        let newcomer_lives = world.seen.newcomer.as_ref().is_some_and(|n| n.alive);
        let old_serves = world.seen.old == OldState::Running && world.serves(AddressAt::Old, |t| t.old);
        prop_assert!(old_serves || newcomer_lives, "{:?}", world);
    }
}

proptest! {
    #[test]
    fn a_swap_cut_at_any_call_is_finished_or_undone(
        left in 1_usize..17,
        made: bool,
        terminate: bool,
        has_address: bool,
        groups in 0_usize..3,
        capture: bool,
        dies: bool,
        old_taken: bool,
    ) {
        let how = if terminate { OldInstance::Terminate } else { OldInstance::Stop };
        let mut world = World::new(how, has_address, groups, capture);
        world.run(Cut { left, made });
        let old_was_terminated = world.seen.old == OldState::Gone;
        if dies {
            world.newcomer_dies();
        }
        if old_taken {
            world.owner_terminates_the_old();
        }
        let end = world.recover();
        world.tick(); // where the old one is gone, nobody waits for the newcomer's first checks
        world.assert_nothing_is_left();
        let alive = world.seen.newcomer.as_ref().is_some_and(|n| n.alive);
        match end {
            End::Undone if old_taken => prop_assert!(!alive),
            End::Undone => {
                prop_assert!(!alive, "a stray newcomer");
                let has_traffic = has_address || groups > 0;
                let has_served = (world.journal.newcomer.is_some() && has_traffic) || world.lab.stopping;
                prop_assert!(has_served || world.seen.volumes.is_empty(), "a stray volume");
                prop_assert_eq!(world.seen.old, OldState::Running);
                prop_assert!(world.serves(AddressAt::Old, |t| t.old), "{:?}", world);
            }
            End::Finished if dies => prop_assert!(old_taken || old_was_terminated),
            End::Finished => {
                prop_assert!(alive);
                prop_assert!(world.serves(AddressAt::Newcomer, |t| t.newcomer), "{:?}", world);
                let expected = if terminate || old_taken { OldState::Gone } else { OldState::Stopped };
                prop_assert_eq!(world.seen.old, expected);
            }
        }
    }

    #[test]
    fn whoever_speaks_against_it_gets_the_old_one_back(
        left in 1_usize..17,
        made: bool,
        has_address: bool,
        groups in 0_usize..3,
        needs_address: bool,
        time in 0_usize..4,
        reason in prop::sample::select(vec![
            Reason::NewcomerAtRisk, Reason::NewcomerNotServing, Reason::InstanceChanged,
        ]),
    ) {
        let mut world = World::new(OldInstance::Stop, has_address, groups, false);
        world.old_needs_address = has_address && needs_address;
        world.run(Cut { left, made });
        (0..time).for_each(|_| world.tick());
        world.journal.undo = Some(Undo { reason, detail: String::new() });
        for _ in 0..60 {
            let decision = world.decide();
            if matches!(decision, Decision::Done(_)) {
                break;
            }
            world.carries_out(&decision);
            world.tick();
        }
        prop_assert_eq!(world.seen.old, OldState::Running);
        prop_assert!(world.serves(AddressAt::Old, |t| t.old), "{:?}", world);
        prop_assert!(world.seen.newcomer.is_none_or(|n| !n.alive));
    }
}
