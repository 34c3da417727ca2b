//! The checks of a group before anything of it is changed: its fitness, the launches that it would make today, its
//! members. `launches` reads what it launches from. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use spot_cloud::auto_scaling::groups;
use spot_cloud::ec2::{images, instances, subnets};
use spot_cloud::load_balancing::others;
use spot_cloud::{CallError, RegionClients};
use spot_domain::ids::{InstanceId, Region};
use spot_domain::settings::Settings;
use spot_domain::swap::asked::Asked;
use spot_domain::swap::belongings::Given;
use spot_domain::swap::fitness::{Hook, unfit};
use spot_domain::swap::group::{Group, Instance, Launch, MOST_MEMBERS};
use spot_domain::swap::journal::Retirement;
use spot_domain::swap::selection::{
    Change, Launches, Selection, View, Zones, launches_of, member_launch, select,
};
use spot_domain::{BadTag, Reason, Usd};

use crate::error::StepError;
use crate::work::Work;

mod launches;

pub use launches::{Resolved, launches_otherwise, resolve};

/// The answer to the question if a group may be swapped.
#[derive(Debug)]
pub enum Fitness {
    /// The group may be swapped; these are its lifecycle hooks.
    Fit(Vec<Hook>),
    /// The group may not be swapped now: something else replaces or deletes its members.
    Busy(String),
    /// The group may not be swapped as it is configured.
    Unfit(String),
}

/// Checks a group, its lifecycle hooks and its refreshes.
///
/// # Errors
/// A call fails.
pub async fn fitness(
    clients: &RegionClients,
    settings: &Settings,
    group: &Group,
) -> Result<Fitness, CallError> {
    let hooks = groups::hooks(&clients.autoscaling, &group.name).await?;
    let why = unfit(group, &hooks, settings).unwrap_or_else(|bad| Some(bad.to_string()));
    if let Some(why) = why {
        return Ok(Fitness::Unfit(why));
    }
    let busy = match &group.busy_with {
        Some(why) => Some(why.clone()),
        None => groups::active_refresh(&clients.autoscaling, &group.name).await?,
    };
    Ok(busy.map_or(Fitness::Fit(hooks), Fitness::Busy))
}

/// Refuses a group that may not be swapped, or that is too large for the journal of a run. Returns its lifecycle hooks.
///
/// # Errors
/// [`StepError::GroupNotSupported`] or [`StepError::GroupBusy`] with the reason, or a call fails.
pub async fn refuse_unfit(
    clients: &RegionClients,
    settings: &Settings,
    group: &Group,
) -> Result<Vec<Hook>, StepError> {
    if let Some(why) = group.too_large(MOST_MEMBERS) {
        return Err(not_supported(group, &why));
    }
    match fitness(clients, settings, group).await? {
        Fitness::Fit(hooks) => Ok(hooks),
        Fitness::Busy(why) => Err(StepError::GroupBusy(format!("group {}: {why}", group.name).into())),
        Fitness::Unfit(why) => Err(not_supported(group, &why)),
    }
}

/// Says why a group may not be swapped any more, for example because a hook was added or a refresh began. Notes
/// the hooks.
///
/// # Errors
/// A call fails.
pub async fn unfit_by_now(
    clients: &RegionClients,
    work: &mut Work,
    group: &Group,
) -> Result<Option<String>, CallError> {
    Ok(match fitness(clients, &work.settings, group).await? {
        Fitness::Fit(hooks) => {
            work.note_hooks(&hooks);
            None
        }
        Fitness::Busy(why) | Fitness::Unfit(why) => Some(why),
    })
}

/// Says that the group may not be swapped any more, or that it has got a terminating hook since its swap has `foreseen` a
/// detach. Where the hooks went away, the group terminates the old instance as foreseen. Notes the hooks.
///
/// # Errors
/// A call fails.
pub async fn changed_by_now(
    clients: &RegionClients,
    work: &mut Work,
    group: &Group,
    foreseen: Retirement,
) -> Result<Option<Change>, CallError> {
    if let Some(why) = unfit_by_now(clients, work, group).await? {
        return Ok(Some(Change::of_group(why)));
    }
    let is_missed = (work.retirement, foreseen) == (Retirement::TerminateInGroup, Retirement::Detach);
    Ok(is_missed.then(|| {
        let what = "has got a terminating hook, which would not run for the old instance";
        Change::of_swap(Reason::GroupChanged, format!("group {} {what}", group.name))
    }))
}

fn not_supported(group: &Group, why: &str) -> StepError {
    StepError::GroupNotSupported(format!("group {}: {why}", group.name).into())
}

/// Returns the error for a tag of the group that can't be read, or whose key is misspelt.
#[must_use]
pub fn malformed(group: &Group, bad: &BadTag) -> StepError {
    not_supported(group, &bad.to_string())
}

/// A group and its members, with all facts that they are judged by.
#[derive(Debug, Clone)]
pub struct GroupLook {
    pub group: Group,
    /// The members, as EC2 describes them.
    pub instances: BTreeMap<InstanceId, Instance>,
    /// The wish that the group was described for.
    pub asked: Asked,
    /// The group's launches. The error says why a launch can't be made.
    pub resolved: BTreeMap<Launch, Result<Resolved, String>>,
    launches: Launches,
    zones: Zones,
    subnet_zones: BTreeMap<String, String>,
    image_devices: BTreeMap<String, BTreeSet<String>>,
    region: Region,
}

impl GroupLook {
    /// Returns the facts that the rules judge by.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View {
            group: &self.group,
            instances: &self.instances,
            zones: &self.zones,
            subnet_zones: &self.subnet_zones,
            launches: &self.launches,
            image_devices: &self.image_devices,
            region: &self.region,
            asked: &self.asked,
        }
    }

    /// Returns the highest Spot price that the owner pays, USD an hour: the policy's price, or else the launch
    /// configuration's.
    #[must_use]
    pub fn spot_max_price(&self) -> Option<Usd> {
        let of_launches = || self.resolved.values().filter_map(|r| r.as_ref().ok()?.spot_max_price).min();
        self.group.spot_max_price.or_else(of_launches)
    }
}

/// A group that may be swapped, and the members that a swap would replace.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The group's lifecycle hooks.
    pub hooks: Vec<Hook>,
    /// The group and its members.
    pub look: GroupLook,
    /// The members, sorted.
    pub selection: Selection,
}

/// Decides what of a group may be swapped. Changes nothing.
///
/// # Errors
/// The group may not be swapped ([`StepError::GroupNotSupported`], [`StepError::GroupBusy`]), or a call fails.
pub async fn plan(
    clients: &RegionClients,
    region: &Region,
    settings: &Settings,
    group: Group,
    asked: &Asked,
) -> Result<Plan, StepError> {
    let hooks = refuse_unfit(clients, settings, &group).await?;
    let mut look = look(clients, region, settings, group, asked).await?;
    let concerned = look.instances.values().filter(|instance| asked.concerns(instance));
    let concerned: Vec<InstanceId> = concerned.map(|instance| instance.id.clone()).collect();
    note_addresses(clients, &mut look.instances, &concerned).await?;
    note_requests(clients, &mut look).await?;
    let selection = select(look.view(), settings).map_err(|bad| malformed(&look.group, &bad))?;
    Ok(Plan { hooks, look, selection })
}

/// Notes those of the members `ids` that a target group has by their address, which no replacement can have.
///
/// # Errors
/// A call fails.
pub async fn note_addresses(
    clients: &RegionClients,
    instances: &mut BTreeMap<InstanceId, Instance>,
    ids: &[InstanceId],
) -> Result<(), CallError> {
    if ids.is_empty() {
        return Ok(());
    }
    let concerned = ids.iter().filter_map(|id| instances.get(id));
    let found = others::by_address(&clients.elbv2, concerned).await?;
    are_known_by_address(instances, found);
    Ok(())
}

/// Notes the target groups that have these instances by their address.
pub fn are_known_by_address(
    instances: &mut BTreeMap<InstanceId, Instance>,
    by_address: BTreeMap<InstanceId, String>,
) {
    for (id, name) in by_address {
        if let Some(instance) = instances.get_mut(&id) {
            instance.belongings.by_address_in = Some(name);
        }
    }
}

/// Notes the Spot members whose request would launch another instance in their place. A later look need not ask again: the
/// type of a request never changes.
async fn note_requests(clients: &RegionClients, look: &mut GroupLook) -> Result<(), StepError> {
    let is_concerned = |instance: &&Instance| instance.is_spot && look.asked.concerns(instance);
    let spot: Vec<InstanceId> =
        look.instances.values().filter(is_concerned).map(|instance| instance.id.clone()).collect();
    for (id, request) in instances::persistent_requests(&clients.ec2, &spot).await? {
        if let Some(instance) = look.instances.get_mut(&id) {
            let why = format!(
                "its Spot request {request} is persistent: EC2 would launch another instance in its place; cancel the request first"
            );
            instance.belongings.other.get_or_insert(why);
        }
    }
    Ok(())
}

/// Describes a whole group: every member, and every launch that could replace a member as it is asked for.
///
/// # Errors
/// [`StepError::GroupNotSupported`] if nothing of it can be launched in that market, or a call fails.
pub async fn look(
    clients: &RegionClients,
    region: &Region,
    settings: &Settings,
    group: Group,
    asked: &Asked,
) -> Result<GroupLook, StepError> {
    let instances = members(clients, &group).await?;
    let launches = launches_of(&group, &instances, settings, asked).map_err(|bad| malformed(&group, &bad))?;
    let look = resolve_all(clients, region, group, instances, launches, asked).await?;
    let refusals: Vec<&String> = look.resolved.values().filter_map(|launch| launch.as_ref().err()).collect();
    match refusals.first() {
        Some(why) if refusals.len() == look.resolved.len() => Err(not_supported(&look.group, why)),
        _ => Ok(look),
    }
}

/// Describes a group for the sake of these members, which are to be replaced as it is asked for.
///
/// # Errors
/// A call fails.
pub async fn look_for(
    clients: &RegionClients,
    region: &Region,
    group: Group,
    ids: &[&InstanceId],
    asked: &Asked,
) -> Result<GroupLook, StepError> {
    let instances = members(clients, &group).await?;
    let launch = |&id: &&InstanceId| {
        let (member, instance) = group.member(id).zip(instances.get(id))?;
        member_launch(&group, member, &instance.instance_type).ok()
    };
    let launches: BTreeSet<Launch> = ids.iter().filter_map(launch).collect();
    resolve_all(clients, region, group, instances, launches, asked).await
}

async fn resolve_all(
    clients: &RegionClients,
    region: &Region,
    group: Group,
    instances: BTreeMap<InstanceId, Instance>,
    launches: BTreeSet<Launch>,
    asked: &Asked,
) -> Result<GroupLook, StepError> {
    let zones = if instances.values().any(|i| i.az_id.is_none()) {
        instances::zones(&clients.ec2).await?
    } else {
        Zones::new()
    };
    let mut resolved = BTreeMap::new();
    for launch in launches {
        let found = resolve(clients, &group, &launch, asked.to).await?;
        resolved.insert(launch, found);
    }
    let given = |found: &Result<Resolved, String>| match found {
        Ok(resolved) => Ok(resolved.given.clone()),
        Err(why) => Err(why.clone()),
    };
    let launches: Launches = resolved.iter().map(|(launch, found)| (launch.clone(), given(found))).collect();
    let image_devices = image_devices(clients, &group, &instances, &launches, asked).await?;
    let subnet_zones = subnet_zones(clients, &group, &instances).await?;
    let (region, asked) = (region.clone(), asked.clone());
    Ok(GroupLook { group, instances, asked, resolved, launches, zones, subnet_zones, image_devices, region })
}

/// Returns the members as EC2 describes them.
///
/// # Errors
/// The call fails.
pub async fn members(
    clients: &RegionClients,
    group: &Group,
) -> Result<BTreeMap<InstanceId, Instance>, CallError> {
    let ids: Vec<_> = group.members.iter().map(|m| m.id.clone()).collect();
    if ids.is_empty() { Ok(BTreeMap::new()) } else { instances::describe(&clients.ec2, &ids).await }
}

/// Returns the block devices of the images that may explain a volume. Most members need no call: they have only a
/// root volume.
async fn image_devices(
    clients: &RegionClients,
    group: &Group,
    instances: &BTreeMap<InstanceId, Instance>,
    launches: &Launches,
    asked: &Asked,
) -> Result<BTreeMap<String, BTreeSet<String>>, CallError> {
    let nothing = Given::default();
    let puzzling = group.members.iter().filter_map(|member| {
        let instance = instances.get(&member.id).filter(|i| asked.concerns(i))?;
        let launch = member_launch(group, member, &instance.instance_type).ok()?;
        let given = launches.get(&launch).and_then(|given| given.as_ref().ok()).unwrap_or(&nothing);
        instance.belongings.unexplained(given).next()?;
        instance.belongings.image_id.clone()
    });
    let wanted: BTreeSet<String> = puzzling.collect();
    if wanted.is_empty() { Ok(BTreeMap::new()) } else { images::devices(&clients.ec2, wanted).await }
}

/// Returns the zones of the group's subnets. Makes the call only if a member lies in a subnet that its group has
/// left.
async fn subnet_zones(
    clients: &RegionClients,
    group: &Group,
    instances: &BTreeMap<InstanceId, Instance>,
) -> Result<BTreeMap<String, String>, CallError> {
    let has_left =
        |i: &Instance| i.subnet_id.as_ref().is_some_and(|subnet| !group.subnet_ids.contains(subnet));
    if group.subnet_ids.is_empty() || !instances.values().any(has_left) {
        return Ok(BTreeMap::new());
    }
    subnets::zones(&clients.ec2, &group.subnet_ids).await
}
