//! The types that a replacement may have, as its group launches them today.

use std::collections::HashSet;

use crate::ids::InstanceType;
use crate::settings::Settings;
use crate::swap::group::Group;
use crate::swap::group_tags::GroupTags;
use crate::swap::market::Market;
use crate::swap::selection::View;

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
