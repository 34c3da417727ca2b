//! Who else manages a node: told from its labels alone.
//!
//! A node with an owner must not be swapped by hand: its owner would launch it again, or terminate
//! what came instead.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Another manager of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum NodeOwner {
    /// An EKS managed node group, by name.
    ManagedNodeGroup(String),
    /// A Karpenter NodePool (or Provisioner, before v1beta1), by name.
    Karpenter(String),
    /// EKS Auto Mode.
    AutoMode,
    /// A Fargate profile's node: one pod, no instance.
    Fargate,
}

/// Labels of Karpenter since v0.5: NodePool (v1beta1 on), Provisioner (before), and the mark of a
/// node that it has registered.
const KARPENTER: [&str; 3] =
    ["karpenter.sh/nodepool", "karpenter.sh/provisioner-name", "karpenter.sh/registered"];

/// The owner that `labels` name, if any.
#[must_use]
pub fn owner(labels: &BTreeMap<String, String>) -> Option<NodeOwner> {
    let label = |key: &str| labels.get(key).map(String::as_str);
    // Auto Mode first: its nodes bear Karpenter's labels, too.
    match label("eks.amazonaws.com/compute-type") {
        Some("auto") => return Some(NodeOwner::AutoMode),
        Some("fargate") => return Some(NodeOwner::Fargate),
        _ => {}
    }
    if let Some(group) = label("eks.amazonaws.com/nodegroup") {
        return Some(NodeOwner::ManagedNodeGroup(group.to_owned()));
    }
    KARPENTER.iter().find_map(|key| label(key)).map(|name| NodeOwner::Karpenter(name.to_owned()))
}

impl NodeOwner {
    /// One sentence for a person: who owns the node, and what to do instead.
    #[must_use]
    pub fn way_out(&self) -> String {
        match self {
            Self::ManagedNodeGroup(name) => format!(
                "the node belongs to the EKS managed node group {name}, which is On-Demand or Spot as a whole: \
                 create a group with capacityType SPOT and move the workload there"
            ),
            Self::Karpenter(name) => format!(
                "the node belongs to Karpenter ({name}): allow spot in the NodePool's \
                 karpenter.sh/capacity-type requirement and let Karpenter replace it"
            ),
            Self::AutoMode => "the node belongs to EKS Auto Mode: allow spot in a NodePool's \
                               karpenter.sh/capacity-type requirement and let Auto Mode replace it"
                .to_owned(),
            Self::Fargate => {
                "the node is a Fargate pod's: it has no instance that could be swapped, and EKS \
                              has no Fargate Spot"
                    .to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner_by(pairs: &[(&str, &str)]) -> Option<NodeOwner> {
        owner(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn each_owner_is_told_by_its_label() {
        let group = NodeOwner::ManagedNodeGroup("blue".to_owned());
        let pool = NodeOwner::Karpenter("default".to_owned());
        assert_eq!(owner_by(&[("eks.amazonaws.com/nodegroup", "blue")]), Some(group));
        assert_eq!(owner_by(&[("karpenter.sh/nodepool", "default")]), Some(pool.clone()));
        assert_eq!(owner_by(&[("karpenter.sh/provisioner-name", "default")]), Some(pool));
        assert_eq!(owner_by(&[("eks.amazonaws.com/compute-type", "fargate")]), Some(NodeOwner::Fargate));
    }

    #[test]
    fn auto_mode_is_not_taken_for_karpenter() {
        let labels =
            [("karpenter.sh/nodepool", "general-purpose"), ("eks.amazonaws.com/compute-type", "auto")];
        assert_eq!(owner_by(&labels), Some(NodeOwner::AutoMode));
    }

    #[test]
    fn a_self_managed_node_has_no_owner() {
        let labels = [
            ("kubernetes.io/hostname", "ip-10-0-0-1"),
            ("eks.amazonaws.com/compute-type", "ec2"),
            ("team", "a"),
        ];
        assert_eq!(owner_by(&labels), None);
    }

    #[test]
    fn the_way_out_names_the_owner() {
        let text = NodeOwner::ManagedNodeGroup("blue".to_owned()).way_out();
        assert!(text.contains("managed node group blue") && text.contains("capacityType SPOT"), "{text}");
        assert!(NodeOwner::Karpenter("default".to_owned()).way_out().contains("Karpenter (default)"));
    }
}
