//! The controllers of pods: whether they bring back an evicted pod, from which template, and after which
//! other pod. Every pass of a drain asks DaemonSets and Jobs (`DaemonSetsAndJobs`), since they decide what an eviction
//! costs. All others are asked once, before anything is changed (`workloads`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{
    DaemonSet, ReplicaSet, ReplicaSetSpec, ReplicaSetStatus, StatefulSet, StatefulSetSpec,
};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    Pod, PodTemplateSpec, ReplicationController, ReplicationControllerSpec, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::api::ListParams;
use kube::core::Selector;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::error::{ClusterError, cut, failed};
use crate::jobs;
use crate::pages;
use crate::pod::{self, Controller, LOOKS_AT_ONCE, PAGE_SIZE, get};
use crate::spec::Facts;

/// The finalizer of an owner that is being deleted and leaves its pods behind.
const ORPHANS: &str = "orphan";

/// The DaemonSets and Jobs of a node's pods.
#[derive(Debug, Default)]
pub(crate) struct DaemonSetsAndJobs {
    daemon_sets: BTreeSet<Controller>,
    /// `None`: the Job does not exist any more.
    jobs: BTreeMap<Controller, Option<Job>>,
}

/// The reasons of DaemonSets and Jobs why pods would be lost by an eviction.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    daemon_sets: BTreeSet<Controller>,
    /// The reason, by the pod's UID.
    pods: BTreeMap<String, String>,
}

/// A controller of Kubernetes' own kinds, and the pods that it would bring back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Workload {
    /// The name by which its owner knows it: `Deployment shop/web`.
    pub(crate) name: String,
    /// Pods that the controller is to have, if that is a number of equal pods.
    pub(crate) replicas: Option<usize>,
    /// The reason why the controller would bring nothing back.
    pub(crate) loss: Option<String>,
    /// The reason why the API server refuses the controller's new pods at present.
    pub(crate) failure: Option<String>,
    /// The spec of the controller's template, by which it brings pods back.
    pub(crate) template: Option<Facts>,
    /// A pod that is not Ready, and for which a StatefulSet waits that starts its pods one after another.
    pub(crate) waits_for: Option<(u64, String)>,
}

impl DaemonSetsAndJobs {
    /// Asks once for each DaemonSet, and for each Job of a pod that is alive.
    pub(crate) async fn of(client: &Client, pods: &[Pod]) -> Result<Self, ClusterError> {
        let named = |kind: &str, pods: &mut dyn Iterator<Item = &Pod>| -> BTreeSet<Controller> {
            pods.filter_map(pod::controller).filter(|c| c.kind == kind).collect()
        };
        let daemon_sets = named("DaemonSet", &mut pods.iter());
        let jobs = named("Job", &mut pods.iter().filter(|pod| pod::is_alive(pod)));
        Ok(Self {
            daemon_sets: existing_daemon_sets(client, daemon_sets).await?,
            jobs: each(client, jobs, "get jobs").await?,
        })
    }

    pub(crate) fn losses(self, pods: &[Pod]) -> Losses {
        let mut here: BTreeMap<Controller, usize> = BTreeMap::new();
        for owner in pods.iter().filter(|pod| pod::is_alive(pod)).filter_map(pod::controller) {
            *here.entry(owner).or_default() += 1;
        }
        let loss = |pod: &Pod| {
            let owner = pod::controller(pod)?;
            let why = match self.jobs.get(&owner)? {
                Some(job) if is_orphaning(&job.metadata) => Some(orphaning("Job")),
                Some(job) => jobs::loss(job, pod.annotations(), here.get(&owner).copied().unwrap_or(1)),
                None => Some(gone(&owner)),
            };
            Some((pod.uid()?, why?))
        };
        Losses { pods: pods.iter().filter_map(loss).collect(), daemon_sets: self.daemon_sets }
    }
}

impl Losses {
    /// Returns true if the DaemonSet exists.
    pub(crate) fn has_daemon_set(&self, owner: &Controller) -> bool {
        self.daemon_sets.contains(owner)
    }

    /// Returns the reason why the pod's Job would not start the pod again.
    pub(crate) fn of(&self, pod: &Pod) -> Option<&str> {
        self.pods.get(&pod.uid()?).map(String::as_str)
    }

    #[cfg(test)]
    pub(crate) fn with(daemon_sets: BTreeSet<Controller>, pods: &[(&str, &str)]) -> Self {
        let pods = pods.iter().map(|(uid, why)| ((*uid).to_owned(), (*why).to_owned())).collect();
        Self { daemon_sets, pods }
    }
}

/// Returns the DaemonSets that exist. A pod outlives its DaemonSet if that was deleted with
/// `--cascade=orphan`.
async fn existing_daemon_sets(
    client: &Client,
    claimed: BTreeSet<Controller>,
) -> Result<BTreeSet<Controller>, ClusterError> {
    let looks = claimed.into_iter().map(|owner| async move {
        let api: Api<DaemonSet> = Api::namespaced(client.clone(), &owner.namespace);
        let object = format!("{}/{}", owner.namespace, owner.name);
        let found = api.get_opt(&owner.name).await.map_err(failed("get daemonsets", object))?;
        Ok(found.filter(|set| !is_orphaning(&set.metadata)).map(|_| owner))
    });
    stream::iter(looks)
        .buffer_unordered(LOOKS_AT_ONCE)
        .try_filter_map(|c| async move { Ok(c) })
        .try_collect()
        .await
}

/// Asks once for each of these controllers. A kind of another API group is skipped: this crate can't read it.
pub(crate) async fn workloads(
    client: &Client,
    controllers: BTreeSet<Controller>,
) -> Result<BTreeMap<Controller, Workload>, ClusterError> {
    let of_kind = |kind: &str| controllers.iter().filter(|c| c.kind == kind).cloned().collect();
    let mut found = BTreeMap::new();
    for (owner, set) in each::<ReplicaSet>(client, of_kind("ReplicaSet"), "get replicasets").await? {
        found.insert(owner.clone(), set.map_or_else(|| missing(&owner), |set| of_replica_set(&owner, set)));
    }
    let call = "get replicationcontrollers";
    for (owner, rc) in each::<ReplicationController>(client, of_kind("ReplicationController"), call).await? {
        found.insert(
            owner.clone(),
            rc.map_or_else(|| missing(&owner), |rc| of_replication_controller(&owner, rc)),
        );
    }
    for (owner, job) in each::<Job>(client, of_kind("Job"), "get jobs").await? {
        let template = job.and_then(|job| job.spec).and_then(|spec| template(Some(spec.template)));
        found.insert(owner.clone(), Workload { name: owner.to_string(), template, ..Workload::default() });
    }
    for (owner, set) in each::<StatefulSet>(client, of_kind("StatefulSet"), "get statefulsets").await? {
        let workload = match set {
            Some(set) => {
                let waits_for = first_unready(client, &owner, &set).await?;
                Workload { waits_for, ..of_stateful_set(&owner, set) }
            }
            None => missing(&owner),
        };
        found.insert(owner, workload);
    }
    Ok(found)
}

fn of_replica_set(owner: &Controller, set: ReplicaSet) -> Workload {
    let ReplicaSet { metadata, spec, status } = set;
    // People know the Deployment. A Rollout of Argo's owns ReplicaSets, too.
    let parent = metadata.owner_references.iter().flatten().find(|parent| parent.controller == Some(true));
    let name = parent.map_or_else(
        || owner.to_string(),
        |parent| format!("{} {}/{}", parent.kind, owner.namespace, parent.name),
    );
    let ReplicaSetSpec {
        replicas,
        template: of_pods,
        // The drain counts Ready pods, as a budget does.
        min_ready_seconds: _,
        selector: _,
    } = spec.unwrap_or_default();
    let failure = status.as_ref().and_then(failure_of_set);
    Workload { name, failure, ..of_equals(owner, &metadata, replicas, of_pods) }
}

fn of_replication_controller(owner: &Controller, controller: ReplicationController) -> Workload {
    let ReplicationController { metadata, spec, status } = controller;
    let ReplicationControllerSpec { replicas, template, min_ready_seconds: _, selector: _ } =
        spec.unwrap_or_default();
    let failure = status.as_ref().and_then(failure_of_controller);
    Workload { failure, ..of_equals(owner, &metadata, replicas, template) }
}

/// Returns the reason why the API server refuses the set's new pods: a quota, an admission webhook, a
/// ServiceAccount that is gone. The set repeats the creation, at intervals of 16 minutes at most.
pub(crate) fn failure_of_set(status: &ReplicaSetStatus) -> Option<String> {
    let mut conditions = status.conditions.iter().flatten();
    let failed = conditions.find(|c| is_creation_refused(&c.type_, &c.status, c.reason.as_deref()))?;
    Some(refused_by_api_server(failed.message.as_deref()))
}

fn failure_of_controller(status: &ReplicationControllerStatus) -> Option<String> {
    let mut conditions = status.conditions.iter().flatten();
    let failed = conditions.find(|c| is_creation_refused(&c.type_, &c.status, c.reason.as_deref()))?;
    Some(refused_by_api_server(failed.message.as_deref()))
}

/// Returns true for the condition `ReplicaFailure`, unless the deletion of a pod failed.
fn is_creation_refused(type_: &str, status: &str, reason: Option<&str>) -> bool {
    type_ == "ReplicaFailure" && status == "True" && reason != Some("FailedDelete")
}

fn refused_by_api_server(message: Option<&str>) -> String {
    cut(&format!("its new pods are refused (ReplicaFailure): {}", message.unwrap_or("no reason is given")))
}

fn of_stateful_set(owner: &Controller, set: StatefulSet) -> Workload {
    let StatefulSet { metadata, spec, status: _ } = set;
    let StatefulSetSpec {
        replicas,
        template,
        // `first_unready` reads these.
        ordinals: _,
        pod_management_policy: _,
        selector: _,
        min_ready_seconds: _,
        // A pod that comes back by `OnDelete` has the new revision: the template, which is read.
        update_strategy: _,
        revision_history_limit: _,
        // Claims outlive the eviction by either policy: they end with the set, or with fewer replicas.
        persistent_volume_claim_retention_policy: _,
        volume_claim_templates: _,
        service_name: _,
    } = spec.unwrap_or_default();
    of_equals(owner, &metadata, replicas, Some(template))
}

fn of_equals(
    owner: &Controller,
    metadata: &ObjectMeta,
    replicas: Option<i32>,
    of_pods: Option<PodTemplateSpec>,
) -> Workload {
    Workload {
        name: owner.to_string(),
        replicas: usize::try_from(replicas.unwrap_or(1)).ok(),
        loss: is_orphaning(metadata).then(|| orphaning(&owner.kind)),
        failure: None,
        template: template(of_pods),
        waits_for: None,
    }
}

fn missing(owner: &Controller) -> Workload {
    Workload { name: owner.to_string(), loss: Some(gone(owner)), ..Workload::default() }
}

fn template(template: Option<PodTemplateSpec>) -> Option<Facts> {
    template?.spec.as_ref().map(Facts::of)
}

fn gone(owner: &Controller) -> String {
    format!("its {owner} does not exist any more")
}

fn orphaning(kind: &str) -> String {
    format!("its {kind} is being deleted and leaves its pods behind")
}

fn is_orphaning(metadata: &ObjectMeta) -> bool {
    let mut finalizers = metadata.finalizers.iter().flatten();
    metadata.deletion_timestamp.is_some() && finalizers.any(|finalizer| finalizer == ORPHANS)
}

/// Returns the first pod in the order of a StatefulSet that is not Ready: `OrderedReady` starts no pod after
/// it.
async fn first_unready(
    client: &Client,
    owner: &Controller,
    set: &StatefulSet,
) -> Result<Option<(u64, String)>, ClusterError> {
    let Some(spec) = &set.spec else { return Ok(None) };
    let replicas = u64::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    let ready = set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let is_ordered = spec.pod_management_policy.as_deref() != Some("Parallel");
    if !is_ordered || u64::try_from(ready).is_ok_and(|ready| ready >= replicas) {
        return Ok(None);
    }
    let first = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
    let first = u64::try_from(first).unwrap_or(0);
    let ready: BTreeSet<String> = selected(client, &owner.namespace, &spec.selector)
        .await?
        .iter()
        .filter(|pod| pod::is_ready(pod) && pod::is_alive(pod))
        .map(ResourceExt::name_any)
        .collect();
    let name = |ordinal| format!("{}-{ordinal}", owner.name);
    let mut ordinals = first..first.saturating_add(replicas);
    Ok(ordinals.find(|ordinal| !ready.contains(&name(*ordinal))).map(|ordinal| (ordinal, name(ordinal))))
}

/// Lists the pods of a namespace that a selector names.
pub(crate) async fn selected(
    client: &Client,
    namespace: &str,
    selector: &LabelSelector,
) -> Result<Vec<Pod>, ClusterError> {
    let mut params = ListParams::default();
    if let Ok(selector) = Selector::try_from(selector.clone()) {
        params = params.labels_from(&selector);
    }
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    pages::all(&api, "list pods", namespace, params, PAGE_SIZE).await
}

async fn each<K>(
    client: &Client,
    controllers: BTreeSet<Controller>,
    call: &'static str,
) -> Result<BTreeMap<Controller, Option<K>>, ClusterError>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    K::DynamicType: Default,
{
    let looks = controllers.into_iter().map(|owner| async move {
        let found = get::<K>(client, &owner, call).await?;
        Ok((owner, found))
    });
    stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE).try_collect().await
}

#[cfg(test)]
mod tests;
