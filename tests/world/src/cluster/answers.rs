//! The answers of the API server, and of EKS, which says where the API server is.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::objects;
use super::{BudgetSpec, Cluster};
use crate::wire::{ApiAnswer, ApiCall};

/// A certificate authority that no client reads further than its frame.
const AUTHORITY: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1BQT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=";

/// Returns the refusal of a request that the world does not play.
pub(crate) fn not_played(call: &ApiCall) -> ApiAnswer {
    failure(404, "NotFound", &format!("{} is not in the world", call.action), &[])
}

/// Returns the refusal of an API server that is asked too often.
/// <https://kubernetes.io/docs/concepts/cluster-administration/flow-control/>
pub(crate) fn too_many_requests() -> ApiAnswer {
    failure(429, "TooManyRequests", "too many requests, please try again later", &[])
}

/// Returns the failure of an API server whose store has taken a change and has not said so in time.
pub(crate) fn internal_error_of_server() -> ApiAnswer {
    failure(500, "InternalError", "etcdserver: request timed out", &[])
}

/// Returns a failure as the API server writes it.
fn failure(code: u16, reason: &str, message: &str, causes: &[(&str, String)]) -> ApiAnswer {
    let causes: Vec<Value> =
        causes.iter().map(|(reason, message)| json!({"reason": reason, "message": message})).collect();
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": message, "details": {"causes": causes},
    });
    ApiAnswer { status: code, body: body.to_string() }
}

impl Cluster {
    /// Answers `eks:DescribeCluster`.
    /// <https://docs.aws.amazon.com/eks/latest/APIReference/API_DescribeCluster.html>
    pub(crate) fn describe(&self, call: &ApiCall) -> ApiAnswer {
        let name = text(call, "name");
        if call.action != "DescribeCluster" || name != self.name {
            return no_cluster(name);
        }
        ApiAnswer::json(&json!({"cluster": {
            "name": name,
            "status": "ACTIVE",
            "endpoint": "https://0A0000000000000A.gr7.us-east-1.eks.amazonaws.com",
            "certificateAuthority": {"data": AUTHORITY},
            "resourcesVpcConfig": {"endpointPublicAccess": true, "publicAccessCidrs": ["0.0.0.0/0"]},
            "accessConfig": {"authenticationMode": "API"},
        }}))
    }

    /// Carries out a request to the API server. A read shows the present: no client of ours asks for an older version.
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list>
    pub(crate) fn carry_out(&mut self, call: &ApiCall, now: Timestamp) -> ApiAnswer {
        match call.action.as_str() {
            "GetVersion" => version(),
            "ListNodes" => list(call, "NodeList", self.nodes.values().map(objects::node)),
            "GetNodes" => found(call, self.nodes.get(text(call, "name")).map(objects::node)),
            "PatchNodes" => self.patch_node(call),
            "ListPods" => self.list_pods(call),
            "EvictPods" => self.evict(call, now),
            "ListPoddisruptionbudgets" => {
                let budgets = self.budgets.iter().map(|budget| self.budget(budget));
                list(call, "PodDisruptionBudgetList", budgets)
            }
            action => self.get_workload(action, call),
        }
    }

    fn get_workload(&self, action: &str, call: &ApiCall) -> ApiAnswer {
        let resource = action.strip_prefix("Get").unwrap_or_default().to_ascii_lowercase();
        if !["replicasets", "statefulsets", "daemonsets"].contains(&resource.as_str()) {
            return not_played(call);
        }
        let named = |w: &&super::WorkloadSpec| {
            w.name == text(call, "name")
                && w.kind.resource() == resource
                && text(call, "namespace") == super::spec::NAMESPACE
        };
        let workload = self.workloads.iter().find(named);
        found(call, workload.map(|workload| objects::workload(workload, self.serving(&workload.name))))
    }

    /// Lists pods by the two selectors that clients of ours use.
    fn list_pods(&self, call: &ApiCall) -> ApiAnswer {
        let (fields, labels) = (text(call, "fieldSelector"), text(call, "labelSelector"));
        let namespace = text(call, "namespace");
        let is_on: Box<dyn Fn(&super::ClusterPod) -> bool> = match fields.split_once("spec.nodeName") {
            None if fields.is_empty() => Box::new(|_| true),
            Some(("", "!=")) => Box::new(|pod| pod.node.is_some()),
            Some(("", name)) => {
                let name = name.trim_start_matches('=').to_owned();
                Box::new(move |pod| pod.node.as_ref() == Some(&name))
            }
            _ => return not_played(call),
        };
        let app = labels.strip_prefix("app=");
        if app.is_none() && !labels.is_empty() {
            return not_played(call);
        }
        let is_namespace = namespace.is_empty() || namespace == super::spec::NAMESPACE;
        let selected = self.pods.values().filter(|pod| is_namespace && is_on(pod));
        let selected = selected.filter(|pod| app.is_none_or(|app| pod.workload == app));
        list(call, "PodList", selected.map(objects::pod))
    }

    /// Patches a node by a merge patch. A `resourceVersion` in it must be the present one.
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply>
    fn patch_node(&mut self, call: &ApiCall) -> ApiAnswer {
        let name = text(call, "name").to_owned();
        let version = self.next_version();
        let Some(node) = self.nodes.get_mut(&name) else { return found(call, None) };
        let patch = &call.json()["body"];
        let expected = &patch["metadata"]["resourceVersion"];
        if !expected.is_null() && *expected != node.object["metadata"]["resourceVersion"] {
            let message = format!(
                "Operation cannot be fulfilled on nodes \"{name}\": the object has been modified; please apply your changes to \
                 the latest version and try again"
            );
            return failure(409, "Conflict", &message, &[]);
        }
        merge(&mut node.object, patch);
        node.object["metadata"]["resourceVersion"] = json!(version.to_string());
        ApiAnswer::json(&objects::node(node))
    }

    /// Evicts a pod as the API server does: by its UID, and under its budget unless it is not Ready.
    /// <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>
    fn evict(&mut self, call: &ApiCall, now: Timestamp) -> ApiAnswer {
        let (namespace, name) = (text(call, "namespace"), text(call, "name"));
        let Some(pod) = self.pod_named(namespace, name) else { return found(call, None) };
        let (uid, workload) = (pod.uid.clone(), pod.workload.clone());
        let expected = &call.json()["body"]["deleteOptions"]["preconditions"]["uid"];
        if expected.as_str().is_some_and(|expected| expected != uid) {
            let message = format!(
                "Operation cannot be fulfilled on pods \"{name}\": the UID in the precondition ({expected}) does not match the \
                 UID in record ({uid}). The object might have been deleted and then recreated"
            );
            return failure(409, "Conflict", &message, &[]);
        }
        if pod.serves()
            && let Some(budget) = self.budgets.iter().find(|budget| budget.workload == workload)
            && self.disruptions_allowed(budget) == 0
        {
            return self.refused(budget);
        }
        let workload = self.workloads.iter().find(|known| known.name == workload);
        let ends_within = workload.map(|workload| workload.ends_within).unwrap_or_default();
        let ends_within = ends_within.min(SignedDuration::from_secs(super::pods::GRACE_SECONDS));
        if let Some(pod) = self.pods.get_mut(&uid) {
            pod.ending.get_or_insert((now, now + ends_within));
        }
        let body =
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        ApiAnswer { status: 201, body: body.to_string() }
    }

    fn refused(&self, budget: &BudgetSpec) -> ApiAnswer {
        let (name, min) = (&budget.name, budget.min_available);
        let healthy = self.serving(&budget.workload);
        let cause =
            format!("The disruption budget {name} needs {min} healthy pods and has {healthy} currently");
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        failure(429, "TooManyRequests", message, &[("DisruptionBudget", cause)])
    }
}

/// Returns the refusal of EKS for a cluster that it does not know.
pub(crate) fn no_cluster(name: &str) -> ApiAnswer {
    ApiAnswer::json_error(404, "ResourceNotFoundException", &format!("No cluster found for name: {name}."))
}

fn text<'a>(call: &'a ApiCall, field: &str) -> &'a str {
    call.json().get(field).and_then(Value::as_str).unwrap_or_default()
}

fn found(call: &ApiCall, object: Option<Value>) -> ApiAnswer {
    object.map_or_else(
        || failure(404, "NotFound", &format!("\"{}\" not found", text(call, "name")), &[]),
        |object| ApiAnswer::json(&object),
    )
}

/// Returns one page of a list. The token of the next page is the number of the objects before it.
fn list(call: &ApiCall, kind: &str, objects: impl Iterator<Item = Value>) -> ApiAnswer {
    let before: usize = text(call, "continue").parse().unwrap_or(0);
    let most: usize = text(call, "limit").parse().unwrap_or(usize::MAX);
    let mut rest = objects.skip(before);
    let items: Vec<Value> = rest.by_ref().take(most).collect();
    let next = rest.next().map(|_| (before + items.len()).to_string());
    let api = if kind.starts_with("PodDisruption") { "policy/v1" } else { "v1" };
    ApiAnswer::json(&json!({"kind": kind, "apiVersion": api, "metadata": {"continue": next}, "items": items}))
}

/// Merges a patch into an object, as RFC 7386 says.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, change) in patch {
        match (change, object.as_object_mut()) {
            (Value::Null, Some(fields)) => drop(fields.remove(key)),
            (change, _) => merge(&mut object[key.as_str()], change),
        }
    }
}

fn version() -> ApiAnswer {
    ApiAnswer::json(&json!({
        "major": "1", "minor": "33", "gitVersion": "v1.33.0", "gitCommit": "0", "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z", "goVersion": "go1.24", "compiler": "gc", "platform": "linux/amd64",
    }))
}
