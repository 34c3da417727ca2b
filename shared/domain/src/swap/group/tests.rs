//! Groups and members as tests use them, and the rules of a group.

use proptest::prelude::*;

use super::*;

pub(crate) fn id(n: u32) -> InstanceId {
    format!("i-{n:017x}").parse().unwrap()
}

pub(crate) fn member(n: u32) -> Member {
    Member {
        id: id(n),
        state: MemberState::InService,
        healthy: true,
        protected: false,
        template_id: None,
        image_id: None,
    }
}

pub(crate) fn group_of(members: u32) -> Group {
    Group {
        name: "web".parse().unwrap(),
        arn: "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:u:autoScalingGroupName/web"
            .parse()
            .unwrap(),
        min: 0,
        max: members + 2,
        desired: members,
        members: (0..members).map(member).collect(),
        suspended: BTreeSet::new(),
        target_group_arns: vec![],
        launch_source: Some(LaunchSource::Template { id: "lt-1".into(), version: "1".into() }),
        overrides: vec![],
        requirements: None,
        requirement_launches: vec![],
        subnet_ids: vec!["subnet-1".into()],
        availability_zones: vec!["us-east-1a".into()],
        placement_group: None,
        warm_up_seconds: 0,
        capacity_rebalance: false,
        retains_abandoned: false,
        spot_max_price: None,
        on_demand_base: 0,
        on_demand_percentage: None,
        tags: Tags::new(),
        propagated_tags: Tags::new(),
        obstacles: vec![],
        busy_with: None,
    }
}

pub(crate) fn on_demand(n: u32) -> Instance {
    Instance {
        id: id(n),
        state: InstanceState::Running,
        state_reason: None,
        is_spot: false,
        client_token: None,
        launched_at: None,
        instance_type: "m5.large".parse().unwrap(),
        availability_zone: "us-east-1a".into(),
        az_id: Some("use1-az6".parse().unwrap()),
        usage_operation: UsageOperation::linux(),
        is_dedicated: false,
        subnet_id: Some("subnet-1".into()),
        bound_to: None,
        operator: None,
        tags: Tags::new(),
        belongings: Belongings::default(),
    }
}

#[test]
fn a_type_is_launched_from_its_own_override() {
    let mut group = group_of(1);
    let template = |id: &str| LaunchSource::Template { id: id.into(), version: "3".into() };
    let override_of = |name: &str, own: Option<&str>, image: Option<&str>| Override {
        instance_type: name.parse().unwrap(),
        template: own.map(template),
        image_id: image.map(str::to_owned),
    };
    group.launch_source = Some(template("lt-base"));
    group.overrides = vec![
        override_of("m5.large", None, None),
        override_of("m6g.large", Some("lt-arm"), None),
        override_of("c5.large", None, Some("ami-c5")),
    ];
    let launch = |name: &str| group.launch_of(&name.parse().unwrap()).unwrap();
    assert_eq!(launch("m5.large"), Launch { source: template("lt-base"), image_id: None });
    assert_eq!(launch("m6g.large").source, template("lt-arm"));
    assert_eq!(launch("c5.large").image_id.as_deref(), Some("ami-c5"));
    assert_eq!(launch("r5.large").source, template("lt-base"), "a type of the owner's tag");
}

#[test]
fn a_group_with_more_members_than_a_journal_names_is_too_large() {
    assert_eq!(group_of(4_000).too_large(MOST_MEMBERS), None);
    let why = group_of(4_001).too_large(MOST_MEMBERS).unwrap();
    assert!(why.contains("4001 members") && why.contains("4000 at most"), "{why}");
}

#[test]
fn patterns_of_requirements_are_obeyed() {
    let requirements =
        Requirements { allowed: vec!["m5.*".into(), "c*.large".into()], excluded: vec!["m5.2*".into()] };
    let lets = |name: &str| requirements.lets_through(&name.parse().unwrap());
    assert!(lets("m5.large") && lets("c6i.large") && !lets("m5.2xlarge") && !lets("r5.large"));
    assert!(Requirements::default().lets_through(&"t3.micro".parse().unwrap()));
}

/// Says what a pattern means, by trying every run of each asterisk: the time grows with the power of their number.
fn means(pattern: &str, text: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else { return pattern == text };
    text.strip_prefix(begin).is_some_and(|tail| {
        tail.char_indices().map(|(at, _)| at).chain([tail.len()]).any(|at| means(rest, &tail[at..]))
    })
}

proptest! {
    #[test]
    fn a_pattern_matches_as_if_every_run_were_tried(pattern in "[ab*é]{0,8}", text in "[ab*é]{0,10}") {
        prop_assert_eq!(matches(&pattern, &text), means(&pattern, &text));
    }
}

/// AWS takes patterns of up to 30 characters.
#[test]
fn a_pattern_full_of_asterisks_is_soon_decided() {
    let (pattern, many) = (format!("{}*b", "*a".repeat(14)), "a".repeat(10_000));
    assert_eq!(pattern.len(), 30);
    assert!(!matches(&pattern, &many));
    assert!(matches(&pattern, &format!("{many}b")));
}

#[test]
fn a_state_that_aws_invents_tomorrow_is_unsafe() {
    assert_eq!(MemberState::parse("Pending:Wait"), MemberState::Pending);
    assert_eq!(MemberState::parse("Terminating:Retained"), MemberState::Leaving);
    assert_eq!(MemberState::parse("Standby"), MemberState::Standby);
    assert_eq!(MemberState::parse("EnteringStandby"), MemberState::Standby);
    for unknown in ["Warmed:Running", "ReplacingRootVolume", ""] {
        assert_eq!(MemberState::parse(unknown), MemberState::Other, "{unknown}");
    }
}

#[test]
fn the_floor_is_base_plus_share_or_the_tag() {
    let mut group = group_of(10);
    assert_eq!(group.on_demand_floor(group.desired, 0), 0);
    assert_eq!(group.on_demand_floor(group.desired, 3), 3);
    group.on_demand_base = 2;
    group.on_demand_percentage = Some(100);
    assert_eq!(group.on_demand_floor(group.desired, 0), 2);
    group.on_demand_percentage = Some(30);
    assert_eq!(group.on_demand_floor(group.desired, 0), 5); // 2 + ceil(8 × 30 %)
}

#[test]
fn suspended_launch_is_refused_with_the_way_out() {
    let mut group = group_of(1);
    assert_eq!(group.unsupported(), None);
    group.suspended.insert("Launch".into());
    assert!(group.unsupported().unwrap().contains("Launch is suspended; resume it"));
    group.suspended = BTreeSet::from([AZ_REBALANCE.to_owned(), "AlarmNotification".to_owned()]);
    assert_eq!(group.unsupported(), None);
}
