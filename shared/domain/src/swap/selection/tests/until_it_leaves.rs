//! What its owner may change between the plan and the moment in which the old instance leaves.

use super::*;

fn opt_out(tags: &mut Tags) {
    tags.insert("spot-optimizer:opt-out".into(), "true".into());
}

fn misspell(tags: &mut Tags) {
    tags.insert("spot-optimizer:opt_out".into(), "true".into());
}

#[test]
fn the_owner_is_heard_until_the_old_one_leaves() {
    let settings = Settings::default();
    let said = |change: fn(&mut Group, &mut Instance)| {
        let (mut group, mut instance) = (group_of(1), on_demand(0));
        let candidate = selected(&group, std::slice::from_ref(&instance), &settings).candidates.remove(0);
        let before = group_before(&group);
        change(&mut group, &mut instance);
        let change =
            no_longer_wanted(&group, &by_id(&[instance]), &candidate, &before, &settings, MemberKind::Plain);
        change.map(|change| (change.reason, change.whole_group))
    };
    assert_eq!(said(|_, _| ()), None);
    assert_eq!(said(|g, _| opt_out(&mut g.tags)), Some((Reason::OptedOut, true)));
    assert_eq!(said(|_, i| opt_out(&mut i.tags)), Some((Reason::OptedOut, false)));
    assert_eq!(said(|_, i| i.id = id(7)), Some((Reason::InstanceGone, false)));
    let floor = |g: &mut Group, _: &mut Instance| drop(g.tags.insert(MIN_ON_DEMAND_TAG.into(), "1".into()));
    assert_eq!(said(floor), Some((Reason::OnDemandFloor, false)));
    let malformed =
        |g: &mut Group, _: &mut Instance| drop(g.tags.insert(MIN_ON_DEMAND_TAG.into(), "x".into()));
    assert_eq!(said(malformed), Some((Reason::GroupChanged, true)));
    assert_eq!(said(|g, _| misspell(&mut g.tags)), Some((Reason::GroupChanged, true)));
    assert_eq!(said(|_, i| misspell(&mut i.tags)), Some((Reason::OptedOut, false)));
}

#[test]
fn a_share_is_of_what_the_owner_has_asked_for_also_while_it_is_one_more() {
    for (n, percent) in [(4, 50), (5, 20), (10, 25), (10, 30)] {
        let mut group = group_of(n);
        group.on_demand_percentage = Some(percent);
        let floor = group.on_demand_floor(n, 0);
        let mut instances: Vec<Instance> = (0..n).map(on_demand).collect();
        // One On-Demand instance above the floor, so that one may go.
        instances.iter_mut().skip(floor as usize + 1).for_each(|i| i.is_spot = true);
        let settings = Settings::default();
        let candidate = selected(&group, &instances, &settings).candidates.remove(0);
        let before = group_before(&group);
        group.desired += 1;
        group.members.push(member(99));
        instances.push(Instance { is_spot: true, ..on_demand(99) });
        let change =
            no_longer_wanted(&group, &by_id(&instances), &candidate, &before, &settings, MemberKind::Plain);
        assert_eq!(change, None, "{n} at {percent} %");
    }
}

#[test]
fn what_the_old_one_has_got_meanwhile_is_not_left_behind() {
    let (group, mut instance) = (group_of(1), on_demand(0));
    instance.belongings.root_device = Some("/dev/sda1".into());
    instance.belongings.volumes.push(volume("vol-root", "/dev/sda1"));
    let settings = Settings::default();
    let candidate = selected(&group, std::slice::from_ref(&instance), &settings).candidates.remove(0);
    let seen = |instance: &Instance| {
        let instances = by_id(std::slice::from_ref(instance));
        no_longer_wanted(&group, &instances, &candidate, &group_before(&group), &settings, MemberKind::Plain)
            .map(|c| c.reason)
    };
    assert_eq!(seen(&instance), None);
    instance.belongings.volumes.push(volume("vol-data", "/dev/sdf"));
    assert_eq!(seen(&instance), Some(Reason::NotReproducible));
}

/// A change, and what is seen of it: of a plain member, of one in a payload of an earlier release, and of a node.
type Seen = (fn(&mut Instance), [Option<Reason>; 3]);

/// An address may fail over to the old instance while its replacement warms up.
#[test]
fn whatever_refuses_a_launch_keeps_the_old_one_to_the_last() {
    let settings = Settings::default();
    let mut planned = on_demand(0);
    planned.belongings.interfaces.push(interface());
    planned.belongings.addresses.insert("10.0.0.4".into());
    let group = group_of(1);
    let candidate = selected(&group, std::slice::from_ref(&planned), &settings).candidates.remove(0);
    let said = |change: fn(&mut Instance), candidate: &Candidate, kind| {
        let mut instance = planned.clone();
        change(&mut instance);
        let before = group_before(&group);
        no_longer_wanted(&group, &by_id(&[instance]), candidate, &before, &settings, kind).map(|c| c.reason)
    };
    let (kept, elsewhere) = (Some(Reason::NotReproducible), Some(Reason::ManagedElsewhere));
    let node = Some(Reason::KubernetesNode);
    let bound = Some(Reason::NotSpotCapable);
    let earlier = Candidate { addresses: BTreeSet::new(), ..candidate.clone() };
    let cases: [Seen; 10] = [
        (|_| (), [None, None, None]),
        (|i| i.belongings.forwards_traffic = true, [kept, kept, None]),
        (|i| i.belongings.interfaces[0].private_addresses = 2, [kept, kept, None]),
        (|i| i.belongings.interfaces[0].has_prefixes = true, [kept, kept, None]),
        (|i| assert!(i.belongings.addresses.insert("2001:db8::4".into())), [kept, None, None]),
        (|i| i.belongings.by_address_in = Some("web".into()), [kept, kept, None]),
        (|i| i.bound_to = Some("it runs in capacity reservation cr-1".into()), [bound, bound, bound]),
        (|i| i.operator = Some("workspaces".into()), [elsewhere, elsewhere, elsewhere]),
        (|i| drop(i.tags.insert("spotinst:x".into(), "y".into())), [elsewhere, elsewhere, elsewhere]),
        (|i| drop(i.tags.insert("k8s.io/role/node".into(), "1".into())), [node, node, None]),
    ];
    for (n, (change, expected)) in cases.into_iter().enumerate() {
        let seen = [
            said(change, &candidate, MemberKind::Plain),
            said(change, &earlier, MemberKind::Plain),
            said(change, &candidate, MemberKind::Node),
        ];
        assert_eq!(seen, expected, "change {n}");
    }
    let died: fn(&mut Instance) = |i| i.state = InstanceState::Dead;
    assert_eq!(said(died, &candidate, MemberKind::Plain), None, "it leaves anyway");
}

/// An ordinary interface with one address.
fn interface() -> Interface {
    Interface {
        id: "eni-0".into(),
        device_index: 0,
        private_addresses: 1,
        ipv6_addresses: 0,
        has_prefixes: false,
        kept_address: None,
    }
}

#[test]
fn what_a_node_has_is_no_part_of_its_candidate() {
    let mut instance = on_demand(0);
    instance.belongings.interfaces.push(interface());
    instance.belongings.addresses.insert("10.0.0.4".into());
    let (group, instances) = (group_of(1), by_id(&[instance]));
    let settings = Settings::default();
    let launches = plain_launches(&group, &instances, &settings);
    for (kind, is_kept) in [(MemberKind::Plain, true), (MemberKind::Node, false)] {
        let found = viewed(&group, &instances, &launches, |view| select_one(view, &id(0), &settings, kind));
        let Ok(Ok(candidate)) = found else { panic!("{found:?}") };
        assert_eq!((!candidate.holds.is_empty(), !candidate.addresses.is_empty()), (is_kept, is_kept));
    }
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
        not_serving: Vec::new(),
    };
    assert_eq!(changed_before_retirement(&grown, &old, &newcomer, &original, &Settings::default()), None);
    let changes: [fn(&mut Group); 9] = [
        |g| drop(g.tags.insert("spot-optimizer:opt-out".into(), "true".into())),
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
            changed_before_retirement(&group, &old, &newcomer, &original, &Settings::default()).is_some(),
            "change {n} went unseen"
        );
    }
}

#[test]
fn a_member_that_died_before_its_group_has_noticed_does_not_count() {
    let group = group_of(3);
    let original = Original { serving: 2, ..group_before(&group) };
    let died = |group: &Group, original: &Original, which: usize, state| {
        let mut instances: Vec<Instance> = (0..3).map(on_demand).collect();
        instances[which].state = state;
        let dead = group.died_unseen(&by_id(&instances)).into_iter().map(|id| (id, "it has died".to_owned()));
        let change = too_few_last(group, &dead.collect(), &id(0), original);
        change.map(|change| (change.reason, change.whole_group))
    };
    for state in [InstanceState::Stopped, InstanceState::Dead] {
        assert_eq!(died(&group, &original, 1, state), Some((Reason::GroupChanged, false)), "{state:?}");
        assert_eq!(died(&group, &original, 0, state), None, "the old one leaves anyway");
    }
    for state in [InstanceState::Running, InstanceState::Pending] {
        assert_eq!(died(&group, &original, 1, state), None, "{state:?}: an older look is no death");
    }
    assert!(group.died_unseen(&by_id(&[])).is_empty(), "EC2 does not show the members yet");
    // One that did not serve when the swap began is not missed.
    let fewer = Original { serving: 1, ..original.clone() };
    assert_eq!(died(&group, &fewer, 1, InstanceState::Dead), None);
    // A group that its owner lets keep the dead never notices.
    let mut unwatched = group.clone();
    unwatched.suspended.insert(HEALTH_CHECK.into());
    assert_eq!(died(&unwatched, &original, 1, InstanceState::Dead), None);
}
