//! The one list of tags by which an owner marks an instance or a group: Kubernetes in all its spellings, and
//! the services that launch or replace instances. Beside it, the tags of other tools that swap instances.
//!
//! Group swap, lab swap and security audit read the same list. A node swap has a mark of its own beside it. A swap leaves a marked resource alone,
//! whatever the value of the mark unless the list names one. The audit authorises by a mark only if its value
//! is not empty.

use std::ops::Bound;

use crate::tags::{
    CLUSTER_TAG, DISASTER_RECOVERY_TAG, EKS_AUTO_TAG, EKS_TAG, FAST_LAUNCH, GROUP_NAME_TAG,
    KUBERNETES_CLUSTER_TAG, KUBERNETES_TAGS, MIGRATION_SERVICE_TAG, NODE_GROUP_TAG, RDS_CUSTOM_TAG,
    RESTORE_TEST_TAG, Tags,
};

/// The tag that EC2 Fleet writes on the instances that it launches, the members of a mixed-instances group
/// included.
pub const FLEET_TAG: &str = "aws:ec2:fleet-id";

/// The owner that launches or replaces a marked instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A Kubernetes cluster: pods must move before their node leaves.
    Kubernetes,
    /// A service or tool that works on a whole group: it takes no instance that was attached to it, or it swaps the
    /// instances itself.
    GroupService(&'static str),
    /// A service or tool, in words.
    Service(&'static str),
    /// EC2 Fleet. Auto Scaling launches the members of a mixed-instances group through EC2 Fleet, so that
    /// this mark says nothing about a member.
    Fleet,
}

/// A tag that names an owner.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// `key`, `key=value`, or `prefix*` for every key with that prefix.
    pub tag: &'static str,
    /// The owner.
    pub owner: Owner,
}

const fn mark(tag: &'static str, owner: Owner) -> Mark {
    Mark { tag, owner }
}

const ECS: Owner =
    Owner::GroupService("an Amazon ECS capacity provider, which places no task on an attached instance");
const BEANSTALK: Owner =
    Owner::GroupService("Elastic Beanstalk, which has a Spot option of its own (EnableSpot)");

/// Every mark that is known. The `aws:` ones are reserved: only AWS can set them.
pub const MARKS: &[Mark] = &[
    // EKS, eksctl and Karpenter.
    mark(EKS_TAG, Owner::Kubernetes),
    mark(NODE_GROUP_TAG, Owner::Kubernetes),
    mark(EKS_AUTO_TAG, Owner::Kubernetes),
    mark("eks:nodegroup-name", Owner::Kubernetes),
    mark("eks:kubernetes-node*", Owner::Kubernetes),
    mark("alpha.eksctl.io/*", Owner::Kubernetes),
    mark("eksctl.io/*", Owner::Kubernetes),
    mark("eksctl.cluster.k8s.io/*", Owner::Kubernetes),
    mark("karpenter.sh/*", Owner::Kubernetes),
    mark("karpenter.k8s.aws/*", Owner::Kubernetes),
    // The tags of the cloud provider itself (kops, kubeadm, OpenShift, RKE2, k3s): the older key names no
    // cluster. https://cloud-provider-aws.sigs.k8s.io/prerequisites/
    mark(KUBERNETES_TAGS, Owner::Kubernetes),
    mark("node.kubernetes.io/*", Owner::Kubernetes),
    mark("node-role.kubernetes.io/*", Owner::Kubernetes),
    mark(KUBERNETES_CLUSTER_TAG, Owner::Kubernetes),
    // Cluster Autoscaler, kops and its instance groups.
    mark("k8s.io/*", Owner::Kubernetes),
    mark("kops.k8s.io/*", Owner::Kubernetes),
    // Cluster API.
    mark("sigs.k8s.io/*", Owner::Kubernetes),
    mark("cluster.x-k8s.io/*", Owner::Kubernetes),
    // OpenShift and ROSA.
    mark("api.openshift.com/*", Owner::Kubernetes),
    mark("red-hat-managed", Owner::Kubernetes),
    // https://docs.aws.amazon.com/AmazonECS/latest/developerguide/asg-capacity-providers.html
    mark("AmazonECSManaged", ECS),
    mark("elasticbeanstalk:*", BEANSTALK),
    mark("AWSBatchServiceTag=batch", Owner::Service("AWS Batch")),
    mark("aws:batch:*", Owner::Service("AWS Batch")),
    mark("aws:pcs:*", Owner::Service("AWS Parallel Computing Service")),
    mark("aws-parallelcluster-*", Owner::Service("AWS ParallelCluster")),
    mark("parallelcluster:*", Owner::Service("AWS ParallelCluster")),
    mark("AmazonEVSManaged", Owner::Service("Amazon Elastic VMware Service")),
    mark("spotinst:*", Owner::Service("Spot Elastigroup or Ocean, which launch and replace instances")),
    mark(FLEET_TAG, Owner::Fleet),
    mark("aws:ec2spot:fleet-request-id", Owner::Service("a Spot Fleet")),
    mark("aws:elasticmapreduce:job-flow-id", Owner::Service("Amazon EMR")),
    mark("aws:cloud9:environment", Owner::Service("AWS Cloud9")),
    mark("CreatedBy=EC2 Image Builder", Owner::Service("EC2 Image Builder")),
    mark(FAST_LAUNCH, Owner::Service("EC2 Fast Launch")),
    mark(MIGRATION_SERVICE_TAG, Owner::Service("Application Migration Service")),
    mark(DISASTER_RECOVERY_TAG, Owner::Service("Elastic Disaster Recovery")),
    mark(RDS_CUSTOM_TAG, Owner::Service("Amazon RDS Custom")),
    mark(RESTORE_TEST_TAG, Owner::Service("AWS Backup, which tests a restore")),
];

const AUTO_SPOTTING: &str = "AutoSpotting, which swaps the instances of a group by itself";
const XOSPHERE: &str = "Xosphere, which swaps instances by itself";

/// The tags by which other tools are told to swap the instances of a group. They authorise nothing, and so are none of
/// [`MARKS`].
///
/// AutoSpotting may be configured to take every group but some. No tag shows that.
/// <https://github.com/cristim/autospotting>
pub const TOOLS_ON_GROUPS: &[Mark] = &[
    mark("spot-enabled=true", Owner::GroupService(AUTO_SPOTTING)),
    mark("xosphere.io/instance-orchestrator/enabled=true", Owner::GroupService(XOSPHERE)),
];

/// The tags of instances that other tools have launched, or work on one by one. They authorise nothing, either. The tag
/// `spot-enabled` is none of them: a group propagates it, and its instances keep it when the group has left the tool.
pub const TOOLS_ON_INSTANCES: &[Mark] = &[
    mark("launched-by-autospotting", Owner::Service(AUTO_SPOTTING)),
    mark("launched-for-asg", Owner::Service(AUTO_SPOTTING)),
    mark("xosphere.io/instance-orchestrator/enabled=true", Owner::Service(XOSPHERE)),
    mark("xosphere.io/instance-orchestrator/xogroup-name", Owner::Service(XOSPHERE)),
];

impl Mark {
    /// Returns the tag in `tags` that this mark names.
    #[must_use]
    pub fn find<'a>(&self, tags: &'a Tags) -> Option<(&'a String, &'a String)> {
        find(self.tag, tags)
    }
}

/// Returns the first of `tags` that a mark (`key`, `key=value` or `prefix*`) names. The value does not matter
/// unless the mark names one.
#[must_use]
pub fn find<'a>(mark: &str, tags: &'a Tags) -> Option<(&'a String, &'a String)> {
    let (key, value) = parts(mark);
    matching(key, value, tags).next()
}

/// Returns the key of a mark, and the value that it names.
pub(crate) fn parts(mark: &str) -> (&str, Option<&str>) {
    mark.split_once('=').map_or((mark, None), |(key, value)| (key, Some(value)))
}

/// Returns the tags with this key, or with every key of this `prefix*`; with this value, if a value is given.
pub(crate) fn matching<'a>(
    key: &str,
    value: Option<&str>,
    tags: &'a Tags,
) -> impl Iterator<Item = (&'a String, &'a String)> {
    let (stem, is_prefix) = key.strip_suffix('*').map_or((key, false), |stem| (stem, true));
    tags.range::<str, _>((Bound::Included(stem), Bound::Unbounded))
        .take_while(move |(found, _)| if is_prefix { found.starts_with(stem) } else { *found == stem })
        .filter(move |(_, found)| value.is_none_or(|value| *found == value))
}

/// The mark on a resource, and the key of its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// The owner.
    pub owner: Owner,
    /// The key of the tag.
    pub key: String,
}

/// Returns the first mark on `tags`, whatever its value.
#[must_use]
pub fn marked(tags: &Tags) -> Option<Marked> {
    marked_as(tags, |_| true)
}

/// Returns the mark of a Kubernetes cluster on `tags`, whatever its value: one of [`MARKS`], or that of a node swap.
#[must_use]
pub fn kubernetes(tags: &Tags) -> Option<Marked> {
    marked_as(tags, |owner| owner == Owner::Kubernetes).or_else(|| by_node_swap(tags))
}

/// Returns the mark that a node swap puts on its newcomer. The mark authorises nothing, and so is none of [`MARKS`].
#[must_use]
pub fn by_node_swap(tags: &Tags) -> Option<Marked> {
    let (key, _) = tags.get_key_value(CLUSTER_TAG)?;
    Some(Marked { owner: Owner::Kubernetes, key: key.clone() })
}

/// Returns the mark of a service or another tool on a group. Marks of a node don't count here.
#[must_use]
pub fn service_of_group(tags: &Tags) -> Option<Marked> {
    service(tags).or_else(|| first(TOOLS_ON_GROUPS.iter(), tags))
}

/// Returns the mark of a service or another tool on a member of a group. Marks of a node don't count here. The mark of a fleet
/// says nothing about a member.
#[must_use]
pub fn service_of_member(tags: &Tags) -> Option<Marked> {
    service(tags).or_else(|| tool(tags))
}

/// Returns the mark of another tool on an instance.
#[must_use]
pub fn tool(tags: &Tags) -> Option<Marked> {
    first(TOOLS_ON_INSTANCES.iter(), tags)
}

fn service(tags: &Tags) -> Option<Marked> {
    marked_as(tags, |owner| matches!(owner, Owner::GroupService(_) | Owner::Service(_)))
}

fn marked_as(tags: &Tags, wanted: impl Fn(Owner) -> bool) -> Option<Marked> {
    first(MARKS.iter().filter(|mark| wanted(mark.owner)), tags)
}

fn first<'a>(mut marks: impl Iterator<Item = &'a Mark>, tags: &Tags) -> Option<Marked> {
    marks.find_map(|mark| {
        let (key, _) = mark.find(tags)?;
        Some(Marked { owner: mark.owner, key: key.clone() })
    })
}

impl Marked {
    /// Returns a sentence that names the owner.
    #[must_use]
    pub fn detail(&self) -> String {
        let Self { owner, key } = self;
        match owner {
            Owner::Kubernetes => {
                format!("tag {key}: a Kubernetes node, whose pods must move first; use the node swap")
            }
            Owner::GroupService(name) | Owner::Service(name) => format!("tag {key}: owned by {name}"),
            Owner::Fleet => format!("tag {key}: owned by an EC2 Fleet"),
        }
    }
}

/// Returns the name of the Auto Scaling group that an instance with these tags is a member of.
#[must_use]
pub fn group_of(tags: &Tags) -> Option<&str> {
    tags.get(GROUP_NAME_TAG).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(tag: &str, value: &str) -> Tags {
        Tags::from([("Name".to_owned(), "web".to_owned()), (tag.to_owned(), value.to_owned())])
    }

    #[test]
    fn every_mark_is_found_whatever_its_value() {
        for mark in MARKS {
            let (key, value) = mark.tag.split_once('=').unwrap_or((mark.tag, ""));
            let key = key.replace('*', "anything");
            assert_eq!(marked(&tagged(&key, value)).map(|found| found.owner), Some(mark.owner), "{key}");
        }
    }

    #[test]
    fn every_spelling_of_kubernetes_is_a_node() {
        for key in [
            "KubernetesCluster",
            "kubernetes.io/cluster/prod",
            "kubernetes.io/role/node",
            "k8s.io/cluster-autoscaler/enabled",
            "k8s.io/cluster-autoscaler/node-template/label/team",
            "k8s.io/role/node",
            "kops.k8s.io/instancegroup",
            "karpenter.sh/nodepool",
            "karpenter.sh/provisioner-name",
            "eks:nodegroup-name",
            "alpha.eksctl.io/cluster-name",
            "sigs.k8s.io/cluster-api-provider-aws/cluster/prod",
            "sigs.k8s.io/cluster-api-provider-aws/role",
            "api.openshift.com/id",
            "red-hat-managed",
            "eksctl.cluster.k8s.io/v1alpha1/cluster-name",
            "eks:kubernetes-node-pool-name",
            "node-role.kubernetes.io/control-plane",
        ] {
            for value in ["owned", "shared", "true", "1", ""] {
                assert_eq!(kubernetes(&tagged(key, value)).unwrap().key, key);
            }
        }
    }

    #[test]
    fn a_service_is_seen_beside_the_marks_of_a_node() {
        let mut tags = tagged("kubernetes.io/cluster/shop", "owned");
        tags.insert("AWSBatchServiceTag".into(), "batch".into());
        assert_eq!(service(&tags).unwrap().owner, Owner::Service("AWS Batch"));
        assert_eq!(kubernetes(&tags).unwrap().owner, Owner::Kubernetes);
    }

    #[test]
    fn what_only_looks_like_a_mark_is_none() {
        for (key, value) in [
            ("kubernetescluster", "prod"),
            ("k8s", "prod"),
            ("team/k8s.io/role", "x"),
            ("CreatedBy", "terraform"),
            ("CreatedBy", "ec2 image builder"),
            ("amazonecsmanaged", ""),
            ("aws:cloudformation:stack-name", "web"),
        ] {
            assert_eq!(marked(&tagged(key, value)), None, "{key}={value}");
        }
    }

    #[test]
    fn a_tool_is_known_by_its_tag_on_a_group_and_by_its_mark_on_an_instance() {
        let owners = |key: &str, value: &str| {
            let tags = tagged(key, value);
            assert_eq!(marked(&tags), None, "{key}={value} authorises nothing");
            [service_of_group(&tags), service_of_member(&tags)].map(|found| found.map(|it| it.owner))
        };
        let (group, member) = (Owner::GroupService(AUTO_SPOTTING), Owner::Service(AUTO_SPOTTING));
        assert_eq!(owners("spot-enabled", "true"), [Some(group), None], "its members keep the tag");
        assert_eq!(owners("spot-enabled", "false"), [None, None]);
        assert_eq!(owners("launched-by-autospotting", "true"), [None, Some(member)]);
        assert_eq!(owners("launched-for-asg", "web"), [None, Some(member)]);
        let (group, member) = (Owner::GroupService(XOSPHERE), Owner::Service(XOSPHERE));
        let enabled = "xosphere.io/instance-orchestrator/enabled";
        assert_eq!(owners(enabled, "true"), [Some(group), Some(member)]);
        assert_eq!(owners(enabled, "false"), [None, None]);
        assert_eq!(owners("xosphere.io/instance-orchestrator/xogroup-name", "x"), [None, Some(member)]);
    }

    #[test]
    fn a_fleet_says_nothing_of_a_groups_member() {
        let tags = tagged("aws:ec2:fleet-id", "fleet-1");
        assert_eq!((service_of_member(&tags), kubernetes(&tags)), (None, None));
        assert_eq!(marked(&tags).unwrap().owner, Owner::Fleet);
    }
}
