//! The API server answers as Kubernetes does, and pods move as they do there.

#![allow(clippy::unwrap_used)]

use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::fleet::{AwsHabits, Fleet, GroupSpec};
use crate::virtual_time::BEGIN;
use crate::wire::{ApiAnswer, ApiCall};

const PODS: &str = "/api/v1/namespaces/shop/pods";

struct Played {
    fleet: Fleet,
    cluster: Cluster,
    now: Timestamp,
}

impl Played {
    fn of(size: u32) -> Self {
        let group = GroupSpec { size, max: size, ..GroupSpec::default() };
        let fleet = Fleet::with_group(&group, AwsHabits::default(), BEGIN);
        let cluster = Cluster::of(&ClusterSpec::default(), &fleet, BEGIN);
        Self { fleet, cluster, now: BEGIN }
    }

    fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.fleet.pass(self.now);
        self.cluster.pass(&self.fleet, self.now);
    }

    fn call(&mut self, method: &Method, path: &str, query: &str, body: &Value) -> ApiAnswer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let call = ApiCall::to_api_server("us-east-1", method, path, query, body.as_bytes());
        self.cluster.carry_out(&call, self.now)
    }

    fn get(&mut self, path: &str, query: &str) -> Value {
        serde_json::from_str(&self.call(&Method::GET, path, query, &Value::Null).body).unwrap()
    }

    fn evict(&mut self, name: &str, uid: &str) -> ApiAnswer {
        let body = json!({"deleteOptions": {"preconditions": {"uid": uid}}});
        self.call(&Method::POST, &format!("{PODS}/{name}/eviction"), "", &body)
    }

    fn patch(&mut self, node: &str, patch: &Value) -> u16 {
        self.call(&Method::PATCH, &format!("/api/v1/nodes/{node}"), "", patch).status
    }

    fn pods_of(&self, workload: &str) -> Vec<ClusterPod> {
        self.cluster.pods().filter(|pod| pod.workload == workload).cloned().collect()
    }
}

#[test]
fn a_budget_refuses_until_the_replacement_serves() {
    let mut played = Played::of(2);
    let web = played.pods_of("web");
    assert_eq!(played.evict(&web[0].name, &web[0].uid).status, 201);
    let refused = played.evict(&web[1].name, &web[1].uid);
    assert_eq!(refused.status, 429);
    assert!(refused.body.contains("needs 2 healthy pods and has 2 currently"), "{}", refused.body);
    assert_eq!(played.evict(&web[0].name, &web[0].uid).status, 201, "it is ending already");
    played.wait(1);
    played.wait(20);
    assert_eq!(played.cluster.serving("web"), 3);
    assert_eq!(played.evict(&web[1].name, &web[1].uid).status, 201);
}

#[test]
fn an_eviction_is_about_one_uid() {
    let mut played = Played::of(2);
    let db = played.pods_of("db").remove(0);
    assert_eq!(played.evict(&db.name, &db.uid).status, 201);
    assert_eq!(played.pods_of("db").len(), 1, "no second pod has the name");
    played.wait(10);
    let again = played.pods_of("db").remove(0);
    assert!(again.name == db.name && again.uid != db.uid);
    assert_eq!(played.evict(&db.name, &db.uid).status, 409);
    assert_eq!(played.evict("db-7", &db.uid).status, 404);
}

#[test]
fn a_cordoned_node_takes_no_pod_but_that_of_an_agent() {
    let mut played = Played::of(2);
    let node = played.cluster.nodes().keys().next().unwrap().clone();
    assert_eq!(played.patch(&node, &json!({"spec": {"unschedulable": true}})), 200);
    let pods = played.cluster.pods().filter(|pod| pod.node.as_ref() == Some(&node)).cloned();
    for pod in pods.collect::<Vec<_>>() {
        if !pod.workload.is_empty() {
            played.evict(&pod.name, &pod.uid);
        }
    }
    played.wait(10);
    played.wait(20);
    let left = played.get("/api/v1/pods", &format!("fieldSelector=spec.nodeName%3D{node}"));
    let left: Vec<_> = left["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| pod["metadata"]["labels"]["app"].clone())
        .collect();
    assert_eq!(left, [json!("agent"), json!("")], "the agent's new one and the mirror pod");
}

#[test]
fn a_patch_of_an_older_version_is_refused_and_null_removes_a_field() {
    let mut played = Played::of(1);
    let name = played.cluster.nodes().keys().next().unwrap().clone();
    let path = format!("/api/v1/nodes/{name}");
    let version = played.get(&path, "")["metadata"]["resourceVersion"].clone();
    let mark = |version: &Value, by: Value| json!({"metadata": {"resourceVersion": version, "annotations": {"by": by}}});
    assert_eq!(played.patch(&name, &mark(&version, json!("us"))), 200);
    assert_eq!(played.patch(&name, &mark(&version, Value::Null)), 409);
    let version = played.get(&path, "")["metadata"]["resourceVersion"].clone();
    assert_eq!(played.patch(&name, &mark(&version, Value::Null)), 200);
    assert_eq!(played.get(&path, "")["metadata"]["annotations"], json!({}));
}

#[test]
fn a_list_comes_in_pages() {
    let mut played = Played::of(2);
    let first = played.get("/api/v1/nodes", "limit=1");
    assert_eq!(first["items"].as_array().unwrap().len(), 1);
    let second = played.get(
        "/api/v1/nodes",
        &format!("limit=1&continue={}", first["metadata"]["continue"].as_str().unwrap()),
    );
    assert!(second["metadata"]["continue"].is_null());
    assert_ne!(first["items"], second["items"]);
}

#[test]
fn a_node_goes_with_its_instance_and_its_pods_come_back_elsewhere() {
    let mut played = Played::of(2);
    let lost = played.cluster.nodes().values().next().unwrap().instance_id.clone();
    played.fleet.instance_dies(&lost, played.now);
    for _ in 0..12 {
        played.wait(10);
    }
    assert!(played.cluster.node_of(&lost).is_none());
    assert_eq!(played.cluster.serving("web"), 3);
}

#[test]
fn what_no_client_of_ours_asks_is_not_in_the_world() {
    let mut played = Played::of(1);
    let web = played.pods_of("web").remove(0);
    let path = format!("{PODS}/{}", web.name);
    for (method, path, query) in [
        (Method::DELETE, path.as_str(), ""),
        (Method::GET, "/api/v1/secrets", ""),
        (Method::GET, "/api/v1/pods", "labelSelector=tier%3Dweb"),
        (Method::GET, "/apis/apps/v1/namespaces/shop/deployments/web", ""),
    ] {
        let answer = played.call(&method, path, query, &Value::Null);
        assert!(answer.status == 404 && answer.body.contains("is not in the world"), "{method} {path}");
    }
    assert_eq!(played.pods_of("web").len(), 3);
}
