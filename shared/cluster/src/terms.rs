//! The requirements of pods and volumes on a node's labels and name. The rules:
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/>

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Result};

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

use crate::node::Node;

/// Names of labels, behind any prefix, whose values follow from the instance type.
const OF_THE_TYPE: [&str; 5] =
    ["instance-type", "instance-family", "instance-category", "instance-generation", "instance-size"];

/// Alternative terms: a node has to meet one of them, and every requirement of that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeTerms(Vec<Vec<Requirement>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    of: Of,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Of {
    Label(String),
    Field(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
    /// An operator or a value that this version does not know: no node passes.
    Unknown(String),
}

impl NodeTerms {
    /// Reads each pair of a pod's `nodeSelector`.
    pub(crate) fn of_labels(labels: &BTreeMap<String, String>) -> Vec<Self> {
        let equals = |(key, value): (&String, &String)| Requirement {
            of: Of::Label(key.clone()),
            test: Test::In(vec![value.clone()]),
        };
        labels.iter().map(equals).map(Self::single).collect()
    }

    /// Reads a node selector in parts that must all be met. A single term is taken apart, so that a missing
    /// part can be named.
    pub(crate) fn of_selector(selector: &NodeSelector) -> Vec<Self> {
        // A term without a requirement matches no node.
        let terms: Vec<Vec<Requirement>> =
            selector.node_selector_terms.iter().map(requirements).filter(|term| !term.is_empty()).collect();
        match <[_; 1]>::try_from(terms) {
            Ok([term]) => term.into_iter().map(Self::single).collect(),
            Err(terms) => vec![Self(terms)],
        }
    }

    fn single(requirement: Requirement) -> Self {
        Self(vec![vec![requirement]])
    }

    /// Returns true if the node meets a term.
    #[must_use]
    pub fn are_met_by(&self, node: &Node) -> bool {
        self.0.iter().any(|term| term.iter().all(|requirement| requirement.is_met_by(node)))
    }

    /// Returns true if each alternative fails by a label of the node's instance type, which the node bears.
    pub(crate) fn fail_by_type(&self, node: &Node) -> bool {
        let fails =
            |requirement: &Requirement| requirement.is_of_the_type(node) && !requirement.is_met_by(node);
        !self.0.is_empty() && self.0.iter().all(|term| term.iter().any(fails))
    }
}

fn requirements(term: &NodeSelectorTerm) -> Vec<Requirement> {
    let labels = term.match_expressions.iter().flatten().map(|e| requirement(e, Of::Label));
    let fields = term.match_fields.iter().flatten().map(|e| requirement(e, Of::Field));
    labels.chain(fields).collect()
}

fn requirement(expression: &NodeSelectorRequirement, of: fn(String) -> Of) -> Requirement {
    let values = expression.values.clone().unwrap_or_default();
    let number = || values.first().and_then(|value| value.parse().ok());
    let unknown = || Test::Unknown(format!("{} {}", expression.operator, values.join(", ")));
    let test = match expression.operator.as_str() {
        "In" => Test::In(values),
        "NotIn" => Test::NotIn(values),
        "Exists" => Test::Exists,
        "DoesNotExist" => Test::DoesNotExist,
        "Gt" => number().map_or_else(unknown, Test::Gt),
        "Lt" => number().map_or_else(unknown, Test::Lt),
        _ => unknown(),
    };
    Requirement { of: of(expression.key.clone()), test }
}

impl Requirement {
    fn is_of_the_type(&self, node: &Node) -> bool {
        let Of::Label(key) = &self.of else { return false };
        let name = key.rsplit('/').next().unwrap_or_default();
        OF_THE_TYPE.contains(&name) && node.labels.contains_key(key)
    }

    fn is_met_by(&self, node: &Node) -> bool {
        let value = match &self.of {
            Of::Label(key) => node.labels.get(key).map(String::as_str),
            Of::Field(key) => (key == "metadata.name").then_some(node.name.as_str()),
        };
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|v| v == value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|v| v != value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::Gt(than) => number().is_some_and(|value| value > *than),
            Test::Lt(than) => number().is_some_and(|value| value < *than),
            Test::Unknown(_) => false,
        }
    }
}

impl Display for NodeTerms {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let term =
            |term: &Vec<Requirement>| term.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        f.write_str(&self.0.iter().map(term).collect::<Vec<_>>().join(" or "))
    }
}

impl Display for Requirement {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let (Of::Label(key) | Of::Field(key)) = &self.of;
        match &self.test {
            Test::In(values) if values.len() == 1 => write!(f, "{key}={}", values.join("")),
            Test::In(values) => write!(f, "{key} in ({})", values.join(", ")),
            Test::NotIn(values) => write!(f, "{key} not in ({})", values.join(", ")),
            Test::Exists => f.write_str(key),
            Test::DoesNotExist => write!(f, "no {key}"),
            Test::Gt(than) => write!(f, "{key} > {than}"),
            Test::Lt(than) => write!(f, "{key} < {than}"),
            Test::Unknown(text) => write!(f, "{key} {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node() -> Node {
        serde_json::from_value(json!({
            "name": "n1", "uid": "u", "instance_id": null, "zone": null, "is_ready": true,
            "is_unschedulable": false, "cordoned_by": null, "startup_taints": [], "owner": null,
            "labels": { "pool": "ledger", "generation": "5", "blank": "" },
        }))
        .unwrap()
    }

    fn selector(terms: &Value) -> Vec<NodeTerms> {
        NodeTerms::of_selector(&serde_json::from_value(json!({ "nodeSelectorTerms": terms })).unwrap())
    }

    fn is_met(terms: &Value) -> bool {
        selector(terms).iter().all(|terms| terms.are_met_by(&node()))
    }

    fn expression(key: &str, operator: &str, values: &[&str]) -> bool {
        is_met(&json!([{ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] }]))
    }

    #[test]
    fn every_operator_judges_as_the_scheduler_does() {
        for (key, operator, values, expected) in [
            ("pool", "In", vec!["web", "ledger"], true),
            ("pool", "In", vec!["web"], false),
            ("none", "In", vec![""], false),
            ("blank", "In", vec![""], true),
            ("pool", "NotIn", vec!["web"], true),
            ("pool", "NotIn", vec!["ledger"], false),
            ("none", "NotIn", vec!["ledger"], true),
            ("pool", "Exists", vec![], true),
            ("none", "Exists", vec![], false),
            ("none", "DoesNotExist", vec![], true),
            ("pool", "DoesNotExist", vec![], false),
            ("generation", "Gt", vec!["4"], true),
            ("generation", "Gt", vec!["5"], false),
            ("generation", "Lt", vec!["6"], true),
            ("pool", "Lt", vec!["6"], false),
            ("none", "Gt", vec!["1"], false),
            ("pool", "Matches", vec!["l.*"], false),
        ] {
            assert_eq!(expression(key, operator, &values), expected, "{key} {operator} {values:?}");
        }
    }

    #[test]
    fn one_term_is_enough_and_all_of_it_is_needed() {
        let has = |key: &str| json!({ "key": key, "operator": "Exists" });
        assert!(is_met(
            &json!([{ "matchExpressions": [has("none")] }, { "matchExpressions": [has("pool")] }])
        ));
        assert!(!is_met(&json!([{ "matchExpressions": [has("none"), has("pool")] }])));
    }

    #[test]
    fn a_type_fails_terms_if_each_alternative_demands_another_type() {
        let mut node = node();
        node.labels.insert("node.kubernetes.io/instance-type".to_owned(), "m5.large".to_owned());
        let is = |key: &str, value: &str| json!({ "key": key, "operator": "In", "values": [value] });
        let fail = |terms: &Value| selector(terms).iter().any(|terms| terms.fail_by_type(&node));
        let c5 = is("node.kubernetes.io/instance-type", "c5.large");
        assert!(fail(&json!([{ "matchExpressions": [c5] }])));
        assert!(!fail(
            &json!([{ "matchExpressions": [is("node.kubernetes.io/instance-type", "m5.large")] }])
        ));
        assert!(!fail(&json!([{ "matchExpressions": [c5] }, { "matchExpressions": [is("disk", "nvme")] }])));
        let both = json!([is("disk", "nvme"), c5]);
        assert!(fail(&json!([{ "matchExpressions": [c5] }, { "matchExpressions": both }])));
        let late = is("example.org/instance-family", "c5");
        assert!(!fail(&json!([{ "matchExpressions": [late] }])), "the label may come yet");
        node.labels.insert("example.org/instance-family".to_owned(), "m5".to_owned());
        assert!(selector(&json!([{ "matchExpressions": [late] }]))[0].fail_by_type(&node));
        assert!(selector(&json!([])).iter().all(|terms| !terms.fail_by_type(&node)));
    }

    #[test]
    fn an_empty_term_matches_no_node() {
        assert!(!is_met(&json!([])));
        assert!(!is_met(&json!([{}])));
        assert!(is_met(&json!([{}, { "matchExpressions": [{ "key": "pool", "operator": "Exists" }] }])));
    }

    #[test]
    fn a_field_is_the_nodes_name_and_nothing_else() {
        let by = |key: &str, name: &str| {
            is_met(&json!([{ "matchFields": [{ "key": key, "operator": "In", "values": [name] }] }]))
        };
        assert!(by("metadata.name", "n1") && !by("metadata.name", "n0") && !by("spec.other", "n1"));
    }

    #[test]
    fn what_is_missing_is_told_in_the_words_of_kubectl() {
        let terms = json!([{ "matchExpressions": [
            { "key": "pool", "operator": "In", "values": ["ledger"] },
            { "key": "zone", "operator": "NotIn", "values": ["a", "b"] },
            { "key": "cores", "operator": "Gt", "values": ["4"] },
        ] }]);
        let told: Vec<String> = selector(&terms).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["pool=ledger", "zone not in (a, b)", "cores > 4"]);
        let labels = BTreeMap::from([("pool".to_owned(), "ledger".to_owned())]);
        assert_eq!(NodeTerms::of_labels(&labels)[0].to_string(), "pool=ledger");
    }
}
