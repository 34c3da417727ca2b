//! The reasons for which something that looks like waste is left alone.

use serde::{Deserialize, Serialize};

/// The reason for which something that looks like waste is not ours to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LeftAlone {
    /// The owner keeps the resource by the opt-out tag.
    OptedOut,
    /// The owner keeps the resource by a tag of the setting `storage_marks`.
    OwnerMarked,
    /// An AWS service manages the resource.
    ServiceManaged,
    /// AWS Backup keeps the resource.
    AwsBackup,
    /// Data Lifecycle Manager keeps the resource.
    LifecycleManager,
    /// AWS Elastic Disaster Recovery recovers from the resource.
    DisasterRecovery,
    /// AWS Application Migration Service migrates by the resource.
    ApplicationMigration,
    /// A Kubernetes cluster claims the volume, also while no pod uses the claim.
    Kubernetes,
    /// Velero restores a Kubernetes cluster from the resource.
    Velero,
    /// EC2 Fast Launch starts Windows instances from the resource.
    FastLaunch,
    /// Amazon RDS Custom runs a database on the resource.
    RdsCustom,
    /// A launch template or a launch configuration names the snapshot: without it, the next launch fails.
    LaunchSource,
    /// Snapshot lock forbids to delete the snapshot.
    Locked,
    /// The snapshot is public, or shared with other accounts: they may launch from it.
    Shared,
    /// An image in the Recycle Bin can't be restored without the snapshot.
    ImageInRecycleBin,
    /// An image that is no longer registered was made of the snapshot, and the Recycle Bin could not be read.
    RecycleBinUnknown,
    /// The address is of the owner's own range, and costs nothing.
    OwnAddressRange,
    /// AWS did not report the resource's age.
    AgeUnknown,
}
