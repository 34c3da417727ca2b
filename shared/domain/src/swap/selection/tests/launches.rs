//! What a group launches: of which types, and from which of its templates.

use super::*;

#[test]
fn overrides_come_before_the_tag_and_the_tag_before_the_setting() {
    let types = |group: &Group, settings: &Settings| {
        let selection = selected(group, &[on_demand(0)], settings);
        selection.candidates[0].pools.iter().map(|p| p.instance_type.to_string()).collect::<Vec<_>>()
    };
    let settings = Settings { instance_types: vec!["m4.large".parse().unwrap()], ..Settings::default() };
    let mut group = group_of(1);
    assert_eq!(types(&group, &settings), ["m5.large", "m4.large"]);
    group.tags.insert(INSTANCE_TYPES_TAG.into(), "m5a.large, m5.large,m5a.large".into());
    assert_eq!(types(&group, &settings), ["m5.large", "m5a.large"]);
    group.overrides = vec![override_of("c5.large", None)];
    assert_eq!(types(&group, &settings), ["c5.large"], "the overrides name every type");
    group.overrides.push(override_of("m5.large", None));
    assert_eq!(types(&group, &settings), ["m5.large", "c5.large"], "the own type comes first");
}

#[test]
fn a_template_that_is_no_spot_template_costs_its_own_type_only() {
    let mut group = group_of(1);
    group.overrides = vec![override_of("m5.large", None), override_of("m6g.large", Some("lt-arm"))];
    let instances = by_id(&[on_demand(0)]);
    let settings = Settings::default();
    let mut launches = plain_launches(&group, &instances, &settings);
    let pools = |launches: &Launches| {
        let selection = viewed(&group, &instances, launches, |view| select(view, &settings)).unwrap();
        selection.candidates.first().map(|c| c.pools.len())
    };
    assert_eq!((launches.len(), pools(&launches)), (2, Some(2)));
    let arm = group.launch_of(&"m6g.large".parse().unwrap()).unwrap();
    launches.insert(arm, Err("it sets InstanceMarketOptions itself".into()));
    assert_eq!(pools(&launches), Some(1));
    let own = group.launch_of(&"m5.large".parse().unwrap()).unwrap();
    launches.insert(own, Err("it is for a dedicated host".into()));
    assert_eq!(pools(&launches), None);
}

#[test]
fn a_policy_by_attributes_takes_no_type_but_its_own_and_its_owners() {
    let mut group = group_of(1);
    group.requirements = Some(Requirements { allowed: vec![], excluded: vec!["m5a.*".into()] });
    let settings = Settings { instance_types: vec!["r5.large".parse().unwrap()], ..Settings::default() };
    let types = |group: &Group| {
        let selection = selected(group, &[on_demand(0)], &settings);
        selection.candidates[0].pools.iter().map(|p| p.instance_type.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(types(&group), ["m5.large"]);
    group.tags.insert(INSTANCE_TYPES_TAG.into(), "m5a.large, c5.large".into());
    assert_eq!(types(&group), ["m5.large", "c5.large"]);
}

#[test]
fn a_policy_by_attributes_with_templates_asks_where_the_member_came_from() {
    let mut group = group_of(1);
    group.requirements = Some(Requirements::default());
    let launch = |id: &str| Launch { source: template(id), image_id: None };
    group.requirement_launches = vec![launch("lt-x86"), launch("lt-arm")];
    let kind = "m5.large".parse().unwrap();
    let of = |template_id: Option<&str>| {
        let member = Member { template_id: template_id.map(str::to_owned), ..group.members[0].clone() };
        member_launch(&group, &member, &kind)
    };
    assert_eq!(of(Some("lt-arm")), Ok(launch("lt-arm")));
    assert_eq!(of(Some("lt-gone")).unwrap_err().0, Reason::NotReproducible);
    assert_eq!(of(None).unwrap_err().0, Reason::NotReproducible);
}

#[test]
fn a_replacement_of_another_type_is_what_the_group_launches_for_that_type() {
    let mut group = group_of(1);
    group.overrides = vec![override_of("m5.large", Some("lt-own")), override_of("c5.large", None)];
    let of = |new_type: &str| {
        let old_type = "m5.large".parse().unwrap();
        replacement_launch(&group, &id(0), &old_type, &new_type.parse().unwrap()).unwrap().source
    };
    assert_eq!(of("m5.large"), template("lt-own"));
    assert_eq!(of("c5.large"), group.launch_source.clone().unwrap());
}
