//! What a pod's spec says about leaving its node: every field of `PodSpec` has its verdict in
//! [`Facts::of`]. The pod itself and its controller's template are read by the same rules: the template is
//! what comes back.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Affinity, Container, NodeSelectorTerm, PodAffinityTerm, PodSpec, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};

use crate::capacity;
use crate::node::Node;

/// The label that tells one node from all others.
pub(crate) const HOSTNAME: &str = "kubernetes.io/hostname";
/// The taint that a cordon sets.
const CORDON: &str = "node.kubernetes.io/unschedulable";
/// `terminationGracePeriodSeconds` where nobody asks for another: it says nothing about the pod.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// The demands of a spec: where its pod can run, and how it ends.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// `nodeName`: of a template, the node that its pods go to without being scheduled.
    pub(crate) node_name: Option<String>,
    /// `nodeSelector`.
    pub(crate) selector: BTreeMap<String, String>,
    /// The terms of the required node affinity: alternatives.
    pub(crate) terms: Vec<NodeSelectorTerm>,
    /// Seconds that the pod may take to end.
    pub(crate) grace_seconds: i64,
    /// A cordon doesn't keep the pod off.
    pub(crate) tolerates_cordon: bool,
    /// Spreads over nodes that keep a pod Pending rather than break them.
    pub(crate) spreads: Vec<TopologySpreadConstraint>,
    /// Pods that must not run on the same node.
    pub(crate) apart: Vec<PodAffinityTerm>,
    /// Pods that must run on the same node.
    pub(crate) together: Vec<PodAffinityTerm>,
    /// Ports of the node that it takes: two such pods don't fit on one node.
    pub(crate) host_ports: BTreeSet<i32>,
    /// Names of `schedulingGates`, which somebody has to lift.
    pub(crate) gates: Vec<String>,
    /// Names of `resourceClaims`: devices that were allocated on this node.
    pub(crate) device_claims: Vec<String>,
    /// Its containers end some day (`restartPolicy` is not `Always`).
    pub(crate) runs_once: bool,
}

impl Facts {
    /// Reads a spec. The pattern names every field, so that a new one of Kubernetes' doesn't compile
    /// before somebody has judged it.
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
            // `pods` reads emptyDir and claims, `volumes` follows the claims.
            volumes: _,
            // Requests and the platform: the newcomer is asked for them once it has joined.
            overhead: _,
            resources: _,
            os: _,
            runtime_class_name: _,
            host_users: _,
            // A Job's pod gets a fresh clock; the Job's own deadline goes on either way.
            active_deadline_seconds: _,
            // A debugging session ends with its pod, as it does with kubectl.
            ephemeral_containers: _,
            // The condition Ready includes the gates: the drain waits for it.
            readiness_gates: _,
            // The order in the scheduler's queue. The newcomer is there before the first eviction.
            preemption_policy: _,
            priority: _,
            priority_class_name: _,
            // Other schedulers honour a cordon as well; the drain waits for Ready replacements.
            scheduler_name: _,
            // Without `hostPort` the pod's own business; with it, `host_ports`.
            host_network: _,
            // The same on every node.
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
        let affinity = affinity.clone().unwrap_or_default();
        let Affinity { node_affinity, pod_affinity, pod_anti_affinity } = affinity;
        let required = node_affinity
            .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution)
            .unwrap_or_default();
        let apart = pod_anti_affinity
            .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution);
        let together =
            pod_affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution);
        Self {
            node_name: node_name.clone(),
            selector: node_selector.clone().unwrap_or_default(),
            terms: required.node_selector_terms,
            grace_seconds: termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_SECONDS),
            tolerates_cordon: tolerations.iter().flatten().any(tolerates_cordon),
            spreads: topology_spread_constraints
                .iter()
                .flatten()
                .filter(|spread| is_hard(spread))
                .cloned()
                .collect(),
            apart: on_hosts(apart),
            together: on_hosts(together),
            host_ports: host_ports(containers.iter().chain(init_containers.iter().flatten())),
            gates: scheduling_gates.iter().flatten().map(|gate| gate.name.clone()).collect(),
            device_claims: resource_claims.iter().flatten().map(|claim| claim.name.clone()).collect(),
            runs_once: restart_policy.as_deref().is_some_and(|policy| policy != "Always"),
        }
    }

    /// Returns what ties the pod to `node` alone: no other node can ever take it.
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
        let is_tied = !self.terms.is_empty() && self.terms.iter().all(is_tied);
        is_tied.then(|| format!("nodeAffinity that names node {} alone", node.name))
    }

    /// A controller keeps the pod on its very node, as a DaemonSet does: by the node's name in
    /// `matchFields`, which nobody writes by hand.
    #[must_use]
    pub(crate) fn is_tied_by_field(&self) -> bool {
        let Some(node) = &self.node_name else { return false };
        let names_it = |term: &NodeSelectorTerm| {
            term.match_fields
                .iter()
                .flatten()
                .any(|e| e.values.as_deref() == Some(std::slice::from_ref(node)))
        };
        !self.terms.is_empty() && self.terms.iter().all(names_it)
    }

    /// Returns the part of the spec that demands On-Demand.
    #[must_use]
    pub(crate) fn on_demand_demand(&self) -> Option<String> {
        capacity::on_demand_demand(&self.selector, &self.terms)
    }

    /// Returns the pod's grace, if a drain of `seconds` would be over before the pod must be.
    #[must_use]
    pub(crate) fn grace_beyond(&self, seconds: u32) -> Option<i64> {
        outlasts(self.grace_seconds, seconds).then_some(self.grace_seconds)
    }

    /// Two pods of this spec, both with `labels`, never share a node.
    #[must_use]
    pub(crate) fn is_one_per_node(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.host_ports.is_empty() || names(&self.apart, labels)
    }

    /// Pods of this spec, with `labels`, must share a node.
    #[must_use]
    pub(crate) fn is_together(&self, labels: &BTreeMap<String, String>) -> bool {
        names(&self.together, labels)
    }
}

/// A pod with so much grace may outlast a drain of `timeout` seconds.
pub(crate) fn outlasts(grace_seconds: i64, timeout: u32) -> bool {
    grace_seconds > DEFAULT_GRACE_SECONDS.max(i64::from(timeout))
}

/// Says that `selector` names pods with `labels`; without one it names none.
pub(crate) fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let selector = selector.cloned().and_then(|selector| Selector::try_from(selector).ok());
    selector.is_some_and(|selector| selector.matches(labels))
}

fn names(terms: &[PodAffinityTerm], labels: &BTreeMap<String, String>) -> bool {
    terms.iter().any(|term| selects(term.label_selector.as_ref(), labels))
}

fn on_hosts(terms: Option<Vec<PodAffinityTerm>>) -> Vec<PodAffinityTerm> {
    terms.into_iter().flatten().filter(|term| term.topology_key == HOSTNAME).collect()
}

/// A spread over nodes that counts a cordoned one: it honours no taints (the default) and waits.
pub(crate) fn is_hard(spread: &TopologySpreadConstraint) -> bool {
    let TopologySpreadConstraint {
        topology_key,
        when_unsatisfiable,
        node_taints_policy,
        // Read where the nodes are counted.
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
        && node_taints_policy.as_deref() != Some("Honor")
}

fn tolerates_cordon(toleration: &Toleration) -> bool {
    let Toleration { key, operator, effect, value, toleration_seconds: _ } = toleration;
    let exists = operator.as_deref() == Some("Exists");
    let is_of_effect = matches!(effect.as_deref(), None | Some("" | "NoSchedule"));
    let is_of_key = match key.as_deref() {
        None | Some("") => exists,
        Some(CORDON) => exists || value.as_deref().unwrap_or_default().is_empty(),
        Some(_) => false,
    };
    is_of_effect && is_of_key
}

fn host_ports<'a>(containers: impl Iterator<Item = &'a Container>) -> BTreeSet<i32> {
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.filter_map(|port| port.host_port).filter(|port| *port > 0).collect()
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
