//! Thousands of histories, and by name those that once went wrong.

use proptest::prelude::*;

use super::history::{History, Notice, Timed};
use super::*;
use crate::swap::recovery::fate::histories;

fn notices() -> impl Strategy<Value = Notice> {
    (1_u32..4, any::<[bool; 4]>(), 0_u32..40).prop_map(|(size, [is_full, has_targets, counts_twice, is_drill], time)| {
        Notice { size, is_full, has_targets, counts_twice, time, is_drill }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::with_cases(histories(20_000)) })]

    /// Whatever happens, in whatever order: capacity holds, the answer has an end, nothing of ours is left.
    #[test]
    fn no_history_breaks_a_swap_s_answer(notice in notices(), tape in prop::collection::vec(any::<u32>(), 5..60)) {
        let events = || tape.iter().copied().map(Timed::from);
        if History::new(notice).play(events()).is_err() {
            let told = History::new(notice).verbose();
            return Err(TestCaseError::fail(told.play(events()).unwrap_err()));
        }
    }
}
