use super::*;
use crate::owners::MARKS;

const SWAP: &str = "i-0123456789abcdef0-1700000000000";

fn tagged(tags: &[(&str, &str)]) -> Subject {
    Subject {
        id: "i-00000000000000001".parse().unwrap(),
        tags: tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        is_spot: false,
        operator: None,
        client_token: None,
    }
}

const NO_MARKS: Trust<'_> = Trust { owner_marks: &[], group_marks: &[] };

fn marks(list: &[&str]) -> Vec<OwnerMark> {
    list.iter().map(|mark| OwnerMark::parse(mark).unwrap()).collect()
}

fn judged(subject: &Subject) -> Authorization {
    let owner_marks = OwnerMark::defaults();
    let trust = Trust { owner_marks: &owner_marks, group_marks: &[] };
    standing(subject, trust, &SwapsInProgress::default())
}

fn newcomer(token: Option<&str>) -> Subject {
    Subject {
        is_spot: true,
        client_token: token.map(str::to_owned),
        ..tagged(&[("ManagedBy", "SpotOptimizer"), (SWAP_TAG, SWAP)])
    }
}

#[test]
fn every_default_mark_can_be_read_and_authorises() {
    assert_eq!(OwnerMark::defaults().len(), MARKS.len());
    for mark in MARKS.iter().map(|mark| mark.tag).chain([GROUP_NAME_TAG, NODE_GROUP_TAG]) {
        let (key, value) = mark.split_once('=').unwrap_or((mark, "x"));
        let key = key.replace('*', "y");
        assert!(matches!(judged(&tagged(&[(&key, value)])), Authorization::Authorised(_)), "{mark}");
        assert_eq!(judged(&tagged(&[(&key, "")])), Authorization::Unauthorised, "{mark} without a value");
    }
}

#[test]
fn case_and_emptiness_authorise_nothing() {
    for tag in [
        ("AWS:autoscaling:groupName", "web"),
        ("aws:autoscaling:groupname", "web"),
        ("aws:autoscaling:groupName", ""),
        ("eks:cluster-name", ""),
        ("EKS:Cluster-Name", "prod"),
        ("aws:eks:cluster-name", ""),
        ("managedby", "SpotOptimizer"),
        ("ManagedBy", "spotoptimizer"),
        ("ManagedBy", "terraform"),
        ("CreatedBy", "ec2 image builder"),
        ("AWSBatchServiceTag", "other"),
        ("Name", "web"),
    ] {
        assert_eq!(judged(&tagged(&[tag])), Authorization::Unauthorised, "{tag:?}");
    }
    assert_eq!(judged(&tagged(&[])), Authorization::Unauthorised);
}

#[test]
fn what_an_aws_service_operates_is_its_own() {
    let subject = Subject { operator: Some("eks.amazonaws.com".into()), ..tagged(&[]) };
    assert_eq!(judged(&subject), Authorization::Authorised("operated by eks.amazonaws.com".into()));
}

#[test]
fn a_group_and_a_node_group_authorise_without_any_mark() {
    for key in [GROUP_NAME_TAG, NODE_GROUP_TAG] {
        let standing = standing(&tagged(&[(key, "x")]), NO_MARKS, &SwapsInProgress::default());
        assert!(matches!(standing, Authorization::Authorised(_)), "{key}");
    }
}

#[test]
fn a_newcomer_is_proven_by_the_token_of_its_launch() {
    assert!(matches!(judged(&newcomer(Some(&format!("{SWAP}-0")))), Authorization::Authorised(_)));
    for token in [None, Some(""), Some(SWAP), Some("i-0123456789abcdef0-1700000000001-0"), Some("ABCDE")] {
        assert!(matches!(judged(&newcomer(token)), Authorization::Suspicious(_)), "{token:?}");
    }
}

/// Any caller that can write the table can write the row. The newcomer of a real swap bears the token of its
/// launch.
#[test]
fn a_row_of_swaps_proves_no_newcomer() {
    let mut swaps = SwapsInProgress::default();
    swaps.claim("forged".into(), SWAP.parse().unwrap(), "i-0123456789abcdef0".parse().unwrap());
    let judged = |token: Option<&str>| standing(&newcomer(token), NO_MARKS, &swaps);
    assert!(matches!(judged(None), Authorization::Suspicious(_)));
    assert!(matches!(judged(Some("mine")), Authorization::Suspicious(_)));
    assert!(matches!(judged(Some(&format!("{SWAP}-0"))), Authorization::Authorised(_)));
}

#[test]
fn our_mark_on_what_no_swap_launched_is_suspicious() {
    let token = format!("{SWAP}-0");
    let on_demand = Subject { is_spot: false, ..newcomer(Some(&token)) };
    let mut untagged = newcomer(Some(&token));
    untagged.tags.remove(SWAP_TAG);
    let mut nonsense = newcomer(Some("mine-0"));
    nonsense.tags.insert(SWAP_TAG.into(), "mine".into());
    for subject in [on_demand, untagged, nonsense, tagged(&[("ManagedBy", "SpotOptimizer")])] {
        assert!(matches!(judged(&subject), Authorization::Suspicious(_)), "{subject:?}");
    }
}

#[test]
fn another_owner_dispels_the_suspicion() {
    let member = tagged(&[("ManagedBy", "SpotOptimizer"), (GROUP_NAME_TAG, "web")]);
    assert!(matches!(judged(&member), Authorization::Authorised(_)));
}

#[test]
fn what_a_swap_is_replacing_is_left_to_the_swap_once_its_newcomer_proves_it() {
    let old = Subject { id: "i-0123456789abcdef0".parse().unwrap(), ..tagged(&[]) };
    let mut swaps = SwapsInProgress::default();
    swaps.claim("row".into(), SWAP.parse().unwrap(), old.id.clone());
    assert_eq!(standing(&old, NO_MARKS, &swaps), Authorization::Unauthorised);
    swaps.prove(&newcomer(Some(&format!("{SWAP}-0"))));
    assert_eq!(standing(&old, NO_MARKS, &swaps), Authorization::BeingReplaced);
}

#[test]
fn no_mark_of_an_owner_stands_in_for_the_proof_of_a_launch() {
    for mark in ["ManagedBy", "Man*", "ManagedBy*"] {
        let owner_marks = marks(&[mark]);
        let trust = Trust { owner_marks: &owner_marks, ..NO_MARKS };
        let forged = tagged(&[("ManagedBy", "SpotOptimizer")]);
        let judged = standing(&forged, trust, &SwapsInProgress::default());
        assert!(matches!(judged, Authorization::Suspicious(_)), "{mark}: {judged:?}");
        let theirs = standing(&tagged(&[("ManagedBy", "terraform")]), trust, &SwapsInProgress::default());
        assert!(matches!(theirs, Authorization::Authorised(_)), "{mark}");
    }
}

/// Tags that services and clusters write, and tags that only look so.
#[test]
fn instances_of_clusters_and_services_are_theirs_and_near_misses_nobodys() {
    for tag in [
        ("kubernetes.io/cluster/shop-x7k2p", "owned"),
        ("kubernetes.io/cluster/shop-x7k2p", "shared"),
        ("KubernetesCluster", "kops.example.org"),
        ("k8s.io/role/control-plane", "1"),
        ("sigs.k8s.io/cluster-api-provider-aws/role", "control-plane"),
        ("api.openshift.com/id", "24vg6o424djht8h6lpoli2urg69t7vnt"),
        ("AWSRDSCustom", "custom-oracle"),
        ("awsbackup-restore-test", "plan-1"),
        ("CreatedBy", "EC2 Fast Launch"),
        ("aws:pcs:compute-node-group-id", "pcs_1"),
        ("parallelcluster:cluster-name", "hpc"),
        ("AmazonEVSManaged", "true"),
    ] {
        assert!(matches!(judged(&tagged(&[tag])), Authorization::Authorised(_)), "{tag:?}");
    }
    for tag in [
        ("kubernetes.io/cluster/shop", ""),
        ("kubernetes.io", "owned"),
        ("Kubernetes.io/cluster/shop", "owned"),
        ("x-kubernetes.io/cluster/shop", "owned"),
        ("kubernetescluster", "shop"),
        ("AWSRDSCustom", ""),
        ("awsrdscustom", "custom-oracle"),
        ("awsbackup-restore-tests", "plan-1"),
        ("CreatedBy", "ec2 fast launch"),
        ("CreatedBy", "EC2 Fast Launch 2"),
        ("pcs:compute-node-group-id", "pcs_1"),
    ] {
        assert_eq!(judged(&tagged(&[tag])), Authorization::Unauthorised, "{tag:?}");
    }
}

#[test]
fn where_only_marked_groups_are_trusted_a_group_alone_authorises_nothing() {
    let group_marks = marks(&["team", "aws:autoscaling:groupName=legacy"]);
    let judge = |tags: &[(&str, &str)]| {
        let owner_marks = OwnerMark::defaults();
        let trust = Trust { owner_marks: &owner_marks, group_marks: &group_marks };
        standing(&tagged(tags), trust, &SwapsInProgress::default())
    };
    let member = (GROUP_NAME_TAG, "gpu-9f2c");
    assert_eq!(judge(&[member]), Authorization::Unauthorised);
    assert_eq!(judge(&[member, ("team", "")]), Authorization::Unauthorised);
    for more in [("team", "ml"), ("eks:cluster-name", "prod"), ("kubernetes.io/cluster/shop", "owned")] {
        assert!(matches!(judge(&[member, more]), Authorization::Authorised(_)), "{more:?}");
    }
    assert!(matches!(judge(&[(GROUP_NAME_TAG, "legacy")]), Authorization::Authorised(_)));
    assert_eq!(judge(&[("team", "ml")]), Authorization::Unauthorised, "it is in no group");
}

/// Auto Scaling launches the members of a mixed-instances group through EC2 Fleet.
#[test]
fn the_fleet_that_a_group_launches_through_does_not_answer_for_its_members() {
    let judge = |groups: &[&str], owners: &[&str], tags: &[(&str, &str)]| {
        let group_marks = marks(groups);
        let owner_marks = [OwnerMark::defaults(), marks(owners)].concat();
        let trust = Trust { owner_marks: &owner_marks, group_marks: &group_marks };
        standing(&tagged(tags), trust, &SwapsInProgress::default())
    };
    let (member, fleet) = ((GROUP_NAME_TAG, "gpu-9f2c"), ("aws:ec2:fleet-id", "fleet-1"));
    assert_eq!(judge(&["team"], &[], &[member, fleet]), Authorization::Unauthorised);
    assert_eq!(judge(&["team"], &["aws:ec2:*"], &[member, fleet]), Authorization::Unauthorised);
    for (groups, owners, tags) in [
        (&["team"][..], &[][..], &[fleet][..]), // in no group: the fleet's own
        (&[], &[], &[member, fleet]),
        (&["team"], &[], &[member, fleet, ("team", "ml")]),
        (&["team"], &[], &[member, fleet, ("karpenter.sh/nodepool", "x")]),
        (&["team"], &["aws:ec2:fleet-id=fleet-1"], &[member, fleet]), // a mark names this very fleet
        (&["aws:ec2:fleet-id=fleet-1"], &[], &[member, fleet]),
    ] {
        let judged = judge(groups, owners, tags);
        assert!(matches!(judged, Authorization::Authorised(_)), "{groups:?} {owners:?} {tags:?}: {judged:?}");
    }
}
