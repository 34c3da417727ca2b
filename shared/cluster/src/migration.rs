//! Says if the evicted pods run again. Counts by controller, since a replacement has another name and UID
//! than the pod that it replaces.

use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ListParams;
use kube::core::Selector;
use kube::{Api, Client, ResourceExt};
use serde::{Deserialize, Serialize};

use crate::drain_state::{ExpectedReplicas, State};
use crate::error::{ClusterError, cut};
use crate::pages;
use crate::pod::{self, Controller, LOOKS_AT_ONCE, PAGE_SIZE, get};

/// A controller whose replacements are not Ready yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    pub controller: Controller,
    /// Ready pods that the controller must have.
    pub wanted: u32,
    /// Ready pods that the controller has.
    pub ready: u32,
    /// The problem of one of its other pods, if it has one.
    pub problem: Option<String>,
}

/// The state of a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ControllerState {
    /// No replacement is to come: the controller is gone, scaled to nothing, finished, or its pod runs.
    Settled,
    /// The controller's Ready pods, the number that it wants if that is known, and the problem of a pod that
    /// is not Ready.
    Counted { ready: u32, wanted: Option<u32>, problem: Option<String> },
}

/// Returns the controllers whose pods have moved but do not run again as before. Each must have as many Ready
/// pods as before the drain, or as it wants by now if that is less. A controller that is gone, and a Job that
/// runs or is finished, needs no more pods. Empty = migrated.
pub async fn migrated(client: &Client, state: &State) -> Result<Vec<Missing>, ClusterError> {
    let looks = state.owed.iter().map(|owed| async move {
        let state = state_of(client, &owed.controller).await?;
        Ok(missing(owed, state))
    });
    let found: Vec<Option<Missing>> = stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Returns the present state of each of these controllers.
pub(crate) async fn states_of(
    client: &Client,
    controllers: &[Controller],
) -> Result<Vec<ExpectedReplicas>, ClusterError> {
    let looks = controllers.iter().map(|controller| async move {
        let (ready_before, wanted) = match state_of(client, controller).await? {
            // A Job's pod has to run again, once.
            _ if controller.kind == "Job" => (1, None),
            ControllerState::Settled => (0, Some(0)),
            ControllerState::Counted { ready, wanted, .. } => (ready, wanted),
        };
        Ok(ExpectedReplicas { controller: controller.clone(), ready_before, wanted, is_guarded: false })
    });
    stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await
}

/// Returns how many Ready pods the controller has now, on any node.
pub(crate) async fn ready_of(client: &Client, controller: &Controller) -> Result<u32, ClusterError> {
    Ok(match state_of(client, controller).await? {
        ControllerState::Counted { ready, .. } => ready,
        // No replacement is to come, so none is waited for.
        ControllerState::Settled => u32::MAX,
    })
}

fn missing(owed: &ExpectedReplicas, state: ControllerState) -> Option<Missing> {
    let ControllerState::Counted { ready, wanted, problem } = state else { return None };
    let wanted = wanted.map_or(owed.ready_before, |wanted| wanted.min(owed.ready_before));
    (ready < wanted).then(|| Missing { controller: owed.controller.clone(), wanted, ready, problem })
}

async fn state_of(client: &Client, controller: &Controller) -> Result<ControllerState, ClusterError> {
    match controller.kind.as_str() {
        "ReplicaSet" => {
            let set: Option<ReplicaSet> = get(client, controller, "get replicasets").await?;
            let Some(spec) = set.and_then(|set| set.spec) else { return Ok(ControllerState::Settled) };
            counted(client, controller, spec.replicas, Some(spec.selector)).await
        }
        "StatefulSet" => {
            let set: Option<StatefulSet> = get(client, controller, "get statefulsets").await?;
            let Some(spec) = set.and_then(|set| set.spec) else { return Ok(ControllerState::Settled) };
            counted(client, controller, spec.replicas, Some(spec.selector)).await
        }
        "Job" => Ok(of_job(get(client, controller, "get jobs").await?.as_ref())),
        _ => counted(client, controller, None, None).await,
    }
}

fn of_job(job: Option<&Job>) -> ControllerState {
    let Some(job) = job else { return ControllerState::Settled };
    let is_suspended = job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false);
    let status = job.status.as_ref();
    let is_active = status.and_then(|status| status.active).unwrap_or(0) > 0;
    let mut conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
    let is_over = conditions.any(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True");
    if is_suspended || is_active || is_over {
        return ControllerState::Settled;
    }
    ControllerState::Counted { ready: 0, wanted: Some(1), problem: None }
}

/// Counts the controller's Ready pods among those that its selector names, or among all of its namespace.
async fn counted(
    client: &Client,
    controller: &Controller,
    replicas: Option<i32>,
    selector: Option<LabelSelector>,
) -> Result<ControllerState, ClusterError> {
    let mut params = ListParams::default();
    if let Some(selector) = selector.and_then(|selector| Selector::try_from(selector).ok()) {
        params = params.labels_from(&selector);
    }
    let api: Api<Pod> = Api::namespaced(client.clone(), &controller.namespace);
    let owned = pages::all(&api, "list pods", &controller.namespace, params, PAGE_SIZE).await?;
    let lives = |pod: &&Pod| {
        pod::controller(pod).is_some_and(|owner| owner.uid == controller.uid)
            && pod.metadata.deletion_timestamp.is_none()
    };
    let (ready, others): (Vec<&Pod>, Vec<&Pod>) =
        owned.iter().filter(lives).partition(|pod| pod::is_ready(pod));
    let wanted = replicas.map(|replicas| u32::try_from(replicas).unwrap_or(0));
    let problem = others.iter().find_map(|pod| problem(pod));
    Ok(ControllerState::Counted { ready: u32::try_from(ready.len()).unwrap_or(u32::MAX), wanted, problem })
}

/// Returns what a pod lacks to be Ready, in the words of the scheduler or of the kubelet.
fn problem(pod: &Pod) -> Option<String> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    let is_unscheduled = |c: &&PodCondition| c.type_ == "PodScheduled" && c.status == "False";
    if let Some(condition) = status.conditions.iter().flatten().find(is_unscheduled) {
        let message = condition.message.as_deref().unwrap_or("no reason is given");
        return Some(cut(&format!("pod {name} is not scheduled: {message}")));
    }
    let containers = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let waiting =
        containers.filter_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let why = waiting.into_iter().next().unwrap_or_else(|| "not Ready".to_owned());
    Some(format!("pod {name} is {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn owed(ready_before: u32) -> ExpectedReplicas {
        let text = |text: &str| text.to_owned();
        let controller = Controller {
            kind: text("ReplicaSet"),
            namespace: text("shop"),
            name: text("web"),
            uid: text("rs1"),
        };
        ExpectedReplicas { controller, ready_before, wanted: None, is_guarded: false }
    }

    fn lacking(ready_before: u32, ready: u32, wanted: Option<u32>) -> Option<(u32, u32)> {
        missing(&owed(ready_before), ControllerState::Counted { ready, wanted, problem: None })
            .map(|m| (m.ready, m.wanted))
    }

    #[test]
    fn as_many_as_before_or_as_wanted_by_now() {
        assert_eq!(lacking(3, 3, Some(3)), None);
        assert_eq!(lacking(3, 2, Some(3)), Some((2, 3)));
        assert_eq!(lacking(3, 1, Some(1)), None, "scaled down meanwhile");
        assert_eq!(lacking(2, 2, Some(3)), None, "the third was broken before");
        assert_eq!(lacking(2, 1, None), Some((1, 2)), "a custom controller");
        assert_eq!(missing(&owed(3), ControllerState::Settled), None);
    }

    fn job(spec: &Value, status: &Value) -> ControllerState {
        of_job(Some(&serde_json::from_value(json!({ "spec": spec, "status": status })).unwrap()))
    }

    #[test]
    fn a_job_owes_nothing_once_it_runs_again_or_is_over() {
        let plain = json!({ "template": {} });
        let over = json!({ "conditions": [{ "type": "Complete", "status": "True" }] });
        assert_eq!(job(&plain, &json!({ "active": 1 })), ControllerState::Settled);
        assert_eq!(job(&plain, &over), ControllerState::Settled);
        assert_eq!(job(&json!({ "template": {}, "suspend": true }), &json!({})), ControllerState::Settled);
        assert_eq!(
            job(&plain, &json!({ "failed": 1 })),
            ControllerState::Counted { ready: 0, wanted: Some(1), problem: None }
        );
        assert_eq!(of_job(None), ControllerState::Settled);
    }

    #[test]
    fn a_replacement_that_is_not_ready_says_what_it_lacks() {
        let pod = |status: Value| {
            serde_json::from_value(json!({ "metadata": { "name": "web-1" }, "status": status }))
        };
        let said = |status: Value| problem(&pod(status).unwrap());
        let unscheduled =
            json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "message": "0/3 nodes" }] });
        assert_eq!(said(unscheduled).as_deref(), Some("pod web-1 is not scheduled: 0/3 nodes"));
        let waiting = json!({ "containerStatuses": [{ "name": "web", "image": "web", "imageID": "", "ready": false,
            "restartCount": 0, "state": { "waiting": { "reason": "ImagePullBackOff" } } }] });
        assert_eq!(said(waiting).as_deref(), Some("pod web-1 is ImagePullBackOff"));
        assert_eq!(said(json!({ "phase": "Running" })).as_deref(), Some("pod web-1 is not Ready"));
    }
}
