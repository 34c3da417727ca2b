//! The spans of the log: each line about a swap names its execution and the swap.
//!
//! Spans are of the level `ERROR`, so that they stand around the lines of every level.

use spot_cloud::tables::swaps::Held;
use spot_domain::ExecutionArn;
use spot_domain::swap::journal::SwapId;
use tracing::Span;
use tracing::field::{Empty, display};

/// Returns the span of one step of a state machine. The step names its execution and its swap once it knows them.
#[must_use]
pub fn step() -> Span {
    tracing::error_span!("step", phase = Empty, execution = Empty, swap = Empty)
}

/// Returns the span of one visit to a lease whose execution may have ended.
#[must_use]
pub fn visit(held: &Held) -> Span {
    let execution = held.lease.owner.execution();
    let span = tracing::error_span!("visit", on = %held.lease.on, %execution, swap = Empty);
    if let Some(journal) = &held.journal {
        span.record("swap", journal.swap_id.as_str());
    }
    span
}

/// Names the execution in the span of the step.
pub fn note_execution(execution: &ExecutionArn) {
    Span::current().record("execution", display(execution));
}

/// Names the swap in the span of the step or the visit.
pub fn note_swap(swap: &SwapId) {
    Span::current().record("swap", swap.as_str());
}
