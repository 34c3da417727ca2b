//! An instance, as far as the audit judges it.

use crate::ids::InstanceId;
use crate::swap::journal::SwapId;
use crate::swap::market::Market;
use crate::tags::Tags;

/// The description of an instance by EC2, as far as it bears on the authorisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub id: InstanceId,
    pub tags: Tags,
    /// True if the lifecycle is Spot, which only a launch can set.
    pub is_spot: bool,
    /// The AWS service that operates the instance (`Operator.Managed`).
    pub operator: Option<String>,
    /// The ClientToken of the launch. The launcher set it once, and nobody can change it.
    pub client_token: Option<String>,
}

impl Subject {
    /// Returns true if a launch of the swap made the instance: it has the swap's ClientToken for its market.
    #[must_use]
    pub fn was_launched_by(&self, swap_id: &SwapId) -> bool {
        let market = if self.is_spot { Market::Spot } else { Market::OnDemand };
        swap_id.launched(market, self.client_token.as_deref())
    }
}
