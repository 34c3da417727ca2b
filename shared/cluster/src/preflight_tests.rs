use super::*;
use std::collections::BTreeMap;

use crate::pods::Block;
use serde_json::json;

fn node() -> Node {
    let node = json!({
        "name": "ip-10-0-0-1.ec2.internal", "uid": "n1", "instance_id": "i-0123456789abcdef0",
        "zone": "us-east-1a", "is_ready": true, "is_unschedulable": false, "cordoned_by": null,
        "startup_taints": [], "labels": {}, "owner": null,
    });
    serde_json::from_value(node).unwrap()
}

fn pod(name: &str, disposition: Disposition) -> NodePod {
    NodePod {
        pod: PodRef { namespace: "shop".to_owned(), pod: name.to_owned(), uid: format!("uid-{name}") },
        controller: None,
        labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
        claims: vec![],
        has_inline_ebs: false,
        is_ready: true,
        is_pending: false,
        demands: crate::room::demands(&k8s_openapi::api::core::v1::Pod::default()),
        disposition,
    }
}

fn budget(name: &str, desired_healthy: i32) -> Budget {
    Budget {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        selector: serde_json::from_value(json!({ "matchLabels": { "app": "web" } })).unwrap(),
        disruptions_allowed: 3 - desired_healthy,
        current_healthy: 3,
        desired_healthy,
        expected_pods: 3,
        is_observed: true,
    }
}

fn look(pods: Vec<NodePod>, budgets: Vec<Budget>) -> Look {
    Look { node: node(), pods, budgets, ties: Ties::new() }
}

#[test]
fn the_report_says_what_moves_stays_and_blocks() {
    let pods = vec![
        pod("agent", Disposition::Stays(Stay::DaemonSet)),
        pod("bare", Disposition::Blocked(Block::Unmanaged)),
        pod("leaving", Disposition::Terminating),
        pod("web", Disposition::Evict),
    ];
    let report = serde_json::to_value(report(&look(pods, vec![budget("web", 2)]))).unwrap();
    let expected = json!({
        "node": "ip-10-0-0-1.ec2.internal",
        "would_move": [
            { "namespace": "shop", "pod": "leaving", "uid": "uid-leaving" },
            { "namespace": "shop", "pod": "web", "uid": "uid-web" },
        ],
        "stays": [{ "namespace": "shop", "pod": "agent", "because": "daemon_set" }],
        "blocked": [{ "pod": "bare", "namespace": "shop", "why": Block::Unmanaged.why() }],
        "is_zone_bound": false,
    });
    assert_eq!(report, expected);
}

#[test]
fn a_budget_that_is_never_met_blocks_by_name() {
    let report = report(&look(vec![pod("web", Disposition::Evict)], vec![budget("strict", 3)]));
    assert_eq!(report.blocked[0].budget.as_deref(), Some("strict"));
    assert!(report.blocked[0].why.contains("3 healthy pods of 3"), "{}", report.blocked[0].why);
    assert!(report.would_move.is_empty());
}

#[test]
fn a_budget_that_is_merely_busy_blocks_nothing() {
    let mut busy = budget("web", 2);
    busy.disruptions_allowed = 0;
    assert_eq!(report(&look(vec![pod("web", Disposition::Evict)], vec![busy])).blocked, []);
}

#[test]
fn two_budgets_on_one_pod_always_block() {
    let budgets = vec![budget("a", 1), budget("b", 1)];
    let mut waiting = pod("waiting", Disposition::Evict);
    waiting.is_pending = true;
    let report = report(&look(vec![waiting, pod("web", Disposition::Evict)], budgets));
    let blocked: Vec<_> = report.blocked.iter().map(|b| (b.pod.as_str(), b.budget.as_deref())).collect();
    assert_eq!(blocked, [("web", Some("a, b"))]);
}

#[test]
fn volumes_bind_to_the_zone_or_hold_the_pod() {
    let mut look = look(vec![pod("db", Disposition::Evict), pod("disk", Disposition::Evict)], vec![]);
    look.ties = Ties::from([("uid-db".to_owned(), Tie::Zone), ("uid-disk".to_owned(), Tie::Node)]);
    let report = report(&look);
    assert!(report.is_zone_bound);
    assert_eq!(report.blocked.len(), 1);
    assert_eq!(report.blocked[0].pod, "disk");
}
