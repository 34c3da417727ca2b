//! The start of every function before its first event, and the stack's name in its metrics.

use tracing_subscriber::filter::LevelFilter;

use crate::environment::optional;

/// Starts the log as JSON lines, which CloudWatch Logs Insights reads field by field.
///
/// `RUST_LOG` sets the level (`error` to `debug`, default `info`). `trace` counts as `debug`: the SDKs would
/// log answers, and with them user data and credentials. There is no filter by target: such a filter would
/// add a megabyte of regular expressions to every bootstrap.
pub fn init_tracing() {
    let level = level_of(std::env::var("RUST_LOG").ok().as_deref());
    let _already_set = tracing_subscriber::fmt().json().with_max_level(level).with_target(false).try_init();
}

fn level_of(told: Option<&str>) -> LevelFilter {
    told.and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO).min(LevelFilter::DEBUG)
}

/// Returns the name of the stack, which the template sets. Metrics carry the name, so that alarms and
/// dashboards of two stacks in one region stay apart.
#[must_use]
pub fn stack_name() -> String {
    optional("STACK_NAME").unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_level_logs_the_answers_of_aws() {
        let levels = [None, Some("error"), Some("debug"), Some("trace"), Some("loud")].map(level_of);
        let [info, error, debug, ..] = [LevelFilter::INFO, LevelFilter::ERROR, LevelFilter::DEBUG];
        assert_eq!(levels, [info, error, debug, debug, info]);
    }
}
