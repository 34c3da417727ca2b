//! Thousands of histories, and by name those that once went wrong (the numbers are those of the analysis that found them).

use std::sync::LazyLock;

use proptest::prelude::*;

use super::execution::At;
use super::history::{Event, History};
use super::*;
use crate::settings::Settings;
use crate::swap::recovery::fate::{Fate, LAG, QUIET, histories};
use crate::swap::recovery::truth::{NEW, OLD, Step};

pub(super) static SETTINGS: LazyLock<Settings> = LazyLock::new(Settings::default);

fn swap(n: u32, is_at_max: bool, hook: bool) -> History {
    History::new(n, is_at_max, if hook { Retirement::TerminateInGroup } else { Retirement::Detach })
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::with_cases(histories(20_000)) })]

    /// Whatever happens, in whatever order: capacity holds, the way has an end, nothing of ours is left.
    #[test]
    fn no_history_breaks_a_swap(
        n in 1_u32..4,
        is_at_max in any::<bool>(),
        hook in any::<bool>(),
        tape in prop::collection::vec(any::<u16>(), 10..70),
    ) {
        let events = || tape.iter().copied().map(Event::from);
        if swap(n, is_at_max, hook).play(events()).is_err() {
            let told = swap(n, is_at_max, hook).verbose();
            return Err(TestCaseError::fail(told.play(events()).unwrap_err()));
        }
    }
}

/// Tells a history by hand.
struct Told(History);

impl Told {
    fn of(n: u32, hook: bool) -> Self {
        Self(swap(n, false, hook).verbose())
    }

    fn steps(&mut self, fate: Fate) -> &mut Self {
        self.0.event(Event::Step(0, Step::with(fate)));
        self
    }

    /// All goes well until the execution is there.
    fn reaches(n: u32, hook: bool, at: At) -> Self {
        Self::of(n, hook).until(at)
    }

    fn until(self, at: At) -> Self {
        let mut told = self;
        for _ in 0..40 {
            if told.0.execution.at == at {
                return told;
            }
            told.steps(Fate::Done).rests();
        }
        panic!("the execution never reached {at:?}");
    }

    /// The group does all that is due.
    fn rests(&mut self) -> &mut Self {
        self.0.truth.comes_to_rest();
        self.passes(LAG)
    }

    fn passes(&mut self, ticks: u32) -> &mut Self {
        self.0.event(Event::TimePasses(ticks));
        self
    }

    fn owner_asks(&mut self, more: i32) -> &mut Self {
        self.0.event(Event::OwnerAsks(more));
        self
    }

    /// The group scales in, and this is its victim.
    fn scales_in(&mut self, n: u32) -> &mut Self {
        self.0.truth.dismisses(n);
        self.passes(0)
    }

    fn happens(&mut self, event: Event) -> &mut Self {
        self.0.event(event);
        self
    }

    /// Recovery goes on until it makes this call, with that fate.
    fn recovers_until(&mut self, what: fn(&Action) -> bool, fate: Fate) -> &mut Self {
        for _ in 0..60 {
            let is_next = self.0.visits.iter().any(|visit| visit.is_about_to(what));
            self.steps(if is_next { fate } else { Fate::Done });
            if is_next {
                return self;
            }
        }
        panic!("recovery never came to it");
    }

    fn ends(self) {
        if let Err(broken) = self.0.ends() {
            panic!("{broken}");
        }
    }
}

/// AWS takes some 15 s from "desired lowered" to "victim chosen"; the newcomer is attached in between, and is the victim.
#[test]
fn hole_1_a_newcomer_that_falls_victim_to_an_earlier_scale_in_holds_nothing_up() {
    for hook in [false, true] {
        let mut told = Told::reaches(2, hook, At::LookAndWriteAttaching);
        told.owner_asks(-1);
        told.steps(Fate::Done).steps(Fate::Done).steps(Fate::Done).steps(Fate::Done);
        assert_eq!(told.0.truth.member(NEW).map(|m| m.alive), Some(true));
        told.scales_in(NEW);
        told.ends();
    }
}

#[test]
fn hole_2_a_way_back_never_turns_forward_again() {
    let mut told = Told::reaches(2, false, At::WaitForRetirement);
    told.rests().happens(Event::Poison);
    told.recovers_until(|action| *action == Action::ReattachOld, Fate::Done).rests();
    told.recovers_until(|action| matches!(action, Action::DetachNewcomer(_)), Fate::Done);
    // A newcomer drains for minutes.
    told.0.truth.buries(OLD);
    for _ in 0..4 * QUIET {
        told.steps(Fate::Done);
    }
    assert!(told.0.end.is_none(), "the newcomer is still on its way out of the group");
    told.ends();
}

#[test]
fn hole_2_an_old_instance_that_dies_before_the_newcomer_leaves_again() {
    let mut told = Told::reaches(2, false, At::WaitForRetirement);
    told.rests().happens(Event::Poison);
    told.recovers_until(|action| *action == Action::ReattachOld, Fate::Done).rests();
    told.happens(Event::OldDies).rests();
    told.ends();
}

#[test]
fn hole_4_a_detach_that_lands_late() {
    let mut told = Told::reaches(2, false, At::Retire);
    told.steps(Fate::Late);
    told.steps(Fate::Done).steps(Fate::Done).steps(Fate::Done).steps(Fate::Done);
    told.ends();
}

#[test]
fn hole_4_a_look_that_is_older_than_the_detach() {
    for ages in [[1, 1, 1], [0, 1, 0], [1, 0, 0]] {
        let mut told = Told::reaches(2, false, At::Retire);
        told.steps(Fate::Done);
        for _ in 0..5 {
            told.0.step(0, Step { ages, ..Step::with(Fate::Done) });
        }
        told.passes(0);
        told.ends();
    }
}

/// A detach was carried out, and its answer lost. The SDK repeats it, which is refused; a policy was faster.
#[test]
fn hole_5_the_instance_that_a_policy_launched_is_not_taken_for_our_one() {
    let mut told = Told::reaches(2, false, At::Retire);
    told.steps(Fate::AnswerLost).owner_asks(1).rests();
    told.ends();
}

/// The journal does not say yet that our one is out of desired, and a policy raises it.
#[test]
fn hole_5_a_cut_before_it_is_written_that_desired_is_settled() {
    let mut told = Told::reaches(2, false, At::WaitForInService);
    told.happens(Event::NewcomerDies);
    told.recovers_until(|action| matches!(action, Action::RemoveNewcomer(_)), Fate::CutAfter);
    told.owner_asks(1).rests();
    told.ends();
}

/// The old instance was detached, and died before it could come back: our one has left desired with it.
#[test]
fn hole_5_a_way_back_whose_attach_was_never_made() {
    let mut told = Told::reaches(2, false, At::WaitForRetirement);
    told.rests().happens(Event::Poison);
    told.recovers_until(|action| *action == Action::ReattachOld, Fate::CutBefore);
    told.happens(Event::OldDies).owner_asks(1).rests();
    told.ends();
}

#[test]
fn hole_4_an_old_instance_that_may_still_come_back_is_not_terminated() {
    let mut told = Told::reaches(2, false, At::WaitForRetirement);
    told.rests().happens(Event::Poison);
    told.recovers_until(|action| *action == Action::ReattachOld, Fate::Late);
    told.owner_asks(1); // no room for it any more, as far as a look can tell
    told.steps(Fate::Done).steps(Fate::Done).steps(Fate::Done);
    told.ends();
}

#[test]
fn hole_11_a_doubted_newcomer_in_a_group_that_was_resized() {
    let mut told = Told::reaches(2, false, At::WaitForRetirement);
    told.rests().happens(Event::Poison);
    told.owner_asks(-1).scales_in(1).rests();
    told.ends();
}

/// Each of the two takes one off: MaxSize, which cuts desired, and the newcomer that leaves.
#[test]
fn a_max_size_that_goes_back_late_and_a_newcomer_that_leaves_lower_desired_once() {
    let mut told = Told(swap(2, true, false).verbose()).until(At::WaitForInService);
    told.happens(Event::NewcomerDies).owner_asks(-1);
    told.recovers_until(|action| matches!(action, Action::RestoreMaxSize(_)), Fate::Late);
    told.owner_asks(1).steps(Fate::Done).steps(Fate::Done).steps(Fate::Done);
    assert_eq!((told.0.truth.desired, told.0.truth.max), (2, 2), "MaxSize has cut desired, and nothing else");
    told.ends();
}

/// The owner asks for one more in the moment of our call, which cuts our one off. The next look does not show it yet.
#[test]
fn a_look_that_is_older_than_a_max_size_that_went_back_takes_nobody_out() {
    let old_look = Event::Step(0, Step { ages: [1; 3], ..Step::with(Fate::Done) });
    let mut told = Told(swap(2, true, false).verbose()).until(At::WaitForInService);
    told.happens(Event::NewcomerDies).owner_asks(-1);
    told.recovers_until(|action| *action == Action::ResumeAzRebalance, Fate::Done);
    told.passes(QUIET).owner_asks(1).steps(Fate::Done).happens(old_look).steps(Fate::Done);
    assert_eq!((told.0.truth.desired, told.0.truth.max), (2, 2), "MaxSize has cut desired");
    told.happens(old_look).steps(Fate::Done);
    assert_eq!(told.0.truth.desired, 2, "our one is out");
    told.ends();
}

/// The call that gives MaxSize back never lands, and our one is still in desired.
#[test]
fn a_newcomer_leaves_desired_once_max_size_can_not_go_back_any_more() {
    let mut told = Told(swap(2, true, false).verbose()).until(At::WaitForInService);
    told.happens(Event::NewcomerDies).owner_asks(-1);
    told.recovers_until(|action| matches!(action, Action::RestoreMaxSize(_)), Fate::Never);
    told.owner_asks(1);
    told.recovers_until(|action| matches!(action, Action::RemoveNewcomer(_)), Fate::Done);
    assert_eq!((told.0.truth.desired, told.0.truth.wish), (2, 2));
    told.ends();
}

/// Two reconcilers read one journal. The slower knows nothing of what the other has settled, and writes its own picture.
#[test]
fn hole_7_of_two_recoveries_one_goes_on() {
    let mut told = Told::reaches(2, false, At::WaitForInService);
    told.happens(Event::NewcomerDies);
    told.0.execution.died_at = Some(told.0.now);
    told.passes(QUIET);
    let mut reconciler = |number| {
        told.0.event(Event::Step(number, Step::with(Fate::Done)));
    };
    reconciler(0); // both read it
    reconciler(1);
    reconciler(0); // RemoveNewcomer: written ahead, called, settled
    reconciler(0);
    reconciler(0);
    told.0.truth.comes_to_rest();
    told.0.event(Event::Step(1, Step::with(Fate::Done)));
    told.owner_asks(1).rests();
    told.ends();
}

/// MaxSize was raised; once the old instance is out, a policy takes the room. The swap goes forward: nobody is told of a
/// doubt, and MaxSize goes back once the group fits.
#[test]
fn reader_1_a_swap_that_went_forward_gives_max_size_back() {
    let mut told = Told(swap(2, true, false).verbose()).until(At::WaitForRetirement);
    told.0.truth.comes_to_rest();
    told.owner_asks(1).rests().happens(Event::Poison);
    for _ in 0..4 * QUIET {
        told.steps(Fate::Done);
    }
    assert!(told.0.end.is_none() && !told.0.told, "the group does not fit below its MaxSize");
    told.owner_asks(-1).rests();
    for _ in 0..4 * QUIET {
        told.steps(Fate::Done);
    }
    assert_eq!((told.0.end, told.0.truth.max, told.0.told), (Some(End::Finished), 2, false));
    told.ends();
}

/// The decrement is refused, and nothing was done. Then the newcomer dies, and its group replaces it: one too many.
#[test]
fn reader_2_a_decrement_that_was_refused_is_made_later() {
    let mut told = Told::reaches(2, false, At::WaitForInService);
    told.rests().happens(Event::Poison);
    told.recovers_until(|action| matches!(action, Action::DetachNewcomer(_)), Fate::Refused);
    told.steps(Fate::Done); // which writes what the refusal proves
    told.0.truth.buries(NEW);
    told.rests();
    for _ in 0..6 * QUIET {
        told.steps(Fate::Done);
    }
    assert_eq!((told.0.end, told.0.truth.desired, told.0.told), (Some(End::Undone), 2, false));
    told.ends();
}

#[test]
fn reader_3_an_attach_that_is_refused_for_good_ends_the_way_back() {
    let mut told = Told::reaches(2, false, At::WaitForRetirement);
    told.rests().happens(Event::NewcomerDies);
    for _ in 0..2 {
        told.recovers_until(|action| *action == Action::ReattachOld, Fate::Refused);
        told.steps(Fate::Done); // which writes that it was refused
    }
    told.rests();
    for _ in 0..6 * QUIET {
        told.steps(Fate::Done);
    }
    assert_eq!((told.0.end, told.0.truth.old.alive), (Some(End::Undone), false));
    told.ends();
}

/// A first detach is under way, unanswered; a second one is refused for a reason of its own, while the old instance is still
/// a member. The refusal says nothing of the first.
#[test]
fn reader_9_a_refusal_is_no_proof_while_an_earlier_call_may_land() {
    let mut told = Told::reaches(2, false, At::Retire);
    told.0.event(Event::Step(0, Step { retries: true, ..Step::with(Fate::Late) }));
    told.steps(Fate::Done).steps(Fate::Done); // the step is repeated: a look, the stage again
    assert_eq!(told.0.execution.at, At::Retire);
    told.steps(Fate::Refused);
    assert_eq!(told.0.execution.at, At::Rollback);
    told.passes(QUIET).rests().owner_asks(1).rests();
    told.ends();
}

/// The detach was answered; the old instance dies before it is out, and EC2 goes on showing its group's tag.
#[test]
fn reader_8_a_policy_keeps_its_instance_when_the_old_one_dies_on_its_way_out() {
    let mut told = Told::reaches(2, false, At::Retire);
    told.steps(Fate::Done).happens(Event::OldDies).owner_asks(1).rests();
    told.0.truth.old.has_group_tag = true;
    told.happens(Event::Poison).passes(LAG);
    told.ends();
}
