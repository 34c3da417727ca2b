use super::*;
use crate::owners::{MARKS, Owner};
use crate::swap::belongings::{Interface, Volume};
use crate::swap::group::tests::{group_of, id, member, on_demand};
use crate::swap::group::{AZ_REBALANCE, HEALTH_CHECK, LaunchSource, MemberState, Override, Requirements};
use crate::swap::group_tags::{INSTANCE_TYPES_TAG, MIN_ON_DEMAND_TAG, READY_TAG};
use crate::swap::journal::Original;
use crate::swap::market::Market;
use crate::tags::{CLUSTER_TAG, Tags};
use proptest::prelude::*;

mod asked;
mod launched_today;
mod launches;
mod until_it_leaves;

type Instances = BTreeMap<InstanceId, Instance>;

fn by_id(instances: &[Instance]) -> Instances {
    instances.iter().map(|i| (i.id.clone(), i.clone())).collect()
}

/// Every launch of the group, as one that gives nothing special.
fn plain_launches(group: &Group, instances: &Instances, settings: &Settings) -> Launches {
    launches_for(group, instances, settings, &Asked::default())
}

fn launches_for(group: &Group, instances: &Instances, settings: &Settings, asked: &Asked) -> Launches {
    let launches = launches_of(group, instances, settings, asked).unwrap_or_default();
    launches.into_iter().map(|launch| (launch, Ok(Given::default()))).collect()
}

fn viewed<T>(
    group: &Group,
    instances: &Instances,
    launches: &Launches,
    look: impl FnOnce(View<'_>) -> T,
) -> T {
    viewed_for(&Asked::default(), group, instances, launches, look)
}

fn viewed_for<T>(
    asked: &Asked,
    group: &Group,
    instances: &Instances,
    launches: &Launches,
    look: impl FnOnce(View<'_>) -> T,
) -> T {
    let (zones, devices) = (Zones::new(), BTreeMap::new());
    let subnet_zones = BTreeMap::from([("subnet-2".to_owned(), "us-east-1a".to_owned())]);
    let region = "us-east-1".parse().unwrap();
    look(View {
        group,
        instances,
        zones: &zones,
        subnet_zones: &subnet_zones,
        launches,
        image_devices: &devices,
        region: &region,
        asked,
    })
}

fn selected(group: &Group, instances: &[Instance], settings: &Settings) -> Selection {
    let instances = by_id(instances);
    let launches = plain_launches(group, &instances, settings);
    viewed(group, &instances, &launches, |view| select(view, settings)).unwrap()
}

fn selected_for(asked: &Asked, group: &Group, instances: &[Instance], settings: &Settings) -> Selection {
    let instances = by_id(instances);
    let launches = launches_for(group, &instances, settings, asked);
    viewed_for(asked, group, &instances, &launches, |view| select(view, settings)).unwrap()
}

fn reason_for(change: impl FnOnce(&mut Group, &mut Instance)) -> Option<Reason> {
    let (mut group, mut instance) = (group_of(1), on_demand(0));
    change(&mut group, &mut instance);
    selected(&group, &[instance], &Settings::default()).skipped.first().map(|left| left.reason)
}

fn group_before(group: &Group) -> Original {
    Original {
        desired: group.desired,
        max: group.max,
        az_rebalance_suspended: false,
        serving: group.in_service(),
        members: group.members.iter().map(|m| m.id.clone()).collect(),
        not_serving: Vec::new(),
    }
}

#[test]
fn a_serving_on_demand_instance_is_a_candidate_from_its_own_pool() {
    let selection = selected(&group_of(1), &[on_demand(0)], &Settings::default());
    assert_eq!(selection.skipped, []);
    assert_eq!(selection.candidates[0].pools[0].to_string(), "us-east-1#use1-az6#m5.large");
}

#[test]
fn beside_the_newcomer_of_a_node_swap_every_member_is_a_node() {
    let mut newcomer = Instance { is_spot: true, ..on_demand(1) };
    let reasons = |newcomer: &Instance| {
        let selection = selected(&group_of(2), &[on_demand(0), newcomer.clone()], &Settings::default());
        selection.skipped.iter().map(|left| left.reason).collect::<Vec<_>>()
    };
    assert_eq!(reasons(&newcomer), [Reason::AlreadySpot]);
    newcomer.tags.insert(CLUSTER_TAG.into(), "shop".into());
    assert!(reasons(&newcomer).contains(&Reason::KubernetesNode));
}

#[test]
fn a_node_is_swapped_only_as_a_node() {
    let mut node = on_demand(0);
    node.tags.insert("kubernetes.io/cluster/shop".into(), "owned".into());
    let selection = selected(&group_of(1), std::slice::from_ref(&node), &Settings::default());
    assert_eq!(selection.skipped[0].reason, Reason::KubernetesNode);
    let group = group_of(1);
    let select = |settings: &Settings, kind| {
        let instances = by_id(std::slice::from_ref(&node));
        let launches = plain_launches(&group, &instances, settings);
        viewed(&group, &instances, &launches, |view| select_one(view, &node.id, settings, kind)).unwrap()
    };
    assert_eq!(select(&Settings::default(), MemberKind::Node).unwrap().instance_id, node.id);
    assert_eq!(select(&Settings::default(), MemberKind::Plain).unwrap_err().reason, Reason::KubernetesNode);
    let floor = Settings { min_on_demand: 1, ..Settings::default() };
    assert_eq!(select(&floor, MemberKind::Node).unwrap_err().reason, Reason::OnDemandFloor);
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
fn a_member_with_a_misspelt_tag_is_left_alone_by_name_and_no_other() {
    let mut odd = on_demand(0);
    odd.tags.insert("spot-optimizer:opt_out".into(), "true".into());
    let selection = selected(&group_of(2), &[odd, on_demand(1)], &Settings::default());
    let [left] = selection.skipped.as_slice() else { panic!("{selection:?}") };
    assert_eq!((&left.instance_id, left.reason), (&id(0), Reason::OptedOut));
    assert!(left.detail.contains("spot-optimizer:opt_out") && left.detail.contains("spot-optimizer:opt-out"));
    assert_eq!(selection.candidates[0].instance_id, id(1));
}

#[test]
fn a_member_or_node_whose_owner_slipped_in_a_key_is_listed_with_that_key() {
    for key in ["spot-optimiser:enabled", "spot-optimizer:enable", "spot-optimizer:min_on_demand"] {
        let mut odd = on_demand(0);
        odd.tags.insert(key.into(), "false".into());
        let selection = selected(&group_of(2), &[odd.clone(), on_demand(1)], &Settings::default());
        let [left] = selection.skipped.as_slice() else { panic!("{selection:?}") };
        assert_eq!((&left.instance_id, left.reason), (&id(0), Reason::OptedOut), "{key}");
        assert!(left.detail.contains(key) && left.detail.contains("rename it to"), "{}", left.detail);
        let (group, instances, settings) = (group_of(1), by_id(&[odd]), Settings::default());
        let launches = plain_launches(&group, &instances, &settings);
        let node = viewed(&group, &instances, &launches, |view| {
            select_one(view, &id(0), &settings, MemberKind::Node)
        });
        assert_eq!(node.unwrap().unwrap_err().reason, Reason::OptedOut, "{key}, a node");
    }
}

#[test]
fn the_ready_tag_of_the_group_may_have_any_key() {
    let mut group = group_of(1);
    group.tags.insert(READY_TAG.into(), "spot-optimizer:ready_tag=yes".into());
    let mut ready = on_demand(0);
    ready.tags.insert("spot-optimizer:ready_tag".into(), "yes".into());
    assert_eq!(selected(&group, &[ready], &Settings::default()).skipped, []);
}

#[test]
fn a_tag_that_cannot_be_read_stops_the_swap() {
    let mut group = group_of(1);
    group.tags.insert(MIN_ON_DEMAND_TAG.into(), "two".into());
    let instances = by_id(&[on_demand(0)]);
    let error =
        viewed(&group, &instances, &Launches::new(), |view| select(view, &Settings::default())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tag \"spot-optimizer:min-on-demand\" of the group: \"two\" is not a whole number"
    );
    group.tags = Tags::from([("spot-optimizer:min_on_demand".into(), "2".into())]);
    let error =
        viewed(&group, &instances, &Launches::new(), |view| select(view, &Settings::default())).unwrap_err();
    assert_eq!(error.tag, "spot-optimizer:min_on_demand");
}

fn template(id: &str) -> LaunchSource {
    LaunchSource::Template { id: id.into(), version: "1".into() }
}

fn override_of(name: &str, own: Option<&str>) -> Override {
    Override { instance_type: name.parse().unwrap(), template: own.map(template), image_id: None }
}

#[test]
fn every_owners_mark_keeps_a_member_where_it_is() {
    for mark in MARKS {
        let (key, value) = mark.tag.split_once('=').unwrap_or((mark.tag, ""));
        let key = key.replace('*', "x");
        let expected = match mark.owner {
            Owner::Kubernetes => Some(Reason::KubernetesNode),
            Owner::GroupService(_) | Owner::Service(_) => Some(Reason::ManagedElsewhere),
            Owner::Fleet => None, // Auto Scaling itself launches through it
        };
        let on_instance = reason_for(|_, i| drop(i.tags.insert(key.clone(), value.into())));
        let on_group = reason_for(|g, _| drop(g.tags.insert(key.clone(), value.into())));
        assert_eq!((on_instance, on_group), (expected, expected), "{key}={value}");
    }
}

#[test]
fn what_another_tool_has_launched_stays_alone_in_a_group_that_has_left_the_tool() {
    let mut launched = on_demand(0);
    launched.tags.insert("launched-by-autospotting".into(), "true".into());
    let mut propagated = on_demand(1);
    propagated.tags.insert("spot-enabled".into(), "true".into());
    let selection = selected(&group_of(2), &[launched, propagated], &Settings::default());
    let skipped: Vec<_> = selection.skipped.iter().map(|left| (&left.instance_id, left.reason)).collect();
    assert_eq!(skipped, [(&id(0), Reason::ManagedElsewhere)]);
    assert_eq!(selection.candidates[0].instance_id, id(1));
    let enrolled =
        |g: &mut Group, _: &mut Instance| drop(g.tags.insert("spot-enabled".into(), "true".into()));
    assert_eq!(reason_for(enrolled), Some(Reason::ManagedElsewhere));
}

#[test]
fn what_a_replacement_would_not_have_keeps_a_member_where_it_is() {
    type Change = fn(&mut Instance);
    let changes: [Change; 3] = [
        |i| i.belongings.forwards_traffic = true,
        |i| {
            i.belongings.volumes.push(Volume {
                id: "vol-1".into(),
                device: "/dev/sdf".into(),
                is_deleted_on_termination: false,
                is_from_launch: false,
            });
        },
        |i| {
            i.belongings.interfaces.push(Interface {
                id: "eni-1".into(),
                device_index: 0,
                private_addresses: 1,
                ipv6_addresses: 0,
                has_prefixes: false,
                kept_address: Some("203.0.113.7".into()),
            });
        },
    ];
    for (n, change) in changes.iter().enumerate() {
        assert_eq!(reason_for(|_, i| change(i)), Some(Reason::NotReproducible), "change {n}");
    }
}

#[test]
fn a_replacement_goes_where_the_group_launches_today() {
    let in_subnets = |subnets: &[&str]| {
        let mut group = group_of(1);
        group.subnet_ids = subnets.iter().map(|s| (*s).to_owned()).collect();
        selected(&group, &[on_demand(0)], &Settings::default())
    };
    assert_eq!(in_subnets(&["subnet-2", "subnet-1"]).candidates[0].subnet_id, "subnet-1", "its own stays");
    assert_eq!(in_subnets(&["subnet-2"]).candidates[0].subnet_id, "subnet-2", "another of the same zone");
    assert_eq!(in_subnets(&[]).candidates[0].subnet_id, "subnet-1", "a group that names zones only");
    let mut elsewhere = group_of(1);
    (elsewhere.subnet_ids, elsewhere.availability_zones) = (vec![], vec!["us-east-1b".into()]);
    let skipped = selected(&elsewhere, &[on_demand(0)], &Settings::default()).skipped;
    assert_eq!(skipped[0].reason, Reason::NotReproducible, "the zone was given up");
    assert_eq!(in_subnets(&["subnet-9"]).skipped[0].reason, Reason::NotReproducible, "the zone was given up");
}

fn volume(id: &str, device: &str) -> Volume {
    Volume { id: id.into(), device: device.into(), is_deleted_on_termination: false, is_from_launch: false }
}

#[test]
fn a_node_is_swapped_with_all_that_its_pods_have_brought() {
    let (group, mut node) = (group_of(1), on_demand(0));
    let interface = |device_index| Interface {
        id: format!("eni-{device_index}"),
        device_index,
        private_addresses: 15,
        ipv6_addresses: 0,
        has_prefixes: true,
        kept_address: None,
    };
    node.belongings.interfaces = vec![interface(0), interface(1)];
    node.belongings.forwards_traffic = true;
    node.belongings.volumes.push(volume("vol-csi", "/dev/xvdaa"));
    let settings = Settings::default();
    let judged = |node: &Instance, kind| {
        let instances = by_id(std::slice::from_ref(node));
        let launches = plain_launches(&group, &instances, &settings);
        viewed(&group, &instances, &launches, |view| select_one(view, &node.id, &settings, kind)).unwrap()
    };
    assert!(judged(&node, MemberKind::Node).is_ok());
    assert_eq!(judged(&node, MemberKind::Plain).unwrap_err().reason, Reason::NotReproducible);
    node.belongings.interfaces[0].kept_address = Some("203.0.113.7".into());
    assert_eq!(judged(&node, MemberKind::Node).unwrap_err().reason, Reason::NotReproducible);
}

#[test]
fn a_ready_tag_of_the_template_says_nothing() {
    let (mut group, instance) = (group_of(1), on_demand(0));
    group.tags.insert(READY_TAG.into(), "ready".into());
    let instances = by_id(std::slice::from_ref(&instance));
    let settings = Settings::default();
    let mut launches = plain_launches(&group, &instances, &settings);
    for given in launches.values_mut() {
        given.as_mut().unwrap().tag_keys.insert("ready".into());
    }
    let selection = viewed(&group, &instances, &launches, |view| select(view, &settings)).unwrap();
    assert_eq!(selection.skipped[0].reason, Reason::NotReproducible);
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
