//! The fate of a pod's volumes once it leaves its node.

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Volume};

/// A volume of a pod that its move concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mounted {
    /// An `emptyDir` on the node's disk, of this name: its content is lost.
    Scratch(String),
    /// A PersistentVolumeClaim of this name.
    Claim(String),
    /// A claim that is made for the pod and goes with the pod; the volume has this name.
    OwnClaim(String),
    /// An EBS volume without a claim: it must be detached, and binds the pod to its zone.
    InlineEbs,
}

impl Mounted {
    /// Reads a volume; none if the volume is the same on every node. The pattern names every field: a new
    /// field of Kubernetes' doesn't compile before a developer has judged it.
    pub(crate) fn of(volume: &Volume) -> Option<Self> {
        let Volume {
            name,
            aws_elastic_block_store,
            empty_dir,
            ephemeral,
            persistent_volume_claim,
            // The kubelet of any node makes these volumes anew.
            config_map: _,
            downward_api: _,
            git_repo: _,
            image: _,
            projected: _,
            secret: _,
            // The directory belongs to the node, and is no reason for the pod to stay (as in kubectl).
            host_path: _,
            // A CSI driver makes the volume for the pod's lifetime: secrets, certificates. kubectl evicts
            // such pods, too.
            csi: _,
            // Storage that any node of the cluster reaches.
            azure_file: _,
            cephfs: _,
            fc: _,
            flex_volume: _,
            flocker: _,
            glusterfs: _,
            iscsi: _,
            nfs: _,
            portworx_volume: _,
            quobyte: _,
            rbd: _,
            scale_io: _,
            storageos: _,
            // Disks of other clouds: no node of EC2 mounts them.
            azure_disk: _,
            cinder: _,
            gce_persistent_disk: _,
            photon_persistent_disk: _,
            vsphere_volume: _,
        } = volume;
        if let Some(claim) = persistent_volume_claim {
            return Some(Self::Claim(claim.claim_name.clone()));
        }
        if ephemeral.is_some() {
            return Some(Self::OwnClaim(name.clone()));
        }
        if aws_elastic_block_store.is_some() {
            return Some(Self::InlineEbs);
        }
        empty_dir.as_ref().is_some_and(is_on_disk).then(|| Self::Scratch(name.clone()))
    }
}

/// Returns true for an `emptyDir` on disk. An `emptyDir` in memory is a scratch area by its nature (Cluster
/// Autoscaler treats it so).
fn is_on_disk(dir: &EmptyDirVolumeSource) -> bool {
    let EmptyDirVolumeSource { medium, size_limit: _ } = dir;
    medium.as_deref() != Some("Memory")
}
