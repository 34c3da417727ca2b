//! The calls themselves: a real kube client over a scripted API server. Each test expects exactly these
//! requests, in this order.
#![allow(clippy::unwrap_used, clippy::panic, clippy::needless_pass_by_value)] // helpers of tests

mod drain_calls;
mod node_calls;
mod overdue_calls;
mod preflight_calls;
mod short_calls;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use spot_cluster::drain::{LastReady, Manner, Others};
use spot_cluster::node::{self, NodeName};
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

fn owned(names: &[&str]) -> Step {
    step(OWNED, list(names.iter().map(|name| pod(name, json!({}))).collect(), ""))
}

fn on_node(names: &[&str]) -> Step {
    step(PODS, list(names.iter().map(|name| pod(name, json!({}))).collect(), ""))
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

/// A pod of the ReplicaSet, with this spec.
fn with_spec(name: &str, spec: Value) -> Value {
    let mut pod = pod(name, json!({}));
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}
