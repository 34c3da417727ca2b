//! The variables that the template sets in a function's environment.

use spot_domain::words::Cause;

/// An environment variable that the template sets, and that is missing or malformed.
#[derive(Debug, thiserror::Error)]
#[error("environment variable {name}: {problem}")]
pub struct BadEnvironment {
    name: &'static str,
    #[source]
    problem: Cause,
}

/// Reads one variable that the template sets.
///
/// # Errors
/// The variable is missing, or malformed as a `T`.
pub fn variable<T>(name: &'static str) -> Result<T, BadEnvironment>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = std::env::var(name).map_err(|e| BadEnvironment { name, problem: Cause::of(e) })?;
    text.parse().map_err(|e: T::Err| BadEnvironment { name, problem: Cause::of(e) })
}
