//! The fate of a pod's volumes once it leaves its node.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, HostPathVolumeSource, Volume};

/// Directories of the node's own software: a pod that writes there keeps no data of its own.
const OF_THE_NODE: [&str; 15] = [
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/opt/cni",
    "/proc",
    "/run",
    "/sys",
    "/usr",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/log",
    "/var/run",
];

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
    /// A directory of the node that a container may write: it goes with the node. No reason for the pod to stay (as in
    /// kubectl).
    HostPath(String),
}

/// Reads the volumes of a pod that its move concerns.
pub(crate) fn mounted<'a>(
    volumes: &[Volume],
    containers: impl Iterator<Item = &'a Container>,
) -> Vec<Mounted> {
    let mounts = containers.flat_map(|container| container.volume_mounts.iter().flatten());
    let written: BTreeSet<&str> =
        mounts.filter(|mount| mount.read_only != Some(true)).map(|mount| mount.name.as_str()).collect();
    let concerns = |mounted: &Mounted, volume: &Volume| {
        !matches!(mounted, Mounted::HostPath(_)) || written.contains(volume.name.as_str())
    };
    volumes
        .iter()
        .filter_map(|volume| Mounted::of(volume).filter(|mounted| concerns(mounted, volume)))
        .collect()
}

impl Mounted {
    /// Returns the data that the move loses, although it refuses nothing.
    pub(crate) fn loss(&self) -> Option<String> {
        match self {
            Self::HostPath(path) => {
                Some(format!("what it has written to hostPath {path} goes with the node"))
            }
            Self::OwnClaim(volume) => Some(format!("its ephemeral volume {volume} is deleted with the pod")),
            Self::Scratch(_) | Self::Claim(_) | Self::InlineEbs => None,
        }
    }

    /// Reads a volume; none if the volume is the same on every node. The pattern names every field: a new
    /// field of Kubernetes' doesn't compile before a developer has judged it.
    fn of(volume: &Volume) -> Option<Self> {
        let Volume {
            name,
            aws_elastic_block_store,
            empty_dir,
            ephemeral,
            host_path,
            persistent_volume_claim,
            // The kubelet of any node makes these volumes anew.
            config_map: _,
            downward_api: _,
            git_repo: _,
            image: _,
            projected: _,
            secret: _,
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
        if let Some(host_path) = host_path {
            return may_hold_data(host_path).then(|| Self::HostPath(host_path.path.clone()));
        }
        empty_dir.as_ref().is_some_and(is_on_disk).then(|| Self::Scratch(name.clone()))
    }
}

/// Returns true for a directory or a file outside of the node's own ones.
fn may_hold_data(host_path: &HostPathVolumeSource) -> bool {
    let HostPathVolumeSource { path, type_ } = host_path;
    let is_device = matches!(type_.as_deref(), Some("Socket" | "CharDevice" | "BlockDevice"));
    let is_under =
        |top: &&str| path.strip_prefix(*top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    !is_device && path != "/" && !OF_THE_NODE.iter().any(is_under)
}

/// Returns true for an `emptyDir` on disk. An `emptyDir` in memory is a scratch area by its nature (Cluster
/// Autoscaler treats it so).
fn is_on_disk(dir: &EmptyDirVolumeSource) -> bool {
    let EmptyDirVolumeSource { medium, size_limit: _ } = dir;
    medium.as_deref() != Some("Memory")
}
