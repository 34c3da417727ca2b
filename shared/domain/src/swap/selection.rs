//! The choice of the instances of a group that are worth a swap, with a reason for each of the others.
//! `candidate` is such an instance, `launches` are what its group would launch for it, `types` are those that may replace
//! it, and `change` holds the changes that make a swap in progress turn back.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{AzId, InstanceId, InstanceType, Region};
use crate::own_tags::misspelt_tags;
use crate::owners::{by_node_swap, kubernetes, service_of_group, service_of_member};
use crate::reason::Reason;
use crate::risk::pool::Pool;
use crate::settings::Settings;
use crate::swap::asked::Asked;
use crate::swap::belongings::{Belongings, Given, too_many_tags};
use crate::swap::group::{Group, Instance, InstanceState, Launch, Member};
use crate::swap::group_tags::{BadTag, GroupTags};
use crate::swap::pricing::Prices;
use crate::swap::report::NotSwapped;

/// A group's members, sorted into candidates and skipped ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Members to be swapped, one after another.
    pub candidates: Vec<Candidate>,
    /// Members left alone, each with its reason.
    pub skipped: Vec<NotSwapped>,
}

/// Zone ids by zone name, in the account at hand.
pub type Zones = BTreeMap<String, AzId>;

/// The contribution of each launch of a group to its instances, or the reason for which the launch can't be
/// Spot.
pub type Launches = BTreeMap<Launch, Result<Given, String>>;

/// A group as AWS describes it, with everything that its members are judged by.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The group.
    pub group: &'a Group,
    /// The members as EC2 describes them.
    pub instances: &'a BTreeMap<InstanceId, Instance>,
    /// Zone ids, if EC2 does not give them with the instance.
    pub zones: &'a Zones,
    /// Zone names of the group's subnets, if a member is in none of them.
    pub subnet_zones: &'a BTreeMap<String, String>,
    /// The group's launches.
    pub launches: &'a Launches,
    /// Device names in the block device mappings of images, by image id.
    pub image_devices: &'a BTreeMap<String, BTreeSet<String>>,
    /// The region.
    pub region: &'a Region,
    /// The wish that the members are judged for.
    pub asked: &'a Asked,
}

mod candidate;
mod change;
mod launches;
mod types;

pub use candidate::Candidate;
pub use change::{Change, changed_before_attach, changed_before_retirement, no_longer_wanted, too_few_last};
use launches::billed_as;
pub use launches::{launches_of, member_launch, replacement_launch};
use types::{first_type, other_types};

type Why = (Reason, String);

/// Sorts the members of a group: all of them, or those that the request names, in its order.
///
/// # Errors
/// A tag of the group that limits us but is malformed or misspelt: no swap is better than one against its owner's wish.
pub fn select(view: View<'_>, settings: &Settings) -> Result<Selection, BadTag> {
    let tags = GroupTags::of(&view.group.tags, settings)?;
    let floor = floor(view.group, view.group.desired, &tags, settings);
    let mut selection = Selection::default();
    for (id, member) in looked_at(view) {
        let verdict = member.ok_or_else(|| not_in(view.group)).and_then(|member| {
            let instance = judged(member, view.instances.get(id), view.asked)?;
            not_a_node(view.group, instance, view.instances)?;
            candidate(view, member, instance, &tags, settings, MemberKind::Plain)
        });
        match verdict {
            Ok(candidate) => selection.candidates.push(candidate),
            Err((reason, detail)) => selection.skipped.push(NotSwapped::new(id, reason, detail)),
        }
    }
    keep_floor(&mut selection, on_demand(view.group, view.instances), floor);
    Ok(selection)
}

/// Returns the instances that the request is about: those that it names, else every member.
fn looked_at(view: View<'_>) -> Vec<(&InstanceId, Option<&Member>)> {
    match &view.asked.replace {
        Some(named) => named.ids().iter().map(|id| (id, view.group.member(id))).collect(),
        None => view.group.members.iter().map(|member| (&member.id, Some(member))).collect(),
    }
}

fn not_in(group: &Group) -> Why {
    (Reason::NotInGroup, format!("it is no member of group {}", group.name))
}

/// Judges one member that is asked for by its id: a Kubernetes node, or a candidate whose turn has come.
///
/// # Errors
/// A malformed or misspelt tag, as in [`select`]. The inner error is the reason for which the member stays.
pub fn select_one(
    view: View<'_>,
    id: &InstanceId,
    settings: &Settings,
    kind: MemberKind,
) -> Result<Result<Candidate, NotSwapped>, BadTag> {
    let tags = GroupTags::of(&view.group.tags, settings)?;
    let verdict = view
        .group
        .member(id)
        .ok_or_else(|| (Reason::GroupChanged, format!("it has left group {}", view.group.name)))
        .and_then(|member| Ok((member, judged(member, view.instances.get(id), view.asked)?)))
        .and_then(|(member, instance)| {
            if kind == MemberKind::Plain {
                not_a_node(view.group, instance, view.instances)?;
            }
            let candidate = candidate(view, member, instance, &tags, settings, kind)?;
            if candidate.lowers_on_demand() {
                let floor = floor(view.group, view.group.desired, &tags, settings);
                above_floor(view.group, view.instances, floor)?;
            }
            Ok(candidate)
        });
    Ok(verdict.map_err(|(reason, detail)| NotSwapped::new(id, reason, detail)))
}

/// The kind of a group's members: Kubernetes nodes or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// The members are no nodes: a node among them is left alone.
    Plain,
    /// The members are nodes, and the swap drains them.
    Node,
}

fn above_floor(group: &Group, instances: &BTreeMap<InstanceId, Instance>, floor: u32) -> Result<(), Why> {
    if on_demand(group, instances) > floor {
        return Ok(());
    }
    Err(kept_by(floor))
}

fn kept_by(floor: u32) -> Why {
    (Reason::OnDemandFloor, format!("the group keeps {floor} On-Demand"))
}

/// Returns the number of On-Demand instances that the owner keeps in a group of N, also while it is N+1.
pub(crate) fn floor(group: &Group, desired: u32, tags: &GroupTags, settings: &Settings) -> u32 {
    group.on_demand_floor(desired, tags.min_on_demand.unwrap_or(settings.min_on_demand))
}

/// Refuses a node of a cluster as a plain member, by its own tags, by its group's, or by what a node swap has put on another
/// of the group's `instances`: a group has nodes or none.
pub(crate) fn not_a_node(
    group: &Group,
    instance: &Instance,
    instances: &BTreeMap<InstanceId, Instance>,
) -> Result<(), Why> {
    let beside = || instances.values().find_map(|member| by_node_swap(&member.tags));
    let marked = kubernetes(&instance.tags).or_else(|| kubernetes(&group.tags)).or_else(beside);
    marked.map_or(Ok(()), |marked| Err((Reason::KubernetesNode, marked.detail())))
}

/// Returns the number of serving members that are On-Demand.
pub(crate) fn on_demand(group: &Group, instances: &BTreeMap<InstanceId, Instance>) -> u32 {
    let is_on_demand = |m: &&Member| m.serves() && instances.get(&m.id).is_some_and(|i| !i.is_spot);
    u32::try_from(group.members.iter().filter(is_on_demand).count()).unwrap_or(u32::MAX)
}

/// Returns the instance of a member whose group has nothing against its leaving.
pub(crate) fn judged<'a>(
    member: &Member,
    instance: Option<&'a Instance>,
    asked: &Asked,
) -> Result<&'a Instance, Why> {
    let Some(instance) = instance else {
        return Err((Reason::InstanceGone, "EC2 does not describe it".to_owned()));
    };
    if !member.serves() {
        return Err((Reason::NotInService, "not InService and healthy".to_owned()));
    }
    if let Some(reason) = asked.keeps(instance) {
        return Err((reason, instance.instance_type.to_string()));
    }
    if member.protected {
        return Err((Reason::ScaleInProtected, "scale-in protection is on".to_owned()));
    }
    Ok(instance)
}

fn candidate(
    view: View<'_>,
    member: &Member,
    instance: &Instance,
    tags: &GroupTags,
    settings: &Settings,
    kind: MemberKind,
) -> Result<Candidate, Why> {
    unwilling(view.group, instance, settings)?;
    misspelt(instance, tags, settings).map_or(Ok(()), Err)?;
    let subnet_id = subnet(view, instance)?;
    reproducible(view, member, instance, tags, kind)?;
    let pools = pools(view, instance, tags, settings)?;
    // The pods of a node bring and take along what it has.
    let own = (kind == MemberKind::Plain).then_some(&instance.belongings);
    let billed_as = billed_as(view, instance, &pools);
    Ok(Candidate {
        instance_id: instance.id.clone(),
        instance_type: instance.instance_type.clone(),
        from: instance.market(),
        to: view.asked.to,
        pools,
        availability_zone: instance.availability_zone.clone(),
        billed_as,
        prices: Prices::default(),
        not_cheaper: String::new(),
        holds: own.map(Belongings::ids).unwrap_or_default(),
        addresses: own.map(|own| own.addresses.clone()).unwrap_or_default(),
        subnet_id,
        tags: instance.tags.clone(),
    })
}

/// Refuses a member if its owner, another service or its kind stands against a swap.
pub(crate) fn unwilling(group: &Group, instance: &Instance, settings: &Settings) -> Result<(), Why> {
    if settings.opts_out(&instance.tags) || settings.opts_out(&group.tags) {
        return Err((Reason::OptedOut, format!("tag {}", settings.opt_out_tag)));
    }
    if instance.state != InstanceState::Running {
        return Err((Reason::NotInService, "EC2 says that it is not running".to_owned()));
    }
    bound_elsewhere(group, instance)
}

/// Refuses a member that another service owns, or whose kind stands against a swap.
fn bound_elsewhere(group: &Group, instance: &Instance) -> Result<(), Why> {
    if let Some(operator) = &instance.operator {
        return Err((Reason::ManagedElsewhere, format!("operated by {operator}")));
    }
    if let Some(marked) = service_of_member(&instance.tags).or_else(|| service_of_group(&group.tags)) {
        return Err((Reason::ManagedElsewhere, marked.detail()));
    }
    instance.bound_to.clone().map_or(Ok(()), |bound| Err((Reason::NotSpotCapable, bound)))
}

/// Returns the refusal of a member that has a tag with a misspelt key of ours: its owner may have opted out. The group's ready
/// tag is the owner's own, whatever its key.
pub(crate) fn misspelt(instance: &Instance, tags: &GroupTags, settings: &Settings) -> Option<Why> {
    let is_ready_tag = |bad: &BadTag| tags.ready_tag.as_ref().is_some_and(|ready| ready.key() == bad.tag);
    let bad = misspelt_tags(&instance.tags, settings).find(|bad| !is_ready_tag(bad))?;
    Some((Reason::OptedOut, bad.of_instance()))
}

/// Returns the instance's own subnet while the group launches into it, else another one of the same zone.
fn subnet(view: View<'_>, instance: &Instance) -> Result<String, Why> {
    let own = instance
        .subnet_id
        .as_ref()
        .ok_or_else(|| (Reason::NotSpotCapable, "it is in no subnet (EC2-Classic)".to_owned()))?;
    let (current, zone) = (&view.group.subnet_ids, &instance.availability_zone);
    // A group that only names zones launches into their default subnets.
    let zones = &view.group.availability_zones;
    let is_current = if current.is_empty() { zones.contains(zone) } else { current.contains(own) };
    if is_current {
        return Ok(own.clone());
    }
    current.iter().find(|subnet| view.subnet_zones.get(*subnet) == Some(zone)).cloned().ok_or_else(|| {
        let detail = format!("its group no longer launches into {zone}: none of its subnets is there");
        (Reason::NotReproducible, detail)
    })
}

/// Refuses a member that has belongings which a launch of today would not give back. A node's pods bring
/// volumes, interfaces and addresses, and take them along when they move.
fn reproducible(
    view: View<'_>,
    member: &Member,
    instance: &Instance,
    tags: &GroupTags,
    kind: MemberKind,
) -> Result<(), Why> {
    let launch = member_launch(view.group, member, &instance.instance_type)?;
    let given = match view.launches.get(&launch) {
        Some(Ok(given)) => given,
        Some(Err(why)) => return Err((Reason::LaunchRejected, why.clone())),
        None => return Err((Reason::LaunchRejected, "what it is launched from was not read".to_owned())),
    };
    let belongings = &instance.belongings;
    let of_image = belongings.image_id.as_ref().and_then(|image| view.image_devices.get(image));
    let nothing = BTreeSet::new();
    let why = match kind {
        MemberKind::Plain => belongings.irreproducible(given, of_image.unwrap_or(&nothing)),
        MemberKind::Node => belongings.irreproducible_in_a_node(),
    };
    let why = why
        .or_else(|| {
            too_many_tags(&instance.tags, given, &view.group.propagated_tags, kind == MemberKind::Node)
        })
        .or_else(|| born_ready(tags, given));
    why.map_or(Ok(()), |why| Err((Reason::NotReproducible, why)))
}

/// Returns why the ready tag says nothing, if every instance has that tag from its launch.
fn born_ready(tags: &GroupTags, given: &Given) -> Option<String> {
    let ready = tags.ready_tag.as_ref().filter(|ready| given.tag_keys.contains(ready.key()))?;
    Some(format!("its template puts the tag {ready}, which is to say that it is ready, on every instance"))
}

fn pools(
    view: View<'_>,
    instance: &Instance,
    tags: &GroupTags,
    settings: &Settings,
) -> Result<Vec<Pool>, Why> {
    let own = &instance.instance_type;
    let az_id =
        instance.az_id.clone().or_else(|| view.zones.get(&instance.availability_zone).cloned()).ok_or_else(
            || (Reason::PoolUnreadable, format!("no zone id is known for {}", instance.availability_zone)),
        )?;
    let can_launch = |kind: &InstanceType| {
        view.group.launch_of(kind).is_some_and(|launch| !matches!(view.launches.get(&launch), Some(Err(_))))
    };
    let to = view.asked.to;
    let first = first_type(view, own);
    let others = other_types(view.group, tags, settings, to)
        .into_iter()
        .filter(|t| Some(t) != first.as_ref() && can_launch(t));
    // The pool of a Spot instance is what is wrong with it.
    let is_at_fault = |kind: &InstanceType| instance.market() == to && kind == own;
    let types = first.iter().cloned().chain(others).filter(|kind| !is_at_fault(kind));
    let pool = |instance_type| Pool { region: view.region.clone(), az_id: az_id.clone(), instance_type };
    let pools: Vec<Pool> = types.map(pool).collect();
    if pools.is_empty() {
        let detail = format!(
            "its own pool, {own} in {az_id}, is none for its replacement, and its group allows no other type"
        );
        return Err((Reason::NoOtherPool, detail));
    }
    Ok(pools)
}

/// Keeps `floor` of the `on_demand` serving instances: the last candidates stay. A swap that leaves no On-Demand
/// instance less does not count.
fn keep_floor(selection: &mut Selection, on_demand: u32, floor: u32) {
    let mut may_go = on_demand.saturating_sub(floor);
    let (go, kept): (Vec<_>, Vec<_>) =
        std::mem::take(&mut selection.candidates).into_iter().partition(|candidate| {
            if !candidate.lowers_on_demand() {
                return true;
            }
            let goes = may_go > 0;
            may_go = may_go.saturating_sub(1);
            goes
        });
    selection.candidates = go;
    let (reason, detail) = kept_by(floor);
    selection.skipped.extend(kept.iter().map(|c| NotSwapped::new(&c.instance_id, reason, detail.clone())));
}

#[cfg(test)]
mod tests;
