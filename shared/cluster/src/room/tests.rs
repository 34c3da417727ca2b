use super::*;
use k8s_openapi::api::core::v1::{NodeSelector, Pod};
use serde_json::{Value, json};

/// A node of four cores, changed by `change`.
fn node(name: &str, change: &Value) -> Node {
    let mut node = json!({
        "name": name, "uid": name, "instance_id": null, "zone": null, "is_ready": true, "is_unschedulable": false,
        "cordoned_by": null, "startup_taints": [], "owner": null,
        "labels": { "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux" },
    });
    for (key, value) in change.as_object().into_iter().flatten() {
        match (&mut node[key], value) {
            (Value::Object(old), Value::Object(new)) => old.extend(new.clone()),
            (old, new) => *old = new.clone(),
        }
    }
    let mut node: Node = serde_json::from_value(node).unwrap();
    let offers =
        [("cpu", Amount::of(4)), ("memory", Amount::of(16 << 30)), (crate::spec::PODS, Amount::of(10))];
    node.allocatable = offers.into_iter().map(|(name, amount)| (name.to_owned(), amount)).collect();
    node
}

fn plain(name: &str) -> Node {
    node(name, &Value::Null)
}

fn empty(node: Node) -> Host {
    Host { node, residents: vec![] }
}

fn pod(name: &str, spec: &Value) -> Pod {
    let mut spec = spec.clone();
    if spec.get("containers").is_none() {
        spec["containers"] = json!([]);
    }
    let metadata = json!({ "name": name, "namespace": "shop", "labels": { "app": "web" } });
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
}

fn mover(name: &str, spec: &Value) -> Mover {
    Mover { pod: resident(name, spec), volumes: vec![] }
}

fn resident(name: &str, spec: &Value) -> Resident {
    Resident {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
        demands: demands(&pod(name, spec)),
        is_terminating: false,
        is_agent: false,
    }
}

fn wants(resource: &str, amount: &str) -> Value {
    json!({ "containers": [{ "name": "c", "resources": { "requests": { resource: amount } } }] })
}

fn movers(count: usize, spec: &Value) -> Vec<Mover> {
    (0..count).map(|i| mover(&format!("web-{i}"), spec)).collect()
}

/// Describes what `newcomer` lacks for the pods of a plain node.
fn told(newcomer: &Host, movers: &[Mover]) -> String {
    in_words(&missing(&plain("a"), newcomer, movers, &[]))
}

#[test]
fn a_node_like_the_old_one_holds_its_pods() {
    let pods = movers(4, &wants("cpu", "1"));
    assert_eq!(missing(&plain("a"), &empty(plain("n")), &pods, &[]), []);
}

#[test]
fn a_taint_that_says_what_the_old_node_is_for_is_needed_and_one_of_its_state_is_not() {
    let old = node(
        "a",
        &json!({ "startup_taints": [
        "dedicated=pay:NoSchedule", "node.kubernetes.io/memory-pressure:NoSchedule", "quarantine:NoExecute",
        "ToBeDeletedByClusterAutoscaler=1764108000:NoSchedule", "node.cilium.io/agent-not-ready:NoExecute",
        "aws-node-termination-handler/rebalance-recommendation=x:NoSchedule",
        "node.cloudprovider.kubernetes.io/shutdown:NoSchedule",
    ] }),
    );
    let lacks = missing(&old, &empty(plain("n")), &[], &[]);
    let taints = ["dedicated=pay:NoSchedule", "quarantine:NoExecute"];
    assert_eq!(
        lacks.iter().map(|lack| &lack.need).collect::<Vec<_>>(),
        taints.map(|taint| Need::Taint(taint.to_owned())).iter().collect::<Vec<_>>()
    );
    assert!(in_words(&lacks).contains("it lacks the taint dedicated=pay:NoSchedule of the old node"));
    let alike = node("n", &json!({ "startup_taints": taints }));
    assert_eq!(missing(&old, &empty(alike), &[], &[]), []);
}

#[test]
fn a_taint_of_the_newcomer_must_be_tolerated_by_the_pods_that_come() {
    let tainted = json!({ "startup_taints": ["dedicated=pay:NoSchedule"] });
    let (old, newcomer) = (node("a", &tainted), empty(node("n", &tainted)));
    let stranger = mover("stranger", &json!({}));
    let pay = mover("pay", &json!({ "tolerations": [{ "key": "dedicated", "operator": "Exists" }] }));
    assert_eq!(missing(&old, &newcomer, std::slice::from_ref(&pay), &[]), []);
    let words = in_words(&missing(&old, &newcomer, &[pay, stranger], &[]));
    assert_eq!(words, "its taint dedicated=pay:NoSchedule is not tolerated (pod shop/stranger)");
}

#[test]
fn a_label_that_pods_select_is_needed_and_named_once() {
    let newcomer = empty(plain("n"));
    let pods = movers(4, &json!({ "nodeSelector": { "pool": "ledger" } }));
    assert_eq!(told(&newcomer, &pods), "its labels do not match pool=ledger (pod shop/web-0 and 3 more)");
    assert_eq!(told(&empty(node("n", &json!({ "labels": { "pool": "ledger" } }))), &pods), "");
}

#[test]
fn required_affinity_is_needed_and_preferred_is_not() {
    let term = json!({ "matchExpressions": [{ "key": "disk", "operator": "In", "values": ["nvme"] }] });
    let required = json!({ "affinity": { "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [term] } } } });
    let preferred = json!({ "affinity": { "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 1, "preference": term }] } } });
    let newcomer = empty(plain("n"));
    assert!(told(&newcomer, &movers(1, &required)).contains("disk=nvme"));
    assert_eq!(told(&newcomer, &movers(1, &preferred)), "");
}

#[test]
fn another_platform_is_no_home_even_if_no_pod_asks() {
    let arm = empty(node("n", &json!({ "labels": { "kubernetes.io/arch": "arm64" } })));
    assert!(told(&arm, &[]).contains("kubernetes.io/arch=amd64"));
}

#[test]
fn labels_that_differ_from_node_to_node_by_nature_are_not_compared() {
    let labels = |host: &str| {
        json!({ "labels": { "kubernetes.io/hostname": host, "node.kubernetes.io/instance-type": host,
                            "topology.kubernetes.io/zone": host, "team": host } })
    };
    let (old, newcomer) = (node("a", &labels("a")), empty(node("n", &labels("n"))));
    assert_eq!(missing(&old, &newcomer, &movers(2, &json!({})), &[]), []);
}

#[test]
fn an_on_demand_label_on_the_newcomer_is_final() {
    let newcomer = empty(node("n", &json!({ "labels": { "eks.amazonaws.com/capacityType": "ON_DEMAND" } })));
    let lacks = missing(&plain("a"), &newcomer, &[], &[]);
    assert!(
        lacks[0].need.is_final() && in_words(&lacks).contains("eks.amazonaws.com/capacityType=ON_DEMAND")
    );
}

#[test]
fn every_resource_that_a_pod_requests_must_be_offered() {
    let newcomer = empty(plain("n"));
    for (resource, amount, expected) in [
        ("nvidia.com/gpu", "1", "it offers 0 of nvidia.com/gpu, and 1 is requested (pod shop/web-0)"),
        ("hugepages-2Mi", "64Mi", "it offers 0 of hugepages-2Mi, and 64Mi is requested (pod shop/web-0)"),
        (
            "ephemeral-storage",
            "1Gi",
            "it offers 0 of ephemeral-storage, and 1024Mi is requested (pod shop/web-0)",
        ),
        ("cpu", "4500m", "it offers 4 of cpu, and 4500m is requested (pod shop/web-0)"),
        ("cpu", "4", ""),
    ] {
        assert_eq!(told(&newcomer, &movers(1, &wants(resource, amount))), expected);
    }
}

#[test]
fn a_machine_never_grows_and_a_device_plugin_may_be_late() {
    let lacks = |pods: &[Mover]| missing(&plain("a"), &empty(plain("n")), pods, &[]);
    for pods in [
        movers(1, &wants("cpu", "8")),
        movers(5, &wants("cpu", "1")),
        movers(1, &wants("memory", "64Gi")),
        movers(11, &json!({})),
    ] {
        let need = &lacks(&pods)[0].need;
        assert!(need.is_of_the_type() && need.is_final(), "{need:?}");
    }
    for pods in [movers(1, &wants("nvidia.com/gpu", "1")), movers(1, &wants("hugepages-2Mi", "2Mi"))] {
        let need = &lacks(&pods)[0].need;
        assert!(!need.is_of_the_type() && !need.is_final(), "{need:?}");
    }
}

#[test]
fn a_type_with_fewer_devices_is_waited_for_and_then_another_type_is_tried() {
    let mut one = plain("n");
    one.allocatable.insert("nvidia.com/gpu".to_owned(), Amount::of(1));
    let one = empty(one);
    for pods in [movers(1, &wants("nvidia.com/gpu", "2")), movers(2, &wants("nvidia.com/gpu", "1"))] {
        let need = &missing(&plain("a"), &one, &pods, &[])[0].need;
        assert!(need.is_of_the_type() && !need.is_final(), "{need:?}");
    }
}

#[test]
fn a_pod_that_demands_another_instance_type_needs_another_type_at_once() {
    let labels = |kind: &str| json!({ "labels": { "node.kubernetes.io/instance-type": kind } });
    let pods = movers(2, &json!({ "nodeSelector": { "node.kubernetes.io/instance-type": "m5.large" } }));
    let other = empty(node("n", &labels("m5a.large")));
    let lacks = missing(&plain("a"), &other, &pods, &[]);
    assert!(lacks[0].need.is_of_the_type() && lacks[0].need.is_final(), "{lacks:?}");
    assert!(in_words(&lacks).contains("node.kubernetes.io/instance-type=m5.large"), "{lacks:?}");
    assert_eq!(missing(&plain("a"), &empty(node("n", &labels("m5.large"))), &pods, &[]), []);
}

#[test]
fn a_node_that_offers_no_cpu_may_offer_some_later() {
    let mut unpublished = plain("n");
    unpublished.allocatable.remove("cpu");
    let lacks = missing(&plain("a"), &empty(unpublished), &movers(2, &wants("cpu", "800m")), &[]);
    assert!(!lacks.is_empty(), "a pod never goes there");
    for lack in lacks {
        assert!(lack.need.is_of_the_type() && !lack.need.is_final(), "{:?}", lack.need);
    }
}

#[test]
fn what_another_node_offers_of_a_kind_does_not_help() {
    let mut other = plain("b");
    other.allocatable.insert("nvidia.com/gpu".to_owned(), Amount::of(8));
    let pods = movers(1, &wants("nvidia.com/gpu", "1"));
    let lacks = missing(&plain("a"), &empty(plain("n")), &pods, &[empty(other)]);
    assert!(!lacks.is_empty() && !lacks[0].need.is_elsewhere());
}

#[test]
fn the_newcomer_must_be_large_enough_for_all_pods_beside_its_agents() {
    let mut agent = resident("agent", &wants("cpu", "500m"));
    agent.is_agent = true;
    let newcomer = Host { node: plain("n"), residents: vec![agent] };
    assert_eq!(told(&newcomer, &movers(3, &wants("cpu", "1"))), "");
    let too_many = movers(4, &wants("cpu", "1"));
    let lacks = missing(&plain("a"), &newcomer, &too_many, &[empty(plain("b"))]);
    assert!(!lacks[0].need.is_elsewhere(), "room on another node does not make up for a smaller one");
    assert!(in_words(&lacks).starts_with("it offers 4 of cpu, and"), "{lacks:?}");
    assert!(in_words(&lacks).ends_with("request 4500m together"), "{lacks:?}");
    let words = told(&empty(plain("n")), &movers(11, &json!({})));
    assert!(words.starts_with("it offers 10 of pods"), "{words}");
}

#[test]
fn what_only_an_agent_requests_is_not_asked_for() {
    let mut agent = resident("agent", &wants("example.com/odd", "1"));
    agent.is_agent = true;
    assert_eq!(told(&Host { node: plain("n"), residents: vec![agent] }, &movers(1, &json!({}))), "");
}

#[test]
fn room_that_others_took_on_the_newcomer_may_be_found_on_another_node() {
    let taken = Host { node: plain("n"), residents: vec![resident("new", &wants("cpu", "3"))] };
    let pods = movers(3, &wants("cpu", "1"));
    let lacks = missing(&plain("a"), &taken, &pods, &[]);
    assert!(lacks[0].need.is_elsewhere() && lacks[0].pods == 2, "{lacks:?}");
    assert_eq!(missing(&plain("a"), &taken, &pods, &[empty(plain("b"))]), []);
    let full = Host { node: plain("b"), residents: vec![resident("old", &wants("cpu", "3"))] };
    assert_eq!(missing(&plain("a"), &taken, &pods, &[full])[0].pods, 1);
    let tainted = empty(node("b", &json!({ "startup_taints": ["gpu:NoSchedule"] })));
    assert_eq!(missing(&plain("a"), &taken, &pods, &[tainted])[0].pods, 2);
}

#[test]
fn placeholders_give_way() {
    let placeholder = |policy: &str| {
        let mut spec = wants("cpu", "4");
        spec["priority"] = json!(-10);
        (Host { node: plain("n"), residents: vec![resident("pause", &spec)] }, policy.to_owned())
    };
    let pod = |policy: &str| {
        let mut spec = wants("cpu", "1");
        spec["preemptionPolicy"] = json!(policy);
        movers(1, &spec)
    };
    let (host, policy) = placeholder("PreemptLowerPriority");
    assert_eq!(told(&host, &pod(&policy)), "");
    let (host, policy) = placeholder("Never");
    assert!(told(&host, &pod(&policy)).contains("too little cpu"));
}

#[test]
fn a_pod_that_is_on_its_way_out_still_holds_its_room() {
    let mut leaving = resident("old", &wants("cpu", "4"));
    leaving.is_terminating = true;
    let host = Host { node: plain("n"), residents: vec![leaving] };
    assert!(told(&host, &movers(1, &wants("cpu", "1"))).contains("too little cpu"));
}

fn spread(max_skew: i64, more: &Value) -> Value {
    let mut spread = json!({ "maxSkew": max_skew, "topologyKey": "kubernetes.io/hostname",
                             "whenUnsatisfiable": "DoNotSchedule",
                             "labelSelector": { "matchLabels": { "app": "web" } } });
    spread.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    json!({ "topologySpreadConstraints": [spread] })
}

fn with_residents(name: &str, count: usize) -> Host {
    let residents = (0..count).map(|i| resident(&format!("{name}-{i}"), &json!({}))).collect();
    Host { node: plain(name), residents }
}

#[test]
fn a_spread_by_hostname_counts_the_cordoned_node_as_empty() {
    let old = plain("a");
    let neighbour = |count| [with_residents("b", count)];
    let lacks = |count, spec: &Value, neighbour: &[Host]| {
        missing(&old, &empty(plain("n")), &movers(count, spec), neighbour).len()
    };
    assert_eq!(lacks(1, &spread(1, &Value::Null), &neighbour(1)), 0, "one goes to the newcomer");
    assert_eq!(lacks(3, &spread(1, &Value::Null), &neighbour(3)), 1);
    assert_eq!(lacks(3, &spread(3, &Value::Null), &neighbour(3)), 0);
    assert_eq!(lacks(3, &spread(1, &json!({ "nodeTaintsPolicy": "Honor" })), &neighbour(3)), 0);
    let words = in_words(&missing(&old, &with_residents("n", 1), &movers(1, &spread(1, &Value::Null)), &[]));
    assert!(words.contains("maxSkew 1") && words.contains("nodeTaintsPolicy"), "{words}");
}

#[test]
fn a_replica_that_came_to_the_newcomer_first_keeps_its_like_off() {
    let apart = json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
        { "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "web" } } } ] } } });
    assert_eq!(told(&empty(plain("n")), &movers(1, &apart)), "");
    let words = told(&with_residents("n", 1), &movers(1, &apart));
    assert_eq!(words, "anti-affinity by hostname keeps it apart from pod shop/n-0 (pod shop/web-0)");
    let shy = Host { node: plain("n"), residents: vec![resident("shy", &apart)] };
    assert!(told(&shy, &movers(1, &json!({}))).contains("shop/shy"), "the other's anti-affinity counts, too");
    assert!(
        told(&empty(plain("n")), &movers(2, &apart)).contains("shop/web-"),
        "and that among those that come"
    );
}

#[test]
fn a_host_port_is_free_once_for_each_node() {
    let port =
        json!({ "containers": [{ "name": "c", "ports": [{ "containerPort": 80, "hostPort": 8080 }] }] });
    assert_eq!(told(&empty(plain("n")), &movers(1, &port)), "");
    let taken = Host { node: plain("n"), residents: vec![resident("other", &port)] };
    assert_eq!(told(&taken, &movers(1, &port)), "host port 8080 is taken on it (pod shop/web-0)");
}

fn volume(name: &str, zone: &str) -> PodVolume {
    let selector: NodeSelector =
        serde_json::from_value(json!({ "nodeSelectorTerms": [{ "matchExpressions": [
        { "key": "topology.ebs.csi.aws.com/zone", "operator": "In", "values": [zone] } ] }] }))
        .unwrap();
    let driver = Some("ebs.csi.aws.com".to_owned());
    PodVolume { name: name.to_owned(), driver, selects: NodeTerms::of_selector(&selector) }
}

#[test]
fn a_volume_waits_for_the_label_that_its_driver_gives_the_node() {
    let pods = [Mover { volumes: vec![volume("pv-x", "us-east-1a")], ..mover("db", &json!({})) }];
    let words = told(&empty(plain("n")), &pods);
    assert!(
        words.contains("topology.ebs.csi.aws.com/zone=us-east-1a, which volume pv-x requires"),
        "{words}"
    );
    let labels = json!({ "labels": { "topology.ebs.csi.aws.com/zone": "us-east-1a" } });
    assert_eq!(told(&empty(node("n", &labels)), &pods), "");
}

#[test]
fn a_driver_attaches_no_more_volumes_than_it_says() {
    let labels = json!({ "labels": { "topology.ebs.csi.aws.com/zone": "us-east-1a" } });
    let mut host = empty(node("n", &labels));
    let with = |pod: &str, volume_name: &str| Mover {
        volumes: vec![volume(volume_name, "us-east-1a")],
        ..mover(pod, &json!({}))
    };
    let pods = [with("a", "pv-1"), with("b", "pv-2"), with("c", "pv-2")];
    assert_eq!(told(&host, &pods), "", "a driver without a limit");
    let limit = |count| (format!("{ATTACHABLE}ebs.csi.aws.com"), Amount::of(count));
    host.node.allocatable.extend([limit(2)]);
    assert_eq!(told(&host, &pods), "", "a shared volume counts once");
    host.node.allocatable.extend([limit(1)]);
    assert!(told(&host, &pods).contains("attachable-volumes-csi-ebs.csi.aws.com"));
}

#[test]
fn a_node_that_has_not_told_what_it_offers_holds_nothing() {
    let mut newcomer = empty(plain("n"));
    newcomer.node.allocatable.clear();
    assert!(told(&newcomer, &movers(1, &json!({}))).contains("it offers 0 of pods"));
}

#[test]
fn the_words_name_the_first_lacks_and_count_the_rest() {
    let selects = |label: &str| json!({ "nodeSelector": { label: "x" } });
    let pods: Vec<Mover> = ["p", "q", "r", "s", "t"].map(|label| mover(label, &selects(label))).into();
    let words = told(&empty(plain("n")), &pods);
    assert!(words.contains("p=x (pod shop/p); ") && words.ends_with("; and 2 more"), "{words}");
}
