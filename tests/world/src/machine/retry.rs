//! Retry and Catch: <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>.

use std::time::Duration;

use super::TaskFailure;
use super::context::DataLimit;
use super::definition::{Catcher, JitterStrategy, Retrier, names};

/// The retries of one visit to a state. Each retrier counts its own; a new visit counts afresh.
#[derive(Debug)]
pub(super) struct Retries<'a> {
    retriers: &'a [Retrier],
    data_limit: DataLimit,
    made: Vec<u32>,
}

impl<'a> Retries<'a> {
    /// Returns the retriers before any retry.
    pub(super) fn new(retriers: &'a [Retrier], data_limit: DataLimit) -> Self {
        Self { retriers, data_limit, made: vec![0; retriers.len()] }
    }

    /// Returns the retries so far, by whichever retrier: the `RetryCount` of the context object.
    pub(super) fn total(&self) -> u32 {
        self.made.iter().sum()
    }

    /// Returns the time until the next attempt, or nothing if there is none.
    ///
    /// The first retrier that matches decides. Once it has made its attempts, no later one is asked.
    pub(super) fn after(&mut self, failure: &TaskFailure, random: &mut fastrand::Rng) -> Option<Duration> {
        let at = self
            .retriers
            .iter()
            .position(|retrier| matches(&retrier.error_equals, failure, self.data_limit))?;
        let (retrier, made) = (self.retriers.get(at)?, self.made.get_mut(at)?);
        if *made >= retrier.max_attempts {
            return None;
        }
        let interval = interval(retrier, *made);
        *made += 1;
        Some(match retrier.jitter_strategy {
            JitterStrategy::None => interval,
            JitterStrategy::Full => interval.mul_f64(random.f64()),
        })
    }
}

/// Returns the interval before a retry, before jitter: it grows with each one, up to `MaxDelaySeconds`.
fn interval(retrier: &Retrier, made: u32) -> Duration {
    let grown = f64::from(retrier.interval_seconds) * retrier.backoff_rate.powf(f64::from(made));
    // A task cannot wait longer than an execution lives.
    let cap = retrier.max_delay_seconds.map_or(super::execution::LONGEST_SECONDS, f64::from);
    Duration::from_secs_f64(grown.min(cap))
}

/// Returns the first catcher that takes the error.
pub(super) fn catcher<'a>(
    catchers: &'a [Catcher],
    failure: &TaskFailure,
    data_limit: DataLimit,
) -> Option<&'a Catcher> {
    catchers.iter().find(|catcher| matches(&catcher.error_equals, failure, data_limit))
}

/// Returns whether a rule takes the error.
///
/// - `States.Runtime` "will always cause the execution to fail".
/// - The wildcards take `States.DataLimitExceeded` only as [`DataLimit`] says.
/// - `States.TaskFailed` "acts as a wildcard that matches any known error name except for States.Timeout".
fn matches(error_equals: &[String], failure: &TaskFailure, data_limit: DataLimit) -> bool {
    let error = failure.error.as_str();
    let by_wildcard = error != names::DATA_LIMIT_EXCEEDED || data_limit == DataLimit::Caught;
    error != names::RUNTIME
        && error_equals.iter().any(|name| match name.as_str() {
            names::ALL => by_wildcard,
            names::TASK_FAILED => by_wildcard && error != names::TIMEOUT,
            name => name == error,
        })
}
