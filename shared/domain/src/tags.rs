//! Tags: the keys that have a meaning here, and the tags that a replacement inherits.

use std::collections::BTreeMap;

use crate::ids::ClusterName;

/// Key and value that mark everything that we launch.
pub const MANAGED_BY: (&str, &str) = ("ManagedBy", "SpotOptimizer");
/// The key of the tag that holds the swap's id on a newcomer, so that it is found again after any failure.
pub const SWAP_TAG: &str = "spot-optimizer:swap";
/// The key of the tag by which the newcomer of a node swap names its cluster where no other tag of it does so. Any caller may write
/// the tag.
pub const CLUSTER_TAG: &str = "spot-optimizer:cluster";
/// The tag that AWS sets on every member of a group, and removes on detach.
pub const GROUP_NAME_TAG: &str = "aws:autoscaling:groupName";
/// The tag of a managed node group's members. It authorises under any settings.
pub const NODE_GROUP_TAG: &str = "eks:cluster-name";
/// The tag of an EKS cluster that AWS itself sets.
pub(crate) const EKS_TAG: &str = "aws:eks:cluster-name";
/// The tag of an EKS cluster on the nodes of EKS Auto Mode.
pub(crate) const EKS_AUTO_TAG: &str = "eks:eks-cluster-name";
/// The older key of Kubernetes' cloud provider, on nodes and volumes.
pub(crate) const KUBERNETES_CLUSTER_TAG: &str = "KubernetesCluster";
/// Every newer key of Kubernetes' own, in the notation of `owners`.
pub(crate) const KUBERNETES_TAGS: &str = "kubernetes.io/*";
/// The marks of services, in the notation of `owners`, on instances and on the storage that they keep.
pub(crate) const FAST_LAUNCH: &str = "CreatedBy=EC2 Fast Launch";
pub(crate) const MIGRATION_SERVICE_TAG: &str = "AWSApplicationMigrationServiceManaged";
pub(crate) const DISASTER_RECOVERY_TAG: &str = "AWSElasticDisasterRecoveryManaged";
pub(crate) const RDS_CUSTOM_TAG: &str = "AWSRDSCustom";
pub(crate) const RESTORE_TEST_TAG: &str = "awsbackup-restore-test";
/// The most tags that one resource may carry
/// (<https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html>).
pub const MAX_TAGS: usize = 50;

/// Tags of a resource, by key.
pub type Tags = BTreeMap<String, String>;

/// Returns the name of the Kubernetes cluster that an instance with these tags belongs to.
///
/// EKS, the cloud controller manager and cluster-api set such tags
/// (<https://docs.aws.amazon.com/eks/latest/userguide/eks-using-tags.html>). `owners` says if the instance is
/// a node.
#[must_use]
pub fn cluster_of(tags: &Tags) -> Option<ClusterName> {
    let by_value = [EKS_TAG, CLUSTER_TAG, NODE_GROUP_TAG, EKS_AUTO_TAG, KUBERNETES_CLUSTER_TAG];
    // Any caller may write some of these tags: a malformed name must not hide another tag's.
    let named = by_value.iter().filter_map(|key| tags.get(*key)).find_map(|name| name.parse().ok());
    named.or_else(|| tags.keys().find_map(|key| key.strip_prefix("kubernetes.io/cluster/")?.parse().ok()))
}

/// Returns the tags of the replacement of an instance with the tags `old`.
///
/// The result holds all tags that can be copied (AWS reserves `aws:`), our mark and the swap's id. A node's replacement
/// names its `cluster`: the old node may have been found by a request alone. `belongings` says if EC2 takes so many.
#[must_use]
pub fn inherited(old: &Tags, swap_id: &str, cluster: Option<&str>) -> Tags {
    let ours = [(MANAGED_BY.0, MANAGED_BY.1), (SWAP_TAG, swap_id)];
    let mut tags: Tags = old
        .iter()
        .filter(|(key, _)| !key.starts_with("aws:") && ours.iter().all(|(our_key, _)| key != our_key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    tags.extend(ours.map(|(key, value)| (key.to_owned(), value.to_owned())));
    if let Some(cluster) = cluster
        && cluster_of(&tags).is_none_or(|named| named.as_str() != cluster)
    {
        tags.insert(CLUSTER_TAG.to_owned(), cluster.to_owned());
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_tags_are_inherited_and_reserved_ones_left_behind() {
        let old = Tags::from([
            ("team".into(), "payments".into()),
            ("aws:autoscaling:groupName".into(), "web".into()),
            ("ManagedBy".into(), "terraform".into()),
        ]);
        let new = inherited(&old, "s-1", None);
        assert_eq!(new["team"], "payments");
        assert_eq!(new["ManagedBy"], "SpotOptimizer");
        assert_eq!(new[SWAP_TAG], "s-1");
        assert_eq!(new.len(), 3);
    }

    #[test]
    fn the_replacement_of_a_node_names_its_cluster_in_one_way() {
        let cluster = |old: &Tags| inherited(old, "s-1", Some("shop"));
        assert_eq!(cluster(&Tags::new())[CLUSTER_TAG], "shop");
        let known = Tags::from([("kubernetes.io/cluster/shop".into(), "owned".into())]);
        assert!(!cluster(&known).contains_key(CLUSTER_TAG));
        let reserved = Tags::from([(EKS_TAG.into(), "shop".into())]);
        assert_eq!(cluster(&reserved)[CLUSTER_TAG], "shop", "AWS's own tag is left behind");
        for other in ["kubernetes.io/cluster/other", "spot-optimizer:cluster"] {
            let wrong = cluster(&Tags::from([(other.into(), "other".into())]));
            assert_eq!(cluster_of(&wrong).unwrap().as_str(), "shop", "the swap has found the node there");
        }
    }

    #[test]
    fn a_node_says_whose_it_is() {
        let tags = |key: &str, value: &str| Tags::from([(key.to_owned(), value.to_owned())]);
        let cluster = |tags: &Tags| cluster_of(tags).map(|name| name.to_string());
        assert_eq!(cluster(&tags("aws:eks:cluster-name", "shop")).as_deref(), Some("shop"));
        assert_eq!(
            cluster(&tags("kubernetes.io/cluster/k8s.example.org", "owned")).as_deref(),
            Some("k8s.example.org")
        );
        assert_eq!(
            cluster(&tags("kubernetes.io/cluster/shop", "")).as_deref(),
            Some("shop"),
            "whatever the value"
        );
        assert_eq!(
            cluster(&tags("KubernetesCluster", "kops.example.org")).as_deref(),
            Some("kops.example.org")
        );
        assert_eq!(cluster(&tags("team", "shop")), None);
        let mut forged = tags("kubernetes.io/cluster/shop", "owned");
        forged.insert("eks:cluster-name".into(), "no name".into());
        assert_eq!(cluster(&forged).as_deref(), Some("shop"));
    }
}
