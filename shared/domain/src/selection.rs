//! Which instances of a group are worth a swap, and why the others are not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::group::{AZ_REBALANCE, Group, Instance, InstanceState, Member};
use crate::ids::{AzId, InstanceId, InstanceType, Region};
use crate::journal::Original;
use crate::pool::Pool;
use crate::reason::Reason;
use crate::settings::{Settings, parse_instance_types};
use crate::swap::Left;
use crate::tags::{INSTANCE_TYPES_TAG, MIN_ON_DEMAND_TAG, Tags, cluster_of};

/// An On-Demand instance to be replaced, with all that the launch needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The instance.
    pub instance_id: InstanceId,
    /// Its type.
    pub instance_type: InstanceType,
    /// The pools it may be replaced from, best first: its own type, then the group's others.
    pub pools: Vec<Pool>,
    /// Its zone's name in this account.
    pub availability_zone: String,
    /// Whether its price is known to us: plain Linux.
    pub is_plain_linux: bool,
    /// Its subnet; the newcomer goes to the same.
    pub subnet_id: String,
    /// Its tags; the newcomer inherits them.
    pub tags: Tags,
}

/// A group's members, sorted into those to swap and those to leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// To be swapped, one after another.
    pub candidates: Vec<Candidate>,
    /// Left alone, each with its reason.
    pub skipped: Vec<Left>,
}

/// A tag on the group that can't be obeyed, because it can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tag {tag:?} of the group: {problem}")]
pub struct BadTag {
    /// The tag's key.
    pub tag: &'static str,
    /// What is wrong with its value.
    pub problem: String,
}

/// Zone name → zone id, in the account at hand.
pub type Zones = BTreeMap<String, AzId>;

/// Sorts the members of `group`.
///
/// # Errors
/// A tag of the group that limits us but is malformed: better no swap than one against its owner's
/// wish.
pub fn select(
    group: &Group,
    instances: &BTreeMap<InstanceId, Instance>,
    zones: &Zones,
    region: &Region,
    settings: &Settings,
) -> Result<Selection, BadTag> {
    let other_types = other_types(group, settings)?;
    let floor = group.on_demand_floor(min_on_demand(group, settings)?);
    let mut selection = Selection::default();
    for member in &group.members {
        let verdict = judged(member, instances.get(&member.id)).and_then(|instance| {
            if let Some(cluster) = cluster_of(&instance.tags) {
                let detail =
                    format!("a node of cluster {cluster}: its pods must move first, use the node swap");
                return Err((Reason::KubernetesNode, detail));
            }
            candidate(group, instance, zones, region, settings, &other_types)
        });
        match verdict {
            Ok(candidate) => selection.candidates.push(candidate),
            Err((reason, detail)) => selection.skipped.push(Left::new(&member.id, reason, detail)),
        }
    }
    keep_floor(&mut selection, on_demand(group, instances), floor);
    Ok(selection)
}

/// Judges one member that is a Kubernetes node, and is asked for by its id.
///
/// # Errors
/// As [`select`]; the inner error says why it stays.
pub fn select_node(
    group: &Group,
    id: &InstanceId,
    instances: &BTreeMap<InstanceId, Instance>,
    zones: &Zones,
    region: &Region,
    settings: &Settings,
) -> Result<Result<Candidate, Left>, BadTag> {
    let other_types = other_types(group, settings)?;
    let floor = group.on_demand_floor(min_on_demand(group, settings)?);
    let verdict = group
        .member(id)
        .ok_or_else(|| (Reason::GroupChanged, format!("it has left group {}", group.name)))
        .and_then(|member| judged(member, instances.get(id)))
        .and_then(|instance| candidate(group, instance, zones, region, settings, &other_types))
        .and_then(|candidate| {
            let is_above_floor = on_demand(group, instances) > floor;
            let kept = || (Reason::OnDemandFloor, format!("the group keeps {floor} On-Demand"));
            is_above_floor.then_some(candidate).ok_or_else(kept)
        });
    Ok(verdict.map_err(|(reason, detail)| Left::new(id, reason, detail)))
}

/// How many of the serving members are On-Demand.
fn on_demand(group: &Group, instances: &BTreeMap<InstanceId, Instance>) -> u32 {
    let is_on_demand = |m: &&Member| m.serves() && instances.get(&m.id).is_some_and(|i| !i.is_spot);
    u32::try_from(group.members.iter().filter(is_on_demand).count()).unwrap_or(u32::MAX)
}

/// The instance of a member whose group has nothing against its leaving.
fn judged<'a>(member: &Member, instance: Option<&'a Instance>) -> Result<&'a Instance, (Reason, String)> {
    match instance {
        None => Err((Reason::InstanceGone, "EC2 does not describe it".to_owned())),
        Some(_) if !member.serves() => Err((Reason::NotInService, "not InService and healthy".to_owned())),
        Some(i) if i.is_spot => Err((Reason::AlreadySpot, i.instance_type.to_string())),
        Some(_) if member.protected => {
            Err((Reason::ScaleInProtected, "scale-in protection is on".to_owned()))
        }
        Some(instance) => Ok(instance),
    }
}

fn candidate(
    group: &Group,
    instance: &Instance,
    zones: &Zones,
    region: &Region,
    settings: &Settings,
    other_types: &[InstanceType],
) -> Result<Candidate, (Reason, String)> {
    let opted_out = |tags: &Tags| tags.get(&settings.opt_out_tag).is_some_and(|value| value != "false");
    if opted_out(&instance.tags) || opted_out(&group.tags) {
        return Err((Reason::OptedOut, format!("tag {}", settings.opt_out_tag)));
    }
    if instance.state != InstanceState::Running {
        return Err((Reason::NotInService, "EC2 says that it is not running".to_owned()));
    }
    if let Some(operator) = &instance.operator {
        return Err((Reason::ManagedElsewhere, format!("operated by {operator}")));
    }
    if let Some(bound) = &instance.bound_to {
        return Err((Reason::NotSpotCapable, bound.clone()));
    }
    let subnet_id = instance
        .subnet_id
        .clone()
        .ok_or_else(|| (Reason::NotSpotCapable, "it is in no subnet (EC2-Classic)".to_owned()))?;
    let az_id =
        instance.az_id.clone().or_else(|| zones.get(&instance.availability_zone).cloned()).ok_or_else(
            || (Reason::PoolUnreadable, format!("no zone id is known for {}", instance.availability_zone)),
        )?;
    let own = std::iter::once(&instance.instance_type);
    let others = other_types.iter().filter(|t| **t != instance.instance_type);
    let pools = own
        .chain(others)
        .map(|instance_type| Pool {
            region: region.clone(),
            az_id: az_id.clone(),
            instance_type: instance_type.clone(),
        })
        .collect();
    Ok(Candidate {
        instance_id: instance.id.clone(),
        instance_type: instance.instance_type.clone(),
        pools,
        availability_zone: instance.availability_zone.clone(),
        is_plain_linux: instance.is_plain_linux,
        subnet_id,
        tags: instance.tags.clone(),
    })
}

/// The types a replacement may have beside the old one's: the group's own overrides, else its tag,
/// else the setting.
fn other_types(group: &Group, settings: &Settings) -> Result<Vec<InstanceType>, BadTag> {
    let mut types = if !group.override_types.is_empty() {
        group.override_types.clone()
    } else if let Some(list) = group.tags.get(INSTANCE_TYPES_TAG) {
        parse_instance_types(list).map_err(|problem| BadTag { tag: INSTANCE_TYPES_TAG, problem })?
    } else {
        settings.instance_types.clone()
    };
    let mut seen = std::collections::HashSet::new();
    types.retain(|t| seen.insert(t.clone()));
    Ok(types)
}

fn min_on_demand(group: &Group, settings: &Settings) -> Result<u32, BadTag> {
    let Some(text) = group.tags.get(MIN_ON_DEMAND_TAG) else { return Ok(settings.min_on_demand) };
    text.parse()
        .map_err(|_| BadTag { tag: MIN_ON_DEMAND_TAG, problem: format!("{text:?} is not a whole number") })
}

/// Of the `on_demand` serving instances, the last candidates stay until `floor` are kept.
fn keep_floor(selection: &mut Selection, on_demand: u32, floor: u32) {
    let may_go = usize::try_from(on_demand.saturating_sub(floor)).unwrap_or(usize::MAX);
    let kept = selection.candidates.split_off(may_go.min(selection.candidates.len()));
    selection.skipped.extend(kept.iter().map(|candidate| {
        Left::new(&candidate.instance_id, Reason::OnDemandFloor, format!("the group keeps {floor} On-Demand"))
    }));
}

/// Something changed since the swap began, and it can't go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The code.
    pub reason: Reason,
    /// The same for a person.
    pub detail: String,
    /// It concerns the whole group: no other swap would fare better.
    pub whole_group: bool,
}

impl Change {
    fn of_group(detail: String) -> Self {
        Self { reason: Reason::GroupChanged, detail, whole_group: true }
    }

    /// The group was deleted.
    #[must_use]
    pub fn deleted() -> Self {
        Self::of_group("the group was deleted".to_owned())
    }

    fn of_swap(reason: Reason, detail: String) -> Self {
        Self { reason, detail, whole_group: false }
    }
}

/// Why `old` can't be replaced any more, seen before the newcomer is attached. `None`: go on.
#[must_use]
pub fn changed_before_attach(group: &Group, old: &InstanceId) -> Option<Change> {
    if let Some(why) = group.unsupported().or_else(|| group.busy_with.clone()) {
        return Some(Change::of_group(why));
    }
    match group.member(old) {
        None => Some(Change::of_swap(Reason::InstanceGone, format!("instance {old} has left the group"))),
        Some(m) if m.protected => Some(Change::of_swap(
            Reason::ScaleInProtected,
            format!("instance {old} is now protected from scale-in"),
        )),
        Some(m) if !m.serves() => {
            Some(Change::of_swap(Reason::NotInService, format!("instance {old} no longer serves")))
        }
        Some(_) => None,
    }
}

/// Why `old` may not leave, seen between attach and retirement. `None`: go on.
#[must_use]
pub fn changed_before_retirement(
    group: &Group,
    old: &InstanceId,
    newcomer: &InstanceId,
    original: &Original,
) -> Option<Change> {
    let changed = |detail| Some(Change::of_swap(Reason::GroupChanged, detail));
    if let Some(change) = changed_before_attach(group, old) {
        return Some(change);
    }
    if group.desired != original.desired + 1 {
        return changed(format!("desired capacity is {}, not {}", group.desired, original.desired + 1));
    }
    if !group.member(newcomer).is_some_and(Member::serves) {
        return changed(format!("newcomer {newcomer} does not serve"));
    }
    let wanted = group.desired.min(original.serving + 1);
    if group.in_service() < wanted {
        return changed(format!("only {} of {wanted} instances serve", group.in_service()));
    }
    if !group.suspended.contains(AZ_REBALANCE) {
        return changed(format!("somebody resumed {AZ_REBALANCE}"));
    }
    None
}

#[cfg(test)]
mod tests;
