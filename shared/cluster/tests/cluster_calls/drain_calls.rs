//! A pass of the drain: who is evicted, who waits, what is left.

use spot_domain::clock;

use super::*;

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
async fn the_last_ready_pod_stays_until_another_is_ready() {
    let (client, server) = scripted(vec![
        on_node(&["a", "b"]),
        step(SET, replica_set()),
        owned(&["a", "b"]),
        step(EVICT_A, granted()),
        // The second pass: the replacement is not Ready yet. The third one: it is.
        on_node(&["b"]),
        step(SET, replica_set()),
        step(OWNED, list(vec![pod("b", json!({})), unready("c")], "")),
        on_node(&["b"]),
        step(SET, replica_set()),
        owned(&["b", "c"]),
        step(EVICT_B, granted()),
    ]);
    let first = pass(&client, drain::State::default()).await.unwrap();
    let second = pass(&client, first.state).await.unwrap();
    assert_eq!((second.state.evicted, second.blocked[0].pod.as_str()), (1, "b"));
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
    let (client, server) = scripted(vec![
        on_node(&["a"]),
        step(SET, replica_set()),
        step(OWNED, list(vec![pod("a", json!({})), unready("c")], "")),
        step(EVICT_A, granted()),
    ]);
    let node = name();
    let late = drain::pass(&client, &node, Policy::default(), LastReady::Evict, drain::State::default());
    let state = late.await.unwrap().state;
    assert_eq!((state.evicted, state.last_ready_evicted), (1, vec!["ReplicaSet shop/web".to_owned()]));
    drop(client);
    server.await.unwrap();
}

fn unready(name: &str) -> Value {
    let mut pod = pod(name, json!({}));
    pod["status"]["conditions"][0]["status"] = json!("False");
    pod
}

fn of_four() -> Value {
    let parent = json!([{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d1", "controller": true }]);
    json!({ "metadata": { "name": "web", "uid": "rs1", "ownerReferences": parent },
            "spec": { "replicas": 4, "selector": { "matchLabels": { "app": "web" } } } })
}

#[tokio::test]
async fn the_others_follow_the_first_pod_only_once_its_replacement_is_ready() {
    let (client, server) = scripted(vec![
        on_node(&["a", "b", "c", "d"]),
        step(SET, of_four()),
        owned(&["a", "b", "c", "d"]),
        step(EVICT_A, granted()),
        on_node(&["b", "c", "d"]),
        step(SET, of_four()),
        step(
            OWNED,
            list(vec![pod("b", json!({})), pod("c", json!({})), pod("d", json!({})), unready("e")], ""),
        ),
        on_node(&["b"]),
        step(SET, of_four()),
        owned(&["b", "e", "f", "g"]),
        step(EVICT_B, granted()),
    ]);
    let first = pass(&client, drain::State::default()).await.unwrap();
    assert_eq!((first.state.evicted, first.remaining.len()), (1, 4));
    assert_eq!(first.state.owed[0].parent.as_deref(), Some("d1"));
    let second = pass(&client, first.state).await.unwrap();
    assert_eq!((second.state.evicted, second.remaining.len()), (1, 3), "{:?}", second.blocked);
    assert!(second.blocked[0].why.contains("fewer Ready pods than before"), "{:?}", second.blocked);
    assert_eq!(pass(&client, second.state).await.unwrap().state.evicted, 2);
    drop(client);
    server.await.unwrap();
}

/// An ordered StatefulSet is like that while one of its pods is not Ready.
#[tokio::test]
async fn a_controller_whose_pod_is_not_ready_lacks_none_of_those_that_it_had_not_before() {
    let mut of_five = of_four();
    of_five["spec"]["replicas"] = json!(5);
    let (client, server) = scripted(vec![
        on_node(&["a", "b"]),
        step(SET, of_five.clone()),
        step(OWNED, list(vec![pod("a", json!({})), pod("b", json!({})), unready("c")], "")),
        step(EVICT_A, granted()),
        on_node(&["b"]),
        step(SET, of_five),
        step(OWNED, list(vec![pod("b", json!({})), pod("d", json!({})), unready("c")], "")),
        step(EVICT_B, granted()),
    ]);
    let first = pass(&client, drain::State::default()).await.unwrap();
    let owed = &first.state.owed[0];
    assert_eq!((owed.ready_before, owed.least_alive), (2, Some(3)));
    assert_eq!(first.state.evicted, 1, "{:?}", first.blocked);
    let second = pass(&client, first.state).await.unwrap();
    assert_eq!(second.state.evicted, 2, "{:?}", second.blocked);
    drop(client);
    server.await.unwrap();
}

/// A way back carries the turns alone from visit to visit.
#[tokio::test]
async fn a_pod_without_a_replacement_is_missed_by_the_turns_alone() {
    let (client, server) = scripted(vec![
        on_node(&["a", "b", "c", "d"]),
        step(SET, of_four()),
        owned(&["a", "b", "c", "d"]),
        step(EVICT_A, granted()),
        on_node(&["b", "c", "d"]),
        step(SET, of_four()),
        owned(&["b", "c", "d"]),
    ]);
    let first = pass(&client, drain::State::default()).await.unwrap();
    let next = drain::State { turns: first.state.turns, ..drain::State::default() };
    let second = pass(&client, next).await.unwrap();
    assert_eq!((second.state.evicted, second.unreplaced.len()), (0, 3), "{:?}", second.blocked);
    assert!(second.blocked[0].why.contains("3 of 4 pods exist"), "{:?}", second.blocked);
    drop(client);
    server.await.unwrap();
}

/// A quota admits no new pod: one pod is lost, and the other three serve to the end.
#[tokio::test]
async fn no_pod_follows_one_that_the_api_server_does_not_admit_again_even_near_the_deadline() {
    let mut refused = of_four();
    refused["status"] = json!({ "replicas": 3, "conditions": [{ "type": "ReplicaFailure", "status": "True",
        "reason": "FailedCreate", "message": "exceeded quota: pods" }] });
    let (client, server) = scripted(vec![
        on_node(&["a", "b", "c", "d"]),
        step(SET, of_four()),
        owned(&["a", "b", "c", "d"]),
        step(EVICT_A, granted()),
        on_node(&["b", "c", "d"]),
        step(SET, refused),
        owned(&["b", "c", "d"]),
    ]);
    let first = pass(&client, drain::State::default()).await.unwrap();
    let node = name();
    let late = drain::pass(&client, &node, Policy::default(), LastReady::Evict, first.state).await.unwrap();
    assert_eq!((late.state.evicted, late.unreplaced.len(), late.state.last_ready_evicted.len()), (1, 3, 0));
    assert!(late.blocked[0].why.contains("exceeded quota: pods"), "{:?}", late.blocked);
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
    let gone = pod("a", json!({ "deletionTimestamp": clock::now().to_string() }));
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
    // All go at once: the node is about to be lost.
    let manner = Manner { last_ready: LastReady::Keep, others: Others::Go };
    let node = name();
    let pass = drain::pass(&client, &node, Policy::default(), manner, drain::State::default());
    assert_eq!(pass.await.unwrap().state.evicted, 2);
    drop(client);
    server.await.unwrap();
}
