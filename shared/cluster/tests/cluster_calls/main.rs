//! The calls themselves: a real kube client over a scripted API server. Each test expects exactly these
//! requests, in this order.
#![allow(clippy::unwrap_used, clippy::panic, clippy::needless_pass_by_value)] // helpers of tests

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use spot_cluster::drain::{LastReady, Manner, Others};
use spot_cluster::node::{self, Cordon, NodeName};
use spot_cluster::pods::Policy;
use spot_cluster::preflight::Terms;
use spot_cluster::{ClusterError, Kind, drain, preflight, volumes};
use tower_test::mock::Handle;

/// A request that must come (method and path with query, cut at `&` of page parameters), and its answer.
struct Step {
    request: &'static str,
    status: u16,
    body: Value,
}

fn step(request: &'static str, body: Value) -> Step {
    Step { request, status: 200, body }
}

fn fails(request: &'static str, status: u16, reason: &str, message: &str, details: Value) -> Step {
    let body = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                       "code": status, "reason": reason, "message": message, "details": details });
    Step { request, status, body }
}

/// Returns a client whose API server follows the script, and a task that hands back the request bodies. A
/// request beyond the script, or a step that never came, fails the test.
fn scripted(script: Vec<Step>) -> (Client, tokio::task::JoinHandle<Vec<Value>>) {
    let (service, handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    (Client::new(service, "default"), tokio::spawn(follow(handle, script)))
}

async fn follow(mut handle: Handle<Request<Body>, Response<Body>>, script: Vec<Step>) -> Vec<Value> {
    let mut bodies = Vec::new();
    for step in script {
        let (request, send) =
            handle.next_request().await.unwrap_or_else(|| panic!("{} never came", step.request));
        let (head, body) = request.into_parts();
        assert_eq!(format!("{} {}", head.method, head.uri), step.request);
        let bytes = body.collect_bytes().await.unwrap();
        bodies.push(serde_json::from_slice(&bytes).unwrap_or(Value::Null));
        let answer = Response::builder().status(step.status);
        send.send_response(answer.body(Body::from(serde_json::to_vec(&step.body).unwrap())).unwrap());
    }
    if let Some((request, _)) = handle.next_request().await {
        panic!("{} {} was not expected", request.method(), request.uri());
    }
    bodies
}

fn name() -> NodeName {
    "n1".parse().unwrap()
}

fn node(metadata: Value, spec: Value) -> Value {
    let mut node =
        json!({ "metadata": { "name": "n1", "uid": "node-1", "resourceVersion": "7" }, "spec": spec });
    for (key, value) in metadata.as_object().into_iter().flatten() {
        node["metadata"][key] = value.clone();
    }
    node
}

fn list(items: Vec<Value>, next: &str) -> Value {
    json!({ "metadata": { "continue": next }, "items": items })
}

fn pod(name: &str, change: Value) -> Value {
    let owner = json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs1",
                         "controller": true }]);
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "shop", "uid": format!("uid-{name}"), "ownerReferences": owner },
        "spec": { "containers": [] },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    for (key, value) in change.as_object().into_iter().flatten() {
        pod["metadata"][key] = value.clone();
    }
    pod
}

fn replica_set() -> Value {
    let selector = json!({ "matchLabels": { "app": "web" } });
    json!({ "metadata": { "name": "web", "uid": "rs1" }, "spec": { "replicas": 2, "selector": selector } })
}

async fn pass(client: &Client, state: drain::State) -> Result<drain::Pass, ClusterError> {
    drain::pass(client, &name(), Policy::default(), LastReady::Keep, state).await
}

fn granted() -> Value {
    json!({ "kind": "Status", "status": "Success", "code": 201 })
}

const PODS: &str = "GET /api/v1/pods?&fieldSelector=spec.nodeName%3Dn1&limit=100";
const SET: &str = "GET /apis/apps/v1/namespaces/shop/replicasets/web";
const OWNED: &str = "GET /api/v1/namespaces/shop/pods?&labelSelector=app%3Dweb&limit=100";
const EVICT_A: &str = "POST /api/v1/namespaces/shop/pods/a/eviction?";
const EVICT_B: &str = "POST /api/v1/namespaces/shop/pods/b/eviction?";
const NODE: &str = "GET /api/v1/nodes/n1";
const PATCH: &str = "PATCH /api/v1/nodes/n1?";

#[tokio::test]
async fn a_node_is_found_by_its_instance_in_pages() {
    let other =
        node(json!({ "name": "n0" }), json!({ "providerID": "aws:///us-east-1a/i-0000000000000000a" }));
    let ours = node(json!({}), json!({ "providerID": "aws:///us-east-1b/i-0000000000000000b" }));
    let (client, server) = scripted(vec![
        step("GET /api/v1/nodes?&limit=100", list(vec![other], "more")),
        step("GET /api/v1/nodes?&limit=100&continue=more", list(vec![ours], "")),
    ]);
    let instance = "i-0000000000000000b".parse().unwrap();
    let found = node::find(&client, &instance).await.unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.instance_id), ("n1", Some(instance)));
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn a_cordon_is_one_guarded_patch_that_bears_our_mark() {
    let (client, server) =
        scripted(vec![step(NODE, node(json!({}), json!({}))), step(PATCH, node(json!({}), json!({})))]);
    assert_eq!(node::cordon(&client, &name(), "swap-1").await.unwrap(), Cordon::Ours);
    drop(client);
    let patch = &server.await.unwrap()[1];
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
    assert_eq!(patch["metadata"]["annotations"][node::CORDONED_BY], "swap-1");
    assert_eq!(patch["metadata"]["labels"][node::EXCLUDE_FROM_LOAD_BALANCERS], "true");
    assert_eq!(patch["spec"]["unschedulable"], true);
}

#[tokio::test]
async fn a_cordon_of_somebody_else_is_left_alone_and_ours_is_known_again() {
    let by = |mark: &str| {
        node(json!({ "annotations": { node::CORDONED_BY: mark } }), json!({ "unschedulable": true }))
    };
    let bare = node(json!({}), json!({ "unschedulable": true }));
    let (client, server) =
        scripted(vec![step(NODE, bare), step(NODE, by("swap-0")), step(NODE, by("swap-1"))]);
    assert_eq!(node::cordon(&client, &name(), "swap-1").await.unwrap(), Cordon::ByOther);
    assert_eq!(node::cordon(&client, &name(), "swap-1").await.unwrap(), Cordon::ByOther);
    assert_eq!(node::cordon(&client, &name(), "swap-1").await.unwrap(), Cordon::Ours);
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn a_cordon_that_lost_the_race_looks_again() {
    let cordoned = node(json!({}), json!({ "unschedulable": true }));
    let (client, server) = scripted(vec![
        step(NODE, node(json!({}), json!({}))),
        fails(PATCH, 409, "Conflict", "modified", json!({})),
        step(NODE, cordoned),
    ]);
    assert_eq!(node::cordon(&client, &name(), "swap-1").await.unwrap(), Cordon::ByOther);
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn uncordon_undoes_what_we_did_and_no_more() {
    let mark = json!({ node::CORDONED_BY: "swap-1" });
    let labelled = json!({ "annotations": mark, "labels": { node::EXCLUDE_FROM_LOAD_BALANCERS: "true" } });
    let (client, server) = scripted(vec![
        step(NODE, node(json!({}), json!({ "unschedulable": true }))),
        step(NODE, node(labelled, json!({ "unschedulable": true }))),
        step(PATCH, node(json!({}), json!({}))),
        fails(NODE, 404, "NotFound", "nodes \"n1\" not found", json!({})),
    ]);
    for _ in 0..3 {
        node::uncordon(&client, &name(), "swap-1").await.unwrap();
    }
    drop(client);
    let patch = &server.await.unwrap()[2];
    assert_eq!(patch["spec"]["unschedulable"], Value::Null);
    assert_eq!(patch["metadata"]["labels"], json!({}), "the owner's own label stays");
}

#[tokio::test]
async fn the_autoscaler_is_kept_away_by_a_mark_of_ours_and_an_owners_own_word_stays() {
    let owners = json!({ "annotations": { node::SCALE_DOWN_DISABLED: "false" } });
    let (client, server) = scripted(vec![
        step(NODE, node(json!({}), json!({}))),
        step(PATCH, node(json!({}), json!({}))),
        step(NODE, node(owners, json!({}))),
        fails(NODE, 404, "NotFound", "nodes \"n1\" not found", json!({})),
    ]);
    for _ in 0..3 {
        node::keep(&client, &name(), "swap-1").await.unwrap();
    }
    drop(client);
    let patch = &server.await.unwrap()[1];
    assert_eq!(
        patch["metadata"]["annotations"],
        json!({ node::SCALE_DOWN_DISABLED: "true", node::KEPT_BY: "swap-1" })
    );
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
}

#[tokio::test]
async fn what_keeps_the_autoscaler_away_is_taken_off_without_touching_anothers_cordon() {
    let kept = |by: &str| json!({ "annotations": { node::SCALE_DOWN_DISABLED: "true", node::KEPT_BY: by } });
    let (client, server) = scripted(vec![
        step(NODE, node(kept("swap-0"), json!({}))),
        step(NODE, node(kept("swap-1"), json!({ "unschedulable": true }))),
        step(PATCH, node(json!({}), json!({}))),
    ]);
    for _ in 0..2 {
        node::uncordon(&client, &name(), "swap-1").await.unwrap();
    }
    drop(client);
    let patch = &server.await.unwrap()[2];
    assert_eq!(
        patch["metadata"]["annotations"],
        json!({ node::SCALE_DOWN_DISABLED: null, node::KEPT_BY: null })
    );
    assert_eq!(patch["spec"], json!({}), "the cordon is somebody else's");
}

#[tokio::test]
async fn a_pass_evicts_each_pod_once_by_its_uid_and_says_what_is_left() {
    let blocked = json!({ "causes": [{ "reason": "DisruptionBudget",
                          "message": "The disruption budget web needs 1 healthy pods and has 1 currently" }] });
    let (client, server) = scripted(vec![
        step(PODS, list(vec![pod("a", json!({}))], "more")),
        step(
            "GET /api/v1/pods?&fieldSelector=spec.nodeName%3Dn1&limit=100&continue=more",
            list(vec![pod("b", json!({}))], ""),
        ),
        step(SET, replica_set()),
        step(OWNED, list(vec![pod("a", json!({})), pod("b", json!({})), pod("c", json!({}))], "")),
        step(EVICT_A, granted()),
        fails(EVICT_B, 429, "TooManyRequests", "Cannot evict pod", blocked),
        // The second pass at once: a is on its way out, b is left alone for 5 s.
        step(
            PODS,
            list(
                vec![pod("a", json!({ "deletionTimestamp": "2026-11-25T00:00:00Z" })), pod("b", json!({}))],
                "",
            ),
        ),
    ]);
    let first = pass(&client, drain::State::default()).await.unwrap();
    assert_eq!((first.state.evicted, first.remaining.len(), first.is_done), (1, 2, false));
    assert_eq!(first.blocked[0].budget.as_deref(), Some("web"));
    assert_eq!(first.state.owed[0].ready_before, 3);
    let blocked = first.blocked[0].clone();
    let second = pass(&client, first.state).await.unwrap();
    assert_eq!((second.state.evicted, second.remaining.len(), second.is_done), (1, 2, false));
    assert_eq!(second.blocked[0], blocked, "what blocks is still known");
    assert!(second.blocked[1].why.starts_with("Terminating for"), "{:?}", second.blocked[1]);
    drop(client);
    let eviction = &server.await.unwrap()[4];
    assert_eq!(eviction["deleteOptions"]["preconditions"]["uid"], "uid-a");
}

#[tokio::test]
async fn a_failure_in_the_body_of_a_201_is_no_eviction() {
    let said =
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
    let mut answer = fails(EVICT_A, 500, "InternalError", said, json!({}));
    answer.status = 201;
    let (client, server) = scripted(vec![
        step(PODS, list(vec![pod("a", json!({}))], "")),
        step(SET, replica_set()),
        step(OWNED, list(vec![pod("a", json!({})), pod("b", json!({})), pod("c", json!({}))], "")),
        answer,
    ]);
    let pass = pass(&client, drain::State::default()).await.unwrap();
    assert_eq!((pass.state.evicted, pass.is_done), (0, false));
    assert_eq!(pass.blocked[0].why, said);
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn a_pod_that_is_gone_is_done_and_trouble_keeps_what_was_done() {
    let (client, server) = scripted(vec![
        step(PODS, list(vec![pod("a", json!({})), pod("b", json!({}))], "")),
        step(SET, replica_set()),
        step(OWNED, list(vec![pod("a", json!({})), pod("b", json!({})), pod("c", json!({}))], "")),
        fails(EVICT_A, 404, "NotFound", "pods \"a\" not found", json!({})),
        fails(EVICT_B, 503, "ServiceUnavailable", "etcd is away", json!({})),
    ]);
    let pass = pass(&client, drain::State::default()).await.unwrap();
    assert_eq!(pass.remaining.iter().map(|p| p.pod.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(pass.trouble.map(|t| t.kind), Some(Kind::Retry));
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn a_missing_verb_ends_the_drain() {
    let (client, server) = scripted(vec![
        step(PODS, list(vec![pod("a", json!({}))], "")),
        step(SET, replica_set()),
        step(OWNED, list(vec![pod("a", json!({})), pod("b", json!({})), pod("c", json!({}))], "")),
        fails(EVICT_A, 403, "Forbidden", "cannot create resource \"pods/eviction\"", json!({})),
    ]);
    let error = pass(&client, drain::State::default()).await.unwrap_err();
    assert_eq!((error.kind, error.object.as_str()), (Kind::Denied, "shop/a"));
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn an_empty_node_is_drained_without_a_write() {
    let (client, server) = scripted(vec![step(PODS, list(vec![], ""))]);
    let pass = pass(&client, drain::State::default()).await.unwrap();
    assert!(pass.is_done);
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn a_preflight_only_reads() {
    let raw = node(json!({}), json!({ "providerID": "i-0000000000000000b" }));
    let budgets = "GET /apis/policy/v1/namespaces/shop/poddisruptionbudgets?&limit=100";
    let (client, server) = scripted(vec![
        step(NODE, raw),
        step(PODS, list(vec![pod("a", json!({}))], "")),
        step(budgets, list(vec![], "")),
        step(SET, replica_set()),
    ]);
    let node = node::get(&client, &name()).await.unwrap().unwrap();
    let terms = Terms { policy: Policy::default(), drain_timeout_seconds: 1800 };
    let look = preflight::look(&client, node, terms).await.unwrap();
    // The report is made from the look alone; any further request would fail the test.
    assert_eq!(preflight::report(&look).would_move.len(), 1);
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn migrated_names_the_controller_that_lacks_a_ready_pod() {
    let (client, server) = scripted(vec![
        step(PODS, list(vec![pod("a", json!({}))], "")),
        step(SET, replica_set()),
        step(OWNED, list(vec![pod("a", json!({})), pod("c", json!({}))], "")),
        step(SET, replica_set()),
        step(OWNED, list(vec![pod("c", json!({}))], "")),
        step(SET, replica_set()),
        step(OWNED, list(vec![pod("c", json!({})), pod("d", json!({}))], "")),
        fails(SET, 404, "NotFound", "gone", json!({})),
    ]);
    let state = drain::begin(&client, &name(), Policy::default()).await.unwrap();
    let missing = drain::migrated(&client, &state).await.unwrap();
    assert_eq!((missing[0].controller.name.as_str(), missing[0].ready, missing[0].wanted), ("web", 1, 2));
    assert_eq!(drain::migrated(&client, &state).await.unwrap(), []);
    assert_eq!(drain::migrated(&client, &state).await.unwrap(), [], "a deleted controller owes nothing");
    drop(client);
    server.await.unwrap();
}

fn owned(names: &[&str]) -> Step {
    step(OWNED, list(names.iter().map(|name| pod(name, json!({}))).collect(), ""))
}

fn on_node(names: &[&str]) -> Step {
    step(PODS, list(names.iter().map(|name| pod(name, json!({}))).collect(), ""))
}

#[tokio::test]
async fn the_last_ready_pod_stays_until_another_is_ready() {
    let (client, server) = scripted(vec![
        on_node(&["a", "b"]),
        step(SET, replica_set()),
        owned(&["a", "b"]),
        step(EVICT_B, granted()),
        // The second pass: the replacement is not Ready yet. The third one: it is.
        on_node(&["a"]),
        step(SET, replica_set()),
        owned(&["a"]),
        on_node(&["a"]),
        step(SET, replica_set()),
        owned(&["a", "c"]),
        step(EVICT_A, granted()),
    ]);
    let first = pass(&client, drain::State::default()).await.unwrap();
    let second = pass(&client, first.state).await.unwrap();
    assert_eq!((second.state.evicted, second.blocked[0].pod.as_str()), (1, "a"));
    assert!(
        second.blocked[0].why.contains("the last Ready pod of ReplicaSet shop/web"),
        "{:?}",
        second.blocked
    );
    let third = pass(&client, second.state).await.unwrap();
    assert_eq!((third.state.evicted, third.state.last_ready_evicted.len()), (2, 0));
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn near_the_deadline_the_last_ready_pod_goes_too_and_is_noted() {
    let (client, server) =
        scripted(vec![on_node(&["a"]), step(SET, replica_set()), owned(&["a"]), step(EVICT_A, granted())]);
    let node = name();
    let late = drain::pass(&client, &node, Policy::default(), LastReady::Evict, drain::State::default());
    let state = late.await.unwrap().state;
    assert_eq!((state.evicted, state.last_ready_evicted), (1, vec!["ReplicaSet shop/web".to_owned()]));
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn a_pod_that_comes_back_twice_is_named_and_left_alone() {
    let one = json!({ "metadata": { "name": "web", "uid": "rs1" },
                      "spec": { "replicas": 1, "selector": { "matchLabels": { "app": "web" } } } });
    let (client, server) = scripted(vec![
        on_node(&["a"]),
        step(SET, one),
        owned(&["a"]),
        step(EVICT_A, granted()),
        on_node(&["b"]),
        step(EVICT_B, granted()),
        on_node(&["c"]),
        on_node(&["c"]),
    ]);
    let mut state = drain::State::default();
    for _ in 0..3 {
        state = pass(&client, state).await.unwrap().state;
    }
    let last = pass(&client, state).await.unwrap();
    assert_eq!((last.state.evicted, last.is_done), (2, false));
    assert_eq!(last.blocked[0].pod, "c");
    assert!(last.blocked[0].why.contains("evicted 2 times and came back"), "{:?}", last.blocked);
    drop(client);
    server.await.unwrap();
}

/// A pod of the ReplicaSet, with this spec.
fn with_spec(name: &str, spec: Value) -> Value {
    let mut pod = pod(name, json!({}));
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

#[tokio::test]
async fn while_a_pod_cant_leave_nobody_is_evicted_and_after_three_passes_it_is_stuck() {
    let scratch = with_spec("s", json!({ "volumes": [{ "name": "scratch", "emptyDir": {} }] }));
    let both = || step(PODS, list(vec![pod("a", json!({})), scratch.clone()], ""));
    let (client, server) = scripted(vec![
        both(),
        step(SET, replica_set()),
        owned(&["a", "b", "s"]),
        both(),
        both(),
        // The owner has waived the obstacle.
        on_node(&["a"]),
        step(SET, replica_set()),
        owned(&["a", "b"]),
        step(EVICT_A, granted()),
    ]);
    let mut state = drain::State::default();
    for stuck in [vec![], vec![], vec!["s"]] {
        let pass = pass(&client, state).await.unwrap();
        assert_eq!(pass.stuck.iter().map(|b| b.pod.as_str()).collect::<Vec<_>>(), stuck);
        assert_eq!((pass.state.evicted, pass.blocked.len()), (0, 2));
        assert!(
            pass.blocked.iter().any(|b| b.pod == "s" && b.why.contains("emptyDir")),
            "{:?}",
            pass.blocked
        );
        state = pass.state;
    }
    let last = pass(&client, state).await.unwrap();
    assert_eq!((last.state.evicted, last.state.stuck_passes, last.stuck.len()), (1, 0, 0));
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn a_pod_that_a_dead_kubelet_or_a_finalizer_keeps_is_overdue() {
    let told = |name: &str, at: &str| {
        pod(name, json!({ "deletionTimestamp": at, "deletionGracePeriodSeconds": 30 }))
    };
    let now = jiff::Timestamp::now().to_string();
    let mut held = told("h", "2020-11-25T00:00:30Z");
    held["metadata"]["finalizers"] = json!(["example.org/hold"]);
    let (client, server) = scripted(vec![
        step(PODS, list(vec![told("a", "2020-11-25T00:00:30Z"), held, told("b", &now)], "")),
        step(SET, replica_set()),
        owned(&["a", "b", "h"]),
    ]);
    let pass = pass(&client, drain::State::default()).await.unwrap();
    assert_eq!(pass.overdue.iter().map(|b| b.pod.as_str()).collect::<Vec<_>>(), ["h", "a"]);
    assert!(pass.stuck.is_empty() && pass.ending.is_empty() && !pass.is_done);
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn from_a_node_that_is_about_to_be_lost_whoever_can_leave_does() {
    let scratch = with_spec("s", json!({ "volumes": [{ "name": "scratch", "emptyDir": {} }] }));
    let (client, server) = scripted(vec![
        step(PODS, list(vec![pod("a", json!({})), scratch], "")),
        step(SET, replica_set()),
        owned(&["a", "b", "s"]),
        step(EVICT_A, granted()),
    ]);
    let manner = Manner { last_ready: LastReady::Keep, others: Others::Go };
    let node = name();
    let pass = drain::pass(&client, &node, Policy::default(), manner, drain::State::default());
    assert_eq!(pass.await.unwrap().state.evicted, 1);
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn a_pod_that_ends_by_itself_is_waited_for_and_the_others_go() {
    let volumes = json!([{ "name": "scratch", "emptyDir": {} }]);
    let once = with_spec("s", json!({ "volumes": volumes, "restartPolicy": "Never" }));
    let both = || step(PODS, list(vec![pod("a", json!({})), once.clone()], ""));
    let gone = pod("a", json!({ "deletionTimestamp": "2026-11-25T00:00:00Z" }));
    let (client, server) = scripted(vec![
        both(),
        step(SET, replica_set()),
        owned(&["a", "b", "s"]),
        step(EVICT_A, granted()),
        step(PODS, list(vec![gone, once.clone()], "")),
    ]);
    let first = pass(&client, drain::State::default()).await.unwrap();
    let second = pass(&client, first.state).await.unwrap();
    for pass in [first.stuck.len(), second.stuck.len(), second.state.stuck_passes as usize] {
        assert_eq!(pass, 0);
    }
    assert_eq!(second.ending.iter().map(|b| b.pod.as_str()).collect::<Vec<_>>(), ["s"]);
    assert!(!second.is_done);
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn a_pod_that_the_cordon_does_not_keep_off_goes_first() {
    let open = with_spec("b", json!({ "tolerations": [{ "operator": "Exists" }] }));
    let three = json!({ "metadata": { "name": "web", "uid": "rs1" },
                        "spec": { "replicas": 3, "selector": { "matchLabels": { "app": "web" } } } });
    let (client, server) = scripted(vec![
        step(PODS, list(vec![pod("a", json!({})), open], "")),
        step(SET, three),
        owned(&["a", "b", "c"]),
        step(EVICT_B, granted()),
        step(EVICT_A, granted()),
    ]);
    let pass = pass(&client, drain::State::default()).await.unwrap();
    assert_eq!(pass.state.evicted, 2);
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn a_right_that_volumes_need_later_is_missed_before_anything_is_changed() {
    let volume = json!({ "name": "data", "persistentVolumeClaim": { "claimName": "data" } });
    let holds = with_spec("a", json!({ "volumes": [volume] }));
    let drivers = "GET /apis/storage.k8s.io/v1/csinodes/n1";
    let attachments = "GET /apis/storage.k8s.io/v1/volumeattachments?&limit=1";
    let forbidden = |request| fails(request, 403, "Forbidden", "cannot get it", json!({}));
    let begins = || {
        vec![
            step(NODE, node(json!({}), json!({}))),
            step(PODS, list(vec![holds.clone()], "")),
            step("GET /apis/policy/v1/namespaces/shop/poddisruptionbudgets?&limit=100", list(vec![], "")),
            step("GET /api/v1/namespaces/shop/persistentvolumeclaims/data", json!({ "spec": {} })),
        ]
    };
    let no_node = fails(drivers, 404, "NotFound", "no", json!({}));
    for (asked, call) in [
        (vec![forbidden(drivers)], "get csinodes"),
        (vec![no_node, forbidden(attachments)], "list volumeattachments"),
    ] {
        let (client, server) = scripted(begins().into_iter().chain(asked).collect());
        let node = node::get(&client, &name()).await.unwrap().unwrap();
        let terms = Terms { policy: Policy::default(), drain_timeout_seconds: 1800 };
        let error = preflight::look(&client, node, terms).await.unwrap_err();
        assert_eq!((error.kind, error.call), (Kind::Denied, call));
        drop(client);
        server.await.unwrap();
    }
}

#[tokio::test]
async fn only_the_volumes_of_pods_that_move_are_waited_for() {
    let attachment = |volume: &str| {
        json!({ "metadata": { "name": format!("at-{volume}") }, "spec": { "attacher": "ebs.csi.aws.com",
                "nodeName": "n1", "source": { "persistentVolumeName": volume } } })
    };
    let volume = |claim: &str| json!({ "spec": { "claimRef": { "namespace": "shop", "name": claim } } });
    let bound = |to: &str| json!({ "spec": { "volumeName": to } });
    let claim = |name: &'static str| format!("GET /api/v1/namespaces/shop/persistentvolumeclaims/{name}");
    let claims = [claim("data"), claim("gone")].map(|request| &*request.leak());
    let missing = || json!({});
    let (client, server) = scripted(vec![
        step(
            "GET /apis/storage.k8s.io/v1/volumeattachments?&limit=250",
            list(["pv-a", "pv-b", "pv-c", "pv-d", "pv-e"].map(attachment).into(), ""),
        ),
        step("GET /api/v1/persistentvolumes/pv-a", volume("data")),
        step(claims[0], bound("pv-a")),
        step("GET /api/v1/persistentvolumes/pv-b", volume("of-another")),
        step("GET /api/v1/persistentvolumes/pv-c", volume("gone")),
        fails(claims[1], 404, "NotFound", "gone", missing()),
        step("GET /api/v1/persistentvolumes/pv-d", volume("data")), // released by an earlier claim of that name
        step(claims[0], bound("pv-a")),
        fails("GET /api/v1/persistentvolumes/pv-e", 404, "NotFound", "gone", missing()),
    ]);
    let moved = ["shop/data", "shop/gone"].map(str::to_owned).into();
    assert_eq!(volumes::attached(&client, &name(), &moved).await.unwrap(), ["pv-a"]);
    assert!(
        volumes::attached(&client, &name(), &std::collections::BTreeSet::new()).await.unwrap().is_empty()
    );
    drop(client);
    server.await.unwrap();
}
