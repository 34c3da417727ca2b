use super::*;
use serde_json::{Value, json};

/// A running pod of a ReplicaSet, changed by `change` (a JSON merge of its top-level parts).
fn pod(metadata: &Value, spec: &Value, status: &Value) -> Pod {
    let mut whole = json!({
        "metadata": {
            "name": "web-1", "namespace": "shop", "uid": "u1",
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs1",
                                  "controller": true }],
        },
        "spec": { "containers": [] },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    for (part, change) in [("metadata", metadata), ("spec", spec), ("status", status)] {
        for (key, value) in change.as_object().into_iter().flatten() {
            whole[part][key] = value.clone();
        }
    }
    serde_json::from_value(whole).unwrap()
}

fn owned_by(kind: &str) -> Value {
    json!([{ "apiVersion": "v1", "kind": kind, "name": "agent", "uid": "o1", "controller": true }])
}

fn sorted(metadata: &Value, spec: &Value, status: &Value) -> Disposition {
    disposition(&pod(metadata, spec, status), &BTreeSet::new(), Policy::default())
}

fn annotated(key: &str, value: &str, spec: &Value) -> Disposition {
    sorted(&json!({ "annotations": { key: value } }), spec, &json!({}))
}

const NOTHING: Value = Value::Null;

#[test]
fn a_pod_of_a_controller_is_evicted() {
    assert_eq!(sorted(&NOTHING, &NOTHING, &NOTHING), Disposition::Evict);
    let custom = json!({ "ownerReferences": owned_by("Rollout") });
    assert_eq!(sorted(&custom, &NOTHING, &NOTHING), Disposition::Evict);
}

#[test]
fn a_daemon_sets_pod_stays_while_its_daemon_set_exists() {
    let agent = pod(&json!({ "ownerReferences": owned_by("DaemonSet") }), &NOTHING, &NOTHING);
    let existing = BTreeSet::from([controller(&agent).unwrap()]);
    assert_eq!(disposition(&agent, &existing, Policy::default()), Disposition::Stays(Stay::DaemonSet));
    let orphan = disposition(&agent, &BTreeSet::new(), Policy::default());
    assert_eq!(orphan, Disposition::Blocked(Block::Unmanaged));
}

#[test]
fn mirror_and_finished_pods_stay() {
    let mirror = json!({ "annotations": { MIRROR: "hash" }, "ownerReferences": owned_by("Node") });
    assert_eq!(sorted(&mirror, &NOTHING, &NOTHING), Disposition::Stays(Stay::Mirror));
    for phase in ["Succeeded", "Failed"] {
        let finished = sorted(&NOTHING, &NOTHING, &json!({ "phase": phase }));
        assert_eq!(finished, Disposition::Stays(Stay::Finished));
    }
}

#[test]
fn a_terminating_pod_is_waited_for_even_if_it_has_finished() {
    let terminating = json!({ "deletionTimestamp": "2026-11-25T00:00:00Z", "finalizers": ["a/b"] });
    assert_eq!(sorted(&terminating, &NOTHING, &NOTHING), Disposition::Terminating);
    assert_eq!(sorted(&terminating, &NOTHING, &json!({ "phase": "Failed" })), Disposition::Terminating);
}

#[test]
fn a_bare_pod_blocks_unless_its_owner_or_the_policy_lets_it_go() {
    let bare = json!({ "ownerReferences": [] });
    assert_eq!(sorted(&bare, &NOTHING, &NOTHING), Disposition::Blocked(Block::Unmanaged));
    let let_go = json!({ "ownerReferences": [], "annotations": { SAFE_TO_EVICT: "true" } });
    assert_eq!(sorted(&let_go, &NOTHING, &NOTHING), Disposition::Evict);
    let policy = Policy { evict_unmanaged: true, ..Policy::default() };
    let allowed = disposition(&pod(&bare, &NOTHING, &NOTHING), &BTreeSet::new(), policy);
    assert_eq!(allowed, Disposition::Evict);
}

#[test]
fn an_empty_dir_on_disk_blocks_unless_it_is_worth_nothing() {
    let cache = json!({ "volumes": [{ "name": "cache", "emptyDir": {} }] });
    let blocked = Disposition::Blocked(Block::LocalStorage("cache".to_owned()));
    assert_eq!(sorted(&NOTHING, &cache, &NOTHING), blocked);
    assert_eq!(annotated(SAFE_TO_EVICT, "true", &cache), Disposition::Evict);
    assert_eq!(annotated(SAFE_TO_EVICT_VOLUMES, "tmp, cache", &cache), Disposition::Evict);
    assert_eq!(annotated(SAFE_TO_EVICT_VOLUMES, "tmp", &cache), blocked);
    let policy = Policy { evict_local_storage: true, ..Policy::default() };
    let allowed = disposition(&pod(&NOTHING, &cache, &NOTHING), &BTreeSet::new(), policy);
    assert_eq!(allowed, Disposition::Evict);
    let memory = json!({ "volumes": [{ "name": "shm", "emptyDir": { "medium": "Memory" } }] });
    assert_eq!(sorted(&NOTHING, &memory, &NOTHING), Disposition::Evict);
}

#[test]
fn a_host_path_moves_as_it_does_with_kubectl() {
    let host = json!({ "volumes": [{ "name": "logs", "hostPath": { "path": "/var/log" } }] });
    assert_eq!(sorted(&NOTHING, &host, &NOTHING), Disposition::Evict);
}

#[test]
fn a_pod_that_asks_for_peace_gets_it_whatever_the_policy() {
    let forbidding = [(SAFE_TO_EVICT, "false"), (DO_NOT_DISRUPT[0], "true"), (DO_NOT_DISRUPT[1], "true")];
    let policy = Policy { evict_local_storage: true, evict_unmanaged: true };
    for (key, value) in forbidding {
        let quiet = pod(&json!({ "annotations": { key: value } }), &NOTHING, &NOTHING);
        let blocked = Disposition::Blocked(Block::DoNotDisrupt(key.to_owned()));
        assert_eq!(disposition(&quiet, &BTreeSet::new(), policy), blocked);
    }
    assert_eq!(annotated(DO_NOT_DISRUPT[0], "false", &NOTHING), Disposition::Evict);
}

#[test]
fn claims_are_named_ones_and_those_of_ephemeral_volumes() {
    let spec = json!({ "volumes": [
        { "name": "data", "persistentVolumeClaim": { "claimName": "data-web-1" } },
        { "name": "scratch", "ephemeral": {} },
        { "name": "config", "configMap": {} },
    ] });
    assert_eq!(claims(&pod(&NOTHING, &spec, &NOTHING)), ["data-web-1", "web-1-scratch"]);
}

#[test]
fn what_blocks_reads_well() {
    let why = Block::LocalStorage("cache".to_owned()).why();
    assert!(why.contains("emptyDir volume cache") && why.contains(SAFE_TO_EVICT), "{why}");
}
