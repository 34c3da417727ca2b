//! The fuzz target `variable`: what stands in the variables of a function's environment.
//!
//! The reader promises: no panic. A value is exactly what stands there, without a guess. An error names the variable.

use std::collections::BTreeMap;
use std::str::FromStr;

use spot_domain::{AccountId, EnvironmentType, Region};
use spot_fuzz::Target;

use super::replace;
use crate::hub::StackRole;
use crate::sample::promise;

/// The longest error: it is written to the log at every cold start.
const LONGEST_ERROR: usize = 1_500;

#[test]
fn variable() {
    let words = &["standalone", "hub", "member", "LAB", "PROD"];
    Target { name: "variable", samples: &[], words, cases: 1_000 }.fuzz(check);
}

fn check(bytes: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(bytes);
    let role = read::<StackRole>("STACK_ROLE", &text)?;
    promise(role.is_some() == ["standalone", "hub", "member"].contains(&&*text), || {
        format!("{text:?} is the role {role:?}")
    })?;
    reads_back::<EnvironmentType>("ENVIRONMENT_TYPE", &text)?;
    reads_back::<AccountId>("STACK_ACCOUNT_ID", &text)?;
    reads_back::<Region>("AWS_REGION", &text)
}

fn reads_back<T>(name: &'static str, text: &str) -> Result<(), String>
where
    T: FromStr + ToString,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let read = read::<T>(name, text)?.map(|value| value.to_string());
    promise(read.as_deref().is_none_or(|read| read == text), || format!("{text:?} is read as {read:?}"))
}

fn read<T>(name: &'static str, text: &str) -> Result<Option<T>, String>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    replace(BTreeMap::from([(name.to_owned(), text.to_owned())]));
    match super::variable::<T>(name) {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            let error = error.to_string();
            promise(error.starts_with(&format!("environment variable {name}: ")), || {
                format!("the error does not name {name}: {error}")
            })?;
            promise(error.chars().count() <= LONGEST_ERROR, || format!("an error of {} bytes", error.len()))?;
            Ok(None)
        }
    }
}
