//! Other systems that drain a node when EC2 takes its instance back. Two drains of one node do no harm, since both ask for
//! evictions; but who installs a system for it expects that one to act.
//!
//! A cordon alone is no drain: a person may have cordoned the node days ago.

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::error::ClusterError;
use crate::node::{Node, NodeName};
use crate::ownership::NodeOwner;
use crate::pages;
use crate::pod::{PAGE_SIZE, is_ready};

/// A system that drains a node when EC2 takes its instance back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drainer {
    /// A system has announced by this taint that the node goes, and drains it.
    Announced(String),
    /// EKS drains the Spot nodes of its managed node groups
    /// (<https://docs.aws.amazon.com/eks/latest/eksctl/spot-instances.html>).
    ManagedNodeGroup(String),
    /// Karpenter drains what it has launched, EKS Auto Mode too
    /// (<https://karpenter.sh/docs/concepts/disruption/#interruption>).
    Karpenter(String),
    /// Fargate: one pod, which AWS itself moves.
    Fargate,
    /// This pod of aws-node-termination-handler hears the notice from the instance's metadata
    /// (<https://github.com/aws/aws-node-termination-handler>).
    TerminationHandler(String),
}

impl Drainer {
    /// Says in one sentence for a person who drains the node.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::Announced(taint) => {
                format!("another system drains the node, and has announced it by the taint {taint}")
            }
            Self::ManagedNodeGroup(name) => {
                format!("the node belongs to the EKS managed node group {name}, and EKS drains it")
            }
            Self::Karpenter(name) => format!("the node belongs to Karpenter ({name}), which drains it"),
            Self::Fargate => "the node is a Fargate pod's, which AWS moves".to_owned(),
            Self::TerminationHandler(pod) => {
                format!("pod {pod} of aws-node-termination-handler runs on the node, and drains it")
            }
        }
    }
}

/// Returns the system that drains this node when EC2 takes its instance back; `None` if nothing shows one.
///
/// aws-node-termination-handler in queue mode shows nothing before its taint or its cordon: its pod does not tell of which
/// nodes its queue hears.
///
/// # Errors
/// The node's pods can't be listed.
pub async fn drainer(client: &Client, node: &Node) -> Result<Option<Drainer>, ClusterError> {
    match by_node(node) {
        Some(drainer) => Ok(Some(drainer)),
        None => Ok(termination_handler(client, &node.name).await?.map(Drainer::TerminationHandler)),
    }
}

fn by_node(node: &Node) -> Option<Drainer> {
    let by_owner = || match node.owner.as_ref()? {
        NodeOwner::ManagedNodeGroup(name) => Some(Drainer::ManagedNodeGroup(name.clone())),
        NodeOwner::Karpenter(name) => Some(Drainer::Karpenter(name.clone())),
        NodeOwner::AutoMode => Some(Drainer::Karpenter("EKS Auto Mode".to_owned())),
        NodeOwner::Fargate => Some(Drainer::Fargate),
        // `leaving` has the taint, also where another mark of an owner comes first. A Machine's controller drains before it
        // deletes a Machine, and deletes none for a notice. The marks against a disruption are about one that somebody
        // chooses: this one comes in any case.
        NodeOwner::Leaving(_)
        | NodeOwner::Machine(_)
        | NodeOwner::ControlPlane(_)
        | NodeOwner::LeftAlone(_) => None,
    };
    node.leaving.clone().map(Drainer::Announced).or_else(by_owner)
}

async fn termination_handler(client: &Client, node: &NodeName) -> Result<Option<String>, ClusterError> {
    let api: Api<Pod> = Api::all(client.clone());
    let params = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let found = pages::select(&api, "list pods", params, PAGE_SIZE, drains_at_notice).await?;
    Ok(found.first().map(|pod| format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())))
}

const HANDLER: &str = "aws-node-termination-handler";
/// The labels that name an application: the chart's, the manifests' of releases, and those of older ones.
const NAMES: [&str; 3] = ["app.kubernetes.io/name", "k8s-app", "app"];

/// Returns true for a pod of aws-node-termination-handler that drains its own node at a notice. Its settings are
/// environment variables, or flags of the same name; a Spot interruption is handled unless one says otherwise.
fn drains_at_notice(pod: &Pod) -> bool {
    let containers = || pod.spec.iter().flat_map(|spec| &spec.containers);
    let is_handler = NAMES.iter().any(|key| pod.labels().get(*key).is_some_and(|name| name == HANDLER))
        || containers()
            .any(|container| container.image.as_deref().is_some_and(|image| image.contains(HANDLER)));
    let is = |name: &str, value: &str| containers().any(|container| is_set(container, name, value));
    is_handler
        && is_ready(pod)
        && pod.metadata.deletion_timestamp.is_none()
        && !is("ENABLE_SPOT_INTERRUPTION_DRAINING", "false")
        && !is("ENABLE_SQS_TERMINATION_DRAINING", "true")
        && !is("CORDON_ONLY", "true")
        && !is("DRY_RUN", "true")
}

fn is_set(container: &Container, name: &str, value: &str) -> bool {
    let by_variable = container.env.iter().flatten().any(|variable| {
        variable.name == name
            && variable.value.as_deref().is_some_and(|given| given.eq_ignore_ascii_case(value))
    });
    let flag = format!("--{}={value}", name.to_ascii_lowercase().replace('_', "-"));
    by_variable || container.command.iter().chain(&container.args).flatten().any(|word| *word == flag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::from_object;
    use serde_json::{Value, json};

    fn node(labels: &Value, annotations: &Value, taints: &[(&str, &str)]) -> Node {
        let taints: Vec<Value> =
            taints.iter().map(|(key, effect)| json!({ "key": key, "effect": effect })).collect();
        from_object(json!({
            "metadata": { "name": "n1", "labels": labels, "annotations": annotations },
            "spec": { "taints": taints },
        }))
    }

    fn handler(env: &Value, more: &Value) -> Pod {
        let mut container = json!({ "name": "main", "image": "x", "env": env });
        for (key, value) in more.as_object().into_iter().flatten() {
            container[key] = value.clone();
        }
        serde_json::from_value(json!({
            "metadata": { "name": "nth-1", "namespace": "kube-system", "labels": { "k8s-app": HANDLER } },
            "spec": { "containers": [container] },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
        }))
        .unwrap()
    }

    #[test]
    fn who_announces_the_drain_by_a_taint_is_left_to_it_whoever_owns_the_node() {
        for taint in [
            "aws-node-termination-handler/spot-itn",
            "aws-node-termination-handler/asg-lifecycle-termination",
            "karpenter.sh/disrupted",
            "ToBeDeletedByClusterAutoscaler",
        ] {
            // The handler's taint may have any effect.
            for effect in ["NoSchedule", "PreferNoSchedule", "NoExecute"] {
                for labels in [json!({}), json!({ "node-role.kubernetes.io/control-plane": "" })] {
                    let found = by_node(&node(&labels, &json!({}), &[(taint, effect)]));
                    assert_eq!(found, Some(Drainer::Announced(taint.to_owned())), "{taint} {effect}");
                }
            }
        }
        let own = node(&json!({}), &json!({}), &[("dedicated", "NoSchedule")]);
        assert_eq!(by_node(&own), None);
    }

    #[test]
    fn who_drains_the_nodes_that_it_launches_is_left_to_it() {
        let by = |label: &str, value: &str| by_node(&node(&json!({ label: value }), &json!({}), &[]));
        let blue = Drainer::ManagedNodeGroup("blue".to_owned());
        assert_eq!(by("eks.amazonaws.com/nodegroup", "blue"), Some(blue));
        assert_eq!(by("karpenter.sh/nodepool", "default"), Some(Drainer::Karpenter("default".to_owned())));
        assert!(matches!(by("eks.amazonaws.com/compute-type", "auto"), Some(Drainer::Karpenter(_))));
        assert_eq!(by("eks.amazonaws.com/compute-type", "fargate"), Some(Drainer::Fargate));
        assert_eq!(by("team", "a"), None);
    }

    #[test]
    fn a_mark_against_disruption_does_not_keep_a_notice_off() {
        for key in ["karpenter.sh/do-not-disrupt", "cluster-autoscaler.kubernetes.io/scale-down-disabled"] {
            assert_eq!(by_node(&node(&json!({}), &json!({ key: "true" }), &[])), None, "{key}");
        }
        assert_eq!(by_node(&node(&json!({}), &json!({ "cluster.x-k8s.io/machine": "md-0" }), &[])), None);
    }

    #[test]
    fn a_termination_handler_on_the_node_drains_it_unless_its_settings_say_otherwise() {
        let nothing = json!({});
        assert!(drains_at_notice(&handler(&json!([]), &nothing)), "it does so by default");
        for (name, value) in [
            ("ENABLE_SPOT_INTERRUPTION_DRAINING", "false"),
            ("ENABLE_SQS_TERMINATION_DRAINING", "true"),
            ("CORDON_ONLY", "true"),
            ("DRY_RUN", "True"),
        ] {
            let is_drainer = drains_at_notice(&handler(&json!([{ "name": name, "value": value }]), &nothing));
            assert!(!is_drainer, "{name}={value}");
        }
        let on = json!([{ "name": "ENABLE_SPOT_INTERRUPTION_DRAINING", "value": "true" },
                        { "name": "ENABLE_SQS_TERMINATION_DRAINING", "value": "false" },
                        { "name": "NODE_NAME", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }]);
        assert!(drains_at_notice(&handler(&on, &nothing)));
        let flag = json!({ "args": ["--cordon-only=true"] });
        assert!(!drains_at_notice(&handler(&json!([]), &flag)));
    }

    #[test]
    fn only_a_termination_handler_that_runs_is_one() {
        let edited = |edit: &dyn Fn(&mut Pod)| {
            let mut pod = handler(&json!([]), &json!({}));
            edit(&mut pod);
            drains_at_notice(&pod)
        };
        assert!(!edited(&|pod| pod.status = None), "it is not Ready");
        assert!(!edited(&|pod| pod.metadata.labels = None), "nothing names it");
        let image = json!({ "image": "public.ecr.aws/aws-ec2/aws-node-termination-handler:v1.25.0" });
        let mut by_image = handler(&json!([]), &image);
        by_image.metadata.labels = None;
        assert!(drains_at_notice(&by_image));
    }

    #[test]
    fn the_words_name_who_drains() {
        for (drainer, name) in [
            (Drainer::Announced("karpenter.sh/disrupted".to_owned()), "karpenter.sh/disrupted"),
            (Drainer::ManagedNodeGroup("blue".to_owned()), "managed node group blue"),
            (Drainer::Karpenter("default".to_owned()), "Karpenter (default)"),
            (Drainer::Fargate, "Fargate"),
            (Drainer::TerminationHandler("kube-system/nth-1".to_owned()), "kube-system/nth-1"),
        ] {
            assert!(drainer.in_words().contains(name), "{drainer:?}");
        }
    }
}
