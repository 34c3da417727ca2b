use super::*;
use crate::pods::{Controller, node_pod};
use serde_json::{Value, json};

fn node() -> Node {
    named("a")
}

fn named(name: &str) -> Node {
    let node = json!({
        "name": name, "uid": "n1", "instance_id": null, "zone": "us-east-1a", "is_ready": true,
        "is_unschedulable": false, "cordoned_by": null, "startup_taints": [], "labels": {}, "owner": null,
    });
    serde_json::from_value(node).unwrap()
}

fn pod(name: &str, spec: &Value) -> NodePod {
    let mut whole = json!({ "containers": [] });
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let controller = Controller {
        kind: "ReplicaSet".to_owned(),
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        uid: "rs".to_owned(),
    };
    let facts = Facts::of(&serde_json::from_value(whole).unwrap());
    NodePod { controller: Some(controller), facts, ..node_pod(name) }
}

fn selector() -> Value {
    json!({ "matchLabels": { "app": "web" } })
}

fn apart(tolerations: &Value) -> Value {
    let term = json!({ "topologyKey": "kubernetes.io/hostname", "labelSelector": selector() });
    let affinity = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
    json!({ "affinity": affinity, "tolerations": tolerations })
}

fn others(names: &[&str]) -> Vec<Node> {
    names.iter().map(|name| named(name)).collect()
}

fn returning(replicas: usize, names: &[&str], has_newcomer: bool, tolerations: &Value) -> Option<String> {
    let hosts = Hosts { others: others(names), has_newcomer, ..Hosts::default() };
    let workload = Workload { replicas: Some(replicas), ..Workload::default() };
    let pod = pod("web-1", &apart(tolerations));
    obstacle(&pod, Some(&workload), std::slice::from_ref(&pod), &hosts, &node())
}

#[test]
fn a_pod_that_tolerates_the_cordon_and_finds_no_other_node_returns() {
    let everything = json!([{ "operator": "Exists" }]);
    let why = returning(3, &["b"], false, &everything).unwrap();
    assert!(why.contains("3 replicas") && why.contains("there are 2"), "{why}");
    assert!(returning(3, &["b", "n"], true, &everything).is_some(), "after the cordon, too");
    assert_eq!(returning(2, &["b"], false, &everything), None, "the newcomer takes it");
    assert_eq!(returning(2, &["b", "n"], true, &everything), None);
    assert_eq!(returning(3, &["b"], false, &json!([])), None, "the cordon keeps it off");
}

#[test]
fn only_a_node_that_lets_the_pod_in_is_one_more() {
    let terms = json!({ "nodeSelectorTerms": [{ "matchExpressions": [{ "key": "pool", "operator": "In", "values": ["a"] }] }] });
    let mut spec = apart(&json!([{ "key": "node.kubernetes.io/unschedulable", "operator": "Exists" }]));
    spec["affinity"]["nodeAffinity"] = json!({ "requiredDuringSchedulingIgnoredDuringExecution": terms });
    let pod = pod("web-1", &spec);
    let workload = Workload { replicas: Some(2), ..Workload::default() };
    let returns = |change: &dyn Fn(&mut Node)| {
        let mut other = named("b");
        other.labels = BTreeMap::from([("pool".to_owned(), "a".to_owned())]);
        change(&mut other);
        let hosts = Hosts { others: vec![other], ..Hosts::default() };
        obstacle(&pod, Some(&workload), std::slice::from_ref(&pod), &hosts, &node()).is_some()
    };
    assert!(!returns(&|_| ()));
    assert!(returns(&|other| other.labels.clear()), "its affinity keeps it off");
    assert!(returns(&|other| other.startup_taints.push("dedicated=pay:NoSchedule".to_owned())));
}

#[test]
fn a_pod_that_tolerates_the_cordon_follows_the_peers_that_its_affinity_demands() {
    let term = json!({ "topologyKey": "kubernetes.io/hostname", "labelSelector": selector() });
    let together = json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
    let follows = |count: usize, tolerations: Value| {
        let spec = json!({ "affinity": together, "tolerations": tolerations });
        let pods: Vec<NodePod> = (0..count).map(|i| pod(&format!("web-{i}"), &spec)).collect();
        follows_its_peers(&pods[0], &pods)
    };
    let everything = json!([{ "operator": "Exists" }]);
    let why = follows(2, everything.clone()).unwrap();
    assert!(why.contains("2 of which are here: the first that is evicted"), "{why}");
    assert_eq!(follows(1, everything), None, "it has nobody to follow");
    assert_eq!(follows(2, json!([])), None, "the cordon keeps it off");
}

/// Returns the obstacle for `here` pods on this node, and `there` on the others.
fn spread(here: usize, there: &[(&str, usize)], max_skew: i32) -> Option<String> {
    spread_with(here, there, &json!({ "maxSkew": max_skew }), &json!([]))
}

fn spread_with(here: usize, there: &[(&str, usize)], change: &Value, tolerations: &Value) -> Option<String> {
    let mut spread = json!({
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": selector(),
    });
    for (key, value) in change.as_object().unwrap() {
        spread[key] = value.clone();
    }
    let spec = json!({ "topologySpreadConstraints": [spread], "tolerations": tolerations });
    let pods: Vec<NodePod> = (0..here).map(|i| pod(&format!("web-{i}"), &spec)).collect();
    if pods[0].facts.spreads.is_empty() {
        return None; // nobody counts for it
    }
    let mut counts: BTreeMap<String, usize> =
        there.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    counts.insert("a".to_owned(), here);
    let names: Vec<&str> = there.iter().map(|(name, _)| *name).collect();
    let peers = BTreeMap::from([("uid-web-0".to_owned(), vec![counts])]);
    let hosts = Hosts { others: others(&names), peers, has_newcomer: false };
    obstacle(&pods[0], None, &pods, &hosts, &node())
}

#[test]
fn a_spread_over_nodes_counts_the_cordoned_one_as_empty() {
    let why = spread(3, &[("b", 3)], 1).unwrap();
    assert!(why.contains("of 3 pods here, 1 would find a place"), "{why}");
    assert_eq!(spread(1, &[("b", 1)], 1), None, "the newcomer takes it");
    assert_eq!(spread(3, &[("b", 3)], 3), None, "a skew that is wide enough");
    assert_eq!(spread(2, &[("b", 0)], 1), None, "another node has room");
}

#[test]
fn a_spread_that_honours_taints_counts_a_node_whose_cordon_the_pod_tolerates() {
    let honours = json!({ "nodeTaintsPolicy": "Honor" });
    let everything = json!([{ "operator": "Exists" }]);
    let why = spread_with(3, &[("b", 3)], &honours, &everything).unwrap();
    assert!(why.contains("would return here"), "{why}");
    assert_eq!(spread_with(3, &[("b", 3)], &honours, &json!([])), None);
    assert_eq!(spread_with(1, &[("b", 1)], &honours, &everything), None, "the newcomer takes it");
}

#[test]
fn a_spread_is_narrowed_by_the_labels_that_must_match() {
    let spread = json!({
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {}, "matchLabelKeys": ["app", "pod-template-hash"],
    });
    let spread: TopologySpreadConstraint = serde_json::from_value(spread).unwrap();
    let narrowed = selector_of(&spread);
    assert_eq!(narrowed, [("app".to_owned(), vec!["web".to_owned()])]);
}

fn selector_of(spread: &TopologySpreadConstraint) -> Vec<(String, Vec<String>)> {
    let selector = super::selector(&pod("web-1", &json!({})), spread).unwrap();
    let expressions = selector.match_expressions.into_iter().flatten();
    expressions.map(|e| (e.key, e.values.unwrap_or_default())).collect()
}
