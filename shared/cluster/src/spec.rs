//! The one reading of a pod's spec, about leaving its node and about the node that it goes to. Every field of
//! `PodSpec`, of its containers and of its volumes has its verdict. The same rules read the pod itself and
//! its controller's template, which is what comes back.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorTerm, PodAffinity, PodAffinityTerm, PodAntiAffinity,
    PodSpec, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};

use crate::amount::Amounts;
use crate::capacity;
use crate::node::Node;
use crate::terms::NodeTerms;

mod containers;
mod volumes;

use containers::ContainerDemands;
pub use containers::HostPort;
pub(crate) use containers::PODS;
pub use volumes::Mounted;

/// The label that distinguishes a node from all others.
pub(crate) const HOSTNAME: &str = "kubernetes.io/hostname";
/// The taint that a cordon sets.
const CORDON: &str = "node.kubernetes.io/unschedulable:NoSchedule";
/// The default of `terminationGracePeriodSeconds`, which says nothing about the pod.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// The demands of a spec: where its pod can run, and how it ends.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// `nodeName`. The pods of a template with this field go to that node without being scheduled.
    pub(crate) node_name: Option<String>,
    pub(crate) selector: BTreeMap<String, String>,
    /// The required node affinity.
    pub(crate) required: Option<NodeSelector>,
    /// Seconds that the pod may take to end.
    pub(crate) grace_seconds: i64,
    pub(crate) tolerations: Vec<Tolerated>,
    /// Spreads over nodes that keep a pod Pending rather than break the spread.
    pub(crate) spreads: Vec<TopologySpreadConstraint>,
    /// Pods that must not run on the same node.
    pub(crate) apart: Vec<PodAffinityTerm>,
    /// Pods that must run on the same node.
    pub(crate) together: Vec<PodAffinityTerm>,
    /// Ports of the node that the pod takes: two such pods don't fit on one node.
    pub(crate) host_ports: BTreeSet<HostPort>,
    /// The pod's requests, with init containers, sidecars and overhead, as the scheduler adds them up.
    pub(crate) requests: Amounts,
    /// The volumes that a move concerns.
    pub(crate) volumes: Vec<Mounted>,
    /// True if the priority is negative. Autoscalers mark placeholders so, which give way to any other pod.
    pub(crate) is_placeholder: bool,
    /// True if the pod evicts no other pod for its own place (`preemptionPolicy` is `Never`).
    pub(crate) is_patient: bool,
    /// Names of `schedulingGates`, which a controller or a person has to lift.
    pub(crate) gates: Vec<String>,
    /// Names of `resourceClaims`: devices that were allocated on this node.
    pub(crate) device_claims: Vec<String>,
    /// True if the containers end some day (`restartPolicy` is not `Always`).
    pub(crate) runs_once: bool,
}

/// A toleration of a taint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tolerated {
    key: Option<String>,
    /// The value; none with operator `Exists`.
    value: Option<String>,
    effect: Option<String>,
}

impl Facts {
    /// Reads a spec. The pattern names every field: a new field of Kubernetes' doesn't compile before a
    /// developer has judged it.
    #[must_use]
    pub(crate) fn of(spec: &PodSpec) -> Self {
        let PodSpec {
            affinity,
            containers,
            init_containers,
            node_name,
            node_selector,
            resource_claims,
            restart_policy,
            scheduling_gates,
            termination_grace_period_seconds,
            tolerations,
            topology_spread_constraints,
            volumes,
            overhead,
            resources,
            preemption_policy,
            priority,
            // The platform. The newcomer's labels show it once the newcomer has joined.
            os: _,
            runtime_class_name: _,
            host_users: _,
            // A Job's pod gets a fresh clock. The Job's own deadline runs on either way.
            active_deadline_seconds: _,
            // A debugging session ends with its pod, as it does with kubectl.
            ephemeral_containers: _,
            // The condition Ready includes the gates: the drain waits for it.
            readiness_gates: _,
            // Admission has written it into `priority`.
            priority_class_name: _,
            // Other schedulers honour a cordon as well; the drain waits for Ready replacements.
            scheduler_name: _,
            // Without `hostPort` the network concerns the pod alone; with it, `host_ports` holds the port.
            host_network: _,
            // These fields mean the same on every node.
            automount_service_account_token: _,
            dns_config: _,
            dns_policy: _,
            enable_service_links: _,
            host_aliases: _,
            host_ipc: _,
            host_pid: _,
            hostname: _,
            image_pull_secrets: _,
            security_context: _,
            service_account: _,
            service_account_name: _,
            set_hostname_as_fqdn: _,
            share_process_namespace: _,
            subdomain: _,
        } = spec;
        let asked = |containers: &[_]| containers.iter().map(ContainerDemands::of).collect::<Vec<_>>();
        let (init, main) = (asked(init_containers.as_deref().unwrap_or_default()), asked(containers));
        let (required, together, apart) = affinities(affinity.clone().unwrap_or_default());
        let tolerations: Vec<Tolerated> = tolerations.iter().flatten().filter_map(Tolerated::of).collect();
        let stays_open = is_tolerated(&tolerations, CORDON);
        let spreads = topology_spread_constraints.iter().flatten();
        Self {
            node_name: node_name.clone(),
            selector: node_selector.clone().unwrap_or_default(),
            required,
            grace_seconds: termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_SECONDS),
            spreads: spreads.filter(|spread| is_hard(spread, stays_open)).cloned().collect(),
            tolerations,
            apart,
            together,
            host_ports: containers::host_ports(&init, &main),
            requests: containers::requests(&init, &main, resources.as_ref(), overhead.as_ref()),
            volumes: volumes::mounted(
                volumes.as_deref().unwrap_or_default(),
                init_containers.iter().flatten().chain(containers),
            ),
            is_placeholder: priority.is_some_and(|priority| priority < 0),
            is_patient: preemption_policy.as_deref() == Some("Never"),
            gates: scheduling_gates.iter().flatten().map(|gate| gate.name.clone()).collect(),
            device_claims: resource_claims.iter().flatten().map(|claim| claim.name.clone()).collect(),
            runs_once: restart_policy.as_deref().is_some_and(|policy| policy != "Always"),
        }
    }

    /// Returns the terms of the required node affinity, which are alternatives.
    fn terms(&self) -> &[NodeSelectorTerm] {
        self.required.as_ref().map(|required| required.node_selector_terms.as_slice()).unwrap_or_default()
    }

    /// Returns the terms of `nodeSelector` and required node affinity. A node must meet every one.
    #[must_use]
    pub(crate) fn selects(&self) -> Vec<NodeTerms> {
        let mut selects = NodeTerms::of_labels(&self.selector);
        selects.extend(self.required.iter().flat_map(NodeTerms::of_selector));
        selects
    }

    /// Returns true if a toleration covers the taint, which is written `key=value:effect`.
    #[must_use]
    pub(crate) fn tolerates(&self, taint: &str) -> bool {
        is_tolerated(&self.tolerations, taint)
    }

    /// Returns true if a cordon doesn't keep the pod off.
    #[must_use]
    pub(crate) fn tolerates_cordon(&self) -> bool {
        self.tolerates(CORDON)
    }

    /// Returns true if a node takes the pod by its labels and taints.
    #[must_use]
    pub(crate) fn fits(&self, node: &Node) -> bool {
        self.selects().iter().all(|terms| terms.are_met_by(node))
            && node.startup_taints.iter().all(|taint| self.tolerates(taint))
    }

    /// Returns the field that ties the pod to `node` alone: no other node can ever take the pod.
    #[must_use]
    pub(crate) fn tie_to(&self, node: &Node) -> Option<String> {
        let hostname = node.labels.get(HOSTNAME).map_or(node.name.as_str(), String::as_str);
        if self.selector.get(HOSTNAME).is_some_and(|value| value == hostname) {
            return Some(format!("nodeSelector {HOSTNAME}={hostname}"));
        }
        let is_only = |values: &Option<Vec<String>>, this: &str| {
            values.iter().flatten().all(|value| value == this) && values.iter().flatten().next().is_some()
        };
        let is_tied = |term: &NodeSelectorTerm| {
            let by_label = term.match_expressions.iter().flatten();
            let by_field = term.match_fields.iter().flatten();
            by_label.filter(|e| e.key == HOSTNAME && e.operator == "In").any(|e| is_only(&e.values, hostname))
                || by_field.filter(|e| e.operator == "In").any(|e| is_only(&e.values, node.name.as_str()))
        };
        let is_tied = !self.terms().is_empty() && self.terms().iter().all(is_tied);
        is_tied.then(|| format!("nodeAffinity that names node {} alone", node.name))
    }

    /// Returns true if a controller keeps the pod on its very node, as a DaemonSet does: by the node's name
    /// in `matchFields`, which people do not write by hand.
    #[must_use]
    pub(crate) fn is_tied_by_field(&self) -> bool {
        let Some(node) = &self.node_name else { return false };
        let names_it = |term: &NodeSelectorTerm| {
            term.match_fields
                .iter()
                .flatten()
                .any(|e| e.values.as_deref() == Some(std::slice::from_ref(node)))
        };
        !self.terms().is_empty() && self.terms().iter().all(names_it)
    }

    /// Returns the part of the spec that demands On-Demand.
    #[must_use]
    pub(crate) fn on_demand_demand(&self) -> Option<String> {
        capacity::on_demand_demand(&self.selector, self.terms())
    }

    /// Returns the pod's grace in seconds, if a drain of `seconds` would be over before the pod must be.
    #[must_use]
    pub(crate) fn grace_beyond(&self, seconds: u32) -> Option<i64> {
        outlasts(self.grace_seconds, seconds).then_some(self.grace_seconds)
    }

    /// Returns true if two pods of this spec, both with `labels`, never share a node.
    #[must_use]
    pub(crate) fn is_one_per_node(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.host_ports.is_empty() || names(&self.apart, labels)
    }

    /// Returns true if pods of this spec, with `labels`, must share a node.
    #[must_use]
    pub(crate) fn is_together(&self, labels: &BTreeMap<String, String>) -> bool {
        names(&self.together, labels)
    }
}

/// Returns true if a pod with this grace may outlast a drain of `timeout` seconds.
pub(crate) fn outlasts(grace_seconds: i64, timeout: u32) -> bool {
    grace_seconds > DEFAULT_GRACE_SECONDS.max(i64::from(timeout))
}

/// Returns true if `selector` names pods with `labels`. No selector names no pods.
pub(crate) fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let selector = selector.cloned().and_then(|selector| Selector::try_from(selector).ok());
    selector.is_some_and(|selector| selector.matches(labels))
}

fn names(terms: &[PodAffinityTerm], labels: &BTreeMap<String, String>) -> bool {
    terms.iter().any(|term| selects(term.label_selector.as_ref(), labels))
}

/// Returns the requirements on the node, on the pods that it must have, and on those that it must not have. A
/// preference decides where a pod goes, never if it finds a place.
fn affinities(affinity: Affinity) -> (Option<NodeSelector>, Vec<PodAffinityTerm>, Vec<PodAffinityTerm>) {
    let Affinity { node_affinity, pod_affinity, pod_anti_affinity } = affinity;
    let NodeAffinity {
        required_during_scheduling_ignored_during_execution: node,
        preferred_during_scheduling_ignored_during_execution: _,
    } = node_affinity.unwrap_or_default();
    let PodAffinity {
        required_during_scheduling_ignored_during_execution: together,
        preferred_during_scheduling_ignored_during_execution: _,
    } = pod_affinity.unwrap_or_default();
    let PodAntiAffinity {
        required_during_scheduling_ignored_during_execution: apart,
        preferred_during_scheduling_ignored_during_execution: _,
    } = pod_anti_affinity.unwrap_or_default();
    (node, on_hosts(together), on_hosts(apart))
}

fn on_hosts(terms: Option<Vec<PodAffinityTerm>>) -> Vec<PodAffinityTerm> {
    terms.into_iter().flatten().filter(|term| term.topology_key == HOSTNAME).collect()
}

/// Returns true for a spread over nodes that counts a cordoned node, and waits. By default a spread ignores
/// taints. A spread that honours taints leaves out the nodes whose taints the pod does not tolerate.
fn is_hard(spread: &TopologySpreadConstraint, stays_open: bool) -> bool {
    let TopologySpreadConstraint {
        topology_key,
        when_unsatisfiable,
        node_taints_policy,
        // The selector is read where the nodes are counted.
        label_selector: _,
        match_label_keys: _,
        max_skew: _,
        // With fewer domains the least count is 0, which it is anyway while an empty node counts.
        min_domains: _,
        // The old node fits its own pods: it counts by either policy.
        node_affinity_policy: _,
    } = spread;
    topology_key == HOSTNAME
        && when_unsatisfiable == "DoNotSchedule"
        && (stays_open || node_taints_policy.as_deref() != Some("Honor"))
}

impl Tolerated {
    /// Reads a toleration; none with an operator that no taint of a node meets (`Gt` and `Lt` compare
    /// numbers).
    fn of(toleration: &Toleration) -> Option<Self> {
        let Toleration {
            key,
            operator,
            value,
            effect,
            // Limits how long the pod stays once the taint is there. A cordon evicts no pod.
            toleration_seconds: _,
        } = toleration;
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let value = match operator.as_deref().unwrap_or_default() {
            "Exists" => None,
            "" | "Equal" => Some(value.clone().unwrap_or_default()),
            _ => return None,
        };
        Some(Self { key: given(key), value, effect: given(effect) })
    }
}

fn is_tolerated(tolerations: &[Tolerated], taint: &str) -> bool {
    let (name, effect) = taint.rsplit_once(':').unwrap_or((taint, ""));
    let (key, value) = name.split_once('=').unwrap_or((name, ""));
    let is_any_or = |told: &Option<String>, is: &str| told.as_deref().is_none_or(|told| told == is);
    tolerations
        .iter()
        .any(|t| is_any_or(&t.effect, effect) && is_any_or(&t.key, key) && is_any_or(&t.value, value))
}

#[cfg(test)]
mod tests;
