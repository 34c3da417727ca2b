//! What is read before a drain, and after it.

use super::*;

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
