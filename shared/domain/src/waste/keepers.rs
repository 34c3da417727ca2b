//! The one list of tags by which another system keeps storage that looks unused. Examples are a backup, a
//! recovery point, and a claim whose pod is scaled to zero. Deleting such storage would harm that system, so
//! that no report may advise it.

use crate::owners::find;
use crate::tags::{
    DISASTER_RECOVERY_TAG, FAST_LAUNCH, KUBERNETES_CLUSTER_TAG, KUBERNETES_TAGS, MIGRATION_SERVICE_TAG,
    RDS_CUSTOM_TAG, RESTORE_TEST_TAG, Tags,
};
use crate::waste::left_alone::LeftAlone;

/// Every such tag (`key`, `key=value` or `prefix*`), and the reason that it stands for.
///
/// If several tags match, the first one counts: backups copy the tags of the resources that they back up.
const KEEPERS: &[(&str, LeftAlone)] = &[
    ("aws:backup:source-resource", LeftAlone::AwsBackup),
    // https://docs.aws.amazon.com/aws-backup/latest/devguide/restore-testing.html
    (RESTORE_TEST_TAG, LeftAlone::AwsBackup),
    ("aws:dlm:lifecycle-policy-id", LeftAlone::LifecycleManager),
    // https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSElasticDisasterRecoveryReplicationServerPolicy.html
    (DISASTER_RECOVERY_TAG, LeftAlone::DisasterRecovery),
    (MIGRATION_SERVICE_TAG, LeftAlone::ApplicationMigration),
    ("velero.io/*", LeftAlone::Velero),
    // https://github.com/kubernetes-sigs/aws-ebs-csi-driver/blob/master/docs/tagging.md
    ("CSIVolumeName", LeftAlone::Kubernetes),
    ("CSIVolumeSnapshotName", LeftAlone::Kubernetes),
    ("ebs.csi.aws.com/*", LeftAlone::Kubernetes),
    (KUBERNETES_TAGS, LeftAlone::Kubernetes),
    (KUBERNETES_CLUSTER_TAG, LeftAlone::Kubernetes),
    // https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/win-ami-config-fast-launch.html
    (FAST_LAUNCH, LeftAlone::FastLaunch),
    (RDS_CUSTOM_TAG, LeftAlone::RdsCustom),
];

/// Returns the system that keeps a resource with these tags. Values don't matter unless the list names one.
#[must_use]
pub fn keeper(tags: &Tags) -> Option<LeftAlone> {
    KEEPERS.iter().find(|(mark, _)| find(mark, tags).is_some()).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(tags: &[(&str, &str)]) -> Option<LeftAlone> {
        keeper(&tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn what_another_system_needs_is_kept_by_reason() {
        for (key, value, why) in [
            ("AWSElasticDisasterRecoveryManaged", "drs.amazonaws.com", LeftAlone::DisasterRecovery),
            ("AWSApplicationMigrationServiceManaged", "mgn.amazonaws.com", LeftAlone::ApplicationMigration),
            ("CSIVolumeSnapshotName", "snapshot-7d1c", LeftAlone::Kubernetes),
            ("CSIVolumeName", "pvc-0001", LeftAlone::Kubernetes),
            ("ebs.csi.aws.com/cluster", "true", LeftAlone::Kubernetes),
            ("kubernetes.io/created-for/pvc/name", "data-db-0", LeftAlone::Kubernetes),
            ("kubernetes.io/cluster/shop", "owned", LeftAlone::Kubernetes),
            ("KubernetesCluster", "", LeftAlone::Kubernetes),
            ("velero.io/backup", "nightly-20240101", LeftAlone::Velero),
            ("CreatedBy", "EC2 Fast Launch", LeftAlone::FastLaunch),
            ("AWSRDSCustom", "custom-oracle", LeftAlone::RdsCustom),
            ("awsbackup-restore-test", "plan-1", LeftAlone::AwsBackup),
            ("aws:backup:source-resource", "arn", LeftAlone::AwsBackup),
            ("aws:dlm:lifecycle-policy-id", "policy-1", LeftAlone::LifecycleManager),
        ] {
            assert_eq!(kept(&[("Name", "x"), (key, value)]), Some(why), "{key}");
        }
    }

    #[test]
    fn what_only_looks_like_a_keeper_keeps_nothing() {
        for (key, value) in [
            ("Name", "velero"),
            ("velero", "nightly"),
            ("csivolumename", "pvc-1"),
            ("CSIVolume", "pvc-1"),
            ("kubernetes", "shop"),
            ("CreatedBy", "EC2 Image Builder"),
            ("CreatedBy", "ec2 fast launch"),
            ("awselasticdisasterrecoverymanaged", "drs.amazonaws.com"),
            ("aws:cloudformation:stack-name", "web"),
            ("aws:ec2:fleet-id", "fleet-1"),
        ] {
            assert_eq!(kept(&[(key, value)]), None, "{key}={value}");
        }
    }

    #[test]
    fn a_backup_that_bears_its_volumes_tags_is_the_backups() {
        let tags = [("kubernetes.io/created-for/pvc/name", "data"), ("velero.io/backup", "nightly")];
        assert_eq!(kept(&tags), Some(LeftAlone::Velero));
        let tags = [("CSIVolumeName", "pvc-1"), ("aws:dlm:lifecycle-policy-id", "policy-1")];
        assert_eq!(kept(&tags), Some(LeftAlone::LifecycleManager));
    }
}
