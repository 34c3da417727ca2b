//! What a request asks for by name (`replace`) and by market (`to`).

use super::*;
use crate::swap::asked::Named;

fn any_launch(kind: &str) -> Override {
    override_of(kind, None)
}

fn spot(n: u32) -> Instance {
    Instance { is_spot: true, ..on_demand(n) }
}

fn named(ids: &[u32]) -> Named {
    Named::try_from(ids.iter().map(|n| id(*n)).collect::<Vec<_>>()).unwrap()
}

fn ids(candidates: &[Candidate]) -> Vec<InstanceId> {
    candidates.iter().map(|candidate| candidate.instance_id.clone()).collect()
}

fn types(candidate: &Candidate) -> Vec<&str> {
    candidate.pools.iter().map(|pool| pool.instance_type.as_str()).collect()
}

fn reasons(selection: &Selection) -> Vec<(InstanceId, Reason)> {
    selection.skipped.iter().map(|left| (left.instance_id.clone(), left.reason)).collect()
}

#[test]
fn only_what_the_request_names_is_looked_at_in_its_order() {
    let mut group = group_of(5);
    group.members[3].protected = true;
    group.members[4].state = MemberState::Leaving;
    let instances: Vec<Instance> = (0..5).map(on_demand).collect();
    let asked = Asked { replace: Some(named(&[2, 9, 0, 3, 4])), ..Asked::default() };
    let selection = selected_for(&asked, &group, &instances, &Settings::default());
    assert_eq!(ids(&selection.candidates), [id(2), id(0)]);
    let left =
        [(id(9), Reason::NotInGroup), (id(3), Reason::ScaleInProtected), (id(4), Reason::NotInService)];
    assert_eq!(reasons(&selection), left, "and nothing is said of member 1");
}

#[test]
fn a_named_spot_member_is_replaced_from_another_pool_than_its_own() {
    let mut group = group_of(2);
    let asked = Asked { replace: Some(named(&[0])), ..Asked::default() };
    let instances = [spot(0), spot(1)];
    let alone = selected_for(&asked, &group, &instances, &Settings::default());
    assert_eq!(reasons(&alone), [(id(0), Reason::NoOtherPool)]);
    group.overrides = ["m5.large", "c5.large", "m5a.large"].map(any_launch).into();
    let selection = selected_for(&asked, &group, &instances, &Settings::default());
    assert_eq!(types(&selection.candidates[0]), ["c5.large", "m5a.large"]);
    let unnamed = selected(&group, &instances, &Settings::default());
    assert_eq!(reasons(&unnamed), [(id(0), Reason::AlreadySpot), (id(1), Reason::AlreadySpot)]);
    // An On-Demand member that is named keeps its own type first.
    let selection = selected_for(&asked, &group, &[on_demand(0), spot(1)], &Settings::default());
    assert_eq!(types(&selection.candidates[0])[0], "m5.large");
}

#[test]
fn a_floor_keeps_no_spot_member_from_being_replaced() {
    let mut group = group_of(3);
    group.overrides = ["m5.large", "c5.large"].map(any_launch).into();
    let settings = Settings { min_on_demand: 1, ..Settings::default() };
    let instances = [on_demand(0), spot(1), on_demand(2)];
    let asked = Asked { replace: Some(named(&[0, 1, 2])), ..Asked::default() };
    let selection = selected_for(&asked, &group, &instances, &settings);
    assert_eq!(ids(&selection.candidates), [id(0), id(1)]);
    assert_eq!(reasons(&selection), [(id(2), Reason::OnDemandFloor)]);

    let rescue = Asked { replace: Some(named(&[1])), ..Asked::default() };
    let all_kept = Settings { min_on_demand: 2, ..settings };
    let candidate = selected_for(&rescue, &group, &instances, &all_kept).candidates.remove(0);
    let found = by_id(&instances);
    let launches = launches_for(&group, &found, &all_kept, &rescue);
    let again = viewed_for(&candidate.asked(), &group, &found, &launches, |view| {
        select_one(view, &id(1), &all_kept, MemberKind::Plain)
    });
    assert_eq!(again.unwrap().unwrap().instance_id, id(1));
    let change =
        no_longer_wanted(&group, &found, &candidate, &group_before(&group), &all_kept, MemberKind::Plain);
    assert_eq!(change, None);
}

#[test]
fn the_way_back_takes_every_spot_member_its_own_type_first() {
    let mut group = group_of(3);
    let instances = [spot(0), on_demand(1), spot(2)];
    let back = Asked { to: Market::OnDemand, replace: None };
    let settings = Settings {
        min_on_demand: 3,
        instance_types: vec!["r5.large".parse().unwrap()],
        ..Settings::default()
    };
    let selection = selected_for(&back, &group, &instances, &settings);
    assert_eq!(ids(&selection.candidates), [id(0), id(2)]);
    assert_eq!(reasons(&selection), [(id(1), Reason::AlreadyOnDemand)]);
    assert_eq!(types(&selection.candidates[0]), ["m5.large"], "the setting lists types for Spot");
    group.overrides = ["c5.large", "m5.large"].map(any_launch).into();
    let selection = selected_for(&back, &group, &instances, &settings);
    assert_eq!(types(&selection.candidates[0]), ["m5.large", "c5.large"]);
    group.overrides.clear();
    group.tags.insert(INSTANCE_TYPES_TAG.into(), "m5a.large".into());
    let selection = selected_for(&back, &group, &instances, &settings);
    assert_eq!(types(&selection.candidates[0]), ["m5.large", "m5a.large"], "the group's own tag");
}

#[test]
fn what_stands_against_a_swap_stands_against_the_way_back() {
    let back = Asked { to: Market::OnDemand, replace: None };
    let reason = |change: &dyn Fn(&mut Group, &mut Instance)| {
        let (mut group, mut instance) = (group_of(1), spot(0));
        change(&mut group, &mut instance);
        reasons(&selected_for(&back, &group, &[instance], &Settings::default())).first().map(|(_, why)| *why)
    };
    let opt_out = Settings::default().opt_out_tag;
    assert_eq!(reason(&|_, _| {}), None);
    assert_eq!(reason(&|g, _| g.members[0].protected = true), Some(Reason::ScaleInProtected));
    assert_eq!(reason(&|_, i| drop(i.tags.insert(opt_out.clone(), "true".into()))), Some(Reason::OptedOut));
    assert_eq!(reason(&|_, i| i.belongings.other = Some("x".into())), Some(Reason::NotReproducible));
    assert_eq!(reason(&|_, i| i.operator = Some("x".into())), Some(Reason::ManagedElsewhere));
    let node = |_: &mut Group, i: &mut Instance| drop(i.tags.insert("k8s.io/role/node".into(), "1".into()));
    assert_eq!(reason(&node), Some(Reason::KubernetesNode));
}

proptest! {
    /// Whatever is asked for: nobody is a candidate whom it does not concern, no replacement is ordered from the pool
    /// that a Spot member is in, and the floor is kept.
    #[test]
    fn a_request_reaches_no_further_than_its_words(
        spot in prop::collection::vec(any::<bool>(), 1..12),
        replace in prop::option::of(prop::collection::vec(0_u32..15, 1..6)),
        back in any::<bool>(),
        floor in 0_u32..12,
    ) {
        let count = u32::try_from(spot.len()).unwrap();
        let mut group = group_of(count);
        group.overrides = ["m5.large", "c5.large"].map(any_launch).into();
        let instances: Vec<Instance> =
            (0..count).zip(&spot).map(|(n, spot)| Instance { is_spot: *spot, ..on_demand(n) }).collect();
        let to = if back { Market::OnDemand } else { Market::Spot };
        let asked = Asked { to, replace: replace.as_deref().map(named) };
        let settings = Settings { min_on_demand: floor, ..Settings::default() };
        let selection = selected_for(&asked, &group, &instances, &settings);
        let named = asked.replace.as_ref().map(|named| named.ids().to_vec());
        let looked_at = named.as_ref().map_or(spot.len(), Vec::len);
        prop_assert_eq!(selection.candidates.len() + selection.skipped.len(), looked_at);
        for candidate in &selection.candidates {
            prop_assert_eq!(candidate.to, to);
            prop_assert!(named.as_ref().is_none_or(|named| named.contains(&candidate.instance_id)));
            prop_assert!(candidate.from != to || named.is_some() && to == Market::Spot);
            let has_own = candidate.pools.iter().any(|pool| pool.instance_type == candidate.instance_type);
            prop_assert_eq!(has_own, candidate.from != to);
        }
        let on_demand = spot.iter().filter(|spot| !**spot).count();
        let gone = selection.candidates.iter().filter(|candidate| candidate.lowers_on_demand()).count();
        prop_assert!(on_demand - gone >= on_demand.min(floor as usize));
    }
}
