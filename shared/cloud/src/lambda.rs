//! What every function does before its first event, and by which name its figures go.

use tracing_subscriber::filter::LevelFilter;

/// Logs as JSON lines, which CloudWatch Logs Insights reads field by field; `RUST_LOG` sets the
/// level (`error` to `trace`, default `info`). No filter by target: it would bring a megabyte of
/// regular expressions into every bootstrap.
pub fn init_tracing() {
    let level =
        std::env::var("RUST_LOG").ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    let _already_set = tracing_subscriber::fmt().json().with_max_level(level).with_target(false).try_init();
}

/// Returns the name of the stack, which the template sets. Figures carry it, so that alarms and
/// dashboards of two stacks in one region stay apart.
#[must_use]
pub fn stack_name() -> String {
    std::env::var("STACK_NAME").unwrap_or_else(|_| "unknown".to_owned())
}
