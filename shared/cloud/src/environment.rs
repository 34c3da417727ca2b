//! The variables that the template sets in a function's environment.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::env::VarError;

use spot_domain::words::Cause;

thread_local! {
    static REPLACED: RefCell<Option<BTreeMap<String, String>>> = const { RefCell::new(None) };
}

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
    let text = text_of(name).map_err(|e| BadEnvironment { name, problem: Cause::of(e) })?;
    text.parse().map_err(|e: T::Err| BadEnvironment { name, problem: Cause::of(e) })
}

/// Returns a variable that need not be set.
pub(crate) fn optional(name: &str) -> Option<String> {
    text_of(name).ok()
}

/// Gives this thread other variables than the process has, for a simulation of several functions in one process.
pub fn replace(variables: BTreeMap<String, String>) {
    REPLACED.set(Some(variables));
}

fn text_of(name: &str) -> Result<String, VarError> {
    REPLACED.with_borrow(|replaced| match replaced {
        Some(variables) => variables.get(name).cloned().ok_or(VarError::NotPresent),
        None => std::env::var(name),
    })
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_thread_reads_the_variables_it_is_given_and_no_others() {
        replace(BTreeMap::from([("PORT".to_owned(), "8080".to_owned())]));
        assert_eq!(variable::<u16>("PORT").unwrap(), 8080);
        assert!(variable::<String>("PATH").unwrap_err().to_string().contains("PATH"));
        assert_eq!(optional("PATH"), None);
    }
}
