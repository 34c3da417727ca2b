//! The time of day. A simulation puts a clock of its own in the place of the system's.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

#[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
const SYSTEM: fn() -> Timestamp = Timestamp::now;

thread_local! {
    static CLOCK: Cell<fn() -> Timestamp> = const { Cell::new(SYSTEM) };
}

/// Returns the present: the system's, unless this thread follows another clock.
#[must_use]
pub fn now() -> Timestamp {
    CLOCK.get()()
}

/// Returns the present, as the standard library and the SDK have it.
#[must_use]
pub fn system_time() -> SystemTime {
    let since_epoch = now().as_duration();
    SystemTime::UNIX_EPOCH + Duration::try_from(since_epoch).unwrap_or_default()
}

/// Lets this thread follow another clock, for a simulation in virtual time.
pub fn follow(clock: fn() -> Timestamp) {
    CLOCK.set(clock);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_follows_the_clock_it_is_given_and_no_other_thread_does() {
        follow(|| Timestamp::UNIX_EPOCH);
        assert_eq!((now(), system_time()), (Timestamp::UNIX_EPOCH, SystemTime::UNIX_EPOCH));
        let elsewhere = std::thread::spawn(now).join();
        assert!(elsewhere.is_ok_and(|at| at > Timestamp::UNIX_EPOCH));
    }
}
