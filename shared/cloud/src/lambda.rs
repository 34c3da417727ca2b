//! What every function does before its first event.

/// Logs as JSON lines, which CloudWatch Logs Insights reads field by field; `RUST_LOG` sets the
/// level (default `info`).
pub fn init_tracing() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let _already_set = tracing_subscriber::fmt().json().with_env_filter(filter).with_target(false).try_init();
}
