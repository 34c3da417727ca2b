//! Changes under a swap in progress that make it turn back: the group, its owner's wishes, its members.

use std::collections::BTreeMap;

use super::{Candidate, above_floor, floor};
use crate::group::{AZ_REBALANCE, Group, Instance, Member};
use crate::group_tags::GroupTags;
use crate::ids::InstanceId;
use crate::journal::Original;
use crate::reason::Reason;
use crate::settings::Settings;

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
    /// The group, as a whole, is not what it was.
    #[must_use]
    pub fn of_group(detail: String) -> Self {
        Self { reason: Reason::GroupChanged, detail, whole_group: true }
    }

    /// The group was deleted.
    #[must_use]
    pub fn deleted() -> Self {
        Self::of_group("the group was deleted".to_owned())
    }

    fn opted_out(settings: &Settings) -> Self {
        let detail = format!("tag {} of the group", settings.opt_out_tag);
        Self { reason: Reason::OptedOut, detail, whole_group: true }
    }

    /// The swap in progress can't go on; others may.
    #[must_use]
    pub fn of_swap(reason: Reason, detail: String) -> Self {
        Self { reason, detail, whole_group: false }
    }
}

/// Why `old` can't be replaced any more, seen before the newcomer is attached. `None`: go on.
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

/// Why `old` may not leave, seen between attach and retirement. `None`: go on.
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

/// Says why the owner of a group no longer wants `old` to be replaced, as it is right before it leaves.
/// `instances` are the members as EC2 describes them now.
#[must_use]
pub fn no_longer_wanted(
    group: &Group,
    instances: &BTreeMap<InstanceId, Instance>,
    candidate: &Candidate,
    original: &Original,
    settings: &Settings,
) -> Option<Change> {
    let old = &candidate.instance_id;
    let tags = match GroupTags::parse(&group.tags) {
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
    let is_new = |id: &String| !candidate.holds.is_empty() && !candidate.holds.contains(id);
    let gained = instance.belongings.ids().into_iter().find(is_new);
    let gained = gained.map(|id| format!("it has got {id}")).or_else(|| instance.belongings.kept_address());
    if let Some(gained) = gained {
        return Some(of_swap((Reason::NotReproducible, format!("instance {old}: {gained}"))));
    }
    above_floor(group, instances, floor(group, original.desired, &tags, settings)).err().map(of_swap)
}
