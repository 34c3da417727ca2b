//! What a pod demands of the node that it runs on, as the scheduler reads it from the pod's spec.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Container, Pod, PodAffinityTerm, PodSpec, ResourceRequirements, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::core::{Expression, Selector, SelectorExt};

use super::amount::Amount;
use super::terms::NodeTerms;
use crate::spec::{HOSTNAME, is_hard};

/// Resources by name, and how much of each.
pub type Amounts = BTreeMap<String, Amount>;

/// A pod counts against `allocatable.pods` of its node.
pub(crate) const PODS: &str = "pods";

/// What a pod demands of its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demands {
    /// What it requests, with init containers, sidecars and overhead, as the scheduler adds them up.
    pub requests: Amounts,
    /// `nodeSelector` and required node affinity: every one must be met.
    pub selects: Vec<NodeTerms>,
    /// `spec.tolerations`.
    pub tolerations: Vec<Tolerated>,
    /// Ports of the node that it takes.
    pub host_ports: BTreeSet<HostPort>,
    /// Topology spread constraints by hostname that keep a pod Pending, where a cordoned node counts.
    pub spreads: Vec<Spread>,
    /// Required anti-affinity by hostname.
    pub keeps_off: Vec<KeepsOff>,
    /// The pod's priority is negative, by which autoscalers mark placeholders that give way to any other.
    pub is_placeholder: bool,
    /// The pod evicts placeholders where it needs their place (`preemptionPolicy` is not `Never`).
    pub preempts: bool,
}

/// One toleration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tolerated {
    key: Option<String>,
    /// None with operator `Exists`.
    value: Option<String>,
    effect: Option<String>,
}

/// A port of the node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    port: i32,
    protocol: String,
    /// None: all addresses of the node.
    address: Option<String>,
}

/// A topology spread constraint by hostname.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// How many more such pods a node may have than the node with the fewest.
    pub max_skew: i64,
    selector: Selector,
}

/// Pods that this one shares no node with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepsOff {
    /// None: in all namespaces.
    namespaces: Option<BTreeSet<String>>,
    selector: Selector,
}

/// Reads the demands of a pod.
#[must_use]
pub fn demands(pod: &Pod) -> Demands {
    let spec = pod.spec.clone().unwrap_or_default();
    let affinity = spec.affinity.clone().unwrap_or_default();
    let required = affinity.node_affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution);
    let mut selects = NodeTerms::of_labels(spec.node_selector.as_ref().unwrap_or(&BTreeMap::new()));
    selects.extend(required.iter().flat_map(NodeTerms::of_selector));
    let apart =
        affinity.pod_anti_affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution);
    let spreads = spec.topology_spread_constraints.iter().flatten();
    Demands {
        selects,
        tolerations: spec.tolerations.iter().flatten().filter_map(tolerated).collect(),
        host_ports: containers(&spec).flat_map(host_ports).collect(),
        spreads: spreads.filter_map(|spread| by_hostname(spread, pod.labels())).collect(),
        keeps_off: apart.iter().flatten().filter_map(|term| keeps_off(term, pod)).collect(),
        is_placeholder: spec.priority.is_some_and(|priority| priority < 0),
        preempts: spec.preemption_policy.as_deref() != Some("Never"),
        requests: requests(&spec),
    }
}

impl Demands {
    /// Says if a toleration covers the taint, which is written `key=value:effect`.
    #[must_use]
    pub fn tolerates(&self, taint: &str) -> bool {
        let (name, effect) = taint.rsplit_once(':').unwrap_or((taint, ""));
        let (key, value) = name.split_once('=').unwrap_or((name, ""));
        let is_any_or = |told: &Option<String>, is: &str| told.as_deref().is_none_or(|told| told == is);
        self.tolerations
            .iter()
            .any(|t| is_any_or(&t.effect, effect) && is_any_or(&t.key, key) && is_any_or(&t.value, value))
    }

    /// A port that both want, if any.
    pub(crate) fn shared_port(&self, other: &Self) -> Option<i32> {
        let clash = |a: &HostPort, b: &HostPort| {
            let is_same_address = a.address.is_none() || b.address.is_none() || a.address == b.address;
            a.port == b.port && a.protocol == b.protocol && is_same_address
        };
        self.host_ports.iter().find(|a| other.host_ports.iter().any(|b| clash(a, b))).map(|a| a.port)
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

/// The most that the pod holds at a time: its containers and sidecars, or one of its init containers beside the
/// sidecars that started before. Requests of the pod as a whole stand above those of its containers.
/// <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers>
fn requests(spec: &PodSpec) -> Amounts {
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let mut holds = requested(container.resources.as_ref());
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, holds);
            holds = Amounts::new();
        }
        add(&mut holds, sidecars.clone());
        for (name, amount) in holds {
            let most: &mut Amount = starting.entry(name).or_default();
            *most = amount.max(*most);
        }
    }
    let mut total = sidecars;
    for container in &spec.containers {
        add(&mut total, requested(container.resources.as_ref()));
    }
    for (name, amount) in starting {
        let most = total.entry(name).or_default();
        *most = amount.max(*most);
    }
    total.extend(requested(spec.resources.as_ref()));
    add(&mut total, amounts(spec.overhead.as_ref()));
    total.insert(PODS.to_owned(), Amount::ONE);
    total.retain(|_, amount| !amount.is_zero());
    total
}

/// A limit without a request requests as much.
fn requested(resources: Option<&ResourceRequirements>) -> Amounts {
    let mut requested = amounts(resources.and_then(|resources| resources.limits.as_ref()));
    requested.extend(amounts(resources.and_then(|resources| resources.requests.as_ref())));
    requested
}

/// The API server lets no malformed quantity in; one that this version can't read is more than any node has.
fn amounts(quantities: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    let read = |(name, quantity): (&String, &Quantity)| {
        (name.clone(), Amount::parse(quantity).unwrap_or(Amount::MAX))
    };
    quantities.into_iter().flatten().map(read).collect()
}

fn add(to: &mut Amounts, more: Amounts) {
    for (name, amount) in more {
        let sum = to.entry(name).or_default();
        *sum = sum.plus(amount);
    }
}

fn tolerated(toleration: &Toleration) -> Option<Tolerated> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let value = match toleration.operator.as_deref().unwrap_or_default() {
        "Exists" => None,
        "" | "Equal" => Some(toleration.value.clone().unwrap_or_default()),
        _ => return None,
    };
    Some(Tolerated { key: given(&toleration.key), value, effect: given(&toleration.effect) })
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    // An init container's port is free again once it has ended; a sidecar's is not.
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers.iter().chain(sidecars)
}

fn host_ports(container: &Container) -> impl Iterator<Item = HostPort> {
    let ports = container.ports.iter().flatten();
    ports.filter_map(|port| {
        let every = |address: &&String| !matches!(address.as_str(), "" | "0.0.0.0" | "::");
        Some(HostPort {
            port: port.host_port.filter(|port| *port != 0)?,
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            address: port.host_ip.as_ref().filter(every).cloned(),
        })
    })
}

/// With `nodeTaintsPolicy: Honor` a cordoned node does not count, and its pods find room on the newcomer.
fn by_hostname(spread: &TopologySpreadConstraint, labels: &BTreeMap<String, String>) -> Option<Spread> {
    if !is_hard(spread) {
        return None;
    }
    let selector =
        selector(spread.label_selector.as_ref()?, spread.match_label_keys.as_deref(), None, labels);
    // A constraint that does not count the pod itself never keeps it Pending by its own number.
    selector.matches(labels).then(|| Spread { max_skew: i64::from(spread.max_skew), selector })
}

fn keeps_off(term: &PodAffinityTerm, pod: &Pod) -> Option<KeepsOff> {
    if term.topology_key != HOSTNAME {
        return None;
    }
    let named: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
    let namespaces = match &term.namespace_selector {
        // Labels of namespaces are not asked for: one that is selected by them may be any.
        Some(_) => None,
        None if named.is_empty() => Some(pod.namespace().into_iter().collect()),
        None => Some(named),
    };
    let keys = (term.match_label_keys.as_deref(), term.mismatch_label_keys.as_deref());
    let selector = selector(term.label_selector.as_ref()?, keys.0, keys.1, pod.labels());
    Some(KeepsOff { namespaces, selector })
}

/// The selector, narrowed by the pod's own values of these labels. One that can't be read selects every pod, so that
/// the constraint is never overlooked.
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
        demanded(spec).requests.into_iter().map(|(name, amount)| (name, amount.to_string())).collect()
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
            demanded(&json!({ "containers": [], "tolerations": [toleration] })).tolerates(taint)
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
