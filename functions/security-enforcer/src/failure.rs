//! The failures of a run, and the cause that a failure shares with those of other runs.

use std::fmt;

use serde::{Serialize, Serializer};
use spot_cloud::CallError;

/// A failure. AWS words the same failure anew each time: a denial has its encoded message, a fault its request.
/// The cause therefore leaves out AWS's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The cause, which is the same in every run with this failure.
    pub cause: String,
    /// The failure in words, for a person.
    pub words: String,
}

impl Failure {
    /// Returns the failure of a call; `what` names the account and region, or the action that failed.
    #[must_use]
    pub fn of(what: impl fmt::Display, error: &CallError) -> Self {
        Self { cause: format!("{what}: {}: {}", error.call, error.code), words: format!("{what}: {error}") }
    }
}

/// An answer shows the words alone.
impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.words)
    }
}

/// Converts words that are the same in every run.
impl From<String> for Failure {
    fn from(words: String) -> Self {
        Self { cause: words.clone(), words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_that_aws_words_anew_has_one_cause() {
        let denied = |encoded: &str| {
            let mut error =
                CallError::malformed("ec2:DescribeInstances", format!("Encoded message: {encoded}"));
            "UnauthorizedOperation".clone_into(&mut error.code);
            Failure::of("account 123456789012, us-west-2", &error)
        };
        assert_eq!(denied("a").cause, denied("b").cause);
        assert!(denied("a").words.ends_with("UnauthorizedOperation: Encoded message: a"));
        assert!(denied("a").cause.contains("us-west-2: ec2:DescribeInstances: UnauthorizedOperation"));
    }
}
