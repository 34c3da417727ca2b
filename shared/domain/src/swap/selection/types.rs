//! The types that a replacement may have, as its group launches them today, and what their prices are compared by.

use std::collections::HashSet;

use crate::ids::InstanceType;
use crate::risk::pool::Pool;
use crate::settings::Settings;
use crate::swap::group::{Group, Instance};
use crate::swap::group_tags::GroupTags;
use crate::swap::market::Market;
use crate::swap::pricing::UsageOperation;
use crate::swap::selection::{View, replacement_launch};

/// Returns the type that comes first for the replacement of an instance of type `own`: that type, if the group launches it
/// today, or else the type of its template. The result is `None` if overrides or requirements leave `own` out: they
/// name the types.
pub(super) fn first_type(view: View<'_>, own: &InstanceType) -> Option<InstanceType> {
    let Group { overrides, requirements, .. } = view.group;
    let is_named = overrides.iter().any(|o| o.instance_type == *own);
    if is_named || requirements.as_ref().is_some_and(|requirements| requirements.lets_through(own)) {
        return Some(own.clone());
    }
    if requirements.is_some() || !overrides.is_empty() {
        return None;
    }
    let launch = view.group.launch_of(own)?;
    let given = view.launches.get(&launch).and_then(|given| given.as_ref().ok());
    Some(given.and_then(|given| given.instance_type.clone()).unwrap_or_else(|| own.clone()))
}

/// Returns the types that a replacement may have beside the first one: the group's own overrides, else its tag, else the
/// setting.
///
/// The setting does not count if the policy selects by attributes: only AWS knows which types have them. Nor does it
/// count for an On-Demand replacement: it lists the types that are worth their Spot price.
pub(super) fn other_types(
    group: &Group,
    tags: &GroupTags,
    settings: &Settings,
    to: Market,
) -> Vec<InstanceType> {
    let mut types: Vec<InstanceType> = if !group.overrides.is_empty() {
        group.overrides.iter().map(|o| o.instance_type.clone()).collect()
    } else if let Some(types) = &tags.instance_types {
        types.clone()
    } else if group.requirements.is_none() && to.is_spot() {
        settings.instance_types.clone()
    } else {
        Vec::new()
    };
    let mut seen = HashSet::new();
    types.retain(|t| {
        group.requirements.as_ref().is_none_or(|requirements| requirements.lets_through(t))
            && seen.insert(t.clone())
    });
    types
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
