//! The members of a group for which a swap may be worth while, as far as the group and EC2 show by themselves. What their
//! launches and their pools say is asked only of a group that has any.

use jiff::{SignedDuration, Timestamp};

use crate::ids::InstanceId;
use crate::settings::Settings;
use crate::swap::asked::Asked;
use crate::swap::group::{Group, Instance};
use crate::swap::group_tags::{BadTag, GroupTags};
use crate::swap::scaling::scaling;
use crate::swap::selection::{floor, judged, not_a_node, on_demand, unwilling};
use crate::watch::{Deferral, Deferred};

use std::collections::BTreeMap;

/// The members of a group that may be swapped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prospects<'a> {
    /// Members that the swap of their group may replace.
    pub members: Vec<&'a Instance>,
    /// Members that are nodes of a Kubernetes cluster.
    pub nodes: Vec<&'a Instance>,
}

impl<'a> Prospects<'a> {
    /// Sorts the members of a group, by the same rules as the selection of a swap.
    ///
    /// # Errors
    /// A tag of the group can't be read.
    pub fn of(
        group: &'a Group,
        instances: &'a BTreeMap<InstanceId, Instance>,
        settings: &Settings,
    ) -> Result<Self, BadTag> {
        let tags = GroupTags::parse(&group.tags)?;
        let may_go = on_demand(group, instances).saturating_sub(floor(group, group.desired, &tags, settings));
        let (mut prospects, asked) = (Self::default(), Asked::default());
        if may_go == 0 {
            return Ok(prospects);
        }
        for member in &group.members {
            let Ok(instance) = judged(member, instances.get(&member.id), &asked) else { continue };
            if unwilling(group, instance, settings).is_err() {
                continue;
            }
            match not_a_node(group, instance) {
                Ok(()) => prospects.members.push(instance),
                Err(_) => prospects.nodes.push(instance),
            }
        }
        Ok(prospects)
    }

    /// Returns true if there is nothing to swap.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.nodes.is_empty()
    }
}

/// Returns why a group must rest first: it scales by itself, or an On-Demand member was launched a moment ago.
#[must_use]
pub fn restless(
    group: &Group,
    instances: &BTreeMap<InstanceId, Instance>,
    settings: &Settings,
    now: Timestamp,
) -> Option<Deferred> {
    // A group that lacks members for long may stay so: the swap itself waits for one that launches them.
    if let Some(detail) = scaling(group, &mut Some(Timestamp::MIN), now) {
        return Some(Deferred::new(Deferral::GroupScaling, detail));
    }
    let settle = SignedDuration::from_secs(i64::from(settings.settle_seconds));
    let members = group.members.iter().filter_map(|member| instances.get(&member.id));
    let settled_at = |instance: &Instance| instance.launched_at?.checked_add(settle).ok();
    let young = members
        .filter(|instance| !instance.is_spot && instance.is_alive())
        .filter_map(|instance| Some((settled_at(instance)?, instance)))
        .max_by_key(|(settled_at, _)| *settled_at)?;
    let (settled_at, instance) = young;
    (settled_at > now).then(|| {
        let detail = format!("{} was launched less than {} s ago", instance.id, settings.settle_seconds);
        Deferred::until(Deferral::Settling, detail, settled_at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swap::group::MemberState;
    use crate::swap::group::tests::{group_of, id, on_demand};

    fn instances(count: u32) -> BTreeMap<InstanceId, Instance> {
        (0..count).map(on_demand).map(|instance| (instance.id.clone(), instance)).collect()
    }

    fn found(group: &Group, instances: &BTreeMap<InstanceId, Instance>) -> (usize, usize) {
        let prospects = Prospects::of(group, instances, &Settings::default()).unwrap();
        assert_eq!(prospects.is_empty(), prospects.members.len() + prospects.nodes.len() == 0);
        (prospects.members.len(), prospects.nodes.len())
    }

    #[test]
    fn members_on_demand_are_worth_a_look_and_no_others() {
        let (group, all) = (group_of(2), instances(2));
        assert_eq!(found(&group, &all), (2, 0));
        let change = |change: &dyn Fn(&mut Group, &mut Instance)| {
            let (mut group, mut all) = (group.clone(), all.clone());
            change(&mut group, all.get_mut(&id(0)).unwrap());
            found(&group, &all)
        };
        assert_eq!(change(&|_, instance| instance.is_spot = true), (1, 0));
        assert_eq!(
            change(&|_, instance| drop(instance.tags.insert("spot-optimizer:opt-out".into(), "true".into()))),
            (1, 0)
        );
        assert_eq!(
            change(&|_, instance| drop(instance.tags.insert("eks:cluster-name".into(), "shop".into()))),
            (1, 1)
        );
        assert_eq!(change(&|group, _| group.members[0].protected = true), (1, 0));
        assert_eq!(change(&|group, _| group.members[0].healthy = false), (1, 0));
        assert_eq!(
            change(&|group, _| drop(group.tags.insert("spot-optimizer:opt-out".into(), String::new()))),
            (0, 0)
        );
        assert_eq!(
            change(&|group, _| drop(group.tags.insert("AmazonECSManaged".into(), String::new()))),
            (0, 0)
        );
        assert_eq!(
            change(&|group, _| drop(group.tags.insert("spot-optimizer:min-on-demand".into(), "2".into()))),
            (0, 0)
        );
        assert_eq!(change(&|group, _| group.on_demand_base = 2), (0, 0), "its policy keeps them");
    }

    #[test]
    fn a_group_that_scales_or_has_a_young_member_rests_first() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let settings = Settings { settle_seconds: 300, ..Settings::default() };
        let (mut group, mut all) = (group_of(2), instances(2));
        let why = |group: &Group, all: &_, now| {
            restless(group, all, &settings, at(now)).map(|d| (d.reason, d.not_before))
        };
        assert_eq!(why(&group, &all, 1_000), None);
        all.get_mut(&id(1)).unwrap().launched_at = Some(at(1_000));
        assert_eq!(why(&group, &all, 1_299), Some((Deferral::Settling, Some(at(1_300)))));
        assert_eq!(why(&group, &all, 1_300), None);
        all.get_mut(&id(1)).unwrap().is_spot = true;
        assert_eq!(why(&group, &all, 1_299), None, "our own newcomer, say");
        group.members[1].state = MemberState::Pending;
        assert_eq!(why(&group, &all, 1_300), Some((Deferral::GroupScaling, None)));
        group.members.truncate(1);
        assert_eq!(why(&group, &all, 1_300), None, "EC2 may have no capacity for the other");
    }
}
