//! What a group would launch today, for a member or for its replacement, and what their prices are compared by.

use std::collections::{BTreeMap, BTreeSet};

use super::types::other_types;
use super::{View, Why};
use crate::ids::{InstanceId, InstanceType};
use crate::reason::Reason;
use crate::risk::pool::Pool;
use crate::settings::Settings;
use crate::swap::asked::Asked;
use crate::swap::group::{Group, Instance, Launch, LaunchSource, Member};
use crate::swap::group_tags::{BadTag, GroupTags};
use crate::swap::pricing::UsageOperation;

/// Returns every launch that the members, as far as they are asked for, and their possible replacements need.
///
/// # Errors
/// A tag of the group can't be read, or its key is misspelt.
pub fn launches_of(
    group: &Group,
    instances: &BTreeMap<InstanceId, Instance>,
    settings: &Settings,
    asked: &Asked,
) -> Result<BTreeSet<Launch>, BadTag> {
    let tags = GroupTags::of(&group.tags, settings)?;
    let own = group.members.iter().filter_map(|member| {
        let instance = instances.get(&member.id).filter(|i| asked.concerns(i))?;
        member_launch(group, member, &instance.instance_type).ok()
    });
    let mut launches: BTreeSet<Launch> = own.collect();
    // A group without such members is judged by its launches all the same.
    if launches.is_empty() {
        launches.extend(group.launch_source.clone().map(|source| Launch { source, image_id: None }));
    }
    launches.extend(
        other_types(group, &tags, settings, asked.to).iter().filter_map(|kind| group.launch_of(kind)),
    );
    Ok(launches)
}

/// Returns what the group would launch for this member today.
///
/// # Errors
/// The group selects types by attributes, with templates of their own, and the member is of none of them.
pub fn member_launch(group: &Group, member: &Member, instance_type: &InstanceType) -> Result<Launch, Why> {
    let by_type = group.launch_of(instance_type);
    let is_named = group.overrides.iter().any(|o| o.instance_type == *instance_type);
    if is_named || group.requirement_launches.is_empty() {
        return by_type
            .ok_or_else(|| (Reason::LaunchRejected, "its group has nothing to launch from".to_owned()));
    }
    let is_its = |launch: &&Launch| match &launch.source {
        LaunchSource::Template { id, .. } => {
            member.template_id.as_ref() == Some(id) && member.image_id == launch.image_id
        }
        LaunchSource::NamedTemplate { .. } | LaunchSource::Configuration(_) => false,
    };
    group.requirement_launches.iter().find(is_its).cloned().ok_or_else(|| {
        (Reason::NotReproducible, "its launch template is none of its group's overrides".to_owned())
    })
}

/// Returns what the group would launch today to replace `old` by an instance of `new_type`.
#[must_use]
pub fn replacement_launch(
    group: &Group,
    old: &InstanceId,
    old_type: &InstanceType,
    new_type: &InstanceType,
) -> Option<Launch> {
    match group.member(old).filter(|_| old_type == new_type) {
        Some(member) => member_launch(group, member, new_type).ok(),
        None => group.launch_of(new_type),
    }
}

/// Returns the operation by which the prices of `instance` and of a replacement are known. If its group launches one of
/// these pools in dedicated tenancy, nobody knows what a swap saves.
pub(super) fn billed_as(view: View<'_>, instance: &Instance, pools: &[Pool]) -> Option<UsageOperation> {
    let is_dedicated = |pool: &Pool| {
        let launch =
            replacement_launch(view.group, &instance.id, &instance.instance_type, &pool.instance_type);
        let given = launch.and_then(|launch| view.launches.get(&launch)?.as_ref().ok());
        given.is_some_and(|given| given.is_dedicated)
    };
    instance.billed_as().filter(|_| !pools.iter().any(is_dedicated))
}
