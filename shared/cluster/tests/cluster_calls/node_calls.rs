//! A node: found, cordoned, kept from the autoscaler.

use spot_cluster::node::Cordon;

use super::*;

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
