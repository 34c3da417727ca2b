//! Target groups that others fill: not the Auto Scaling group, but ECS, Nomad, a boot script or a person. Such a party
//! may register an instance at several ports, and at other ports than the target group's own. The answers here come from
//! full descriptions: a question about one instance would be answered for the target group's own port only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::types::{
    TargetDescription, TargetGroup, TargetHealthDescription, TargetTypeEnum,
};
use spot_domain::ids::InstanceId;
use spot_domain::swap::group::Instance;
use spot_domain::swap::recovery::lab::TargetState;

use crate::error::CallError;
use crate::load_balancing::target_groups::{TargetHealth, combined};
use crate::load_balancing::targets::{ask_all, has_address, may_have, not_own, parse};

/// A target group that another party fills.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filled {
    /// The target group's ARN.
    pub arn: String,
    /// The states of each member that is registered: one for each of its ports.
    pub states: BTreeMap<InstanceId, Vec<TargetState>>,
}

impl Filled {
    /// Returns the health of one instance at all its ports, taken together.
    #[must_use]
    pub fn health(&self, id: &InstanceId) -> TargetHealth {
        let states: Vec<TargetHealth> = self.states_of(id).iter().copied().map(TargetHealth::from).collect();
        combined(&states)
    }

    /// Returns true if the instance is registered at some port, and not being drained there.
    #[must_use]
    pub fn has_live(&self, id: &InstanceId) -> bool {
        let is_live = |state: &TargetState| {
            matches!(TargetHealth::from(*state), TargetHealth::Healthy | TargetHealth::NotHealthy)
        };
        self.states_of(id).iter().any(is_live)
    }

    /// Returns the number of ports at which the instance is healthy.
    #[must_use]
    pub fn healthy_ports(&self, id: &InstanceId) -> usize {
        let is_healthy = |state: &&TargetState| TargetHealth::from(**state) == TargetHealth::Healthy;
        self.states_of(id).iter().filter(is_healthy).count()
    }

    fn states_of(&self, id: &InstanceId) -> &[TargetState] {
        self.states.get(id).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Returns the target groups that have a member by its id, without the group's own. AWS has no call that goes from an
/// instance to its target groups: the search asks each one of the members' VPCs.
///
/// # Errors
/// A call fails. The result is never "nowhere" then.
pub async fn filled<'a>(
    client: &Client,
    members: impl Iterator<Item = &'a Instance> + Clone,
    own: &[String],
) -> Result<Vec<Filled>, CallError> {
    let vpcs: BTreeSet<&str> = members.clone().filter_map(|i| i.belongings.vpc_id.as_deref()).collect();
    let others = not_own(client, own, |group| !is_by_address(group) && may_have(group, &vpcs)).await?;
    let members = Members::of(members);
    let asked = ask_all(client, &others).await?;
    Ok(asked.iter().filter_map(|(group, targets)| members.in_group(group, targets)).collect())
}

/// Returns the members that a target group has by a private address, with the target group's name. The search asks each
/// target group of addresses in the region: one of another VPC may have a member. None is an Auto Scaling group's own, since
/// such a group registers its instances by id.
///
/// # Errors
/// A call fails. The result is never "nowhere" then.
pub async fn by_address<'a>(
    client: &Client,
    members: impl Iterator<Item = &'a Instance> + Clone,
) -> Result<BTreeMap<InstanceId, String>, CallError> {
    let of_addresses = not_own(client, &[], is_by_address).await?;
    let members = Members::of(members);
    let mut found = BTreeMap::new();
    for (group, targets) in ask_all(client, &of_addresses).await? {
        let name = group.target_group_name().or(group.target_group_arn()).unwrap_or_default();
        let named = targets.iter().filter_map(|target| members.by_address(group, target.target()?));
        found.extend(named.map(|member| (member.id.clone(), name.to_owned())));
    }
    Ok(found)
}

fn is_by_address(group: &TargetGroup) -> bool {
    group.target_type() == Some(&TargetTypeEnum::Ip)
}

/// Members by the names that a target group may have for them.
struct Members<'a> {
    ids: BTreeMap<&'a str, &'a Instance>,
    addresses: BTreeMap<IpAddr, &'a Instance>,
}

impl<'a> Members<'a> {
    fn of(members: impl Iterator<Item = &'a Instance> + Clone) -> Self {
        let mut addresses = BTreeMap::new();
        for member in members.clone() {
            let parsed = member.belongings.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok());
            addresses.extend(parsed.map(|address| (address, member)));
        }
        Self { ids: members.map(|member| (member.id.as_str(), member)).collect(), addresses }
    }

    fn by_address(&self, group: &TargetGroup, target: &TargetDescription) -> Option<&'a Instance> {
        let address = target.id()?.parse::<IpAddr>().ok()?;
        self.addresses.get(&address).copied().filter(|member| has_address(group, target, member))
    }

    /// Returns the registrations by id in a target group; `None` if there are none.
    fn in_group(&self, group: &TargetGroup, targets: &[TargetHealthDescription]) -> Option<Filled> {
        let mut states: BTreeMap<InstanceId, Vec<TargetState>> = BTreeMap::new();
        for target in targets {
            let id = target.target().and_then(|target| target.id());
            if let Some(member) = id.and_then(|id| self.ids.get(id)) {
                states.entry(member.id.clone()).or_default().push(parse(Some(target)));
            }
        }
        let arn = group.target_group_arn()?.to_owned();
        (!states.is_empty()).then_some(Filled { arn, states })
    }
}
