//! The demands of a pod on its node: its spec, as [`Facts`] reads it, narrowed by the pod's own labels and
//! namespace, which a template has not got yet.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::core::{Expression, Selector, SelectorExt};

use crate::amount::Amounts;
use crate::spec::{Facts, HostPort};
use crate::terms::NodeTerms;

/// The demands of a pod on its node.
#[derive(Debug, Clone, PartialEq)]
pub struct Demands {
    /// The facts of the pod's spec.
    pub facts: Facts,
    /// `nodeSelector` and required node affinity: a node must meet every one.
    pub selects: Vec<NodeTerms>,
    /// Topology spread constraints by hostname that keep a pod Pending, where a cordoned node counts.
    pub spreads: Vec<Spread>,
    /// Required anti-affinity by hostname.
    pub keeps_off: Vec<KeepsOff>,
}

/// A topology spread constraint by hostname.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// The number of such pods that a node may have beyond the node with the fewest.
    pub max_skew: i64,
    selector: Selector,
}

/// Pods that this pod shares no node with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepsOff {
    /// The namespaces; none means all.
    namespaces: Option<BTreeSet<String>>,
    selector: Selector,
}

/// Reads the demands of a pod.
#[must_use]
pub fn demands(pod: &Pod) -> Demands {
    let facts = pod.spec.as_ref().map(Facts::of).unwrap_or_default();
    Demands::of(facts, pod.metadata.namespace.as_deref().unwrap_or_default(), pod.labels())
}

impl Demands {
    /// Narrows the facts of a pod's spec by its namespace and labels.
    pub(crate) fn of(facts: Facts, namespace: &str, labels: &BTreeMap<String, String>) -> Self {
        let spreads = facts.spreads.iter().filter_map(|spread| by_hostname(spread, labels)).collect();
        let keeps_off = facts.apart.iter().filter_map(|term| keeps_off(term, namespace, labels)).collect();
        Self { selects: facts.selects(), spreads, keeps_off, facts }
    }

    /// Returns the pod's requests, with init containers, sidecars and overhead, as the scheduler adds them
    /// up.
    #[must_use]
    pub fn requests(&self) -> &Amounts {
        &self.facts.requests
    }

    /// Returns a port that both pods want, if any.
    pub(crate) fn shared_port(&self, other: &Self) -> Option<i32> {
        let is_wanted = |port: &&HostPort| other.facts.host_ports.iter().any(|taken| port.clashes(taken));
        self.facts.host_ports.iter().find(is_wanted).map(|port| port.port)
    }
}

impl Spread {
    pub(crate) fn counts(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.matches(labels)
    }
}

impl KeepsOff {
    pub(crate) fn forbids(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        let is_there = self.namespaces.as_ref().is_none_or(|names| names.contains(namespace));
        is_there && self.selector.matches(labels)
    }
}

fn by_hostname(spread: &TopologySpreadConstraint, labels: &BTreeMap<String, String>) -> Option<Spread> {
    let selector =
        selector(spread.label_selector.as_ref()?, spread.match_label_keys.as_deref(), None, labels);
    // A constraint that does not count the pod itself never keeps it Pending by its own number.
    selector.matches(labels).then(|| Spread { max_skew: i64::from(spread.max_skew), selector })
}

fn keeps_off(term: &PodAffinityTerm, namespace: &str, labels: &BTreeMap<String, String>) -> Option<KeepsOff> {
    let PodAffinityTerm {
        label_selector,
        match_label_keys,
        mismatch_label_keys,
        namespace_selector,
        namespaces,
        // The facts hold only the terms by hostname.
        topology_key: _,
    } = term;
    let named: BTreeSet<String> = namespaces.iter().flatten().cloned().collect();
    let namespaces = match namespace_selector {
        // Labels of namespaces are not read: any namespace may be selected by them.
        Some(_) => None,
        None if named.is_empty() => Some(BTreeSet::from([namespace.to_owned()])),
        None => Some(named),
    };
    let keys = (match_label_keys.as_deref(), mismatch_label_keys.as_deref());
    let selector = selector(label_selector.as_ref()?, keys.0, keys.1, labels);
    Some(KeepsOff { namespaces, selector })
}

/// Returns the selector, narrowed by the pod's own values of these labels. A selector that can't be read
/// selects every pod, so that its constraint is never overlooked.
fn selector(
    selector: &LabelSelector,
    same: Option<&[String]>,
    different: Option<&[String]>,
    labels: &BTreeMap<String, String>,
) -> Selector {
    let mut selector = Selector::try_from(selector.clone()).unwrap_or_default();
    let value_of = |key: &String| Some((key.clone(), labels.get(key)?.clone()));
    let same = same.unwrap_or_default().iter().filter_map(value_of);
    let different = different.unwrap_or_default().iter().filter_map(value_of);
    selector.extend(same.map(|(key, value)| Expression::Equal(key, value)));
    selector.extend(different.map(|(key, value)| Expression::NotIn(key, BTreeSet::from([value]))));
    selector
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::HOSTNAME;
    use serde_json::{Value, json};

    fn demanded(spec: &Value) -> Demands {
        let metadata =
            json!({ "name": "web-1", "namespace": "shop", "labels": { "app": "web", "hash": "1" } });
        demands(&serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap())
    }

    fn container(requests: &Value) -> Value {
        json!({ "name": "c", "resources": { "requests": requests } })
    }

    fn requests_of(spec: &Value) -> BTreeMap<String, String> {
        demanded(spec).facts.requests.into_iter().map(|(name, amount)| (name, amount.to_string())).collect()
    }

    #[test]
    fn the_largest_init_container_counts_beside_the_sidecars_before_it() {
        let mut sidecar = container(&json!({ "cpu": "100m" }));
        sidecar["restartPolicy"] = json!("Always");
        let init = container(&json!({ "cpu": "2", "memory": "1Gi" }));
        let late = container(&json!({ "cpu": "500m" }));
        let main = container(&json!({ "cpu": "1", "memory": "2Gi" }));
        let spec = json!({ "initContainers": [init, sidecar, late], "containers": [main] });
        assert_eq!(
            (&requests_of(&spec)["cpu"], &requests_of(&spec)["memory"]),
            (&"2".into(), &"2048Mi".into())
        );
        let spec = json!({ "initContainers": [sidecar, init], "containers": [main],
                           "overhead": { "cpu": "250m" } });
        assert_eq!(requests_of(&spec)["cpu"], "2350m");
    }

    #[test]
    fn a_limit_alone_requests_and_every_pod_takes_a_place() {
        let gpu = json!({ "name": "c", "resources": { "limits": { "nvidia.com/gpu": "2" } } });
        let requests = requests_of(&json!({ "containers": [gpu] }));
        assert_eq!((&requests["nvidia.com/gpu"], &requests["pods"]), (&"2".into(), &"1".into()));
    }

    #[test]
    fn requests_of_the_whole_pod_stand_above_those_of_its_containers() {
        let spec = json!({ "containers": [container(&json!({ "cpu": "1", "hugepages-2Mi": "4Mi" }))],
                           "resources": { "requests": { "cpu": "3" } } });
        assert_eq!(requests_of(&spec)["cpu"], "3");
        assert_eq!(requests_of(&spec)["hugepages-2Mi"], "4Mi");
    }

    #[test]
    fn a_toleration_covers_what_it_names() {
        let tolerates = |toleration: Value, taint: &str| {
            demanded(&json!({ "containers": [], "tolerations": [toleration] })).facts.tolerates(taint)
        };
        let pay = "dedicated=pay:NoSchedule";
        assert!(tolerates(json!({ "operator": "Exists" }), pay));
        assert!(tolerates(json!({ "key": "dedicated", "operator": "Exists" }), pay));
        assert!(tolerates(json!({ "key": "dedicated", "value": "pay" }), pay));
        assert!(tolerates(
            json!({ "key": "gpu", "effect": "NoExecute", "tolerationSeconds": 9 }),
            "gpu:NoExecute"
        ));
        assert!(!tolerates(json!({ "key": "dedicated", "value": "shop" }), pay));
        assert!(!tolerates(json!({ "key": "other", "operator": "Exists" }), pay));
        assert!(!tolerates(json!({ "operator": "Exists", "effect": "NoExecute" }), pay));
        assert!(!tolerates(json!({ "key": "dedicated", "operator": "Gt", "value": "1" }), pay));
    }

    #[test]
    fn only_a_spread_that_keeps_pods_pending_beside_a_cordoned_node_counts() {
        let spreads = |change: Value| {
            let mut spread = json!({ "maxSkew": 1, "topologyKey": HOSTNAME, "whenUnsatisfiable": "DoNotSchedule",
                                     "labelSelector": { "matchLabels": { "app": "web" } } });
            for (key, value) in change.as_object().unwrap() {
                spread[key] = value.clone();
            }
            demanded(&json!({ "containers": [], "topologySpreadConstraints": [spread] })).spreads.len()
        };
        assert_eq!(spreads(json!({})), 1);
        assert_eq!(spreads(json!({ "nodeTaintsPolicy": "Ignore" })), 1);
        assert_eq!(spreads(json!({ "nodeTaintsPolicy": "Honor" })), 0);
        assert_eq!(spreads(json!({ "whenUnsatisfiable": "ScheduleAnyway" })), 0);
        assert_eq!(spreads(json!({ "topologyKey": "topology.kubernetes.io/zone" })), 0);
        assert_eq!(spreads(json!({ "labelSelector": { "matchLabels": { "app": "db" } } })), 0);
    }

    #[test]
    fn a_spread_counts_the_pods_of_its_own_revision_where_it_says_so() {
        let spread = json!({ "maxSkew": 1, "topologyKey": HOSTNAME, "whenUnsatisfiable": "DoNotSchedule",
                             "matchLabelKeys": ["hash"], "labelSelector": { "matchLabels": { "app": "web" } } });
        let demands = demanded(&json!({ "containers": [], "topologySpreadConstraints": [spread] }));
        let labels = |hash: &str| {
            BTreeMap::from([("app".to_owned(), "web".to_owned()), ("hash".to_owned(), hash.to_owned())])
        };
        assert!(demands.spreads[0].counts(&labels("1")) && !demands.spreads[0].counts(&labels("2")));
    }

    #[test]
    fn anti_affinity_holds_in_the_namespaces_that_it_names() {
        let apart = |more: Value| {
            let mut term =
                json!({ "topologyKey": HOSTNAME, "labelSelector": { "matchLabels": { "app": "web" } } });
            for (key, value) in more.as_object().unwrap() {
                term[key] = value.clone();
            }
            let required = json!({ "requiredDuringSchedulingIgnoredDuringExecution": [term] });
            demanded(&json!({ "containers": [], "affinity": { "podAntiAffinity": required } })).keeps_off
        };
        let web = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        assert!(apart(json!({}))[0].forbids("shop", &web) && !apart(json!({}))[0].forbids("other", &web));
        assert!(apart(json!({ "namespaces": ["other"] }))[0].forbids("other", &web));
        assert!(apart(json!({ "namespaceSelector": {} }))[0].forbids("any", &web));
        assert!(apart(json!({ "topologyKey": "topology.kubernetes.io/zone" })).is_empty());
    }

    #[test]
    fn host_ports_clash_on_the_same_address() {
        let port = |port: Value| demanded(&json!({ "containers": [{ "name": "c", "ports": [port] }] }));
        let web = port(json!({ "containerPort": 80, "hostPort": 80 }));
        assert_eq!(
            web.shared_port(&port(json!({ "containerPort": 1, "hostPort": 80, "hostIP": "10.0.0.1" }))),
            Some(80)
        );
        assert_eq!(web.shared_port(&port(json!({ "containerPort": 80 }))), None);
        assert_eq!(
            web.shared_port(&port(json!({ "containerPort": 1, "hostPort": 80, "protocol": "UDP" }))),
            None
        );
    }
}
