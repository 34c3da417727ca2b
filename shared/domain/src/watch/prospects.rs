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
    /// A tag of the group can't be read, or its key is misspelt.
    pub fn of(
        group: &'a Group,
        instances: &'a BTreeMap<InstanceId, Instance>,
        settings: &Settings,
    ) -> Result<Self, BadTag> {
        let tags = GroupTags::of(&group.tags, settings)?;
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
            match not_a_node(group, instance, instances) {
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

    /// Returns the prospects that were launched long enough ago.
    ///
    /// # Errors
    /// There are prospects, and all are too young. Until the first of them is settled, the group is left alone.
    pub fn settled(&self, settings: &Settings, now: Timestamp) -> Result<Self, Deferred> {
        let is_settled = |instance: &&'a Instance| settling(instance, settings, now).is_none();
        let of = |instances: &[&'a Instance]| instances.iter().copied().filter(is_settled).collect();
        let settled = Self { members: of(&self.members), nodes: of(&self.nodes) };
        let young = self.members.iter().chain(&self.nodes).filter_map(|i| settling(i, settings, now));
        match young.min_by_key(|deferred| deferred.not_before) {
            Some(first) if settled.is_empty() => Err(first),
            _ => Ok(settled),
        }
    }
}

/// Returns why a group must rest first: it scales by itself.
#[must_use]
pub fn restless(group: &Group, now: Timestamp) -> Option<Deferred> {
    // A group that lacks members for long may stay so: the swap itself waits for one that launches them.
    let detail = scaling(group, &mut Some(Timestamp::MIN), now)?;
    Some(Deferred::new(Deferral::GroupScaling, detail))
}

/// Returns the deferral of an instance that was launched, or started, less than `settle_seconds` ago.
#[must_use]
pub fn settling(instance: &Instance, settings: &Settings, now: Timestamp) -> Option<Deferred> {
    let settle = SignedDuration::from_secs(i64::from(settings.settle_seconds));
    let settled_at = instance.launched_at?.checked_add(settle).ok().filter(|settled_at| *settled_at > now)?;
    let detail = format!("{} was launched less than {} s ago", instance.id, settings.settle_seconds);
    Some(Deferred::until(Deferral::Settling, detail, settled_at))
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
        let misspelt =
            |instance: &mut Instance| instance.tags.insert("spot-optimizer:opt_out".into(), "true".into());
        assert_eq!(change(&|_, instance| drop(misspelt(instance))), (2, 0), "the look names its tag");
        let misspelt_node = |_: &mut Group, instance: &mut Instance| {
            misspelt(instance);
            instance.tags.insert("eks:cluster-name".into(), "shop".into());
        };
        assert_eq!(change(&misspelt_node), (1, 1), "the look names its tag");
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
    fn a_group_with_an_unknown_key_has_no_prospects() {
        let (mut group, all) = (group_of(2), instances(2));
        group.tags.insert("spot-optimizer:min_on_demand".into(), "2".into());
        let bad = Prospects::of(&group, &all, &Settings::default()).unwrap_err();
        assert_eq!(bad.tag, "spot-optimizer:min_on_demand");
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_group_that_scales_rests_first() {
        let mut group = group_of(2);
        assert_eq!(restless(&group, at(0)), None);
        group.members[1].state = MemberState::Pending;
        assert_eq!(restless(&group, at(0)).map(|deferred| deferred.reason), Some(Deferral::GroupScaling));
        group.members.truncate(1);
        assert_eq!(restless(&group, at(0)), None, "EC2 may have no capacity for the other");
    }

    #[test]
    fn a_young_member_is_left_alone_and_holds_up_no_other() {
        let settings = Settings { settle_seconds: 300, ..Settings::default() };
        let (group, mut all) = (group_of(3), instances(3));
        let settled = |all: &BTreeMap<InstanceId, Instance>, now| {
            let prospects = Prospects::of(&group, all, &settings).unwrap();
            let settled = prospects.settled(&settings, at(now));
            settled.map(|settled| settled.members.iter().map(|member| member.id.clone()).collect::<Vec<_>>())
        };
        assert_eq!(
            settled(&all, 1_000).unwrap(),
            [id(0), id(1), id(2)],
            "EC2 does not say when they were launched"
        );
        all.get_mut(&id(1)).unwrap().launched_at = Some(at(1_000));
        assert_eq!(settled(&all, 1_299).unwrap(), [id(0), id(2)]);
        assert_eq!(settled(&all, 1_300).unwrap(), [id(0), id(1), id(2)]);
        for (n, launched) in [(0, 1_100), (2, 1_050)] {
            all.get_mut(&id(n)).unwrap().launched_at = Some(at(launched));
        }
        let first = settled(&all, 1_299).unwrap_err();
        assert_eq!((first.reason, first.not_before), (Deferral::Settling, Some(at(1_300))));
        assert!(first.detail.contains(id(1).as_str()), "{}", first.detail);
        assert_eq!(settled(&all, 1_300).unwrap(), [id(1)]);
        all.get_mut(&id(1)).unwrap().is_spot = true;
        let next = settled(&all, 1_300).unwrap_err();
        assert_eq!(next.not_before, Some(at(1_350)), "our own newcomer is no prospect");
    }

    #[test]
    fn a_young_node_waits_for_itself_alone() {
        let settings = Settings { settle_seconds: 300, ..Settings::default() };
        let (group, mut all) = (group_of(2), instances(2));
        for instance in all.values_mut() {
            instance.tags.insert("eks:cluster-name".into(), "shop".into());
        }
        all.get_mut(&id(0)).unwrap().launched_at = Some(at(1_000));
        let prospects = Prospects::of(&group, &all, &settings).unwrap();
        let settled = prospects.settled(&settings, at(1_001)).unwrap();
        assert_eq!((settled.members.len(), settled.nodes.len(), &settled.nodes[0].id), (0, 1, &id(1)));
        assert_eq!(Prospects::default().settled(&settings, at(0)), Ok(Prospects::default()));
    }
}
