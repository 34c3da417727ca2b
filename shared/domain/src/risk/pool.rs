//! A Spot capacity pool: the unit that AWS interrupts, and that we poison.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{AzId, InstanceType, MalformedText, Region};

/// One instance type in one Availability Zone, by zone *id*. A pool is written `region#az-id#instance-type`,
/// the key of the SpotPoolRisk table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pool {
    /// The region of the zone.
    pub region: Region,
    /// The zone, by the id that is the same in every account.
    pub az_id: AzId,
    /// The instance type.
    pub instance_type: InstanceType,
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}#{}", self.region, self.az_id, self.instance_type)
    }
}

impl FromStr for Pool {
    type Err = MalformedText;

    fn from_str(text: &str) -> Result<Self, MalformedText> {
        let parts: Vec<&str> = text.split('#').collect();
        let [region, az_id, instance_type] = parts[..] else {
            return Err(MalformedText {
                kind: "pool",
                given: text.chars().take(80).collect(),
                expected: "region#az-id#instance-type",
            });
        };
        Ok(Self { region: region.parse()?, az_id: az_id.parse()?, instance_type: instance_type.parse()? })
    }
}

impl TryFrom<String> for Pool {
    type Error = MalformedText;

    fn try_from(text: String) -> Result<Self, MalformedText> {
        text.parse()
    }
}

impl From<Pool> for String {
    fn from(pool: Pool) -> String {
        pool.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_written_as_its_table_key() {
        let pool: Pool = "us-east-1#use1-az6#m5.large".parse().unwrap();
        assert_eq!(pool.az_id.as_str(), "use1-az6");
        assert_eq!(pool.to_string(), "us-east-1#use1-az6#m5.large");
    }

    #[test]
    fn a_key_with_a_zone_name_or_a_missing_part_is_refused() {
        for key in ["us-east-1#us-east-1a#m5.large", "us-east-1#use1-az6", "", "a#b#c#d", "##"] {
            assert!(key.parse::<Pool>().is_err(), "{key:?}");
        }
    }
}
