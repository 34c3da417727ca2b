//! The brake on rebalance recommendations: EC2 may recommend a whole group at once, and a swap of each would move the
//! whole group at once. Within an hour, a share of the group may be replaced.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ids::InstanceId;

const WINDOW: SignedDuration = SignedDuration::from_hours(1);

/// The members of one group whose replacement was admitted, each with the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AtRisk(BTreeMap<InstanceId, Timestamp>);

/// More are at risk than may be replaced within an hour.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{admitted} of the group were replaced within an hour, and max_at_risk_percent ({percent} % of {size}) allows no more"
)]
pub struct TooMany {
    admitted: usize,
    percent: u32,
    size: usize,
}

impl AtRisk {
    /// Admits one more member of a group of `size`. A member that was admitted stays so: an event comes twice.
    ///
    /// # Errors
    /// The share of the last hour is used up.
    pub fn admit(
        &mut self,
        id: &InstanceId,
        size: usize,
        percent: u32,
        now: Timestamp,
    ) -> Result<(), TooMany> {
        self.0.retain(|_, at| now.duration_since(*at) < WINDOW);
        if self.0.contains_key(id) {
            return Ok(());
        }
        let admitted = self.0.len();
        let allowed = (size as u64).saturating_mul(u64::from(percent)).div_ceil(100);
        if admitted as u64 >= allowed {
            return Err(TooMany { admitted, percent, size });
        }
        self.0.insert(id.clone(), now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swap::group::tests::id;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    #[test]
    fn a_share_of_the_group_is_admitted_within_any_hour() {
        let mut at_risk = AtRisk::default();
        assert_eq!(at_risk.admit(&id(1), 10, 20, at(50)), Ok(()));
        assert_eq!(at_risk.admit(&id(2), 10, 20, at(59)), Ok(()));
        let refused = at_risk.admit(&id(3), 10, 20, at(61)).unwrap_err();
        assert!(refused.to_string().contains("20 % of 10"), "{refused}");
        assert_eq!(at_risk.admit(&id(1), 10, 20, at(62)), Ok(()), "the same event again");
        assert!(at_risk.admit(&id(3), 10, 20, at(109)).is_err());
        assert_eq!(at_risk.admit(&id(3), 10, 20, at(110)), Ok(()), "an hour after the first");
        assert!(at_risk.admit(&id(4), 10, 20, at(110)).is_err());
    }

    #[test]
    fn a_small_group_is_not_shut_out_and_zero_percent_admits_none() {
        assert_eq!(AtRisk::default().admit(&id(1), 1, 20, at(0)), Ok(()));
        assert!(AtRisk::default().admit(&id(1), 100, 0, at(0)).is_err());
        assert!(AtRisk::default().admit(&id(1), 0, 20, at(0)).is_err());
    }
}
