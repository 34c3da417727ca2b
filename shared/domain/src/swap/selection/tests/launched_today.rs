//! The types of a replacement, where the group has changed since it launched the member.

use super::*;

/// Returns the types of the pools for the member `instance`, whose group launches from a template of this type.
fn types(group: &Group, instance: &Instance, template_type: &str, asked: &Asked) -> Vec<String> {
    let (instances, settings) = (by_id(std::slice::from_ref(instance)), Settings::default());
    let mut launches = launches_for(group, &instances, &settings, asked);
    for given in launches.values_mut().flatten() {
        given.instance_type = Some(template_type.parse().unwrap());
    }
    let selection = viewed_for(asked, group, &instances, &launches, |view| select(view, &settings)).unwrap();
    let pools = selection.candidates.first().map(|candidate| candidate.pools.clone()).unwrap_or_default();
    pools.iter().map(|pool| pool.instance_type.to_string()).collect()
}

#[test]
fn a_template_that_has_moved_to_another_type_is_followed() {
    let (mut group, asked) = (group_of(1), Asked::default());
    let of = |group: &Group, template_type| types(group, &on_demand(0), template_type, &asked);
    assert_eq!(of(&group, "m5.large"), ["m5.large"]);
    assert_eq!(of(&group, "m6g.large"), ["m6g.large"], "the group launches no m5.large any more");
    group.tags.insert(INSTANCE_TYPES_TAG.into(), "m6g.xlarge, m6g.large, m5.large".into());
    assert_eq!(of(&group, "m6g.large"), ["m6g.large", "m6g.xlarge", "m5.large"], "as its owner says");
    assert_eq!(of(&group, "m5.large"), ["m5.large", "m6g.xlarge", "m6g.large"]);
}

#[test]
fn the_price_of_a_launch_in_dedicated_tenancy_is_not_known() {
    let mut group = group_of(1);
    group.overrides = vec![override_of("m5.large", None), override_of("c5.large", Some("lt-dedicated"))];
    let (instances, settings) = (by_id(&[on_demand(0)]), Settings::default());
    let mut launches = plain_launches(&group, &instances, &settings);
    let billed_as = |launches: &Launches| {
        let selection = viewed(&group, &instances, launches, |view| select(view, &settings)).unwrap();
        selection.candidates[0].billed_as.clone()
    };
    assert!(billed_as(&launches).is_some());
    let of_c5 = group.launch_of(&"c5.large".parse().unwrap()).unwrap();
    launches.insert(of_c5, Ok(Given { is_dedicated: true, ..Given::default() }));
    assert_eq!(billed_as(&launches), None);
}

#[test]
fn a_spot_member_of_another_type_may_go_back_to_that_of_the_template() {
    let (group, member) = (group_of(1), Instance { is_spot: true, ..on_demand(0) });
    let asked = Asked { replace: Some(crate::swap::asked::Named::one(&id(0))), ..Asked::default() };
    assert_eq!(types(&group, &member, "m5a.large", &asked), ["m5a.large"]);
    assert_eq!(types(&group, &member, "m5.large", &asked), [""; 0], "its own pool is at fault");
}

#[test]
fn a_member_goes_back_to_on_demand_as_the_template_says() {
    let member = Instance { is_spot: true, ..on_demand(0) };
    let asked = Asked { to: Market::OnDemand, ..Asked::default() };
    assert_eq!(types(&group_of(1), &member, "m5.large", &asked), ["m5.large"]);
    assert_eq!(types(&group_of(1), &member, "m6g.large", &asked), ["m6g.large"]);
}

#[test]
fn a_type_that_the_overrides_name_no_more_is_not_launched() {
    let (mut group, asked) = (group_of(1), Asked::default());
    group.overrides = ["c5.large", "c5a.large"].map(|kind| override_of(kind, None)).into();
    assert_eq!(types(&group, &on_demand(0), "m5.large", &asked), ["c5.large", "c5a.large"]);
}

#[test]
fn a_type_that_the_requirements_exclude_is_not_launched() {
    let mut group = group_of(1);
    group.requirements = Some(Requirements { allowed: vec![], excluded: vec!["m5.*".into()] });
    let settings = Settings::default();
    let selection = selected(&group, &[on_demand(0)], &settings);
    assert_eq!(selection.skipped[0].reason, Reason::NoOtherPool);
    group.tags.insert(INSTANCE_TYPES_TAG.into(), "m5.large, c5.large".into());
    assert_eq!(types(&group, &on_demand(0), "m5.large", &Asked::default()), ["c5.large"]);
}
