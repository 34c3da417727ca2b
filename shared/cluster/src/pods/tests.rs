use super::*;
use std::collections::BTreeSet;

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
    disposed(&pod(metadata, spec, status), &Losses::default(), Policy::default())
}

fn disposed(pod: &Pod, losses: &Losses, policy: Policy) -> Disposition {
    disposition(pod, &facts(pod), losses, policy)
}

fn annotated(key: &str, value: &str, spec: &Value) -> Disposition {
    sorted(&json!({ "annotations": { key: value } }), spec, &json!({}))
}

const NOTHING: Value = Value::Null;

#[test]
fn a_pod_of_a_controller_is_evicted() {
    assert_eq!(sorted(&NOTHING, &NOTHING, &NOTHING), Disposition::Evict);
    let custom = json!({ "ownerReferences": owned_by_group("argoproj.io/v1alpha1", "Rollout") });
    assert_eq!(sorted(&custom, &NOTHING, &NOTHING), Disposition::Evict);
}

#[test]
fn a_daemon_sets_pod_stays_while_its_daemon_set_exists() {
    let agent = pod(&json!({ "ownerReferences": owned_by("DaemonSet") }), &NOTHING, &NOTHING);
    let existing = Losses::with(BTreeSet::from([controller(&agent).unwrap()]), &[]);
    assert_eq!(disposed(&agent, &existing, Policy::default()), Disposition::Stays(Stay::DaemonSet));
    let orphan = disposed(&agent, &Losses::default(), Policy::default());
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
    let allowed = disposed(&pod(&bare, &NOTHING, &NOTHING), &Losses::default(), policy);
    assert_eq!(allowed, Disposition::Evict);
}

fn owned_by_group(api_version: &str, kind: &str) -> Value {
    json!([{ "apiVersion": api_version, "kind": kind, "name": "agent", "uid": "o1", "controller": true }])
}

#[test]
fn a_pod_that_its_job_would_not_start_again_blocks_like_a_bare_one() {
    let job = json!({ "ownerReferences": owned_by_group("batch/v1", "Job") });
    let losses = Losses::with(BTreeSet::new(), &[("u1", "backoffLimit 0")]);
    let sort = |metadata: &Value, policy| disposed(&pod(metadata, &NOTHING, &NOTHING), &losses, policy);
    let blocked = Disposition::Blocked(Block::NotRestarted("backoffLimit 0".to_owned()));
    assert_eq!(sort(&job, Policy::default()), blocked);
    assert_eq!(sort(&job, Policy { evict_unmanaged: true, ..Policy::default() }), Disposition::Evict);
    let mut safe = job.clone();
    safe["annotations"] = json!({ SAFE_TO_EVICT: "true" });
    assert_eq!(sort(&safe, Policy::default()), Disposition::Evict);
    assert_eq!(sorted(&job, &NOTHING, &NOTHING), Disposition::Evict, "the Job has failures left");
}

#[test]
fn a_pod_that_runs_once_for_another_groups_controller_may_not_come_back() {
    let once = json!({ "restartPolicy": "Never" });
    let task = json!({ "ownerReferences": owned_by_group("tekton.dev/v1", "TaskRun") });
    let blocked = Disposition::Blocked(Block::RunsOnce("TaskRun.tekton.dev shop/agent".to_owned()));
    assert_eq!(sorted(&task, &once, &NOTHING), blocked);
    assert_eq!(sorted(&task, &NOTHING, &NOTHING), Disposition::Evict, "restartPolicy Always");
    let job = json!({ "ownerReferences": owned_by_group("batch/v1", "Job") });
    assert_eq!(sorted(&job, &once, &NOTHING), Disposition::Evict, "a Job says it itself");
}

#[test]
fn a_pod_of_an_owner_that_creates_no_pods_blocks_like_a_bare_one() {
    for kind in ["Pod", "ConfigMap", "Service", "Deployment"] {
        let owned = json!({ "ownerReferences": owned_by(kind) });
        assert_eq!(sorted(&owned, &NOTHING, &NOTHING), Disposition::Blocked(Block::Unmanaged), "{kind}");
        let once = sorted(&owned, &json!({ "restartPolicy": "Never" }), &NOTHING);
        assert_eq!(once, Disposition::Blocked(Block::Unmanaged), "{kind}");
    }
    let controller = json!({ "ownerReferences": owned_by("ReplicationController") });
    assert_eq!(sorted(&controller, &NOTHING, &NOTHING), Disposition::Evict);
}

#[test]
fn another_groups_daemon_set_keeps_its_pod_here() {
    let kruise = json!({ "ownerReferences": owned_by_group("apps.kruise.io/v1alpha1", "DaemonSet") });
    assert_eq!(sorted(&kruise, &NOTHING, &NOTHING), Disposition::Stays(Stay::NodeAgent));
    let agent = json!({ "ownerReferences": owned_by_group("example.org/v1", "Agent") });
    let field = json!({ "key": "metadata.name", "operator": "In", "values": ["a"] });
    let terms = json!({ "nodeSelectorTerms": [{ "matchFields": [field] }] });
    let tied = json!({
        "nodeName": "a",
        "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } },
    });
    let kept = Block::KeptHere("Agent.example.org shop/agent".to_owned());
    assert_eq!(sorted(&agent, &tied, &NOTHING), Disposition::Blocked(kept));
    assert_eq!(sorted(&agent, &NOTHING, &NOTHING), Disposition::Evict);
    let mut safe = agent.clone();
    safe["annotations"] = json!({ SAFE_TO_EVICT: "true" });
    assert_eq!(sorted(&safe, &tied, &NOTHING), Disposition::Stays(Stay::NodeAgent));
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
    let allowed = disposed(&pod(&NOTHING, &cache, &NOTHING), &Losses::default(), policy);
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
    let mut forbidding = vec![(DO_NOT_DISRUPT[0], "true"), (DO_NOT_DISRUPT[1], "true")];
    // Nobody knows what the odd ones mean: an eviction can't be undone.
    forbidding.extend(["false", "False", "no", "True", ""].map(|value| (SAFE_TO_EVICT, value)));
    let policy = Policy { evict_local_storage: true, evict_unmanaged: true };
    for (key, value) in forbidding {
        let quiet = pod(&json!({ "annotations": { key: value } }), &NOTHING, &NOTHING);
        let blocked = Disposition::Blocked(Block::DoNotDisrupt(key.to_owned()));
        assert_eq!(disposed(&quiet, &Losses::default(), policy), blocked);
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
    let pod = pod(&NOTHING, &spec, &NOTHING);
    assert_eq!(claims(&pod, &facts(&pod)), ["data-web-1", "web-1-scratch"]);
}

#[test]
fn what_blocks_reads_well() {
    let why = Block::LocalStorage("cache".to_owned()).why();
    assert!(why.contains("emptyDir volume cache") && why.contains(SAFE_TO_EVICT), "{why}");
    let why = Block::DoNotDisrupt(SAFE_TO_EVICT.to_owned()).why();
    assert!(why.contains(SAFE_TO_EVICT) && why.ends_with(r#"or set it to "true""#), "{why}");
}

/// A Ready pod of `shop` that may be evicted; its uid is `uid-` and its name.
pub(crate) fn node_pod(name: &str) -> NodePod {
    NodePod {
        pod: PodRef { namespace: "shop".to_owned(), pod: name.to_owned(), uid: format!("uid-{name}") },
        controller: None,
        labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
        claims: vec![],
        has_inline_ebs: false,
        is_ready: true,
        is_pending: false,
        termination: None,
        disposition: Disposition::Evict,
        is_safe_to_evict: false,
        facts: Facts::default(),
    }
}
