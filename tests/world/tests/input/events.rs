//! The first doors: events of EventBridge, schedules, and what a person types as the input of an execution.

use std::fs;

use serde_json::{Value, json};
use spot_world::acts::Act;
use spot_world::arrival::Arrival;
use spot_world::cluster::ClusterSpec;
use spot_world::executions::{CLUSTER_SWAP, LAB_SWAP, NODE_SWAP};
use spot_world::fleet::GroupSpec;
use spot_world::lambda::Function;
use spot_world::scene::{LAB_ACCOUNT, Scene};
use spot_world::virtual_time::BEGIN;

use super::judge::{arrivals, is_of_step, judge};

/// Returns a sample event of the deployed stack.
fn sample(name: &str) -> Value {
    let path = format!("{}/../../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the event of a state machine's first task.
fn first_task(machine: &str, phase: &str, input: &Value) -> Value {
    let execution = format!("{}:by-hand", machine.replace(":stateMachine:", ":execution:"));
    json!({"phase": phase, "execution": execution, "input": input})
}

fn with(mut event: Value, field: &str, value: Value) -> Value {
    event[field] = value;
    event
}

/// Two tagged Spot members, of which EC2 takes the first one back.
fn interrupted() -> Scene {
    let tags = [("spot-optimizer:enabled".to_owned(), "true".to_owned())].into();
    let group = GroupSpec { size: 2, spot: 2, max: 4, tags, ..GroupSpec::default() };
    let acts = vec![(10, Act::MemberIsInterrupted(0, 1))];
    Scene { group, is_quiet: true, acts, to_risk_manager: vec![vec![0]], ..Scene::default() }
}

fn watched() -> Scene {
    let tags = [("spot-optimizer:enabled".to_owned(), "true".to_owned())].into();
    let group = GroupSpec { tags, ..GroupSpec::default() };
    Scene { group, is_quiet: true, watched_from: Some(20), ..Scene::default() }
}

fn nodes() -> Scene {
    let group = GroupSpec { size: 2, max: 3, ..GroupSpec::default() };
    Scene { group, nodes: Some(ClusterSpec::default()), ..Scene::default() }
}

/// Returns the inputs of a history that no step has written.
fn at_the_door(scene: &Scene) -> Vec<Arrival> {
    arrivals(scene).into_iter().filter(|arrival| !is_of_step(arrival)).collect()
}

#[test]
fn an_input_of_an_execution_is_taken_or_refused_by_its_field() {
    let (web, shop, lab) = (Scene::default(), nodes(), Scene::of_instance());
    let member = json!([web.first_member()]);
    let discover = |input: &Value| {
        let event = first_task(CLUSTER_SWAP, "Discover", input);
        Arrival::at_beginning(&web, Function::ClusterOptimizer, event)
    };
    let of_group = [
        discover(&sample("cluster-swap-input")),
        discover(&with(sample("cluster-swap-replace-input"), "replace", member)),
        discover(&sample("cluster-swap-to-on-demand-input")),
    ];
    judge(&web, &of_group, 60);
    let input = with(sample("node-swap-input"), "instance_id", json!(shop.first_member()));
    let event = with(first_task(NODE_SWAP, "Preflight", &input), "tries", json!(0));
    judge(&shop, &[Arrival::at_beginning(&shop, Function::KubernetesOptimizer, event)], 30);
    let input = with(sample("lab-swap-input"), "instance_id", json!(lab.first_instance()));
    let event = first_task(LAB_SWAP, "Discover", &with(input, "account_id", json!(LAB_ACCOUNT)));
    judge(&lab, &[Arrival::at_beginning(&lab, Function::LabOptimizer, event)], 30);
}

#[test]
fn a_notice_of_ec2_is_taken_or_refused_by_its_field() {
    let scene = interrupted();
    let door = at_the_door(&scene);
    for function in [Function::RiskManager, Function::InterruptionResponder] {
        assert!(door.iter().any(|arrival| arrival.function == function), "{function:?} hears nothing");
    }
    judge(&scene, &door, 80);
}

#[test]
fn drills_recommendations_and_tasks_are_taken_or_refused_by_their_fields() {
    let scene = interrupted();
    let notice = |name: &str| {
        let event = with(sample(name), "time", json!(BEGIN.to_string()));
        let about = with(event["detail"].clone(), "instance-id", json!(scene.first_member()));
        with(event, "detail", about)
    };
    let at = |function, event| Arrival::at_beginning(&scene, function, event);
    let inputs = [
        at(Function::RiskManager, notice("drill-interruption-warning")),
        at(Function::RiskManager, notice("rebalance-recommendation")),
        at(Function::RiskManager, sample("risk-clean-up")),
        at(Function::InterruptionResponder, notice("drill-interruption-warning")),
        at(Function::Reconciler, sample("execution-status-change")),
    ];
    judge(&scene, &inputs, 80);
}

#[test]
fn a_launch_of_auto_scaling_is_taken_or_refused_by_its_field() {
    let scene = watched();
    let launched = sample("instance-launched");
    let about = with(launched["detail"].clone(), "EC2InstanceId", json!(scene.first_member()));
    let inputs = [
        Arrival::at_beginning(&scene, Function::GroupWatcher, with(launched, "detail", about)),
        Arrival::at_beginning(&scene, Function::GroupWatcher, json!({"asg_name": "web"})),
    ];
    judge(&scene, &inputs, 60);
}
