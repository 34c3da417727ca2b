//! The promises about nodes and their pods can be broken.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::cluster::{ClusterPod, ClusterSpec};
use crate::fault::Plan;
use crate::fleet::GroupSpec;
use crate::scene::Scene;
use crate::virtual_time;
use crate::wire::ApiCall;
use crate::world::World;

/// Two nodes that a swap replaces.
fn two_nodes() -> World {
    let group = GroupSpec { size: 2, max: 3, ..GroupSpec::default() };
    let scene = Scene { group, nodes: Some(ClusterSpec::default()), ..Scene::default() };
    let mut world = scene.world(Plan::none());
    world.oracles.provenance.replaced.extend(world.fleet.instances().keys().cloned());
    world
}

/// Carries a call out, and returns the first promise that is broken.
fn breaks(world: &mut World, call: &ApiCall) -> Option<String> {
    let (number, _) = world.is_sent(call, None);
    world.carries_out(number, call);
    world.oracles.broken.clone()
}

fn to_aws(service: &str, body: &str) -> ApiCall {
    ApiCall::parse(service, "us-east-1", None, body.as_bytes()).unwrap()
}

fn to_api_server(method: &Method, path: &str, body: &Value) -> ApiCall {
    ApiCall::to_api_server("us-east-1", method, path, "", body.to_string().as_bytes())
}

fn pods_of(world: &World, workload: &str) -> Vec<ClusterPod> {
    let pods = world.cluster.iter().flat_map(|cluster| cluster.pods());
    pods.filter(|pod| pod.workload == workload).cloned().collect()
}

fn evict(pod: &ClusterPod) -> ApiCall {
    let path = format!("/api/v1/namespaces/shop/pods/{}/eviction", pod.name);
    to_api_server(&Method::POST, &path, &json!({"deleteOptions": {"preconditions": {"uid": pod.uid}}}))
}

fn first_node(world: &World) -> (String, String) {
    let node = world.cluster.as_ref().unwrap().nodes().values().next().unwrap();
    (node.name.clone(), node.instance_id.clone())
}

#[test]
fn a_termination_with_pods_on_the_node_breaks_a_promise() {
    let mut world = two_nodes();
    let (_, id) = first_node(&world);
    // That a member leaves is another promise.
    world.oracles.owner_asks("web", false, |wish| wish.desired = 1);
    let terminate = to_aws("ec2", &format!("Action=TerminateInstances&InstanceId.1={id}"));
    assert!(breaks(&mut world, &terminate).unwrap().ends_with("is left on its node"));
}

fn detach(world: &mut World, id: &str) -> String {
    world.oracles.owner_asks("web", false, |wish| wish.desired = 1);
    let detach = format!(
        "Action=DetachInstances&AutoScalingGroupName=web&InstanceIds.member.1={id}&ShouldDecrementDesiredCapacity=true"
    );
    breaks(world, &to_aws("autoscaling", &detach)).unwrap()
}

#[test]
fn a_detachment_with_pods_on_the_node_breaks_a_promise() {
    let mut world = two_nodes();
    let (_, id) = first_node(&world);
    assert!(detach(&mut world, &id).ends_with("is left on its node"));
}

#[test]
fn a_detachment_before_all_pods_serve_breaks_a_promise() {
    let mut world = two_nodes();
    let (name, id) = first_node(&world);
    world.cluster.as_mut().unwrap().owner_cordons(&name, true);
    let pods = world.cluster.iter().flat_map(|cluster| cluster.pods());
    let here = pods.filter(|pod| pod.must_move() && pod.node.as_ref() == Some(&name)).cloned();
    for pod in here.collect::<Vec<_>>() {
        assert_eq!(breaks(&mut world, &evict(&pod)), None);
    }
    virtual_time::skip(Duration::from_secs(7));
    let broken = detach(&mut world, &id);
    assert!(broken.ends_with("2 pods of web serve"), "{broken}");
}

#[test]
fn the_last_ready_pod_of_several_breaks_a_promise_and_the_first_does_not() {
    let mut world = two_nodes();
    let api = pods_of(&world, "api");
    assert_eq!(breaks(&mut world, &evict(&api[0])), None);
    assert!(breaks(&mut world, &evict(&api[1])).unwrap().contains("the last Ready pod of api"));
}

/// Evicts both pods of a workload at once, so long after the cordon of their nodes, and returns the promise that it breaks.
fn breaks_after(cordoned_for: u64, by: &str) -> Option<String> {
    virtual_time::begin();
    let mut world = two_nodes();
    world.oracles.settings.drain_timeout_seconds = 180;
    let names: Vec<String> = world.cluster.as_ref().unwrap().nodes().keys().cloned().collect();
    for name in names {
        world.cluster.as_mut().unwrap().owner_cordons(&name, true);
    }
    world.passes();
    virtual_time::skip(Duration::from_secs(cordoned_for));
    for pod in pods_of(&world, "api") {
        let evict = evict(&pod);
        let (number, _) = world.is_sent(&evict, None);
        by.clone_into(&mut world.chronicle.calls[number].by);
        assert_eq!(world.carries_out(number, &evict).status, 201);
    }
    world.oracles.broken
}

/// A drain keeps it for two thirds of its time, and a way back for five minutes.
#[test]
fn the_last_ready_pod_of_several_may_go_once_the_time_of_its_phase_is_over() {
    let cases = [
        (110, "KubernetesOptimizer Drain", true),
        (121, "KubernetesOptimizer Drain", false),
        (121, "KubernetesOptimizer Rollback", true),
        (290, "Reconciler event", true),
        (301, "Reconciler event", false),
    ];
    for (cordoned_for, by, is_broken) in cases {
        let told = breaks_after(cordoned_for, by);
        let is_told = told.as_ref().is_some_and(|told| told.contains("the last Ready pod of api"));
        assert_eq!((told.is_some(), is_told), (is_broken, is_broken), "{cordoned_for} s, {by}: {told:?}");
    }
}

#[test]
fn the_pod_of_an_agent_or_of_a_file_breaks_a_promise() {
    for workload in ["agent", ""] {
        let mut world = two_nodes();
        let pod = pods_of(&world, workload).remove(0);
        assert!(breaks(&mut world, &evict(&pod)).unwrap().contains("which stays with its node"));
    }
}

#[test]
fn a_deletion_is_not_in_the_world() {
    let mut world = two_nodes();
    let path = format!("/api/v1/namespaces/shop/pods/{}", pods_of(&world, "web")[0].name);
    let broken = breaks(&mut world, &to_api_server(&Method::DELETE, &path, &json!({}))).unwrap();
    assert!(broken.starts_with("DELETE /api/v1/"), "{broken}");
}

#[test]
fn a_cordon_that_is_left_breaks_a_promise_unless_it_is_the_owners() {
    let mut world = two_nodes();
    let (name, _) = first_node(&world);
    world.cluster.as_mut().unwrap().owner_cordons(&name, true);
    world.rests();
    assert_eq!(world.oracles.broken, None);
    let mut world = two_nodes();
    let path = format!("/api/v1/nodes/{name}");
    let cordon = to_api_server(&Method::PATCH, &path, &json!({"spec": {"unschedulable": true}}));
    assert_eq!(breaks(&mut world, &cordon), None);
    world.rests();
    assert!(world.oracles.broken.unwrap().contains("is cordoned"));
}
