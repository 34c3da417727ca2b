//! A candidate: an instance that is worth a swap, as one step hands it to the next.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{InstanceId, InstanceType};
use crate::money::Usd;
use crate::risk::pool::Pool;
use crate::swap::asked::{Asked, Named};
use crate::swap::group::Instance;
use crate::swap::market::Market;
use crate::swap::pricing::{Prices, UsageOperation};
use crate::tags::Tags;

/// An instance to be replaced, with everything that the launch of its replacement needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The instance.
    pub instance_id: InstanceId,
    /// The instance's type.
    pub instance_type: InstanceType,
    /// The market of the instance; absent for On-Demand.
    #[serde(default = "Market::on_demand", skip_serializing_if = "Market::is_on_demand")]
    pub from: Market,
    /// The market of its replacement; absent for Spot.
    #[serde(default, skip_serializing_if = "Market::is_spot")]
    pub to: Market,
    /// The pools that may replace the instance, best first: its own type if the group still launches that, or else its
    /// template's, then the group's others. A Spot instance is not replaced from its own pool. Of an On-Demand replacement, a pool only says type and zone.
    pub pools: Vec<Pool>,
    /// The zone's name in this account.
    pub availability_zone: String,
    /// The operation that the instance is billed for, if prices of its kind are known: shared tenancy, also of what its
    /// group launches today, and no Marketplace software.
    #[serde(default)]
    pub billed_as: Option<UsageOperation>,
    /// The prices of the instance and of its pools; empty before the gate has asked.
    #[serde(default)]
    pub prices: Prices,
    /// The pools that are not worth a swap, in words.
    #[serde(default)]
    pub not_cheaper: String,
    /// Ids of the instance's volumes and network interfaces; empty for a node, whose pods bring their own.
    #[serde(default)]
    pub holds: BTreeSet<String>,
    /// The instance's private addresses; empty for a node, and in a payload of a release before this field.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub addresses: BTreeSet<String>,
    /// The subnet for the replacement: the instance's own while the group still launches into it.
    pub subnet_id: String,
    /// The instance's tags; the newcomer inherits them.
    pub tags: Tags,
}

impl Candidate {
    /// Returns the wish to replace this instance alone, as its run asked for it.
    #[must_use]
    pub fn asked(&self) -> Asked {
        Asked { to: self.to, replace: Some(Named::one(&self.instance_id)) }
    }

    /// Returns true if the swap leaves one On-Demand instance less in its group.
    #[must_use]
    pub const fn lowers_on_demand(&self) -> bool {
        self.from.is_on_demand() && self.to.is_spot()
    }

    /// Returns the saving of a replacement of this type, a month: negative if the replacement costs more, `None` if a
    /// price is not known.
    #[must_use]
    pub fn monthly_saving(&self, replacement: &InstanceType) -> Option<Usd> {
        let price = |market, instance_type| match market {
            Market::Spot => self.prices.spot_of(instance_type),
            Market::OnDemand if instance_type == &self.instance_type => self.prices.on_demand,
            Market::OnDemand => self.prices.on_demand_of(instance_type),
        };
        Some((price(self.from, &self.instance_type)? - price(self.to, replacement)?).per_month())
    }

    /// Says that a Spot newcomer is billed otherwise than the instance whose price was compared: its image has another
    /// operating system, or software of the Marketplace. The result is `None` if that price is not known, or if the newcomer
    /// has Linux without a licence to pay for: no other operation costs less.
    #[must_use]
    pub fn billed_otherwise(&self, newcomer: &Instance) -> Option<String> {
        let compared = self.billed_as.as_ref().filter(|_| self.to.is_spot())?;
        let found = newcomer.billed_as();
        let linux = UsageOperation::linux();
        if found.as_ref().is_some_and(|found| found.is_like(compared) || found.is_like(&linux)) {
            return None;
        }
        let (id, old) = (&newcomer.id, &self.instance_id);
        let found =
            found.map_or("software of the Marketplace, or dedicated tenancy".to_owned(), |it| it.to_string());
        let image = newcomer.belongings.image_id.as_deref().unwrap_or("its image");
        Some(format!(
            "newcomer {id} is billed for {found} ({image}), and {old} for {compared}: the prices that were compared are \
             those of {compared}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swap::group::tests::on_demand;

    fn candidate(from: Market, to: Market) -> Candidate {
        let usd = |text: &str| Usd::new(text.parse().unwrap());
        let price = |kind: &str, price: &str| (kind.parse().unwrap(), usd(price));
        Candidate {
            instance_id: "i-0123456789abcdef0".parse().unwrap(),
            instance_type: "m5.large".parse().unwrap(),
            from,
            to,
            pools: Vec::new(),
            availability_zone: "us-east-1a".into(),
            billed_as: None,
            prices: Prices {
                on_demand: Some(usd("0.10")),
                spot: vec![price("m5.large", "0.03"), price("c5.large", "0.04")],
                on_demand_of_others: vec![price("c5.large", "0.09")],
            },
            not_cheaper: String::new(),
            holds: BTreeSet::new(),
            addresses: BTreeSet::new(),
            subnet_id: "subnet-1".into(),
            tags: Tags::new(),
        }
    }

    #[test]
    fn a_saving_is_said_in_the_markets_of_both_instances() {
        let saved = |from, to, kind: &str| {
            candidate(from, to).monthly_saving(&kind.parse().unwrap()).map(|usd| usd.to_string())
        };
        let said = |text: &str| Some(text.to_owned());
        assert_eq!(saved(Market::OnDemand, Market::Spot, "c5.large"), said("43.80"));
        assert_eq!(saved(Market::Spot, Market::Spot, "c5.large"), said("-7.30"), "a rescue may cost more");
        assert_eq!(saved(Market::Spot, Market::OnDemand, "m5.large"), said("-51.10"));
        assert_eq!(saved(Market::Spot, Market::OnDemand, "c5.large"), said("-43.80"));
        assert_eq!(saved(Market::Spot, Market::OnDemand, "r5.large"), None, "never a guess");
    }

    #[test]
    fn a_newcomer_with_another_system_is_billed_otherwise() {
        let compared = |operation: Option<&str>, to| Candidate {
            billed_as: operation.map(UsageOperation::new),
            ..candidate(Market::OnDemand, to)
        };
        let linux = compared(Some("RunInstances"), Market::Spot);
        let mut newcomer = Instance { is_spot: true, ..on_demand(1) };
        assert_eq!(linux.billed_otherwise(&newcomer), None);
        newcomer.usage_operation = UsageOperation::new("RunInstances:SV006");
        assert_eq!(linux.billed_otherwise(&newcomer), None, "Spot in a zone of a VPC");
        newcomer.usage_operation = UsageOperation::new("RunInstances:0002");
        let why = linux.billed_otherwise(&newcomer).unwrap();
        assert!(
            why.contains("billed for RunInstances:0002") && why.contains("for RunInstances: the prices"),
            "{why}"
        );
        assert_eq!(compared(None, Market::Spot).billed_otherwise(&newcomer), None, "nothing was compared");
        assert_eq!(compared(Some("RunInstances"), Market::OnDemand).billed_otherwise(&newcomer), None);
        newcomer.usage_operation = UsageOperation::linux();
        newcomer.belongings.has_marketplace_software = true;
        assert!(linux.billed_otherwise(&newcomer).unwrap().contains("Marketplace"));
    }

    #[test]
    fn a_newcomer_without_a_licence_is_never_billed_for_more_than_was_compared() {
        for licensed in ["RunInstances:0010", "RunInstances:0002", "RunInstances:0g00"] {
            let compared = Candidate {
                billed_as: Some(UsageOperation::new(licensed)),
                ..candidate(Market::OnDemand, Market::Spot)
            };
            let mut newcomer = Instance { is_spot: true, ..on_demand(1) };
            for linux in ["RunInstances", "RunInstances:SV006"] {
                newcomer.usage_operation = UsageOperation::new(linux);
                assert_eq!(compared.billed_otherwise(&newcomer), None, "{linux} for {licensed}");
            }
            newcomer.belongings.has_marketplace_software = true;
            assert!(compared.billed_otherwise(&newcomer).unwrap().contains("Marketplace"), "{licensed}");
        }
    }

    #[test]
    fn a_candidate_of_the_release_before_goes_from_on_demand_to_spot() {
        let before = candidate(Market::OnDemand, Market::Spot);
        let text = serde_json::to_string(&before).unwrap();
        assert!(!text.contains("\"from\"") && !text.contains("\"to\""), "{text}");
        assert_eq!(serde_json::from_str::<Candidate>(&text).unwrap(), before);
        let rescue = candidate(Market::Spot, Market::Spot);
        let text = serde_json::to_string(&rescue).unwrap();
        assert_eq!(serde_json::from_str::<Candidate>(&text).unwrap(), rescue);
    }
}
