//! Reads the pods that must move, their volumes, and the nodes that could hold them.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::demands::{Demands, demands};
use super::{ATTACHABLE, Host, Lack, Mover, Need, PodVolume, Resident, missing};
use crate::amount::Amount;
use crate::error::{ClusterError, failed};
use crate::node::{self, Node, NodeName};
use crate::pod::{self, LOOKS_AT_ONCE};
use crate::pods::{self, Disposition, NodePod, Policy};
use crate::terms::NodeTerms;
use crate::{pages, volumes};

const PAGE_SIZE: u32 = 250;

/// Returns what keeps the pods of `old` off the newcomer; empty if it could hold them. Changes nothing. Lists
/// the other nodes, with their pods, only if the newcomer alone has too little room left.
///
/// # Errors
/// A call fails.
pub async fn lacks(
    client: &Client,
    old: &Node,
    newcomer: Node,
    policy: Policy,
) -> Result<Vec<Lack>, ClusterError> {
    let movers = movers(client, &old.name, policy).await?;
    let mut host = Host { residents: residents(client, &newcomer.name).await?, node: newcomer };
    limit_volumes(client, &mut host.node, &movers).await?;
    let lacks = missing(old, &host, &movers, &[]);
    if lacks.is_empty() || !lacks.iter().all(|lack| Need::is_elsewhere(&lack.need)) {
        return Ok(lacks);
    }
    let others = others(client, [&old.name, &host.node.name]).await?;
    Ok(missing(old, &host, &movers, &others))
}

/// Returns the pods that a drain evicts and that a controller brings back: other pods need no room.
async fn movers(client: &Client, node: &NodeName, policy: Policy) -> Result<Vec<Mover>, ClusterError> {
    let pods = pods::on_node(client, node, policy).await?;
    let comes_back = |pod: &NodePod| pod.disposition == Disposition::Evict && pod.controller.is_some();
    let pods: Vec<NodePod> = pods.into_iter().filter(comes_back).collect();
    let claims: BTreeSet<(String, String)> = pods
        .iter()
        .flat_map(|pod| pod.claims.iter().map(|claim| (pod.pod.namespace.clone(), claim.clone())))
        .collect();
    let looks = claims.into_iter().map(|claim| async move {
        let volume = volume(client, (&claim.0, &claim.1)).await?;
        Ok::<_, ClusterError>((claim, volume))
    });
    let bound: BTreeMap<(String, String), Option<PodVolume>> =
        stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE).try_collect().await?;
    let volumes = |pod: &NodePod| {
        let of_claim =
            |claim: &String| bound.get(&(pod.pod.namespace.clone(), claim.clone())).cloned().flatten();
        pod.claims.iter().filter_map(of_claim).collect()
    };
    let mover = |pod: &NodePod| Mover {
        volumes: volumes(pod),
        pod: Resident {
            namespace: pod.pod.namespace.clone(),
            name: pod.pod.pod.clone(),
            labels: pod.labels.clone(),
            demands: Demands::of(pod.facts.clone(), &pod.pod.namespace, &pod.labels),
            is_terminating: false,
            is_agent: false,
        },
    };
    Ok(pods.iter().map(mover).collect())
}

/// Returns the volume of a claim; none as long as the claim is not bound.
async fn volume(client: &Client, claim: (&str, &str)) -> Result<Option<PodVolume>, ClusterError> {
    let Some(name) = volumes::volume_of(client, claim).await? else { return Ok(None) };
    let api: Api<PersistentVolume> = Api::all(client.clone());
    let found = api.get_opt(&name).await.map_err(failed("get persistentvolumes", name.as_str()))?;
    Ok(found.and_then(|volume| volume.spec).map(|spec| {
        let required = spec.node_affinity.and_then(|affinity| affinity.required);
        PodVolume {
            name,
            driver: spec.csi.map(|csi| csi.driver),
            selects: required.iter().flat_map(NodeTerms::of_selector).collect(),
        }
    }))
}

async fn residents(client: &Client, node: &NodeName) -> Result<Vec<Resident>, ClusterError> {
    let api: Api<Pod> = Api::all(client.clone());
    let selector = format!("spec.nodeName={node}");
    let params = ListParams::default().fields(&selector);
    let pods = pages::all(&api, "list pods", &selector, params, pod::PAGE_SIZE).await?;
    Ok(pods.iter().filter_map(resident).collect())
}

/// Returns the resident for a pod; none for a pod that has finished, which holds no room.
fn resident(pod: &Pod) -> Option<Resident> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    (!matches!(phase, Some("Succeeded" | "Failed"))).then(|| Resident {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        labels: pod.labels().clone(),
        demands: demands(pod),
        is_terminating: pod.metadata.deletion_timestamp.is_some(),
        is_agent: pod::controller(pod)
            .is_some_and(|owner| owner.kind == "Node" || owner.kind.starts_with("DaemonSet")),
    })
}

/// Writes into the newcomer's `allocatable` the number of volumes that each driver of the movers may still
/// attach to it.
async fn limit_volumes(client: &Client, node: &mut Node, movers: &[Mover]) -> Result<(), ClusterError> {
    let drivers: BTreeSet<&String> =
        movers.iter().flat_map(|mover| &mover.volumes).filter_map(|volume| volume.driver.as_ref()).collect();
    if drivers.is_empty() {
        return Ok(());
    }
    let found = volumes::drivers_of(client, &node.name).await?;
    let limits: Vec<(String, i64)> = found
        .into_iter()
        .flat_map(|found| found.spec.drivers)
        .filter(|driver| drivers.contains(&driver.name))
        .filter_map(|driver| Some((driver.name, i64::from(driver.allocatable?.count?))))
        .collect();
    if limits.is_empty() {
        return Ok(());
    }
    let api: Api<VolumeAttachment> = Api::all(client.clone());
    let name = node.name.clone();
    let is_here = |attachment: &VolumeAttachment| attachment.spec.node_name == name.as_str();
    let params = ListParams::default();
    let attached = pages::select(&api, "list volumeattachments", params, PAGE_SIZE, is_here).await?;
    for (driver, limit) in limits {
        let used = attached.iter().filter(|attachment| attachment.spec.attacher == driver).count();
        let free = Amount::of(limit).minus(Amount::of(i64::try_from(used).unwrap_or(i64::MAX)));
        node.allocatable.insert(format!("{ATTACHABLE}{driver}"), free);
    }
    Ok(())
}

/// Returns every other node that takes pods, with its pods. Reduces each page to what the judgement needs
/// before it reads the next.
async fn others(client: &Client, but: [&NodeName; 2]) -> Result<Vec<Host>, ClusterError> {
    let nodes = node::schedulable(client).await?.into_iter().filter(|node| !but.contains(&&node.name));
    let mut hosts: BTreeMap<String, Host> =
        nodes.map(|node| (node.name.to_string(), Host { node, residents: Vec::new() })).collect();
    let api: Api<Pod> = Api::all(client.clone());
    let mut params = ListParams::default().fields("spec.nodeName!=").limit(pod::PAGE_SIZE);
    loop {
        let page = api.list(&params).await.map_err(failed("list pods", "on all nodes"))?;
        for pod in &page.items {
            let on = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
            if let Some(host) = on.and_then(|name| hosts.get_mut(name)) {
                host.residents.extend(resident(pod));
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(hosts.into_values().collect()),
        }
    }
}
