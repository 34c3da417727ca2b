#![expect(clippy::needless_pass_by_value, reason = "json!(…) reads better without a reference")]

use super::*;
use crate::budgets::Budget;
use crate::pods::Policy;
use crate::volumes::Ties;
use std::collections::BTreeMap;

use crate::pods::{Block, node_pod};
use crate::spec::Facts;
use crate::termination::Termination;
use jiff::Timestamp;
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
    NodePod { disposition, ..node_pod(name) }
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
        sync_failure: None,
        lets_unhealthy_go: false,
    }
}

fn look(pods: Vec<NodePod>, budgets: Vec<Budget>) -> Observation {
    let terms = Terms { policy: Policy::default(), drain_timeout_seconds: 1800 };
    Observation {
        node: node(),
        pods,
        budgets,
        ties: Ties::new(),
        workloads: BTreeMap::new(),
        hosts: None,
        terms,
        at: Timestamp::UNIX_EPOCH,
    }
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
        "gathered": [],
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

/// A look at pods of one ReplicaSet of two.
fn owned(mut pods: Vec<NodePod>, workload: Workload, budgets: Vec<Budget>) -> Observation {
    let owner = Controller {
        kind: "ReplicaSet".to_owned(),
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        uid: "rs".to_owned(),
    };
    for pod in &mut pods {
        pod.controller = Some(owner.clone());
    }
    let mut look = look(pods, budgets);
    let workload = Workload { name: "Deployment shop/web".to_owned(), replicas: Some(2), ..workload };
    look.workloads = BTreeMap::from([(owner, workload)]);
    look
}

fn with(spec: serde_json::Value) -> Facts {
    let mut whole = json!({ "containers": [] });
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    Facts::of(&serde_json::from_value(whole).unwrap())
}

fn evicted(spec: serde_json::Value) -> NodePod {
    NodePod { facts: with(spec), ..pod("web-1", Disposition::Evict) }
}

/// Returns the one reason against the pod.
fn why(look: &Observation) -> String {
    let report = report(look);
    assert_eq!(report.blocked.len(), 1, "{:?}", report.blocked);
    assert!(report.would_move.is_empty());
    report.blocked[0].why.clone()
}

#[test]
fn a_pod_that_demands_on_demand_is_named_with_its_demand() {
    let selector = json!({ "nodeSelector": { "node.kubernetes.io/lifecycle": "normal" } });
    assert!(
        why(&look(vec![evicted(selector)], vec![]))
            .contains("nodeSelector node.kubernetes.io/lifecycle=normal")
    );
}

#[test]
fn a_grace_beyond_the_drain_is_named_with_the_timeout_to_ask_for() {
    let mut look = look(vec![evicted(json!({ "terminationGracePeriodSeconds": 7200 }))], vec![]);
    let text = why(&look);
    assert!(text.contains("7200 s") && text.contains("drain_timeout_seconds"), "{text}");
    look.terms.drain_timeout_seconds = 10_000;
    assert_eq!(report(&look).blocked, []);
}

#[test]
fn what_comes_back_is_the_template() {
    let template = |spec| Workload { template: Some(with(spec)), ..Workload::default() };
    let here = template(json!({ "nodeName": "ip-10-0-0-1.ec2.internal" }));
    assert!(why(&owned(vec![evicted(json!({}))], here, vec![])).contains("nodeName"));
    let elsewhere = template(json!({ "nodeName": "another" }));
    assert_eq!(report(&owned(vec![evicted(json!({}))], elsewhere, vec![])).blocked, []);
    let gated = template(json!({ "schedulingGates": [{ "name": "quota" }] }));
    assert!(why(&owned(vec![evicted(json!({}))], gated.clone(), vec![])).contains("schedulingGate quota"));
    let waived = NodePod { is_safe_to_evict: true, ..evicted(json!({})) };
    assert_eq!(report(&owned(vec![waived], gated, vec![])).blocked, []);
}

#[test]
fn a_reason_that_pod_and_template_share_is_said_once() {
    let spec = json!({ "nodeSelector": { "capacity-type": "on-demand" } });
    let template = Workload { template: Some(with(spec.clone())), ..Workload::default() };
    why(&owned(vec![evicted(spec)], template, vec![]));
}

#[test]
fn a_device_claim_is_its_owners_risk() {
    let claim = json!({ "resourceClaims": [{ "name": "gpu" }] });
    assert!(why(&look(vec![evicted(claim.clone())], vec![])).contains("resourceClaim gpu"));
    let waived = NodePod { is_safe_to_evict: true, ..evicted(claim) };
    assert_eq!(report(&look(vec![waived], vec![])).blocked, []);
}

#[test]
fn a_controller_that_is_gone_brings_nothing_back_unless_that_is_fine() {
    let gone = Workload { loss: Some("its ReplicaSet does not exist".to_owned()), ..Workload::default() };
    let mut look = owned(vec![evicted(json!({}))], gone, vec![]);
    assert!(why(&look).contains("does not exist"));
    look.terms.policy.evict_unmanaged = true;
    assert_eq!(report(&look).blocked, []);
}

#[test]
fn a_controller_whose_new_pods_are_refused_brings_nothing_back() {
    let failure = Some("exceeded quota: pods".to_owned());
    let text = why(&owned(vec![evicted(json!({}))], Workload { failure, ..Workload::default() }, vec![]));
    assert!(text.contains("Deployment shop/web") && text.contains("exceeded quota: pods"), "{text}");
}

#[test]
fn a_stateful_set_starts_no_pod_before_the_one_that_is_not_ready() {
    let waits =
        |ordinal| Workload { waits_for: Some((ordinal, format!("db-{ordinal}"))), ..Workload::default() };
    assert!(why(&owned(vec![evicted(json!({}))], waits(0), vec![])).contains("db-0"));
    assert_eq!(
        report(&owned(vec![evicted(json!({}))], waits(1), vec![])).blocked,
        [],
        "it is that pod itself"
    );
}

#[test]
fn its_owner_can_waive_the_forecast_of_a_budget_but_not_of_two() {
    let waived = || NodePod { is_safe_to_evict: true, ..pod("db", Disposition::Evict) };
    assert_eq!(report(&look(vec![waived()], vec![budget("primary", 3)])).blocked, []);
    let two = look(vec![waived()], vec![budget("a", 1), budget("b", 1)]);
    assert_eq!(report(&two).blocked.len(), 1);
}

#[test]
fn a_budget_that_cannot_be_counted_blocks_with_its_controllers_words() {
    let mut failed = budget("web", 2);
    failed.sync_failure = Some("found no controllers for pod \"report\"".to_owned());
    let report = |pod| report(&look(vec![pod], vec![failed.clone()]));
    let blocked = report(pod("web", Disposition::Evict)).blocked;
    assert_eq!(blocked[0].budget.as_deref(), Some("web"));
    assert!(blocked[0].why.contains("found no controllers"), "{}", blocked[0].why);
    let job = evicted(json!({ "restartPolicy": "Never" }));
    assert_eq!(report(job).blocked, [], "a Job's pod ends by itself, and is waited for");
}

#[test]
fn pods_that_share_a_node_and_go_one_by_one_find_no_place() {
    let term = json!({
        "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "web" } },
    });
    let together = json!({ "affinity": { "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } } });
    let pods = || {
        vec![
            evicted(together.clone()),
            NodePod { facts: with(together.clone()), ..pod("web-2", Disposition::Evict) },
        ]
    };
    let one_by_one = report(&owned(pods(), Workload::default(), vec![budget("web", 2)]));
    assert_eq!(one_by_one.blocked.len(), 2);
    assert!(one_by_one.blocked[0].why.contains("podAffinity"));
    assert_eq!(report(&owned(pods(), Workload::default(), vec![])).blocked, [], "all go at once");
}

#[test]
fn a_workload_with_all_its_replicas_here_is_told() {
    let pods = || vec![pod("web-1", Disposition::Evict), pod("web-2", Disposition::Evict)];
    let all = report(&owned(pods(), Workload::default(), vec![budget("web", 1)])).gathered;
    let expected =
        Gathered { workload: "Deployment shop/web".to_owned(), replicas: 2, budget: Some("web".to_owned()) };
    assert_eq!(all, [expected]);
    let some = report(&owned(pods()[..1].to_vec(), Workload::default(), vec![])).gathered;
    assert_eq!(some, []);
}

#[test]
fn a_static_pod_of_the_control_plane_gives_the_node_an_owner() {
    let owner = |name, stay| report(&look(vec![pod(name, Disposition::Stays(stay))], vec![])).owner;
    assert_eq!(owner("etcd-a", Stay::Mirror), Some(NodeOwner::ControlPlane("pod shop/etcd-a".to_owned())));
    assert_eq!(owner("kube-proxy-a", Stay::Mirror), None);
    assert_eq!(owner("etcd-backup-x", Stay::DaemonSet), None, "outside of kube-system");
}

#[test]
fn a_table_lists_what_blocks_first() {
    let pods = vec![
        pod("agent", Disposition::Stays(Stay::DaemonSet)),
        pod("web-1", Disposition::Evict),
        pod("lonely", Disposition::Blocked(Block::Unmanaged)),
    ];
    let lines = report(&owned(pods, Workload::default(), vec![])).lines;
    let rows: Vec<_> = lines.iter().map(|line| (line.verdict, line.pod.as_str())).collect();
    assert_eq!(rows, [(PodFate::Blocked, "lonely"), (PodFate::Moves, "web-1"), (PodFate::Stays, "agent")]);
    assert_eq!(lines[1].workload, "Deployment shop/web");
    assert!(lines[0].why.contains("no controller") && lines[1].why.is_empty());
}

#[test]
fn a_node_that_calls_itself_on_demand_is_told() {
    let mut look = look(vec![], vec![]);
    assert_eq!(report(&look).on_demand_label, None);
    look.node.labels.insert("node.kubernetes.io/lifecycle".to_owned(), "normal".to_owned());
    assert_eq!(report(&look).on_demand_label.as_deref(), Some("node.kubernetes.io/lifecycle=normal"));
}

#[test]
fn a_pod_that_is_told_to_go_but_may_outlast_the_drain_is_named() {
    let leaving = |seconds| {
        let termination =
            Termination { since: Timestamp::UNIX_EPOCH, grace_seconds: seconds, finalizers: vec![] };
        NodePod { termination: Some(termination), ..pod("web-1", Disposition::Terminating) }
    };
    let text = why(&look(vec![leaving(7000)], vec![]));
    assert!(text.contains("7000 s") && text.contains("drain_timeout_seconds"), "{text}");
    assert_eq!(report(&look(vec![leaving(1800)], vec![])).blocked, []);
    assert_eq!(
        report(&look(vec![leaving(-200)], vec![])).blocked,
        [],
        "a finalizer holds it: it is waited for"
    );
}

#[test]
fn a_pod_that_has_long_been_told_to_go_and_does_not_is_named_with_what_holds_it() {
    let since = Timestamp::from_second(-86_400).unwrap();
    let finalizers = vec!["example.org/hold".to_owned()];
    let termination = Termination { since, grace_seconds: 30, finalizers };
    let stuck = NodePod { termination: Some(termination), ..pod("web-1", Disposition::Terminating) };
    let text = why(&look(vec![stuck], vec![]));
    assert!(text.contains("86400 s") && text.contains("example.org/hold"), "{text}");
}

#[test]
fn a_pod_that_ends_by_itself_is_told_from_one_that_blocks_for_good() {
    let blocked = |facts| NodePod {
        facts,
        ..pod("job", Disposition::Blocked(Block::NotRestarted("it failed".into())))
    };
    let once = report(&look(vec![blocked(with(json!({ "restartPolicy": "Never" })))], vec![]));
    assert_eq!((once.blocked.len(), &once.ending), (1, &once.blocked));
    let always = report(&look(vec![blocked(with(json!({})))], vec![]));
    assert_eq!((always.blocked.len(), always.ending.len()), (1, 0));
}

#[test]
fn a_pod_that_may_return_moves_and_is_marked() {
    let open = report(&look(vec![evicted(json!({ "tolerations": [{ "operator": "Exists" }] }))], vec![]));
    assert_eq!((open.blocked.len(), open.would_move.len()), (0, 1));
    assert!(open.lines[0].verdict == PodFate::Moves && open.lines[0].why.contains("tolerates the cordon"));
    assert_eq!(report(&look(vec![evicted(json!({}))], vec![])).lines[0].why, "");
}

#[test]
fn data_that_the_move_loses_is_told_and_refuses_nothing() {
    let host = |name: &str, path: &str| json!({ "name": name, "hostPath": { "path": path } });
    let mount =
        |name: &str, read_only: bool| json!({ "name": name, "mountPath": "/m", "readOnly": read_only });
    let own = json!({ "name": "scratch", "ephemeral": { "volumeClaimTemplate": { "spec": {} } } });
    let mounts =
        json!([mount("data", false), mount("seed", true), mount("logs", false), mount("scratch", false)]);
    let spec = json!({
        "volumes": [host("data", "/mnt/data"), host("seed", "/mnt/seed"), host("logs", "/var/log/pods"), own],
        "containers": [{ "name": "main", "volumeMounts": mounts }],
    });
    let report = report(&look(vec![evicted(spec)], vec![]));
    assert_eq!((report.blocked.len(), report.would_move.len()), (0, 1));
    let expected = "what it has written to hostPath /mnt/data goes with the node; its ephemeral volume scratch is \
                    deleted with the pod";
    assert_eq!(report.lines[0].why, expected);
}

#[test]
fn a_pod_that_would_follow_its_peers_back_is_named() {
    let term = json!({ "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "web" } } });
    let spec = json!({ "tolerations": [{ "operator": "Exists" }], "affinity": { "podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [term] } } });
    let pods = vec![evicted(spec.clone()), NodePod { facts: with(spec), ..pod("web-2", Disposition::Evict) }];
    let report = report(&look(pods, vec![]));
    assert_eq!(report.blocked.len(), 2);
    assert!(report.blocked[0].why.contains("would return to them"), "{:?}", report.blocked);
}
