//! The fuzz target `session`: the name of a function's sessions, and the name of an execution behind it.
//!
//! The parser promises: no panic. A name that STS would refuse is refused. STS takes whatever a session is called after an
//! execution, and that begins with the function's own name.

use spot_fuzz::Target;

use super::{ExecutionArn, SessionName, may_stand_in_a_session_name};
use crate::sample::promise;

#[test]
fn session() {
    Target { name: "session", samples: &[], words: &["_+=,.@-"], cases: 1_000 }.fuzz(check);
}

fn check(bytes: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<SessionName>() {
        Ok(name) => {
            promise(name.of(None) == text && is_taken_by_sts(&text), || format!("{text:?} is a name"))?;
        }
        Err(error) => promise(error.to_string().contains("session name"), || error.to_string())?,
    }
    let arn = format!("arn:aws:states:eu-west-1:123456789012:execution:Swap:{text}");
    let Ok(execution) = arn.parse::<ExecutionArn>() else { return Ok(()) };
    let called = "spot-optimizer-lab".parse::<SessionName>().unwrap().of(Some(&execution));
    promise(is_taken_by_sts(&called) && called.starts_with("spot-optimizer-lab-"), || {
        format!("the session of {execution} is called {called:?}")
    })
}

fn is_taken_by_sts(name: &str) -> bool {
    (2..=64).contains(&name.len()) && name.chars().all(may_stand_in_a_session_name)
}
