//! One eviction, and the meaning of its answer.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions};
use kube::api::PostParams;
use kube::core::Status;
use kube::{Api, Client};

use crate::error::{ClusterError, cut};
use crate::pod::PodRef;

const CALL: &str = "create pods/eviction";

/// The outcome of an eviction.
#[derive(Debug)]
pub(crate) enum EvictionAnswer {
    /// The eviction was granted.
    Granted,
    /// This pod does not exist any more.
    Gone,
    /// This pod may not go now: ask again after a pause.
    Refused(EvictionRefusal),
    /// The pod is on its way out by other means: look again in the next pass.
    Wait(String),
    /// The API server could not answer, which concerns all pods. The eviction may have been granted all the
    /// same.
    Later(ClusterError),
    /// The API server will never grant any eviction.
    Never(ClusterError),
    /// No eviction was asked for in this pass.
    NotAsked,
}

/// The reason why a pod may not go now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EvictionRefusal {
    /// The budget, if a budget refuses.
    pub(crate) budget: Option<String>,
    /// The API server's message.
    pub(crate) why: String,
}

/// Asks for the eviction of this very pod, by its UID.
///
/// Does not use kube's own `Api::evict`, which sends its preconditions in a field that the API server
/// ignores.
pub(crate) async fn evict(client: &Client, pod: &PodRef) -> EvictionAnswer {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    let preconditions = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
    let eviction = Eviction {
        metadata: ObjectMeta {
            name: Some(pod.pod.clone()),
            namespace: Some(pod.namespace.clone()),
            ..ObjectMeta::default()
        },
        delete_options: Some(DeleteOptions {
            preconditions: Some(preconditions),
            ..DeleteOptions::default()
        }),
    };
    let object = format!("{}/{}", pod.namespace, pod.pod);
    match api.create_subresource("eviction", &pod.pod, &PostParams::default(), &eviction).await {
        // A pod in two budgets gets HTTP 201, with the failure in the body.
        Ok(status) if Status::is_failure(&status) => sort(&object, &status),
        Ok(_) => EvictionAnswer::Granted,
        Err(kube::Error::Api(status)) => sort(&object, &status),
        Err(error) => EvictionAnswer::Later(ClusterError::new(CALL, object, error)),
    }
}

/// Sorts a failure by the meaning that the API server's eviction handler gives it
/// (kubernetes/pkg/registry/core/pod/storage/eviction.go).
fn sort(object: &str, status: &Status) -> EvictionAnswer {
    let error = || ClusterError::from_status(CALL, object, status);
    let refused = |budget| EvictionAnswer::Refused(EvictionRefusal { budget, why: cut(&status.message) });
    // A webhook judges one pod, and may answer with any code.
    if status.message.contains("admission webhook") {
        return refused(None);
    }
    match status.code {
        404 => EvictionAnswer::Gone,
        409 if status.message.contains("UID in the precondition") => EvictionAnswer::Gone,
        409 => EvictionAnswer::Wait(cut(&status.message)),
        429 => match cause(status, "DisruptionBudget") {
            Some(message) => EvictionAnswer::Refused(EvictionRefusal {
                budget: budget_in(message),
                why: cut(&format!("{} {message}", status.message)),
            }),
            None => EvictionAnswer::Later(error()),
        },
        403 => match cause(status, "NamespaceTerminating") {
            Some(message) => EvictionAnswer::Wait(cut(message)),
            None => EvictionAnswer::Never(error()),
        },
        401 => EvictionAnswer::Never(error()),
        501.. => EvictionAnswer::Later(error()),
        // 500 also means this pod: the error is internal to its budgets, and the rest of the server works.
        _ => refused(None),
    }
}

fn cause<'a>(status: &'a Status, reason: &str) -> Option<&'a str> {
    let causes = status.details.as_ref()?.causes.iter();
    causes.into_iter().find(|cause| cause.reason == reason).map(|cause| cause.message.as_str())
}

/// Returns the budget's name in "The disruption budget web needs 3 healthy pods and has 3 currently".
fn budget_in(message: &str) -> Option<String> {
    let rest = message.strip_prefix("The disruption budget ")?;
    rest.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn sorted(status: Value) -> EvictionAnswer {
        sort("shop/web-1", &serde_json::from_value(status).unwrap())
    }

    fn failure(code: u16, reason: &str, message: &str, causes: &Value) -> Value {
        json!({ "status": "Failure", "code": code, "reason": reason, "message": message,
                "details": { "causes": causes } })
    }

    #[test]
    fn a_budget_refuses_by_its_name() {
        let message = "The disruption budget web needs 3 healthy pods and has 3 currently";
        let causes = json!([{ "reason": "DisruptionBudget", "message": message }]);
        let said = "Cannot evict pod as it would violate the pod's disruption budget.";
        let EvictionAnswer::Refused(refusal) = sorted(failure(429, "TooManyRequests", said, &causes)) else {
            panic!("not refused")
        };
        assert_eq!(
            refusal,
            EvictionRefusal { budget: Some("web".to_owned()), why: format!("{said} {message}") }
        );
    }

    #[test]
    fn an_overloaded_api_server_is_no_budget() {
        let answer = sorted(failure(429, "TooManyRequests", "please try again later", &json!([])));
        assert!(matches!(answer, EvictionAnswer::Later(error) if error.kind == crate::Kind::Retry));
    }

    #[test]
    fn two_budgets_refuse_one_pod_only() {
        let said = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        let answer = sorted(failure(500, "InternalError", said, &json!([])));
        assert!(
            matches!(answer, EvictionAnswer::Refused(EvictionRefusal { budget: None, why }) if why == said)
        );
    }

    #[test]
    fn another_pod_under_the_name_means_that_ours_is_gone() {
        let said = "Operation cannot be fulfilled on pods \"db-0\": the UID in the precondition (a) does not \
                    match the UID in record (b). The object might have been deleted and then recreated";
        assert!(matches!(sorted(failure(409, "Conflict", said, &json!([]))), EvictionAnswer::Gone));
        assert!(matches!(sorted(failure(409, "Conflict", "modified", &json!([]))), EvictionAnswer::Wait(_)));
        assert!(matches!(sorted(failure(404, "NotFound", "not found", &json!([]))), EvictionAnswer::Gone));
    }

    #[test]
    fn a_terminating_namespace_takes_its_pods_itself() {
        let causes =
            json!([{ "reason": "NamespaceTerminating", "message": "namespace shop is being terminated" }]);
        assert!(matches!(sorted(failure(403, "Forbidden", "forbidden", &causes)), EvictionAnswer::Wait(_)));
    }

    #[test]
    fn a_missing_verb_ends_the_drain_and_a_webhook_does_not() {
        let denied =
            sorted(failure(403, "Forbidden", "cannot create resource \"pods/eviction\"", &json!([])));
        assert!(matches!(denied, EvictionAnswer::Never(error) if error.kind == crate::Kind::Denied));
        let webhook = "admission webhook \"drain.example.com\" denied the request: not now";
        for code in [400, 403, 429, 500] {
            assert!(
                matches!(sorted(failure(code, "", webhook, &json!([]))), EvictionAnswer::Refused(_)),
                "{code}"
            );
        }
    }

    #[test]
    fn a_gateway_in_trouble_is_asked_later() {
        for code in [502, 503, 504] {
            assert!(
                matches!(sorted(failure(code, "", "no", &json!([]))), EvictionAnswer::Later(_)),
                "{code}"
            );
        }
    }
}
