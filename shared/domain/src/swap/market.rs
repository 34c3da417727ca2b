//! The markets of EC2: Spot and On-Demand.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The market that an instance is bought in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Market {
    /// Spot.
    #[default]
    Spot,
    /// On-Demand.
    OnDemand,
}

impl Market {
    /// Returns On-Demand, the market of an old instance that names none.
    #[must_use]
    pub const fn on_demand() -> Self {
        Self::OnDemand
    }

    /// Returns true for Spot, the market of a newcomer that names none.
    #[must_use]
    pub const fn is_spot(&self) -> bool {
        matches!(self, Self::Spot)
    }

    /// Returns true for On-Demand.
    #[must_use]
    pub const fn is_on_demand(&self) -> bool {
        matches!(self, Self::OnDemand)
    }
}

impl fmt::Display for Market {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spot => "Spot",
            Self::OnDemand => "On-Demand",
        })
    }
}
