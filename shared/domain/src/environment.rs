//! The kind of an account: lab or production. The kind comes from the registry of accounts, or from the
//! stack's parameter for the stack's own account. An event's claim never counts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::MalformedText;

/// The kind of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EnvironmentType {
    /// Interruptions in this account say nothing about others: they never poison a pool.
    Lab,
    /// Interruptions in this account poison the pool for every account.
    Prod,
}

impl FromStr for EnvironmentType {
    type Err = MalformedText;

    fn from_str(text: &str) -> Result<Self, MalformedText> {
        match text {
            "LAB" => Ok(Self::Lab),
            "PROD" => Ok(Self::Prod),
            other => Err(MalformedText {
                kind: "environment_type",
                given: other.chars().take(80).collect(),
                expected: "LAB or PROD",
            }),
        }
    }
}

impl fmt::Display for EnvironmentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lab => "LAB",
            Self::Prod => "PROD",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_environment_is_refused_rather_than_guessed() {
        assert_eq!("PROD".parse::<EnvironmentType>(), Ok(EnvironmentType::Prod));
        for text in ["", "prod", "STAGING", " PROD"] {
            assert!(text.parse::<EnvironmentType>().is_err(), "{text:?}");
        }
    }
}
