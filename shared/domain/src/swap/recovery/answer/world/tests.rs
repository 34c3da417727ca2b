//! Thousands of histories, and by name those that once went wrong.

use proptest::prelude::*;

use super::execution::At;
use super::history::{DOOMED, Event, History, PlayedNotice, Timed};
use super::*;
use crate::swap::recovery::fate::{Fate, LAG, LATE, QUIET, histories};
use crate::swap::recovery::truth::{Inside, Step};

fn notices() -> impl Strategy<Value = PlayedNotice> {
    (1_u32..4, any::<[bool; 4]>(), 0_u32..40).prop_map(
        |(size, [is_full, has_targets, counts_twice, is_drill], time)| PlayedNotice {
            size,
            is_full,
            has_targets,
            counts_twice,
            time,
            is_drill,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::with_cases(histories(20_000)) })]

    /// Whatever happens, in whatever order: capacity holds, the answer has an end, nothing of ours is left.
    #[test]
    fn no_history_breaks_an_answer(notice in notices(), tape in prop::collection::vec(any::<u32>(), 5..60)) {
        let events = || tape.iter().copied().map(Timed::from);
        if History::new(notice).play(events()).is_err() {
            let told = History::new(notice).verbose();
            return Err(TestCaseError::fail(told.play(events()).unwrap_err()));
        }
    }
}

/// Tells a history by hand: the notice of the first member of a group of two, with time enough.
struct Told(History);

impl Told {
    fn of(is_full: bool, has_targets: bool) -> Self {
        let notice = PlayedNotice {
            size: 2,
            is_full,
            has_targets,
            counts_twice: false,
            time: 10 * QUIET,
            is_drill: false,
        };
        Self(History::new(notice).verbose())
    }

    /// One step, in no time.
    fn steps(&mut self, step: Step) -> &mut Self {
        self.0.event(Event::Step(0, step), 0);
        self
    }

    fn goes_on(&mut self) -> &mut Self {
        self.steps(Step::with(Fate::Done))
    }

    /// All goes well until the execution is there.
    fn until(&mut self, at: At) -> &mut Self {
        for _ in 0..20 {
            if self.0.is_at(at) {
                return self;
            }
            self.goes_on().rests();
        }
        panic!("the execution never reached {at:?}");
    }

    /// Goes on until that is so, without rest.
    fn goes_on_until(&mut self, what: impl Fn(&History) -> bool) -> &mut Self {
        for _ in 0..40 {
            if what(&self.0) {
                return self;
            }
            self.goes_on();
        }
        panic!("it never came to that, and is at {:?}", self.0.execution.at);
    }

    fn until_about_to(&mut self, what: fn(&Action) -> bool) -> &mut Self {
        self.goes_on_until(|history| history.visits[0].is_about_to(what))
    }

    /// All goes well until the release is called for.
    fn until_release(&mut self) -> &mut Self {
        self.until(At::Release).until_about_to(|action| matches!(action, Action::Release(_)))
    }

    /// The owner asks for one fewer, and MaxSize is about to go back.
    fn until_about_to_restore(&mut self) -> &mut Self {
        self.until(At::WaitForReplacement).asks(-1).passes(QUIET);
        self.until_about_to(|action| matches!(action, Action::RestoreMaxSize(_)))
    }

    fn asks(&mut self, more: i32) -> &mut Self {
        self.0.event(Event::OwnerAsks(more), 0);
        self
    }

    /// The group does all that is due.
    fn rests(&mut self) -> &mut Self {
        self.0.truth.comes_to_rest();
        self
    }

    fn passes(&mut self, ticks: u32) -> &mut Self {
        self.0.event(Event::TimePasses(ticks), 0);
        self
    }

    fn doomed_stays(&self) -> bool {
        self.0.truth.member(DOOMED).is_some_and(Inside::stays)
    }

    fn ends(&mut self) {
        let told = std::mem::replace(&mut self.0, Self::of(false, false).0);
        if let Err(broken) = told.ends() {
            panic!("{broken}");
        }
    }
}

#[test]
fn a_doomed_one_whose_replacement_dies_at_the_last_moment_waits_on() {
    let mut told = Told::of(true, false);
    told.until(At::Release).0.truth.buries(51);
    told.goes_on().goes_on();
    assert!(told.0.is_at(At::WaitForReplacement) && told.doomed_stays());
    told.ends();
}

#[test]
fn a_member_that_was_starting_at_the_notice_has_to_serve_in_its_target_groups() {
    let mut told = Told::of(false, true);
    told.0.truth.buries(1);
    told.0.truth.launches();
    told.passes(LAG + 1).goes_on_until(|history| history.is_at(At::WaitForReplacement));
    told.0.truth.group_acts(0); // It is InService, and its target group does not find it healthy yet.
    told.goes_on().goes_on();
    assert!(told.0.is_at(At::WaitForReplacement), "one serves, and one has to");
    told.ends();
}

#[test]
fn a_replacement_that_the_group_has_launched_by_itself_is_waited_for_and_nothing_is_raised() {
    let mut told = Told::of(false, true);
    told.0.truth.launches();
    told.passes(LAG + 1).goes_on_until(|history| history.is_at(At::WaitForReplacement));
    told.goes_on().goes_on();
    assert!(told.0.is_at(At::WaitForReplacement) && told.doomed_stays(), "it is still starting");
    assert_eq!((told.0.truth.desired, told.0.truth.max), (2, 5));
    told.ends();
}

#[test]
fn a_raise_that_was_repeated_may_land_again_and_our_one_stays_in_desired_until_then() {
    let mut told = Told::of(false, false);
    told.until(At::SetDesired).steps(Step { retries: true, ..Step::with(Fate::Late) });
    assert!(told.0.is_at(At::Replace));
    told.until(At::Release).goes_on().goes_on();
    assert!(told.doomed_stays() && told.0.truth.desired == 3);
    told.ends();
}

#[test]
fn a_look_that_is_older_than_the_raise_of_max_size_does_not_end_the_answer() {
    let mut told = Told::of(true, false);
    told.until(At::SetDesired).steps(Step::with(Fate::Refused));
    told.goes_on().steps(Step::with(Fate::Never));
    assert!(told.0.is_at(At::Restore));
    told.goes_on().steps(Step { ages: [9; 3], ..Step::with(Fate::Done) });
    assert_eq!((told.0.end, told.0.truth.max), (None, 3));
    told.ends();
}

/// Each of the two takes one off: MaxSize, which cuts desired, and the release.
#[test]
fn a_max_size_that_goes_back_late_and_a_release_lower_desired_once() {
    let mut told = Told::of(true, false);
    told.until_about_to_restore().steps(Step::with(Fate::Late)).asks(1);
    told.goes_on().goes_on().passes(LATE);
    assert_eq!((told.0.truth.desired, told.0.truth.max), (2, 2), "MaxSize has cut desired");
    told.goes_on();
    assert_eq!(told.0.truth.desired, 2, "and nothing else has");
    told.ends();
}

/// MaxSize was given back, which cut desired, and the journal does not say so: the process died first.
#[test]
fn a_look_that_is_older_than_a_max_size_that_went_back_unanswered_releases_nobody() {
    let mut told = Told::of(true, false);
    told.until_about_to_restore().asks(1).goes_on();
    assert_eq!((told.0.truth.desired, told.0.truth.max), (2, 2), "MaxSize has cut desired");
    told.steps(Step::with(Fate::Never)).goes_on().steps(Step { ages: [1; 3], ..Step::with(Fate::Done) });
    told.goes_on();
    assert_eq!(told.0.truth.desired, 2);
    told.ends();
}

/// The call that gives MaxSize back never lands, and our one is still in desired.
#[test]
fn our_one_leaves_desired_once_max_size_can_not_go_back_any_more() {
    let mut told = Told::of(true, false);
    told.until_about_to_restore().steps(Step::with(Fate::Never)).asks(1);
    told.goes_on().goes_on();
    assert_eq!((told.0.truth.desired, told.0.truth.wish), (3, 2), "it waits");
    told.passes(QUIET).goes_on_until(|history| history.truth.max == 2);
    assert_eq!((told.0.truth.desired, told.0.told), (2, false));
    told.ends();
}

/// The release is refused, and nothing was done. Then EC2 takes the doomed one, and its group replaces it: one too many.
#[test]
fn a_lowering_that_was_refused_is_made_later() {
    let mut told = Told::of(false, false);
    told.until_release().steps(Step::with(Fate::Refused)).goes_on();
    told.0.truth.buries(DOOMED);
    told.rests().passes(QUIET);
    for _ in 0..4 {
        told.goes_on();
    }
    told.rests().passes(LAG).goes_on().goes_on();
    assert_eq!((told.0.end, told.0.truth.desired, told.0.told), (Some(End::Finished), 2, false));
    told.ends();
}

#[test]
fn what_the_owner_sets_in_the_moment_of_the_release_is_told() {
    let mut told = Told::of(false, false);
    told.until_release().0.event(Event::OwnerSets(5), 0);
    told.goes_on().goes_on(); // The call, and the write of what its answer tells.
    assert_eq!((told.0.truth.desired, told.0.truth.wish), (4, 4), "AWS has taken one off what he set");
    told.rests().passes(QUIET);
    for _ in 0..6 {
        told.goes_on();
    }
    assert!(told.0.end.is_some() && told.0.told);
    told.ends();
}
