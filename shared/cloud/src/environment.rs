//! The variables that the template sets in a function's environment.

/// An environment variable that the template sets, and that is missing or malformed.
#[derive(Debug, thiserror::Error)]
#[error("environment variable {name}: {problem}")]
pub struct BadEnvironment {
    name: &'static str,
    problem: String,
}

/// Reads one variable that the template sets.
///
/// # Errors
/// The variable is missing, or malformed as a `T`.
pub fn variable<T>(name: &'static str) -> Result<T, BadEnvironment>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let text = std::env::var(name).map_err(|e| BadEnvironment { name, problem: e.to_string() })?;
    text.parse().map_err(|e: T::Err| BadEnvironment { name, problem: e.to_string() })
}
