use super::*;
use serde_json::{Value, json};

fn owner(kind: &str) -> Controller {
    Controller {
        kind: kind.to_owned(),
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        uid: "u1".to_owned(),
    }
}

fn replica_set(metadata: &Value) -> Workload {
    let spec = json!({ "replicas": 3, "selector": {}, "template": { "spec": { "nodeName": "a", "containers": [] } } });
    let set = json!({ "metadata": metadata, "spec": spec });
    of_replica_set(&owner("ReplicaSet"), serde_json::from_value(set).unwrap())
}

#[test]
fn a_replica_set_goes_by_the_name_of_its_deployment() {
    let parent = json!([{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d", "controller": true }]);
    let workload = replica_set(&json!({ "name": "web-1", "ownerReferences": parent }));
    assert_eq!((workload.name.as_str(), workload.replicas), ("Deployment shop/web", Some(3)));
    assert_eq!(workload.template.unwrap().node_name.as_deref(), Some("a"));
    assert_eq!(replica_set(&json!({})).name, "ReplicaSet shop/web");
}

/// Returns why new pods of a ReplicaSet, and of a ReplicationController, in this condition are refused.
fn failure(condition: &Value) -> [Option<String>; 2] {
    let object = || {
        let status = json!({ "replicas": 3, "conditions": [condition] });
        json!({ "spec": { "selector": {}, "template": {} }, "status": status })
    };
    let set = of_replica_set(&owner("ReplicaSet"), serde_json::from_value(object()).unwrap());
    let mut object = object();
    object["spec"]["selector"] = json!({ "app": "web" });
    let controller = serde_json::from_value(object).unwrap();
    [set.failure, of_replication_controller(&owner("ReplicationController"), controller).failure]
}

#[test]
fn a_controller_whose_new_pods_are_refused_says_so_in_the_words_of_the_api_server() {
    let condition = |status: &str, reason: &str| json!({ "type": "ReplicaFailure", "status": status, "reason": reason, "message": "exceeded quota" });
    for failure in failure(&condition("True", "FailedCreate")) {
        assert!(failure.unwrap().ends_with("(ReplicaFailure): exceeded quota"));
    }
    assert_eq!(failure(&condition("False", "FailedCreate")), [None, None]);
    assert_eq!(failure(&condition("True", "FailedDelete")), [None, None], "it has one pod too many");
}

#[test]
fn a_controller_that_leaves_its_pods_behind_brings_nothing_back() {
    let deleted = |finalizers: &[&str]| {
        replica_set(&json!({ "deletionTimestamp": "2026-11-25T00:00:00Z", "finalizers": finalizers })).loss
    };
    assert!(deleted(&[ORPHANS]).unwrap().contains("leaves its pods behind"));
    assert_eq!(deleted(&["foregroundDeletion"]), None, "its pods go with it");
    assert!(missing(&owner("ReplicaSet")).loss.unwrap().contains("does not exist any more"));
}

fn job_pod(uid: &str) -> Pod {
    let owner =
        json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": "web", "uid": "u1", "controller": true }]);
    let metadata = json!({ "name": uid, "namespace": "shop", "uid": uid, "ownerReferences": owner });
    serde_json::from_value(json!({ "metadata": metadata, "status": { "phase": "Running" } })).unwrap()
}

fn losses(job: Option<Value>, pods: &[Pod]) -> Losses {
    let job = job.map(|job| serde_json::from_value(job).unwrap());
    DaemonSetsAndJobs { daemon_sets: BTreeSet::new(), jobs: BTreeMap::from([(owner("Job"), job)]) }
        .losses(pods)
}

#[test]
fn all_pods_of_a_job_that_are_here_fail_together() {
    let job = Some(json!({ "spec": { "backoffLimit": 1, "template": {} } }));
    let one = [job_pod("a")];
    assert_eq!(losses(job.clone(), &one).of(&one[0]), None);
    let two = [job_pod("a"), job_pod("b")];
    assert!(losses(job, &two).of(&two[0]).unwrap().contains("2 pods here"));
}

#[test]
fn a_job_that_is_gone_starts_nothing_again() {
    let pods = [job_pod("a")];
    assert!(losses(None, &pods).of(&pods[0]).unwrap().contains("does not exist"));
    let orphaning = json!({
        "metadata": { "deletionTimestamp": "2026-11-25T00:00:00Z", "finalizers": [ORPHANS] },
        "spec": { "template": {} },
    });
    assert!(losses(Some(orphaning), &pods).of(&pods[0]).unwrap().contains("leaves its pods"));
}
