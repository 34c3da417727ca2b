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
use spot_domain::clock;

use crate::controllers;
use crate::drain_state::{ExpectedReplicas, State};
use crate::error::{ClusterError, cut};
use crate::pages;
use crate::pod::{self, Controller, LOOKS_AT_ONCE, PAGE_SIZE, get};
use crate::termination::Termination;

/// A controller whose replacements are not Ready yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    pub controller: Controller,
    /// Ready pods that the controller must have.
    pub wanted: u32,
    /// Ready pods that the controller has.
    pub ready: u32,
    /// The reason why it can't create pods, or the problem of one of its other pods.
    pub problem: Option<String>,
}

/// Reasons of waiting containers that no other node removes: the image or the configuration is gone.
const UNSTARTABLE: [&str; 5] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
];

/// The present pods of a controller, on any node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Replicas {
    /// Ready pods.
    pub(crate) ready: u32,
    /// Pods that have not finished and were not asked to end, Ready or not.
    pub(crate) alive: u32,
    /// True if a pod was asked to end and won't, and the controller replaces no pod before its end.
    pub(crate) has_overdue: bool,
    /// Pods that the controller asks for, if that is known.
    pub(crate) wanted: Option<u32>,
    /// The reason why its new pods are refused.
    pub(crate) failure: Option<String>,
    /// The problem of a pod that no node can start.
    pub(crate) unstartable: Option<String>,
    /// The problem of a pod that is not Ready.
    pub(crate) problem: Option<String>,
    /// The UID of the Deployment that owns the ReplicaSet.
    pub(crate) parent: Option<String>,
}

/// The state of a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ControllerState {
    /// No replacement is to come: the controller is gone, scaled to nothing, finished, or its pod runs.
    Settled,
    /// The controller's pods.
    Counted(Replicas),
}

impl Replicas {
    /// Returns the reason why an evicted pod has no replacement; `None` if each pod has one.
    pub(crate) fn lack(&self, owed: &ExpectedReplicas) -> Option<String> {
        let least = match (owed.least_alive, self.wanted) {
            (Some(least), wanted) => wanted.map_or(least, |wanted| wanted.min(least)),
            (None, wanted) => wanted.unwrap_or(owed.ready_before),
        };
        let fewer = || format!("{} of {least} pods exist", self.alive);
        self.failure.clone().or_else(|| (self.alive < least).then(fewer))
    }

    /// Returns the fewest pods that may exist when a further one is evicted. These are the pods that the controller
    /// wants, unless one of its own pods explains why it has fewer: an ordered StatefulSet creates no pod after one
    /// that is not Ready, nor a replacement of one that can't end on a dead node. Without an explanation, an earlier
    /// drain may have evicted the missing pod, and the API server refuses its replacement.
    fn least_alive(&self) -> u32 {
        let Some(wanted) = self.wanted else { return self.ready };
        let is_explained = self.alive > self.ready || self.has_overdue;
        if is_explained { wanted.min(self.alive) } else { wanted }
    }
}

impl From<ControllerState> for Replicas {
    fn from(state: ControllerState) -> Self {
        match state {
            ControllerState::Counted(replicas) => replicas,
            // No replacement is to come, so none is waited for.
            ControllerState::Settled => Self { ready: u32::MAX, alive: u32::MAX, ..Self::default() },
        }
    }
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

/// Returns what each of these controllers must bring back, and its present pods.
pub(crate) async fn states_of(
    client: &Client,
    controllers: &[Controller],
) -> Result<Vec<(ExpectedReplicas, Replicas)>, ClusterError> {
    let looks = controllers.iter().map(|controller| async move {
        let state = state_of(client, controller).await?;
        let (ready_before, least_alive, wanted) = match &state {
            // A Job's pod has to run again, once.
            _ if controller.kind == "Job" => (1, None, None),
            ControllerState::Settled => (0, None, Some(0)),
            ControllerState::Counted(replicas) => {
                (replicas.ready, Some(replicas.least_alive()), replicas.wanted)
            }
        };
        let now = Replicas::from(state);
        let (controller, parent) = (controller.clone(), now.parent.clone());
        let owed =
            ExpectedReplicas { controller, parent, ready_before, least_alive, wanted, is_guarded: false };
        Ok((owed, now))
    });
    stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await
}

/// Returns the pods that the controller has now, on any node.
pub(crate) async fn replicas_of(client: &Client, controller: &Controller) -> Result<Replicas, ClusterError> {
    state_of(client, controller).await.map(Replicas::from)
}

fn missing(owed: &ExpectedReplicas, state: ControllerState) -> Option<Missing> {
    let ControllerState::Counted(Replicas { ready, wanted, failure, problem, .. }) = state else {
        return None;
    };
    let problem = failure.or(problem);
    let wanted = wanted.map_or(owed.ready_before, |wanted| wanted.min(owed.ready_before));
    (ready < wanted).then(|| Missing { controller: owed.controller.clone(), wanted, ready, problem })
}

async fn state_of(client: &Client, controller: &Controller) -> Result<ControllerState, ClusterError> {
    match controller.kind.as_str() {
        "ReplicaSet" => {
            let set: Option<ReplicaSet> = get(client, controller, "get replicasets").await?;
            let Some(ReplicaSet { spec: Some(spec), status, metadata }) = set else {
                return Ok(ControllerState::Settled);
            };
            let mut now = counted(client, controller, spec.replicas, Some(spec.selector)).await?;
            now.failure = status.as_ref().and_then(controllers::failure_of_set);
            let mut owners = metadata.owner_references.into_iter().flatten();
            now.parent = owners.find(|owner| owner.controller == Some(true)).map(|owner| owner.uid);
            Ok(ControllerState::Counted(now))
        }
        "StatefulSet" => {
            let set: Option<StatefulSet> = get(client, controller, "get statefulsets").await?;
            let Some(spec) = set.and_then(|set| set.spec) else { return Ok(ControllerState::Settled) };
            let now = counted(client, controller, spec.replicas, Some(spec.selector)).await?;
            Ok(ControllerState::Counted(now))
        }
        "Job" => Ok(of_job(get(client, controller, "get jobs").await?.as_ref())),
        _ => Ok(ControllerState::Counted(counted(client, controller, None, None).await?)),
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
    ControllerState::Counted(Replicas { wanted: Some(1), ..Replicas::default() })
}

/// Counts the controller's pods among those that its selector names, or among all of its namespace.
async fn counted(
    client: &Client,
    controller: &Controller,
    replicas: Option<i32>,
    selector: Option<LabelSelector>,
) -> Result<Replicas, ClusterError> {
    let mut params = ListParams::default();
    if let Some(selector) = selector.and_then(|selector| Selector::try_from(selector).ok()) {
        params = params.labels_from(&selector);
    }
    let api: Api<Pod> = Api::namespaced(client.clone(), &controller.namespace);
    let owned = pages::all(&api, "list pods", &controller.namespace, params, PAGE_SIZE).await?;
    let is_own = |pod: &&Pod| pod::controller(pod).is_some_and(|owner| owner.uid == controller.uid);
    let lives = |pod: &&Pod| is_own(pod) && pod.metadata.deletion_timestamp.is_none();
    let (ready, others): (Vec<&Pod>, Vec<&Pod>) =
        owned.iter().filter(lives).partition(|pod| pod::is_ready(pod));
    let alive = others.iter().filter(|pod| pod::is_alive(pod)).count() + ready.len();
    let now = clock::now();
    let mut endings = owned.iter().filter(is_own).filter_map(Termination::of);
    let is_overdue = endings.any(|termination| termination.is_overdue(now));
    let count = |pods: usize| u32::try_from(pods).unwrap_or(u32::MAX);
    Ok(Replicas {
        ready: count(ready.len()),
        alive: count(alive),
        // A pod comes back under its own name, once that is free.
        has_overdue: is_overdue && controller.kind == "StatefulSet",
        wanted: replicas.map(|replicas| u32::try_from(replicas).unwrap_or(0)),
        failure: None,
        unstartable: others.iter().filter(|pod| pod::is_alive(pod)).find_map(|pod| unstartable(pod)),
        problem: others.iter().find_map(|pod| problem(pod)),
        parent: None,
    })
}

/// Returns the problem of a pod that no node can start.
fn unstartable(pod: &Pod) -> Option<String> {
    let why = waiting(pod).into_iter().find(|why| UNSTARTABLE.contains(why))?;
    Some(format!("pod {} is {why}", pod.name_any()))
}

/// Returns the reasons for which containers of the pod wait.
fn waiting(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else { return Vec::new() };
    let containers = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    containers.filter_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.as_deref()).collect()
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
    let why = waiting(pod).first().copied().unwrap_or("not Ready");
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
        ExpectedReplicas {
            controller,
            parent: None,
            ready_before,
            least_alive: Some(ready_before),
            wanted: None,
            is_guarded: false,
        }
    }

    fn lacking(ready_before: u32, ready: u32, wanted: Option<u32>) -> Option<(u32, u32)> {
        let now = Replicas { ready, wanted, ..Replicas::default() };
        missing(&owed(ready_before), ControllerState::Counted(now)).map(|m| (m.ready, m.wanted))
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
            ControllerState::Counted(Replicas { wanted: Some(1), ..Replicas::default() })
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

    #[test]
    fn a_controller_that_cannot_create_pods_says_so_before_any_problem_of_a_pod() {
        let text = |text: &str| Some(text.to_owned());
        let now = Replicas { failure: text("exceeded quota"), problem: text("pod"), ..Replicas::default() };
        let missing = missing(&owed(3), ControllerState::Counted(now)).unwrap();
        assert_eq!(missing.problem.as_deref(), Some("exceeded quota"));
    }

    #[test]
    fn an_evicted_pod_has_a_replacement_if_as_many_exist_as_are_wanted_and_none_is_refused() {
        let now = |alive, wanted| Replicas { alive, wanted, ..Replicas::default() };
        assert_eq!(now(4, Some(4)).lack(&owed(4)), None, "none of them is Ready yet");
        assert_eq!(now(3, Some(4)).lack(&owed(4)).as_deref(), Some("3 of 4 pods exist"));
        assert_eq!(now(2, Some(2)).lack(&owed(4)), None, "scaled down meanwhile");
        assert_eq!(now(3, None).lack(&owed(4)).as_deref(), Some("3 of 4 pods exist"), "a custom controller");
        let failure = Some("exceeded quota".to_owned());
        let refused = Replicas { failure, ..now(4, Some(4)) };
        assert_eq!(refused.lack(&owed(4)).as_deref(), Some("exceeded quota"));
    }

    #[test]
    fn a_pod_that_was_missing_before_the_drain_is_a_lack_unless_another_pod_explains_it() {
        let now = |ready, alive| Replicas { ready, alive, wanted: Some(5), ..Replicas::default() };
        let begun = |before: &Replicas| ExpectedReplicas {
            least_alive: Some(before.least_alive()),
            ..owed(before.ready)
        };
        let short = begun(&now(2, 3));
        assert_eq!(now(2, 3).lack(&short), None, "the third is not Ready, and the set creates no fourth");
        assert_eq!(now(1, 2).lack(&short).as_deref(), Some("2 of 3 pods exist"));
        let ending = begun(&Replicas { has_overdue: true, ..now(4, 4) });
        assert_eq!(now(4, 4).lack(&ending), None, "the fifth can't end on a dead node");
        let unexplained = begun(&now(4, 4));
        assert_eq!(now(4, 4).lack(&unexplained).as_deref(), Some("4 of 5 pods exist"));
        assert_eq!(now(3, 4).lack(&unexplained).as_deref(), Some("4 of 5 pods exist"), "by the first count");
        let surging = begun(&now(5, 6));
        assert_eq!(now(5, 5).lack(&surging), None, "its rollout is over");
        let of_an_earlier_release = ExpectedReplicas { least_alive: None, ..owed(2) };
        assert_eq!(now(5, 5).lack(&of_an_earlier_release), None);
        assert_eq!(now(2, 2).lack(&of_an_earlier_release).as_deref(), Some("2 of 5 pods exist"));
    }

    #[test]
    fn a_pod_whose_image_is_gone_starts_nowhere_and_one_that_restarts_may() {
        let pod = |reason: &str| {
            let state = json!({ "waiting": { "reason": reason } });
            let container = json!({ "name": "web", "image": "web", "imageID": "", "ready": false,
                                    "restartCount": 0, "state": state });
            let status = json!({ "containerStatuses": [container] });
            serde_json::from_value(json!({ "metadata": { "name": "web-1" }, "status": status })).unwrap()
        };
        assert_eq!(unstartable(&pod("ImagePullBackOff")).as_deref(), Some("pod web-1 is ImagePullBackOff"));
        assert_eq!(unstartable(&pod("CrashLoopBackOff")), None);
    }
}
