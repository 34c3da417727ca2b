//! The id of a swap, which names its launches and its image.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{InstanceId, MalformedText};
use crate::swap::market::Market;

/// The id of one swap of one instance: `<old instance>-<milliseconds>`.
///
/// The id is the stem of the swap's ClientTokens (at most 64 ASCII characters in all) and of its image's
/// name. No caller can write those later: tokens and image name prove what the swap made. The id is the value
/// of the swap's tag, too. The tag proves nothing: any caller can write a tag, and backups copy it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SwapId(String);

impl SwapId {
    /// Returns the id of the swap of `old` in the run that began at `run_started`. Every repetition of a step
    /// has the same id; every run has another.
    #[must_use]
    pub fn new(old: &InstanceId, run_started: Timestamp) -> Self {
        Self(format!("{old}-{}", run_started.as_millisecond()))
    }

    /// Returns the time when the run began: nothing of the swap is older.
    #[must_use]
    pub fn run_started(&self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.0.rsplit_once('-')?.1.parse().ok()?).ok()
    }

    /// Returns the text of the tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if it is the id of a swap of this instance.
    #[must_use]
    pub fn is_of(&self, old: &InstanceId) -> bool {
        self.0.strip_prefix(old.as_str()).is_some_and(|rest| rest.rfind('-') == Some(0))
    }

    /// Returns the ClientToken of one Spot launch attempt.
    ///
    /// Every attempt has its own token: EC2 refuses the same token with other parameters
    /// (`IdempotentParameterMismatch`).
    #[must_use]
    pub fn client_token(&self, attempt: usize) -> String {
        format!("{}-{attempt}", self.0)
    }

    /// Returns the ClientToken of one On-Demand launch attempt. No Spot launch of the swap has it.
    #[must_use]
    pub fn on_demand_token(&self, attempt: usize) -> String {
        format!("{}-d{attempt}", self.0)
    }

    /// Returns true if a launch of the swap made an instance of this market with this ClientToken. EC2 sets the token
    /// once, at the launch.
    ///
    /// Each market has tokens of its own: an On-Demand instance never passes for a Spot newcomer.
    #[must_use]
    pub fn launched(&self, market: Market, client_token: Option<&str>) -> bool {
        let rest = client_token.and_then(|token| token.strip_prefix(self.as_str())?.strip_prefix('-'));
        rest.is_some_and(|attempt| match market {
            Market::Spot => is_number(attempt),
            Market::OnDemand => attempt.strip_prefix('d').is_some_and(is_number),
        })
    }

    /// Returns the name of the swap's image. EC2 takes a name once in an account and region, and never
    /// changes it.
    #[must_use]
    pub fn image_name(&self) -> String {
        format!("spot-optimizer-{}", self.0)
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

impl TryFrom<String> for SwapId {
    type Error = MalformedText;

    fn try_from(text: String) -> Result<Self, MalformedText> {
        let is_valid = text
            .rsplit_once('-')
            .is_some_and(|(old, began)| old.parse::<InstanceId>().is_ok() && is_number(began));
        if is_valid {
            return Ok(Self(text));
        }
        let given = text.chars().take(80).collect();
        Err(MalformedText { kind: "swap id", given, expected: "<instance id>-<milliseconds>" })
    }
}

impl FromStr for SwapId {
    type Err = MalformedText;

    fn from_str(text: &str) -> Result<Self, MalformedText> {
        Self::try_from(text.to_owned())
    }
}

impl From<SwapId> for String {
    fn from(id: SwapId) -> Self {
        id.0
    }
}

impl fmt::Display for SwapId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swap() -> SwapId {
        "i-0123456789abcdef0-1700000000000".parse().unwrap()
    }

    #[test]
    fn tokens_fit_into_ec2s_limit() {
        let id = SwapId::new(&"i-0123456789abcdef0".parse().unwrap(), Timestamp::MAX);
        assert!(id.client_token(9_999).len() <= 64, "{}", id.client_token(9_999));
        assert!(id.client_token(1).is_ascii());
        assert_ne!(id.client_token(1), id.client_token(2));
    }

    #[test]
    fn a_launch_is_proven_by_its_client_token_alone() {
        let is_spot = |token: &str| swap().launched(Market::Spot, Some(token));
        assert!(is_spot(&swap().client_token(0)) && is_spot(&swap().client_token(37)));
        for token in [
            "",
            "i-0123456789abcdef0-1700000000000",
            "i-0123456789abcdef0-1700000000000-",
            "i-0123456789abcdef0-1700000000000-x",
            "i-0123456789abcdef0-17000000000001-0",
            "i-0123456789abcdef0-1700000000001-0",
            "i-0123456789abcdef1-1700000000000-0",
            "i-0123456789abcdef0-1700000000000-0-0",
        ] {
            assert!(!is_spot(token), "{token:?}");
        }
        assert!(!swap().launched(Market::Spot, None));
    }

    #[test]
    fn a_token_proves_a_launch_in_its_own_market_alone() {
        let (spot, on_demand) = (swap().client_token(7), swap().on_demand_token(7));
        assert!(on_demand.len() <= 64 && on_demand.is_ascii());
        let launched = |market, token: &str| swap().launched(market, Some(token));
        assert!(launched(Market::OnDemand, &on_demand));
        assert!(!launched(Market::OnDemand, &spot) && !launched(Market::Spot, &on_demand));
        for token in ["", "i-0123456789abcdef0-1700000000000-d", "i-0123456789abcdef0-17000000000001-d0"] {
            assert!(!launched(Market::OnDemand, token), "{token:?}");
        }
    }

    #[test]
    fn an_id_is_of_one_instance() {
        for text in
            ["", "mine", "i-0123456789abcdef0", "i-0123456789abcdef0-", "i-0123456789abcdef0-1-x", "web-1"]
        {
            assert!(text.parse::<SwapId>().is_err(), "{text:?}");
        }
        assert!(swap().is_of(&"i-0123456789abcdef0".parse().unwrap()));
        assert!(!swap().is_of(&"i-0123456789abcdef1".parse().unwrap()));
        assert!(!swap().is_of(&"i-01234567".parse().unwrap()), "the beginning of an id is another id");
    }

    #[test]
    fn an_id_tells_when_its_run_began() {
        let began = Timestamp::from_millisecond(1_795_000_000_123).unwrap();
        let id = SwapId::new(&"i-0123456789abcdef0".parse().unwrap(), began);
        assert_eq!(id.run_started(), Some(began));
    }
}
