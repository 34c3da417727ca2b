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
mod tests {
    use super::*;
    use crate::group::MemberState;
    use crate::group::tests::{group_of, id};
    use proptest::prelude::*;

    fn on_demand(n: u32) -> Instance {
        Instance {
            id: id(n),
            state: InstanceState::Running,
            state_reason: None,
            is_spot: false,
            instance_type: "m5.large".parse().unwrap(),
            availability_zone: "us-east-1a".into(),
            az_id: Some("use1-az6".parse().unwrap()),
            is_plain_linux: true,
            subnet_id: Some("subnet-1".into()),
            bound_to: None,
            operator: None,
            tags: Tags::new(),
        }
    }

    fn selected(group: &Group, instances: &[Instance], settings: &Settings) -> Selection {
        let instances = instances.iter().map(|i| (i.id.clone(), i.clone())).collect();
        select(group, &instances, &Zones::new(), &"us-east-1".parse().unwrap(), settings).unwrap()
    }

    fn reason_for(change: impl FnOnce(&mut Group, &mut Instance)) -> Option<Reason> {
        let (mut group, mut instance) = (group_of(1), on_demand(0));
        change(&mut group, &mut instance);
        selected(&group, &[instance], &Settings::default()).skipped.first().map(|left| left.reason)
    }

    #[test]
    fn a_serving_on_demand_instance_is_a_candidate_from_its_own_pool() {
        let selection = selected(&group_of(1), &[on_demand(0)], &Settings::default());
        assert_eq!(selection.skipped, []);
        assert_eq!(selection.candidates[0].pools[0].to_string(), "us-east-1#use1-az6#m5.large");
    }

    #[test]
    fn a_node_is_swapped_only_as_a_node() {
        let mut node = on_demand(0);
        node.tags.insert("kubernetes.io/cluster/shop".into(), "owned".into());
        let selection = selected(&group_of(1), std::slice::from_ref(&node), &Settings::default());
        assert_eq!(selection.skipped[0].reason, Reason::KubernetesNode);
        let select = |settings: &Settings| {
            let instances = BTreeMap::from([(node.id.clone(), node.clone())]);
            let region = "us-east-1".parse().unwrap();
            select_node(&group_of(1), &node.id, &instances, &Zones::new(), &region, settings).unwrap()
        };
        assert_eq!(select(&Settings::default()).unwrap().instance_id, node.id);
        let floor = Settings { min_on_demand: 1, ..Settings::default() };
        assert_eq!(select(&floor).unwrap_err().reason, Reason::OnDemandFloor);
    }

    #[test]
    fn what_is_left_alone_has_its_own_reason() {
        assert_eq!(reason_for(|_, _| ()), None);
        assert_eq!(reason_for(|_, i| i.is_spot = true), Some(Reason::AlreadySpot));
        assert_eq!(reason_for(|_, i| i.state = InstanceState::Dead), Some(Reason::NotInService));
        assert_eq!(reason_for(|_, i| i.bound_to = Some("host".into())), Some(Reason::NotSpotCapable));
        assert_eq!(reason_for(|_, i| i.operator = Some("eks".into())), Some(Reason::ManagedElsewhere));
        assert_eq!(reason_for(|_, i| i.id = id(9)), Some(Reason::InstanceGone));
        assert_eq!(reason_for(|_, i| i.az_id = None), Some(Reason::PoolUnreadable));
        assert_eq!(reason_for(|g, _| g.members[0].protected = true), Some(Reason::ScaleInProtected));
        assert_eq!(reason_for(|g, _| g.members[0].healthy = false), Some(Reason::NotInService));
        let standby = MemberState::parse("Standby");
        assert_eq!(reason_for(|g, _| g.members[0].state = standby), Some(Reason::NotInService));
        let tag = Settings::default().opt_out_tag;
        assert_eq!(
            reason_for(|_, i| drop(i.tags.insert(tag.clone(), String::new()))),
            Some(Reason::OptedOut)
        );
        assert_eq!(
            reason_for(|g, _| drop(g.tags.insert(tag.clone(), "true".into()))),
            Some(Reason::OptedOut)
        );
        assert_eq!(reason_for(|_, i| drop(i.tags.insert(tag, "false".into()))), None);
    }

    #[test]
    fn overrides_come_before_the_tag_and_the_tag_before_the_setting() {
        let types = |group: &Group, settings: &Settings| {
            let selection = selected(group, &[on_demand(0)], settings);
            selection.candidates[0].pools.iter().map(|p| p.instance_type.to_string()).collect::<Vec<_>>()
        };
        let settings = Settings { instance_types: vec!["m4.large".parse().unwrap()], ..Settings::default() };
        let mut group = group_of(1);
        assert_eq!(types(&group, &settings), ["m5.large", "m4.large"]);
        group.tags.insert(INSTANCE_TYPES_TAG.into(), "m5a.large, m5.large,m5a.large".into());
        assert_eq!(types(&group, &settings), ["m5.large", "m5a.large"]);
        group.override_types = vec!["c5.large".parse().unwrap()];
        assert_eq!(types(&group, &settings), ["m5.large", "c5.large"]);
    }

    #[test]
    fn a_tag_that_cannot_be_read_stops_the_swap() {
        let mut group = group_of(1);
        group.tags.insert(MIN_ON_DEMAND_TAG.into(), "two".into());
        let instances = BTreeMap::from([(id(0), on_demand(0))]);
        let region = "us-east-1".parse().unwrap();
        let error = select(&group, &instances, &Zones::new(), &region, &Settings::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tag \"spot-optimizer:min-on-demand\" of the group: \"two\" is not a whole number"
        );
    }

    #[test]
    fn any_change_of_the_group_between_attach_and_retirement_is_seen() {
        let (old, newcomer) = (id(0), id(2));
        let mut grown = group_of(3);
        grown.suspended.insert(AZ_REBALANCE.into());
        let original = Original {
            desired: 2,
            max: 4,
            az_rebalance_suspended: false,
            serving: 2,
            members: vec![id(0), id(1)],
        };
        assert_eq!(changed_before_retirement(&grown, &old, &newcomer, &original), None);
        let changes: [fn(&mut Group); 8] = [
            |g| g.desired = 2,
            |g| g.desired = 4,
            |g| g.members[0].protected = true,
            |g| g.members[0].healthy = false,
            |g| g.members[1].healthy = false,
            |g| g.members[2].state = MemberState::Pending,
            |g| drop(g.members.remove(0)),
            |g| g.suspended.clear(),
        ];
        for (n, change) in changes.iter().enumerate() {
            let mut group = grown.clone();
            change(&mut group);
            assert!(
                changed_before_retirement(&group, &old, &newcomer, &original).is_some(),
                "change {n} went unseen"
            );
        }
    }

    proptest! {
        /// Every member ends up in exactly one list, and the floor is kept.
        #[test]
        fn the_floor_is_kept_whatever_the_mix(
            spot in prop::collection::vec(any::<bool>(), 1..30),
            protected in prop::collection::vec(any::<bool>(), 30),
            floor in 0_u32..35,
        ) {
            let count = u32::try_from(spot.len()).unwrap();
            let mut group = group_of(count);
            for (member, protected) in group.members.iter_mut().zip(&protected) {
                member.protected = *protected;
            }
            let instances: Vec<Instance> =
                (0..count).zip(&spot).map(|(n, spot)| Instance { is_spot: *spot, ..on_demand(n) }).collect();
            let settings = Settings { min_on_demand: floor, ..Settings::default() };
            let selection = selected(&group, &instances, &settings);
            prop_assert_eq!(selection.candidates.len() + selection.skipped.len(), spot.len());
            let on_demand = spot.iter().filter(|s| !**s).count();
            let left = on_demand - selection.candidates.len();
            prop_assert!(left >= on_demand.min(floor as usize));
        }
    }
}
