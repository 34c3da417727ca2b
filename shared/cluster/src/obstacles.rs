//! The reasons why a pod's eviction could never end well, as far as one look shows: each with its way out.

use crate::budgets::Budget;
use crate::controllers::Workload;
use crate::hosts;
use crate::observation::Observation;
use crate::pods::{Blocked, Disposition, NodePod, SAFE_TO_EVICT};
use crate::spec::{self, Facts};
use crate::volumes::Tie;

/// Returns every reason against the eviction of `pod`, one entry for each; none if the pod may go.
pub(crate) fn against(pod: &NodePod, look: &Observation) -> Vec<Blocked> {
    let workload = pod.controller.as_ref().and_then(|owner| look.workloads.get(owner));
    let mut whys = by_volume(look.ties.get(&pod.pod.uid).copied());
    whys.extend(workload.and_then(|workload| by_controller(pod, workload, look)));
    whys.extend(by_specs(pod, workload, look));
    whys.extend(hosts::follows_its_peers(pod, &look.pods));
    if let Some(hosts) = &look.hosts {
        whys.extend(hosts::obstacle(pod, workload, &look.pods, hosts, &look.node));
    }
    let mut reasons: Vec<Blocked> = whys.into_iter().map(|why| pod.blocked(None, why)).collect();
    reasons.extend(by_budgets(pod, workload, look));
    reasons
}

/// Returns the reason why a pod that was asked to go may still be there when the drain ends.
pub(crate) fn lingers(pod: &NodePod, look: &Observation) -> Option<String> {
    let termination = pod.termination.as_ref()?;
    if termination.is_overdue(look.at) {
        return Some(termination.why(look.at));
    }
    let rest = termination.until().as_second().saturating_sub(look.at.as_second());
    let timeout = look.terms.drain_timeout_seconds;
    spec::outlasts(rest, timeout).then(|| {
        format!(
            "the pod is on its way out and may take {rest} s more, and the drain ends after {timeout} s: start with \
             drain_timeout_seconds of more than {rest}, or wait for its end"
        )
    })
}

fn by_volume(tie: Option<Tie>) -> Vec<String> {
    let is_here = tie == Some(Tie::Node);
    is_here
        .then(|| "the pod holds a PersistentVolume that exists on this node only".to_owned())
        .into_iter()
        .collect()
}

/// Returns the reason why the controller would not bring the pod back, or only after another event.
fn by_controller(pod: &NodePod, workload: &Workload, look: &Observation) -> Option<String> {
    let is_allowed = pod.is_safe_to_evict || look.terms.policy.evict_unmanaged;
    if let Some(loss) = workload.loss.as_ref().filter(|_| !is_allowed) {
        return Some(format!(
            "nothing would bring the pod back: {loss}; delete it yourself, or annotate it with {SAFE_TO_EVICT}: \"true\""
        ));
    }
    // No annotation waives this: the drain would wait for the replacement in vain.
    if let Some(failure) = &workload.failure {
        return Some(format!(
            "{} would not bring the pod back: {failure}; remove the cause, and wait until the condition is gone",
            workload.name
        ));
    }
    let (first, name) = workload.waits_for.as_ref()?;
    let ordinal: u64 = pod.pod.pod.rsplit('-').next()?.parse().ok()?;
    (ordinal > *first).then(|| {
        format!(
            "its {} starts one pod after another, and {name} before it is not Ready: mend that pod first, or use \
             podManagementPolicy Parallel",
            workload.name
        )
    })
}

/// Judges the pod's own spec and its controller's template: the controller brings back the template.
fn by_specs(pod: &NodePod, workload: Option<&Workload>, look: &Observation) -> Vec<String> {
    let mut whys = by_spec(&pod.facts, pod, look);
    if let Some(template) = workload.and_then(|workload| workload.template.as_ref()) {
        if template.node_name.as_deref() == Some(look.node.name.as_str()) {
            whys.push(
                "its controller's template has nodeName: this node, so that it would return here whatever the cordon: \
                 take nodeName out"
                    .to_owned(),
            );
        }
        for why in by_spec(template, pod, look) {
            if !whys.contains(&why) {
                whys.push(why);
            }
        }
    }
    whys
}

fn by_spec(facts: &Facts, pod: &NodePod, look: &Observation) -> Vec<String> {
    let mut whys = Vec::new();
    if let Some(tie) = facts.tie_to(&look.node) {
        whys.push(format!("the pod can run on this node only ({tie}): let it run on others, too"));
    }
    if let Some(demand) = facts.on_demand_demand() {
        whys.push(format!(
            "the pod demands an On-Demand node ({demand}): let it run on Spot, or leave the node"
        ));
    }
    let timeout = look.terms.drain_timeout_seconds;
    if let Some(grace) = facts.grace_beyond(timeout) {
        whys.push(format!(
            "the pod may take {grace} s to end (terminationGracePeriodSeconds), and the drain ends after {timeout} s: start \
             with drain_timeout_seconds of more than {grace}, or give the pod less"
        ));
    }
    if !pod.is_safe_to_evict {
        if let Some(gate) = facts.gates.first() {
            whys.push(format!(
                "its replacement would wait until somebody lifts the schedulingGate {gate}: annotate the pod with \
                 {SAFE_TO_EVICT}: \"true\" if a controller does"
            ));
        }
        if let Some(claim) = facts.device_claims.first() {
            whys.push(format!(
                "the pod holds a device of this node (resourceClaim {claim}), and nobody can tell that the newcomer has one: \
                 annotate the pod with {SAFE_TO_EVICT}: \"true\" if it does"
            ));
        }
    }
    whys
}

/// Forecasts the API server's answer. The owner's annotation waives the forecast if an operator lifts the
/// budget after the cordon (it moves the role of a primary). The API server still guards the pod.
fn by_budgets(pod: &NodePod, workload: Option<&Workload>, look: &Observation) -> Option<Blocked> {
    let covers = |budget: &&Budget| budget.selects(&pod.pod.namespace, &pod.labels);
    let covering: Vec<&Budget> = look.budgets.iter().filter(covers).collect();
    match covering.as_slice() {
        [] => None,
        // The API server evicts a pod that has not started, whatever its budgets.
        _ if pod.is_pending => None,
        [_] if pod.is_safe_to_evict => None,
        [budget] => {
            let why = budget.refusal_of(pod).or_else(|| deadlock(pod, workload, budget, look))?;
            Some(pod.blocked(Some(budget.name.clone()), why))
        }
        _ => {
            let names = covering.iter().map(|budget| budget.name.as_str()).collect::<Vec<_>>().join(", ");
            let why =
                format!("budgets {names} all cover the pod, which Kubernetes does not evict then: leave one");
            Some(pod.blocked(Some(names), why))
        }
    }
}

/// Returns the reason if pods must share a node, are all on this one, and a budget lets them go only one by
/// one. The first pod finds no place before the last one has left.
fn deadlock(
    pod: &NodePod,
    workload: Option<&Workload>,
    budget: &Budget,
    look: &Observation,
) -> Option<String> {
    let replicas = workload?.replicas?;
    let peers = look
        .pods
        .iter()
        .filter(|other| other.disposition == Disposition::Evict && other.controller == pod.controller);
    let here = peers.count();
    let allowed = usize::try_from(budget.disruptions_allowed).unwrap_or(0);
    let is_caught = pod.facts.is_together(&pod.labels) && here > 1 && here >= replicas && allowed < here;
    is_caught.then(|| {
        format!(
            "its required podAffinity keeps its {here} replicas on one node, and budget {} lets {allowed} of them go at a \
             time: the first finds no place before the last has left; prefer the affinity, or let the budget spare them all",
            budget.name
        )
    })
}
