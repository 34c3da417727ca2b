//! Changes during a swap in progress that make it turn back: of the group, its owner's wishes, or its
//! members.

use std::collections::{BTreeMap, BTreeSet};

use super::{Candidate, MemberKind, above_floor, bound_elsewhere, floor, misspelt, not_a_node};
use crate::ids::InstanceId;
use crate::reason::Reason;
use crate::settings::Settings;
use crate::swap::group::{AZ_REBALANCE, Group, Instance, Member};
use crate::swap::group_tags::GroupTags;
use crate::swap::journal::Original;

/// A change since the swap began that stops the swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The code.
    pub reason: Reason,
    /// The reason in words.
    pub detail: String,
    /// The change concerns the whole group: every other swap would fail alike.
    pub whole_group: bool,
}

impl Change {
    /// Returns a change of the group as a whole.
    #[must_use]
    pub fn of_group(detail: String) -> Self {
        Self { reason: Reason::GroupChanged, detail, whole_group: true }
    }

    /// Returns the change of a deleted group.
    #[must_use]
    pub fn deleted() -> Self {
        Self::of_group("the group was deleted".to_owned())
    }

    fn opted_out(settings: &Settings) -> Self {
        let detail = format!("tag {} of the group", settings.opt_out_tag);
        Self { reason: Reason::OptedOut, detail, whole_group: true }
    }

    /// Returns a change that stops the swap in progress alone.
    #[must_use]
    pub fn of_swap(reason: Reason, detail: String) -> Self {
        Self { reason, detail, whole_group: false }
    }
}

/// Returns why `old` can't be replaced any more, as seen before the attach of the newcomer. `None` lets the
/// swap proceed.
#[must_use]
pub fn changed_before_attach(group: &Group, old: &InstanceId, settings: &Settings) -> Option<Change> {
    if let Some(why) = group.unsupported_or_busy() {
        return Some(Change::of_group(why));
    }
    if settings.opts_out(&group.tags) {
        return Some(Change::opted_out(settings));
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

/// Returns why `old` may not leave, as seen between attach and retirement. `None` lets the swap proceed.
#[must_use]
pub fn changed_before_retirement(
    group: &Group,
    old: &InstanceId,
    newcomer: &InstanceId,
    original: &Original,
    settings: &Settings,
) -> Option<Change> {
    let changed = |detail| Some(Change::of_swap(Reason::GroupChanged, detail));
    if let Some(change) = changed_before_attach(group, old, settings) {
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

/// Returns why `old` may not leave if too few of the others last: those in `lost` have died or are about to, and their group
/// still counts them. If `old` is one of those, nothing is gained by its stay.
#[must_use]
pub fn too_few_last(
    group: &Group,
    lost: &BTreeMap<InstanceId, String>,
    old: &InstanceId,
    original: &Original,
) -> Option<Change> {
    let (first, why) = lost.first_key_value().filter(|_| !lost.contains_key(old))?;
    let others = group.members.iter().filter(|member| member.serves() && member.id != *old);
    let lasting = others.filter(|member| !lost.contains_key(&member.id)).count();
    let wanted = group.desired.saturating_sub(1).min(original.serving);
    (lasting < wanted as usize).then(|| {
        let detail = format!("only {lasting} of {wanted} other instances last; {first}: {why}");
        Change::of_swap(Reason::GroupChanged, detail)
    })
}

/// Returns why the owner of a group no longer wants `old` to be replaced, as seen right before it leaves.
/// `instances` are the members as EC2 describes them now.
#[must_use]
pub fn no_longer_wanted(
    group: &Group,
    instances: &BTreeMap<InstanceId, Instance>,
    candidate: &Candidate,
    original: &Original,
    settings: &Settings,
    kind: MemberKind,
) -> Option<Change> {
    let old = &candidate.instance_id;
    let tags = match GroupTags::of(&group.tags, settings) {
        Ok(tags) => tags,
        Err(bad) => return Some(Change::of_group(bad.to_string())),
    };
    if settings.opts_out(&group.tags) {
        return Some(Change::opted_out(settings));
    }
    let of_swap = |(reason, detail)| Change::of_swap(reason, detail);
    let Some(instance) = instances.get(old) else {
        return Some(of_swap((Reason::InstanceGone, format!("EC2 does not describe instance {old}"))));
    };
    if settings.opts_out(&instance.tags) {
        return Some(of_swap((Reason::OptedOut, format!("tag {} of instance {old}", settings.opt_out_tag))));
    }
    if let Some(why) = misspelt(instance, &tags, settings) {
        return Some(of_swap(why));
    }
    if let Err((reason, why)) = bound_elsewhere(group, instance) {
        return Some(of_swap((reason, format!("instance {old}: {why}"))));
    }
    if kind == MemberKind::Plain
        && let Err((reason, why)) = not_a_node(group, instance, instances)
    {
        return Some(of_swap((reason, format!("instance {old}: {why}"))));
    }
    if let Some(gained) = gained(candidate, instance, kind) {
        return Some(of_swap((Reason::NotReproducible, format!("instance {old}: {gained}"))));
    }
    if !candidate.lowers_on_demand() {
        return None;
    }
    above_floor(group, instances, floor(group, original.desired, &tags, settings)).err().map(of_swap)
}

/// Returns what the old instance has by now that its replacement lacks, in words.
fn gained(candidate: &Candidate, instance: &Instance, kind: MemberKind) -> Option<String> {
    let belongings = &instance.belongings;
    // An empty record says nothing: it is that of an earlier release.
    let since = |had: &BTreeSet<String>, has: &BTreeSet<String>| {
        let is_new = |thing: &&String| !had.is_empty() && !had.contains(*thing);
        has.iter().find(is_new).map(|thing| format!("it has got {thing}"))
    };
    match kind {
        MemberKind::Node => belongings.irreproducible_in_a_node(),
        MemberKind::Plain => since(&candidate.holds, &belongings.ids())
            .or_else(|| since(&candidate.addresses, &belongings.addresses))
            .or_else(|| belongings.given_by_no_launch()),
    }
}
