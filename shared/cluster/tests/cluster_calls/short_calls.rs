//! Controllers that have fewer pods than they want before the drain begins.

use super::*;

const STATEFUL_SET: &str = "GET /apis/apps/v1/namespaces/shop/statefulsets/db";

/// A StatefulSet of three that starts its pods all at once.
fn of_three() -> Step {
    let selector = json!({ "matchLabels": { "app": "web" } });
    let spec = json!({ "replicas": 3, "podManagementPolicy": "Parallel", "selector": selector,
                       "serviceName": "db", "template": {} });
    step(STATEFUL_SET, json!({ "metadata": { "name": "db", "uid": "ss1" }, "spec": spec }))
}

fn member(name: &str, change: Value) -> Value {
    let owner = json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "ss1",
                         "controller": true }]);
    let mut member = pod(name, change);
    member["metadata"]["ownerReferences"] = owner;
    member
}

fn ready(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| member(name, json!({}))).collect()
}

fn unready(name: &str) -> Value {
    let mut member = member(name, json!({}));
    member["status"]["conditions"][0]["status"] = json!("False");
    member
}

fn here(names: &[&str]) -> Step {
    step(PODS, list(ready(names), ""))
}

fn anywhere(members: Vec<Value>) -> Step {
    step(OWNED, list(members, ""))
}

async fn pass_of(client: &Client, last_ready: LastReady, state: drain::State) -> drain::Pass {
    drain::pass(client, &name(), Policy::default(), last_ready, state).await.unwrap()
}

/// An earlier drain evicted the third pod, and a webhook refuses its replacement.
#[tokio::test]
async fn a_set_that_lost_a_pod_to_an_earlier_drain_keeps_the_others_even_near_the_deadline() {
    let (client, server) = scripted(vec![
        here(&["a", "b"]),
        of_three(),
        anywhere(ready(&["a", "b"])),
        here(&["a", "b"]),
        of_three(),
        anywhere(ready(&["a", "b"])),
    ]);
    let early = pass_of(&client, LastReady::Keep, drain::State::default()).await;
    let late = pass_of(&client, LastReady::Evict, early.state).await;
    assert_eq!((late.state.evicted, late.unreplaced.len()), (0, 2), "{:?}", late.blocked);
    assert!(late.blocked[0].why.contains("2 of 3 pods exist"), "{:?}", late.blocked);
    drop(client);
    server.await.unwrap();
}

/// A way back carries the turns alone from visit to visit. A pod that fails meanwhile explains nothing.
#[tokio::test]
async fn a_way_back_goes_by_its_first_count() {
    let (client, server) = scripted(vec![
        here(&["a", "b"]),
        of_three(),
        anywhere(ready(&["a", "b"])),
        here(&["a"]),
        of_three(),
        anywhere(vec![member("a", json!({})), unready("b")]),
    ]);
    let first = pass_of(&client, LastReady::Keep, drain::State::default()).await;
    let next = drain::State { turns: first.state.turns, ..drain::State::default() };
    let second = pass_of(&client, LastReady::Evict, next).await;
    assert_eq!((second.state.evicted, second.unreplaced.len()), (0, 1), "{:?}", second.blocked);
    assert!(second.blocked[0].why.contains("2 of 3 pods exist"), "{:?}", second.blocked);
    drop(client);
    server.await.unwrap();
}

/// The name of the third pod is free only once that pod has ended.
#[tokio::test]
async fn a_set_waits_for_no_replacement_of_a_pod_that_cant_end_on_a_dead_node() {
    let told = json!({ "deletionTimestamp": "2020-11-25T00:00:30Z", "deletionGracePeriodSeconds": 30 });
    let all = [ready(&["a", "b"]), vec![member("c", told)]].concat();
    let (client, server) =
        scripted(vec![here(&["a", "b"]), of_three(), anywhere(all), step(EVICT_A, granted())]);
    let first = pass_of(&client, LastReady::Keep, drain::State::default()).await;
    assert_eq!(first.state.evicted, 1, "{:?}", first.blocked);
    drop(client);
    server.await.unwrap();
}
