//! Labels that say how a node is paid for, and pods that demand one or the other.
//!
//! EKS, Karpenter, kOps, Spot Ocean and many a launch template spell it differently, and no list is complete.
//! The rules read the words of a label's name and value.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

/// Values that mean On-Demand under a name that is about the purchase (`lifecycle=normal`).
const PLAIN: [&str; 6] = ["normal", "regular", "od", "reserved", "ec2normal", "ec2ondemand"];
/// Names that are about the purchase, without their punctuation.
const PURCHASE: [&str; 4] = ["lifecycle", "capacitytype", "purchas", "markettype"];

/// Returns true if a node with this label calls itself On-Demand.
#[must_use]
pub fn says_on_demand(key: &str, value: &str) -> bool {
    let (name, value) = (plain(name_of(key)), plain(value));
    let is_of_purchase = PURCHASE.iter().any(|word| name.contains(word));
    value == "ondemand"
        || (is_of_purchase && PLAIN.contains(&value.as_str()))
        || (name.contains("ondemand") && is_yes(&value))
        || (has_spot(key) && matches!(value.as_str(), "false" | "no" | "0"))
}

/// Returns true if a node with this label calls itself Spot.
#[must_use]
pub fn says_spot(key: &str, value: &str) -> bool {
    let value = plain(value);
    matches!(value.as_str(), "spot" | "ec2spot") || (has_spot(key) && is_yes(&value))
}

/// Returns the label by which a node calls itself On-Demand, as `key=value`.
#[must_use]
pub fn on_demand_label(labels: &BTreeMap<String, String>) -> Option<String> {
    let mut says = labels.iter().filter(|(key, value)| says_on_demand(key, value) && !is_name(key));
    says.next().map(|(key, value)| format!("{key}={value}"))
}

/// Returns an On-Demand label that the node has from its template, as `key=value`: a newcomer from the same
/// template would bear it, too. `on-demand` under a name of the lifecycle comes from instance metadata
/// (`instance-life-cycle`, which eksctl's nodes read): the newcomer's metadata would say `spot`.
#[must_use]
pub fn inherited_on_demand_label(labels: &BTreeMap<String, String>) -> Option<String> {
    let is_asked = |key: &str, value: &str| value == "on-demand" && plain(name_of(key)).contains("lifecycle");
    let mut says = labels.iter().filter(|(key, value)| says_on_demand(key, value) && !is_name(key));
    says.find(|(key, value)| !is_asked(key, value)).map(|(key, value)| format!("{key}={value}"))
}

/// Returns the part of a pod's node selector or required node affinity that demands On-Demand. The terms are
/// alternatives: a term that doesn't demand On-Demand frees the pod.
#[must_use]
pub(crate) fn on_demand_demand(
    selector: &BTreeMap<String, String>,
    terms: &[NodeSelectorTerm],
) -> Option<String> {
    let by_selector = selector.iter().find(|(key, value)| says_on_demand(key, value));
    if let Some((key, value)) = by_selector {
        return Some(format!("nodeSelector {key}={value}"));
    }
    let mut demands = terms.iter().map(|term| {
        term.match_expressions.iter().flatten().find(|expression| is_demand(expression)).map(as_text)
    });
    let first = demands.next()??;
    demands.all(|demand| demand.is_some()).then_some(first)
}

/// Returns true for the label of a node group's name (`alpha.eksctl.io/nodegroup-name`,
/// `kops.k8s.io/instancegroup`), which says nothing of one node.
fn is_name(key: &str) -> bool {
    let name = plain(name_of(key));
    ["nodegroup", "instancegroup", "nodepool", "name"].iter().any(|word| name.ends_with(word))
}

fn is_demand(expression: &NodeSelectorRequirement) -> bool {
    let NodeSelectorRequirement { key, operator, values } = expression;
    let values = values.as_deref().unwrap_or_default();
    match operator.as_str() {
        "In" => !values.is_empty() && values.iter().all(|value| says_on_demand(key, value)),
        "NotIn" => values.iter().any(|value| says_spot(key, value)),
        "Exists" => plain(name_of(key)).contains("ondemand"),
        "DoesNotExist" => has_spot(key),
        _ => false,
    }
}

fn as_text(expression: &NodeSelectorRequirement) -> String {
    let NodeSelectorRequirement { key, operator, values } = expression;
    match values.as_deref().unwrap_or_default() {
        [] => format!("nodeAffinity {key} {operator}"),
        values => format!("nodeAffinity {key} {operator} [{}]", values.join(", ")),
    }
}

/// Returns the name of a key: `eks.amazonaws.com/capacityType` → `capacityType`.
fn name_of(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Returns true if `spot` is a word of the name: `spot-worker`, `isSpot`, not `spotlight`.
fn has_spot(key: &str) -> bool {
    let name = name_of(key).replace("Spot", "-spot");
    name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word.eq_ignore_ascii_case("spot"))
}

fn is_yes(value: &str) -> bool {
    matches!(value, "" | "true" | "yes" | "1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_group_of_nodes_may_be_called_so() {
        for key in ["alpha.eksctl.io/nodegroup-name", "kops.k8s.io/instancegroup", "example.com/node-pool"] {
            let labels = BTreeMap::from([(key.to_owned(), "on-demand".to_owned())]);
            assert_eq!((on_demand_label(&labels), inherited_on_demand_label(&labels)), (None, None), "{key}");
            let selected = on_demand_demand(&labels, &[]);
            assert_eq!(selected, Some(format!("nodeSelector {key}=on-demand")));
        }
    }

    #[test]
    fn every_spelling_of_on_demand_is_read() {
        for (key, value) in [
            ("eks.amazonaws.com/capacityType", "ON_DEMAND"),
            ("karpenter.sh/capacity-type", "on-demand"),
            ("karpenter.sh/capacity-type", "reserved"),
            ("node.kubernetes.io/lifecycle", "normal"),
            ("lifecycle", "OnDemand"),
            ("lifecycle", "Ec2Normal"),
            ("spotinst.io/node-lifecycle", "od"),
            ("capacityType", "on_demand"),
            ("pool", "on-demand"),
            ("node-role.kubernetes.io/ondemand-worker", ""),
            ("example.com/spot", "false"),
            ("isSpot", "no"),
        ] {
            assert!(says_on_demand(key, value), "{key}={value}");
            assert!(!says_spot(key, value), "{key}={value}");
        }
        for (key, value) in [
            ("node.kubernetes.io/lifecycle", "spot"),
            ("eks.amazonaws.com/capacityType", "SPOT"),
            ("lifecycle", "Ec2Spot"),
            ("node-role.kubernetes.io/spot-worker", ""),
            ("spot", "true"),
        ] {
            assert!(says_spot(key, value) && !says_on_demand(key, value), "{key}={value}");
        }
        for (key, value) in [
            ("tier", "normal"),
            ("kops.k8s.io/instancegroup", "nodes-ondemand"),
            ("spotlight", "false"),
            ("eks.amazonaws.com/compute-type", "ec2"),
            ("pool", "spotless"),
        ] {
            assert!(!says_on_demand(key, value) && !says_spot(key, value), "{key}={value}");
        }
    }

    #[test]
    fn a_label_that_instance_metadata_gives_is_not_inherited() {
        let inherited = |key: &str, value: &str| {
            inherited_on_demand_label(&BTreeMap::from([(key.to_owned(), value.to_owned())]))
        };
        assert_eq!(inherited("node-lifecycle", "on-demand"), None);
        assert_eq!(inherited("node.kubernetes.io/lifecycle", "on-demand"), None);
        assert_eq!(
            inherited("node.kubernetes.io/lifecycle", "normal").as_deref(),
            Some("node.kubernetes.io/lifecycle=normal")
        );
        assert!(inherited("eks.amazonaws.com/capacityType", "ON_DEMAND").is_some());
        assert!(inherited("karpenter.sh/capacity-type", "on-demand").is_some());
        assert_eq!(inherited("team", "a"), None);
    }

    fn demand(terms: &Value) -> Option<String> {
        let terms: Vec<NodeSelectorTerm> = serde_json::from_value(terms.clone()).unwrap();
        on_demand_demand(&BTreeMap::new(), &terms)
    }

    fn term(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] })
    }

    #[test]
    fn a_pod_demands_on_demand_by_selector_or_in_every_term() {
        let selector = BTreeMap::from([("capacity-type".to_owned(), "on-demand".to_owned())]);
        let by_selector = on_demand_demand(&selector, &[]);
        assert_eq!(by_selector.as_deref(), Some("nodeSelector capacity-type=on-demand"));
        let normal = term("node.kubernetes.io/lifecycle", "In", &["normal"]);
        let text = demand(&json!([normal])).unwrap();
        assert_eq!(text, "nodeAffinity node.kubernetes.io/lifecycle In [normal]");
        assert!(demand(&json!([term("karpenter.sh/capacity-type", "NotIn", &["spot"])])).is_some());
        assert!(demand(&json!([term("node-role.kubernetes.io/spot-worker", "DoesNotExist", &[])])).is_some());
        assert!(demand(&json!([term("ondemand", "Exists", &[])])).is_some());
    }

    #[test]
    fn a_pod_that_may_run_on_spot_demands_nothing() {
        let normal = term("lifecycle", "In", &["normal"]);
        let zone = term("topology.kubernetes.io/zone", "In", &["us-east-1a"]);
        assert_eq!(demand(&json!([normal, zone])), None, "terms are alternatives");
        assert_eq!(demand(&json!([term("lifecycle", "In", &["normal", "spot"])])), None);
        assert_eq!(demand(&json!([term("lifecycle", "NotIn", &["fargate"])])), None);
        assert_eq!(demand(&json!([])), None);
    }
}
