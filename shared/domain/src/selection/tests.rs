use super::*;
use crate::group::MemberState;
use crate::group::tests::{group_of, id};
use proptest::prelude::*;

fn on_demand(n: u32) -> Instance {
    Instance {
        id: id(n),
        state: InstanceState::Running,
        state_reason: None,
        is_spot: false,
        instance_type: "m5.large".parse().unwrap(),
        availability_zone: "us-east-1a".into(),
        az_id: Some("use1-az6".parse().unwrap()),
        is_plain_linux: true,
        subnet_id: Some("subnet-1".into()),
        bound_to: None,
        operator: None,
        tags: Tags::new(),
    }
}

fn selected(group: &Group, instances: &[Instance], settings: &Settings) -> Selection {
    let instances = instances.iter().map(|i| (i.id.clone(), i.clone())).collect();
    select(group, &instances, &Zones::new(), &"us-east-1".parse().unwrap(), settings).unwrap()
}

fn reason_for(change: impl FnOnce(&mut Group, &mut Instance)) -> Option<Reason> {
    let (mut group, mut instance) = (group_of(1), on_demand(0));
    change(&mut group, &mut instance);
    selected(&group, &[instance], &Settings::default()).skipped.first().map(|left| left.reason)
}

#[test]
fn a_serving_on_demand_instance_is_a_candidate_from_its_own_pool() {
    let selection = selected(&group_of(1), &[on_demand(0)], &Settings::default());
    assert_eq!(selection.skipped, []);
    assert_eq!(selection.candidates[0].pools[0].to_string(), "us-east-1#use1-az6#m5.large");
}

#[test]
fn a_node_is_swapped_only_as_a_node() {
    let mut node = on_demand(0);
    node.tags.insert("kubernetes.io/cluster/shop".into(), "owned".into());
    let selection = selected(&group_of(1), std::slice::from_ref(&node), &Settings::default());
    assert_eq!(selection.skipped[0].reason, Reason::KubernetesNode);
    let select = |settings: &Settings| {
        let instances = BTreeMap::from([(node.id.clone(), node.clone())]);
        let region = "us-east-1".parse().unwrap();
        select_node(&group_of(1), &node.id, &instances, &Zones::new(), &region, settings).unwrap()
    };
    assert_eq!(select(&Settings::default()).unwrap().instance_id, node.id);
    let floor = Settings { min_on_demand: 1, ..Settings::default() };
    assert_eq!(select(&floor).unwrap_err().reason, Reason::OnDemandFloor);
}

#[test]
fn what_is_left_alone_has_its_own_reason() {
    assert_eq!(reason_for(|_, _| ()), None);
    assert_eq!(reason_for(|_, i| i.is_spot = true), Some(Reason::AlreadySpot));
    assert_eq!(reason_for(|_, i| i.state = InstanceState::Dead), Some(Reason::NotInService));
    assert_eq!(reason_for(|_, i| i.bound_to = Some("host".into())), Some(Reason::NotSpotCapable));
    assert_eq!(reason_for(|_, i| i.operator = Some("eks".into())), Some(Reason::ManagedElsewhere));
    assert_eq!(reason_for(|_, i| i.id = id(9)), Some(Reason::InstanceGone));
    assert_eq!(reason_for(|_, i| i.az_id = None), Some(Reason::PoolUnreadable));
    assert_eq!(reason_for(|g, _| g.members[0].protected = true), Some(Reason::ScaleInProtected));
    assert_eq!(reason_for(|g, _| g.members[0].healthy = false), Some(Reason::NotInService));
    let standby = MemberState::parse("Standby");
    assert_eq!(reason_for(|g, _| g.members[0].state = standby), Some(Reason::NotInService));
    let tag = Settings::default().opt_out_tag;
    assert_eq!(reason_for(|_, i| drop(i.tags.insert(tag.clone(), String::new()))), Some(Reason::OptedOut));
    assert_eq!(reason_for(|g, _| drop(g.tags.insert(tag.clone(), "true".into()))), Some(Reason::OptedOut));
    assert_eq!(reason_for(|_, i| drop(i.tags.insert(tag, "false".into()))), None);
}

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
    group.override_types = vec!["c5.large".parse().unwrap()];
    assert_eq!(types(&group, &settings), ["m5.large", "c5.large"]);
}

#[test]
fn a_tag_that_cannot_be_read_stops_the_swap() {
    let mut group = group_of(1);
    group.tags.insert(MIN_ON_DEMAND_TAG.into(), "two".into());
    let instances = BTreeMap::from([(id(0), on_demand(0))]);
    let region = "us-east-1".parse().unwrap();
    let error = select(&group, &instances, &Zones::new(), &region, &Settings::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tag \"spot-optimizer:min-on-demand\" of the group: \"two\" is not a whole number"
    );
}

#[test]
fn any_change_of_the_group_between_attach_and_retirement_is_seen() {
    let (old, newcomer) = (id(0), id(2));
    let mut grown = group_of(3);
    grown.suspended.insert(AZ_REBALANCE.into());
    let original = Original {
        desired: 2,
        max: 4,
        az_rebalance_suspended: false,
        serving: 2,
        members: vec![id(0), id(1)],
    };
    assert_eq!(changed_before_retirement(&grown, &old, &newcomer, &original), None);
    let changes: [fn(&mut Group); 8] = [
        |g| g.desired = 2,
        |g| g.desired = 4,
        |g| g.members[0].protected = true,
        |g| g.members[0].healthy = false,
        |g| g.members[1].healthy = false,
        |g| g.members[2].state = MemberState::Pending,
        |g| drop(g.members.remove(0)),
        |g| g.suspended.clear(),
    ];
    for (n, change) in changes.iter().enumerate() {
        let mut group = grown.clone();
        change(&mut group);
        assert!(
            changed_before_retirement(&group, &old, &newcomer, &original).is_some(),
            "change {n} went unseen"
        );
    }
}

proptest! {
    /// Every member ends up in exactly one list, and the floor is kept.
    #[test]
    fn the_floor_is_kept_whatever_the_mix(
        spot in prop::collection::vec(any::<bool>(), 1..30),
        protected in prop::collection::vec(any::<bool>(), 30),
        floor in 0_u32..35,
    ) {
        let count = u32::try_from(spot.len()).unwrap();
        let mut group = group_of(count);
        for (member, protected) in group.members.iter_mut().zip(&protected) {
            member.protected = *protected;
        }
        let instances: Vec<Instance> =
            (0..count).zip(&spot).map(|(n, spot)| Instance { is_spot: *spot, ..on_demand(n) }).collect();
        let settings = Settings { min_on_demand: floor, ..Settings::default() };
        let selection = selected(&group, &instances, &settings);
        prop_assert_eq!(selection.candidates.len() + selection.skipped.len(), spot.len());
        let on_demand = spot.iter().filter(|s| !**s).count();
        let left = on_demand - selection.candidates.len();
        prop_assert!(left >= on_demand.min(floor as usize));
    }
}
