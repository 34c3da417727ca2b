//! Pods that are Terminating beyond their grace period: which of them end a drain, and which are waited for.

use spot_domain::clock;

use super::*;

#[tokio::test]
async fn a_pod_that_a_dead_kubelet_or_a_finalizer_keeps_is_overdue() {
    let told = |name: &str, at: &str| {
        pod(name, json!({ "deletionTimestamp": at, "deletionGracePeriodSeconds": 30 }))
    };
    let now = clock::now().to_string();
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
async fn while_a_pod_does_not_end_nobody_is_evicted_and_after_three_passes_it_is_stuck() {
    let told = json!({ "deletionTimestamp": "2020-11-25T00:00:30Z", "deletionGracePeriodSeconds": 30 });
    let both = || step(PODS, list(vec![pod("a", told.clone()), pod("b", json!({}))], ""));
    let (client, server) =
        scripted(vec![both(), step(SET, replica_set()), owned(&["b", "c"]), both(), both()]);
    let mut state = drain::State::default();
    for stuck in [vec![], vec![], vec!["a"]] {
        let pass = pass(&client, state).await.unwrap();
        assert_eq!(pass.stuck.iter().map(|b| b.pod.as_str()).collect::<Vec<_>>(), stuck);
        assert_eq!((pass.state.evicted, pass.blocked.len()), (0, 2));
        state = pass.state;
    }
    drop(client);
    server.await.unwrap();
}

/// A finalizer, or the unmount of a network file system, takes longer than five minutes.
#[tokio::test]
async fn a_pod_that_was_evicted_is_waited_for_however_overdue_it_is_and_the_others_go() {
    let told = json!({ "deletionTimestamp": "2020-11-25T00:00:30Z", "deletionGracePeriodSeconds": 30 });
    let ending = || pod("a", told.clone());
    let (client, server) = scripted(vec![
        on_node(&["a", "b"]),
        step(SET, replica_set()),
        owned(&["a", "b"]),
        step(EVICT_A, granted()),
        step(PODS, list(vec![ending(), pod("b", json!({}))], "")),
        step(SET, replica_set()),
        owned(&["b", "c"]),
        step(EVICT_B, granted()),
        step(PODS, list(vec![ending()], "")),
        step(PODS, list(vec![ending()], "")),
        step(PODS, list(vec![ending()], "")),
    ]);
    let mut state = pass(&client, drain::State::default()).await.unwrap().state;
    for _ in 0..4 {
        let pass = pass(&client, state).await.unwrap();
        assert_eq!((pass.state.evicted, pass.overdue.len(), pass.is_done), (2, 1, false));
        assert!(pass.stuck.is_empty() && pass.state.stuck_passes == 0, "{:?}", pass.blocked);
        state = pass.state;
    }
    drop(client);
    server.await.unwrap();
}
