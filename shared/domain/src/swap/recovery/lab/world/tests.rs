//! Thousands of histories, and by name those that once went wrong.

use proptest::prelude::*;

use super::history::{Event, History, Plan};
use super::*;
use crate::swap::recovery::fate::histories;

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
