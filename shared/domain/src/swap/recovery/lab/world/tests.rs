//! Thousands of histories, and by name those that once went wrong.

use proptest::prelude::*;

use super::aws::Deed;
use super::history::{Event, History, Plan, Step};
use super::*;
use crate::swap::recovery::fate::{Fate, histories};

/// Where a history begins: long before it, nothing went wrong.
#[derive(Debug, Clone, Copy)]
enum Begin {
    Swap,
    TakeOver,
    Retire,
    BringBack,
}

fn history(plan: Plan, begin: Begin) -> History {
    match begin {
        Begin::Swap => History::new(plan),
        Begin::TakeOver => History::new(plan).until(At::AskOwner),
        Begin::Retire => History::new(plan).until(At::WriteRetiring),
        Begin::BringBack => History::brings_back(plan),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::with_cases(histories(8_000)) })]

    /// Whatever happens, in whatever order: one of the two serves, the owner's wishes hold, nothing of ours is left.
    #[test]
    fn no_history_breaks_a_swap_of_a_lab(
        begin in prop::sample::select(vec![Begin::Swap, Begin::TakeOver, Begin::Retire, Begin::BringBack]),
        has_address: bool,
        groups in 0_usize..3,
        capture: bool,
        terminate: bool,
        tape in prop::collection::vec(any::<u16>(), 10..70),
    ) {
        let plan = Plan { has_address, groups, capture, terminate };
        let events = || tape.iter().copied().map(Event::from);
        if history(plan, begin).play(events()).is_err() {
            let told = history(plan, begin).verbose();
            return Err(TestCaseError::fail(told.play(events()).unwrap_err()));
        }
    }
}

const PLAIN: Plan = Plan { has_address: true, groups: 0, capture: false, terminate: false };

fn done(history: &mut History, steps: usize) {
    (0..steps).for_each(|_| history.event(Event::Step(0, Step::with(Fate::Done))));
}

fn ends(history: History) {
    if let Err(broken) = history.ends() {
        panic!("{broken}");
    }
}

/// The first launch gets no answer, and its pool is poisoned meanwhile. A second one would stand beside the first.
#[test]
fn hole_8_a_newcomer_that_appears_late_is_never_one_of_two() {
    let mut history = history(PLAIN, Begin::Swap).verbose();
    done(&mut history, 1);
    assert_eq!(history.execution.at, At::Launch);
    history.event(Event::Step(0, Step { retries: true, ..Step::with(Fate::Late) }));
    history.poisoned[0] = true;
    done(&mut history, 5);
    ends(history);
}

/// A zombie of RetireOld stops the old instance, while its owner, who has been heard, gets it back.
#[test]
fn hole_4_the_address_stays_with_the_newcomer_while_a_stop_may_land() {
    let mut history = history(PLAIN, Begin::Retire).verbose();
    done(&mut history, 2); // the stop is written ahead
    history.event(Event::GivesUp(true));
    history.truth.owner_does(Deed::RetagsOld);
    done(&mut history, 1);
    history.event(Event::Zombie(Step::with(Fate::Late)));
    done(&mut history, 5); // a new look turns round, and the next one decides
    ends(history);
}
