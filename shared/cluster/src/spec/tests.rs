#![expect(clippy::needless_pass_by_value, reason = "json!(…) reads better without a reference")]

use super::*;
use serde_json::{Value, json};

fn facts(spec: Value) -> Facts {
    let mut whole = json!({ "containers": [{ "name": "main" }] });
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    Facts::of(&serde_json::from_value(whole).unwrap())
}

fn node() -> Node {
    let node = json!({
        "name": "ip-10-0-0-1.ec2.internal", "uid": "n1", "instance_id": "i-0123456789abcdef0",
        "zone": "us-east-1a", "is_ready": true, "is_unschedulable": false, "cordoned_by": null,
        "startup_taints": [], "labels": { HOSTNAME: "ip-10-0-0-1" }, "owner": null,
    });
    serde_json::from_value(node).unwrap()
}

fn required(terms: Value) -> Value {
    let terms = json!({ "nodeSelectorTerms": terms });
    json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } } })
}

fn hostname_in(values: &[&str]) -> Value {
    json!({ "matchExpressions": [{ "key": HOSTNAME, "operator": "In", "values": values }] })
}

fn web() -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), "web".to_owned())])
}

#[test]
fn a_pod_that_names_its_node_can_run_nowhere_else() {
    let tied = |spec: Value| facts(spec).tie_to(&node()).is_some();
    assert!(tied(json!({ "nodeSelector": { HOSTNAME: "ip-10-0-0-1" } })));
    assert!(tied(required(json!([hostname_in(&["ip-10-0-0-1"])]))));
    let field = json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["ip-10-0-0-1.ec2.internal"] }] });
    assert!(tied(required(json!([field]))));
    assert!(!tied(required(json!([hostname_in(&["ip-10-0-0-1", "ip-10-0-0-2"])]))));
    assert!(
        !tied(required(json!([hostname_in(&["ip-10-0-0-1"]), { "matchExpressions": [] }]))),
        "alternatives"
    );
    assert!(!tied(json!({ "nodeSelector": { "team": "a" } })));
    assert!(!tied(json!({})));
}

#[test]
fn a_controller_that_names_the_node_by_field_keeps_the_pod_there() {
    let field = |node: &str| json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [node] }] }]);
    let with = |node: &str| {
        let mut spec = required(field(node));
        spec["nodeName"] = json!("a");
        facts(spec).is_tied_by_field()
    };
    assert!(with("a") && !with("b"));
    assert!(!facts(json!({ "nodeName": "a" })).is_tied_by_field());
}

#[test]
fn a_toleration_of_the_cordon_is_told_from_others() {
    let tolerates = |toleration: Value| facts(json!({ "tolerations": [toleration] })).tolerates_cordon();
    assert!(tolerates(json!({ "operator": "Exists" })));
    assert!(tolerates(json!({ "operator": "Exists", "effect": "NoSchedule" })));
    assert!(tolerates(json!({ "key": "node.kubernetes.io/unschedulable", "operator": "Exists" })));
    assert!(tolerates(json!({ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" })));
    assert!(!tolerates(json!({ "operator": "Exists", "effect": "NoExecute" })));
    assert!(!tolerates(json!({ "key": "dedicated", "operator": "Exists" })));
}

#[test]
fn a_grace_longer_than_the_drain_is_beyond_it_but_the_default_says_nothing() {
    let grace = |seconds: i64| facts(json!({ "terminationGracePeriodSeconds": seconds }));
    assert_eq!(grace(7200).grace_beyond(1800), Some(7200));
    assert_eq!(grace(7200).grace_beyond(10_000), None);
    assert_eq!(grace(30).grace_beyond(4), None);
    assert_eq!(facts(json!({})).grace_beyond(4), None);
}

#[test]
fn only_a_spread_that_counts_a_cordoned_node_and_waits_is_hard() {
    let hard = |change: Value| {
        let mut spread =
            json!({ "maxSkew": 1, "topologyKey": HOSTNAME, "whenUnsatisfiable": "DoNotSchedule" });
        for (key, value) in change.as_object().unwrap() {
            spread[key] = value.clone();
        }
        !facts(json!({ "topologySpreadConstraints": [spread] })).spreads.is_empty()
    };
    assert!(hard(json!({})) && hard(json!({ "nodeTaintsPolicy": "Ignore" })));
    assert!(!hard(json!({ "nodeTaintsPolicy": "Honor" })));
    assert!(!hard(json!({ "whenUnsatisfiable": "ScheduleAnyway" })));
    assert!(!hard(json!({ "topologyKey": "topology.kubernetes.io/zone" })));
}

#[test]
fn pods_keep_apart_by_affinity_or_by_a_port_of_the_node() {
    let term = json!({ "topologyKey": HOSTNAME, "labelSelector": { "matchLabels": { "app": "web" } } });
    let apart = json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } } });
    assert!(facts(apart.clone()).is_one_per_node(&web()));
    assert!(!facts(apart).is_one_per_node(&BTreeMap::new()), "keeps apart from others only");
    let port =
        json!({ "containers": [{ "name": "main", "ports": [{ "containerPort": 80, "hostPort": 80 }] }] });
    assert!(facts(port).is_one_per_node(&web()));
    assert!(!facts(json!({})).is_one_per_node(&web()));
    let together = json!({ "affinity": { "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } } });
    assert!(facts(together).is_together(&web()));
}

#[test]
fn gates_claims_and_the_restart_policy_are_read() {
    let facts = facts(json!({
        "restartPolicy": "Never",
        "schedulingGates": [{ "name": "quota" }],
        "resourceClaims": [{ "name": "gpu" }],
    }));
    assert!(facts.runs_once);
    assert_eq!((facts.gates, facts.device_claims), (vec!["quota".to_owned()], vec!["gpu".to_owned()]));
}
