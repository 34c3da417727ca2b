use super::*;
use crate::swap::group::tests::on_demand;
use crate::tags::{GROUP_NAME_TAG, Tags};

pub(crate) fn original(tags: &[(&str, &str)]) -> Original {
    let tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Tags>();
    let instance = Instance { az_id: None, tags, ..on_demand(1) };
    Original {
        instance,
        termination_protected: false,
        stop_protected: false,
        root_is_instance_store: false,
        has_instance_store: false,
        irreproducible: None,
        unhealthy_in: None,
        traits: Traits::from([("security groups".to_owned(), "sg-1".to_owned())]),
        volumes: vec![],
        has_user_data: false,
        left_behind: vec![],
    }
}

fn began(original: &Original) -> LabSwap {
    LabSwap {
        instance_type: Some("m5.large".parse().unwrap()),
        old_instance: OldInstance::Stop,
        address: None,
        registrations: vec![],
        capture: false,
        leaving: false,
        let_out: BTreeSet::new(),
        stopping: false,
        traits: original.traits.clone(),
        losses: vec![],
        captured_at: None,
        is_over: false,
        captured: Captured::default(),
        volumes: BTreeSet::new(),
        kept: BTreeMap::new(),
    }
}

fn request(capture_image: bool) -> LabSwapRequest {
    let instance_id = "i-0123456789abcdef0".parse().unwrap();
    LabSwapRequest {
        instance_id,
        account_id: None,
        region: None,
        capture_image,
        dry_run: false,
        bring_back: false,
    }
}

fn reason(original: &Original, capture: bool) -> Option<Reason> {
    refused(original, &request(capture), &Settings::default()).map(|left| left.reason)
}

#[test]
fn an_ordinary_lab_instance_is_not_refused() {
    assert_eq!(reason(&original(&[("Name", "bench"), ("team", "lab")]), false), None);
    assert_eq!(refused_account(&request(false), EnvironmentType::Lab), None);
}

#[test]
fn a_prod_account_is_refused_by_name() {
    let left = refused_account(&request(false), EnvironmentType::Prod).unwrap();
    assert_eq!(left.reason, Reason::ProdAccount);
}

#[test]
fn whose_it_is_decides_even_where_the_tag_is_empty() {
    let cases = [
        (GROUP_NAME_TAG, Reason::GroupMember),
        ("kubernetes.io/cluster/prod", Reason::KubernetesNode),
        ("aws:eks:cluster-name", Reason::KubernetesNode),
        ("eks:cluster-name", Reason::KubernetesNode),
        ("karpenter.sh/nodepool", Reason::KubernetesNode),
        ("k8s.io/role/node", Reason::KubernetesNode),
        ("aws:ec2:fleet-id", Reason::ManagedElsewhere),
        ("AWSApplicationMigrationServiceManaged", Reason::ManagedElsewhere),
        ("AWSElasticDisasterRecoveryManaged", Reason::ManagedElsewhere),
        ("launched-by-autospotting", Reason::ManagedElsewhere),
        ("spot-optimizer:opt-out", Reason::OptedOut),
        ("spot-optimizer:opt_out", Reason::OptedOut),
        ("spot-optimizer:capture_image", Reason::OptedOut),
    ];
    for (tag, expected) in cases {
        assert_eq!(reason(&original(&[(tag, "")]), true), Some(expected), "{tag}");
    }
    assert_eq!(reason(&original(&[("spot-optimizer:opt-out", "false")]), false), None);
}

#[test]
fn what_could_not_be_put_back_or_taken_along_is_refused() {
    type Change = fn(&mut Original);
    let cases: [(Change, Reason); 10] = [
        (|o| o.instance.state = InstanceState::Dead, Reason::InstanceGone),
        (|o| o.instance.state = InstanceState::Stopped, Reason::NotInService),
        (|o| o.instance.is_spot = true, Reason::AlreadySpot),
        (|o| o.instance.operator = Some("a service".into()), Reason::ManagedElsewhere),
        (|o| o.instance.bound_to = Some("a host".into()), Reason::NotSpotCapable),
        (|o| o.termination_protected = true, Reason::TerminationProtected),
        (|o| o.stop_protected = true, Reason::StopProtected),
        (|o| o.root_is_instance_store = true, Reason::InstanceStore),
        (|o| o.irreproducible = Some("two interfaces".into()), Reason::NotReproducible),
        (|o| o.unhealthy_in = Some("web".into()), Reason::NotInService),
    ];
    for (change, expected) in cases {
        let mut changed = original(&[]);
        change(&mut changed);
        assert_eq!(reason(&changed, true), Some(expected));
    }
}

#[test]
fn what_its_owner_does_during_the_swap_undoes_it() {
    let began_as = began(&original(&[]));
    let said = |original: &Original| changed(original, &began_as, &Settings::default());
    assert_eq!(said(&original(&[("team", "lab")])), None);
    for (tag, code) in [
        (GROUP_NAME_TAG, "GROUP_MEMBER"),
        ("kubernetes.io/cluster/prod", "KUBERNETES_NODE"),
        ("spot-optimizer:opt-out", "OPTED_OUT"),
        ("spot-optimizer:opt_out", "OPTED_OUT"),
    ] {
        assert!(said(&original(&[(tag, "x")])).unwrap().starts_with(code), "{tag}");
    }
    let mut other = original(&[]);
    other.instance.instance_type = "m5.xlarge".parse().unwrap();
    assert!(said(&other).unwrap().contains("m5.xlarge"));
    other.instance.state = InstanceState::Stopped;
    assert_eq!(said(&other), None, "that is for the recovery to judge");
    let mut kept = original(&[]);
    kept.stop_protected = true;
    assert!(said(&kept).unwrap().starts_with("STOP_PROTECTED"));
}

#[test]
fn whatever_would_be_refused_at_the_start_undoes_it() {
    type Change = fn(&mut Original);
    let began_as = began(&original(&[]));
    let cases: [(Change, &str); 7] = [
        (|o| o.irreproducible = Some("2 network interfaces".into()), "NOT_REPRODUCIBLE: 2 network"),
        (|o| o.instance.bound_to = Some("a host".into()), "NOT_SPOT_CAPABLE"),
        (|o| o.instance.operator = Some("a service".into()), "MANAGED_ELSEWHERE"),
        (|o| o.termination_protected = true, "TERMINATION_PROTECTED"),
        (|o| o.has_instance_store = true, "INSTANCE_STORE"),
        (|o| o.instance.tags = tags(50), "NOT_REPRODUCIBLE: its twin would carry 52 tags"),
        (
            |o| drop(o.traits.insert("security groups".into(), "sg-9".into())),
            "security groups were sg-1, and are sg-9",
        ),
    ];
    for (change, expected) in cases {
        let mut changed_since = original(&[("team", "lab")]);
        change(&mut changed_since);
        let said = changed(&changed_since, &began_as, &Settings::default()).unwrap();
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn what_is_no_owners_act_undoes_nothing() {
    let mut began_as = began(&original(&[]));
    let mut ailing = original(&[("written", "meanwhile")]);
    ailing.unhealthy_in = Some("web".into());
    assert_eq!(changed(&ailing, &began_as, &Settings::default()), None, "the newcomer serves better");
    began_as.traits.clear();
    assert_eq!(changed(&ailing, &began_as, &Settings::default()), None, "an older journal tells none");
}

fn tags(count: usize) -> Tags {
    (0..count).map(|n| (format!("key-{n}"), String::new())).collect()
}

#[test]
fn tags_that_would_not_fit_are_refused_and_reserved_ones_do_not_count() {
    let mut full = original(&[]);
    full.instance.tags = tags(MAX_TAGS - 2);
    full.instance.tags.insert("aws:cloudformation:stack-name".into(), "lab".into());
    assert_eq!(reason(&full, false), None);
    full.instance.tags.insert("one".into(), "more".into());
    assert_eq!(reason(&full, false), Some(Reason::NotReproducible));
}

#[test]
fn an_instance_store_needs_consent_and_the_refusal_promises_nothing() {
    let mut scratch = original(&[]);
    scratch.has_instance_store = true;
    let left = refused(&scratch, &request(false), &Settings::default()).unwrap();
    assert_eq!(left.reason, Reason::InstanceStore);
    assert!(left.detail.contains("an image holds EBS volumes only"), "{}", left.detail);
    assert_eq!(reason(&scratch, true), None);
}

#[test]
fn the_sample_input_is_one_and_nonsense_is_refused_by_name() {
    let sample = include_str!("../../../../../events/lab-swap-input.json");
    let request: LabSwapRequest = serde_json::from_str(sample).unwrap();
    assert!(!request.capture_image && request.dry_run);
    let cases = [
        ("{}", "missing field `instance_id`"),
        (r#"{"instance_id":"web"}"#, "instance id"),
        (r#"{"instance_id":"i-0123456789abcdef0","dryrun":true}"#, "unknown field `dryrun`"),
        (r#"{"instance_id":"i-0123456789abcdef0","capture_image":1}"#, "expected a boolean"),
    ];
    for (input, expected) in cases {
        let error = serde_json::from_str::<LabSwapRequest>(input).unwrap_err().to_string();
        assert!(error.contains(expected), "{input}: {error}");
    }
}

#[test]
fn a_snapshot_is_the_swaps_by_its_image_and_its_age_and_not_by_its_tag() {
    let swap: SwapId = "i-00000001-1700000000000".parse().unwrap();
    let old: InstanceId = "i-00000001".parse().unwrap();
    let snapshot = |id: &str, description: &str, second: i64| TaggedSnapshot {
        id: id.to_owned(),
        description: description.to_owned(),
        started: Timestamp::from_second(second).ok(),
    };
    let mut captured = Captured::default();
    captured.note(&[CapturedImage { id: "ami-1".to_owned(), snapshots: ["snap-1".to_owned()].into() }]);
    let now = 1_700_000_060;
    let is_ours = |snapshot: &TaggedSnapshot| captured.holds(snapshot, &swap, &old);
    assert!(is_ours(&snapshot("snap-1", "", now)), "the image's mappings named it");
    for ours in [
        "Created by CreateImage(i-00000001) for ami-1",
        "Created by CreateImage(i-00000001) for ami-1 from vol-1",
    ] {
        assert!(is_ours(&snapshot("snap-2", ours, now)), "{ours}");
    }
    for anothers in [
        "",
        "backup",
        "Created by CreateImage(i-00000001) for ami-12",
        "Created by CreateImage(i-00000002) for ami-1",
        "Copied for DestinationAmi ami-1 from SourceAmi ami-2",
    ] {
        assert!(!is_ours(&snapshot("snap-2", anothers, now)), "{anothers}");
    }
    assert!(!is_ours(&snapshot("snap-1", "", 1_699_999_999)), "it is older than the swap");
    assert!(!is_ours(&TaggedSnapshot { started: None, ..snapshot("snap-1", "", now) }));
}
