//! Volumes: the ones that tie a pod to its zone or to its very node, and the ones that a node still holds.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{CSINode, VolumeAttachment};
use kube::api::ListParams;
use kube::{Api, Client};

use crate::drain_state::{INLINE_EBS, claim_key};
use crate::error::{ClusterError, failed};
use crate::node::NodeName;
use crate::pages;
use crate::pod::LOOKS_AT_ONCE;
use crate::pods::NodePod;

/// VolumeAttachments in a page of a list.
const PAGE_SIZE: u32 = 250;
/// CSI drivers of EBS: the add-on's, and Auto Mode's.
const EBS_DRIVERS: [&str; 2] = ["ebs.csi.aws.com", "ebs.csi.eks.amazonaws.com"];

/// The place to which a volume ties its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tie {
    /// The volume's Availability Zone (EBS).
    Zone,
    /// This very node (a `local` or `hostPath` PersistentVolume): the pod can't move.
    Node,
}

/// The tightest tie of each tied pod, by the pod's UID.
pub type Ties = BTreeMap<String, Tie>;

/// Follows the claims of `pods` to their PersistentVolumes: one `get` for each claim, one for each volume. A
/// claim that is not bound is no tie.
pub async fn ties(client: &Client, pods: &[NodePod]) -> Result<Ties, ClusterError> {
    let claims: BTreeSet<(&str, &str)> = pods
        .iter()
        .flat_map(|pod| pod.claims.iter().map(|claim| (pod.pod.namespace.as_str(), claim.as_str())))
        .collect();
    let looks = claims.into_iter().map(|claim| async move { Ok((claim, tie_of(client, claim).await?)) });
    let tied: BTreeMap<(&str, &str), Option<Tie>> =
        stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE).try_collect().await?;
    let tie = |pod: &NodePod| {
        let by_claim = pod
            .claims
            .iter()
            .filter_map(|claim| tied.get(&(pod.pod.namespace.as_str(), claim.as_str())).copied().flatten());
        by_claim.chain(pod.has_inline_ebs.then_some(Tie::Zone)).max()
    };
    Ok(pods.iter().filter_map(|pod| Some((pod.pod.uid.clone(), tie(pod)?))).collect())
}

/// Returns the PersistentVolumes that are still attached to the node and that a moving pod has mounted, by
/// `claims` ([`crate::drain::State::claims`]). Terminating an instance before they have gone costs about 6
/// minutes of forced detach for each. Other volumes do not matter: the volumes of a DaemonSet's pod go with
/// the node, and an attachment that outlived its claim serves no pod.
pub async fn attached(
    client: &Client,
    node: &NodeName,
    claims: &BTreeSet<String>,
) -> Result<Vec<String>, ClusterError> {
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let api: Api<VolumeAttachment> = Api::all(client.clone());
    let is_here = |attachment: &VolumeAttachment| attachment.spec.node_name == node.as_str();
    let here =
        pages::select(&api, "list volumeattachments", ListParams::default(), PAGE_SIZE, is_here).await?;
    let mut names = Vec::new();
    for attachment in here {
        match attachment.spec.source.persistent_volume_name {
            Some(volume) => names.extend(is_of(client, &volume, claims).await?.then_some(volume)),
            None if claims.contains(INLINE_EBS) => names.extend(attachment.metadata.name),
            None => {}
        }
    }
    names.sort();
    Ok(names)
}

/// Returns the CSI drivers of a node, each with the number of volumes that it attaches there.
pub(crate) async fn drivers_of(client: &Client, node: &NodeName) -> Result<Option<CSINode>, ClusterError> {
    let api: Api<CSINode> = Api::all(client.clone());
    api.get_opt(node.as_str()).await.map_err(failed("get csinodes", node.as_str()))
}

/// Tries the reads of volumes that are needed later, if a moving pod holds a claim: the newcomer's drivers
/// before the cordon, the attachments after the drain. A missing right shows now.
pub(crate) async fn may_follow(
    client: &Client,
    node: &NodeName,
    moving: &[NodePod],
) -> Result<(), ClusterError> {
    if !moving.iter().any(|pod| pod.has_inline_ebs || !pod.claims.is_empty()) {
        return Ok(());
    }
    drivers_of(client, node).await?;
    let attachments: Api<VolumeAttachment> = Api::all(client.clone());
    let first = attachments.list(&ListParams::default().limit(1)).await;
    first.map(drop).map_err(failed("list volumeattachments", node.as_str()))
}

/// Returns true if the volume is bound to one of the claims, by the volume's word and by the claim's.
async fn is_of(client: &Client, volume: &str, claims: &BTreeSet<String>) -> Result<bool, ClusterError> {
    let claim = get_volume(client, volume).await?.and_then(|volume| volume.spec?.claim_ref);
    let Some((namespace, name)) = claim.and_then(|claim| claim.namespace.zip(claim.name)) else {
        return Ok(false);
    };
    Ok(claims.contains(&claim_key(&namespace, &name))
        && volume_of(client, (&namespace, &name)).await?.as_deref() == Some(volume))
}

async fn tie_of(client: &Client, (namespace, claim): (&str, &str)) -> Result<Option<Tie>, ClusterError> {
    let Some(name) = volume_of(client, (namespace, claim)).await? else { return Ok(None) };
    Ok(get_volume(client, &name).await?.and_then(|volume| tie(&volume)))
}

async fn get_volume(client: &Client, name: &str) -> Result<Option<PersistentVolume>, ClusterError> {
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    volumes.get_opt(name).await.map_err(failed("get persistentvolumes", name))
}

/// Returns the volume that a claim is bound to.
pub(crate) async fn volume_of(
    client: &Client,
    (namespace, claim): (&str, &str),
) -> Result<Option<String>, ClusterError> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let object = format!("{namespace}/{claim}");
    let bound = claims.get_opt(claim).await.map_err(failed("get persistentvolumeclaims", object))?;
    Ok(bound.and_then(|claim| claim.spec).and_then(|spec| spec.volume_name))
}

/// Returns the tie by the volume's kind, else by the labels that its node affinity requires.
fn tie(volume: &PersistentVolume) -> Option<Tie> {
    let spec = volume.spec.as_ref()?;
    if spec.local.is_some() || spec.host_path.is_some() {
        return Some(Tie::Node);
    }
    let is_ebs = spec.csi.as_ref().is_some_and(|csi| EBS_DRIVERS.contains(&csi.driver.as_str()));
    if is_ebs || spec.aws_elastic_block_store.is_some() {
        return Some(Tie::Zone);
    }
    let terms = spec.node_affinity.as_ref()?.required.as_ref()?.node_selector_terms.iter();
    let keys = terms.flat_map(|term| term.match_expressions.iter().flatten()).map(|e| e.key.as_str());
    keys.filter_map(|key| match key {
        "kubernetes.io/hostname" => Some(Tie::Node),
        key if key.ends_with("/zone") => Some(Tie::Zone),
        _ => None,
    })
    .max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn tie_by(spec: &Value) -> Option<Tie> {
        tie(&serde_json::from_value(json!({ "spec": spec })).unwrap())
    }

    #[test]
    fn an_ebs_volume_ties_to_its_zone_whatever_made_it() {
        assert_eq!(
            tie_by(&json!({ "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": "vol-1" } })),
            Some(Tie::Zone)
        );
        assert_eq!(tie_by(&json!({ "awsElasticBlockStore": { "volumeID": "vol-1" } })), Some(Tie::Zone));
    }

    #[test]
    fn a_local_volume_ties_to_the_node() {
        assert_eq!(tie_by(&json!({ "local": { "path": "/mnt/disk" } })), Some(Tie::Node));
        assert_eq!(tie_by(&json!({ "hostPath": { "path": "/mnt/disk" } })), Some(Tie::Node));
    }

    #[test]
    fn another_drivers_volume_ties_by_its_node_affinity() {
        let affine = |key: &str| {
            json!({
                "csi": { "driver": "other.example.com", "volumeHandle": "v" },
                "nodeAffinity": { "required": { "nodeSelectorTerms": [
                    { "matchExpressions": [{ "key": key, "operator": "In", "values": ["x"] }] },
                ] } },
            })
        };
        assert_eq!(tie_by(&affine("topology.kubernetes.io/zone")), Some(Tie::Zone));
        assert_eq!(tie_by(&affine("kubernetes.io/hostname")), Some(Tie::Node));
        assert_eq!(tie_by(&json!({ "csi": { "driver": "efs.csi.aws.com", "volumeHandle": "fs-1" } })), None);
    }
}
