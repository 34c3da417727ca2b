//! Virtual time: tokio's paused clock, to which the code under test, the SDK and the world listen. Nothing waits for real.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;
use jiff::Timestamp;
use spot_domain::clock;
use tokio::time::Instant;

/// The moment at which every history begins: a Monday, 09:00 UTC.
pub const BEGIN: Timestamp = Timestamp::constant(1_767_603_600, 0);

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    static SKIPPED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Begins a history on this thread: inside a runtime whose time is paused, or else in real time.
pub fn begin() {
    BEGAN.set(Some(Instant::now()));
    SKIPPED.set(Duration::ZERO);
    clock::follow(now);
}

/// Lets this much time pass at once. No timer of a runtime notices.
pub fn skip(time: Duration) {
    SKIPPED.set(SKIPPED.get().saturating_add(time));
}

/// Returns the present of the history.
#[must_use]
pub fn now() -> Timestamp {
    let elapsed = BEGAN.get().map(|began| began.elapsed()).unwrap_or_default();
    let elapsed = elapsed.saturating_add(SKIPPED.get());
    BEGIN.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
}

/// Returns the milliseconds since the history began.
#[must_use]
pub fn elapsed_ms() -> i64 {
    now().as_millisecond() - BEGIN.as_millisecond()
}

/// The clock of the SDK: it signs by it.
#[derive(Debug, Clone, Copy)]
pub struct VirtualTime;

impl TimeSource for VirtualTime {
    fn now(&self) -> SystemTime {
        clock::system_time()
    }
}
