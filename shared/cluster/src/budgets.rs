//! PodDisruptionBudgets: the budgets of a pod, and the budgets that will never let it go. The forecast
//! follows the API server's own judgement (kubernetes/pkg/registry/core/pod/storage/eviction.go).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::api::ListParams;
use kube::core::{Selector, SelectorExt};
use kube::{Api, Client};

use crate::error::ClusterError;
use crate::pages;
use crate::pods::{NodePod, SAFE_TO_EVICT};

/// Budgets in a page of a list.
const PAGE_SIZE: u32 = 100;

/// A PodDisruptionBudget with its controller's last count.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// The namespace of the budget and of all pods that it selects.
    pub namespace: String,
    pub name: String,
    /// The selector of pods: none selects no pod, an empty one all pods of the namespace (policy/v1).
    pub selector: Option<LabelSelector>,
    /// Evictions that the API server would grant now.
    pub disruptions_allowed: i32,
    /// Healthy pods that exist.
    pub current_healthy: i32,
    /// Healthy pods that must exist.
    pub desired_healthy: i32,
    /// Pods that should exist, healthy or not.
    pub expected_pods: i32,
    /// True if the disruption controller has counted since the budget last changed.
    pub is_observed: bool,
    /// The reason why the disruption controller can't count, in its own words. Until it can count, nothing is
    /// granted.
    pub sync_failure: Option<String>,
    /// True if a pod that is not Ready is granted in any case (`unhealthyPodEvictionPolicy: AlwaysAllow`).
    pub lets_unhealthy_go: bool,
}

impl Budget {
    /// Returns true if the budget covers a pod of `namespace` with `labels`.
    #[must_use]
    pub fn selects(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        let Some(selector) = self.selector.clone() else { return false };
        // The API server refuses a malformed selector. A selector that this crate can't read covers every
        // pod, so that its budget is never overlooked.
        self.namespace == namespace && Selector::try_from(selector).map_or(true, |s| s.matches(labels))
    }

    /// Returns true if the budget wants every pod healthy at all times (`maxUnavailable: 0`, `minAvailable` ≥
    /// the number of pods). Such a budget never grants the eviction of a healthy pod: waiting won't help.
    #[must_use]
    pub fn is_never_met(&self) -> bool {
        self.is_observed
            && self.expected_pods > 0
            && self.disruptions_allowed == 0
            && self.desired_healthy >= self.expected_pods
    }

    /// Returns the reason why the budget would never grant the eviction of `pod`, and what would help.
    #[must_use]
    pub fn refusal_of(&self, pod: &NodePod) -> Option<String> {
        // A Job's pod ends by itself some day, and its budget with it. The API server evicts a pod that has
        // not started, whatever its budget.
        if pod.facts.runs_once || pod.is_pending || self.lets_go_unhealthy(pod) {
            return None;
        }
        let waiver = format!(
            "or annotate the pod with {SAFE_TO_EVICT}: \"true\" if its operator lifts the budget after the cordon"
        );
        if let Some(failure) = &self.sync_failure {
            return Some(format!(
                "budget {} can't be counted, and grants no eviction until it can ({failure}): let its selector name pods \
                 of one scalable controller, {waiver}",
                self.name
            ));
        }
        self.is_never_met().then(|| {
            format!(
                "budget {} wants {} healthy pods of {}: it never grants an eviction; let it spare one, add a replica, \
                 {waiver}",
                self.name, self.desired_healthy, self.expected_pods
            )
        })
    }

    /// Judges as the API server does. A pod that is not Ready doesn't count as healthy: it may go by the
    /// policy, or while enough others are healthy.
    fn lets_go_unhealthy(&self, pod: &NodePod) -> bool {
        let is_met = self.desired_healthy > 0 && self.current_healthy >= self.desired_healthy;
        !pod.is_ready && (self.lets_unhealthy_go || is_met)
    }
}

/// Lists the budgets of these namespaces, in pages.
pub async fn list(client: &Client, namespaces: &BTreeSet<String>) -> Result<Vec<Budget>, ClusterError> {
    let mut budgets = Vec::new();
    for namespace in namespaces {
        let api: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), namespace);
        let found =
            pages::all(&api, "list poddisruptionbudgets", namespace, ListParams::default(), PAGE_SIZE)
                .await?;
        budgets.extend(found.into_iter().map(|budget| look_at(namespace, budget)));
    }
    Ok(budgets)
}

fn look_at(namespace: &str, budget: PodDisruptionBudget) -> Budget {
    let generation = budget.metadata.generation;
    let PodDisruptionBudgetSpec {
        selector,
        unhealthy_pod_eviction_policy,
        // The status has both as numbers of pods.
        max_unavailable: _,
        min_available: _,
    } = budget.spec.unwrap_or_default();
    let PodDisruptionBudgetStatus {
        conditions,
        current_healthy,
        desired_healthy,
        disruptions_allowed,
        expected_pods,
        observed_generation,
        // The evictions of the last two minutes are counted already.
        disrupted_pods: _,
    } = budget.status.unwrap_or_default();
    let failed = |condition: &Condition| {
        condition.type_ == "DisruptionAllowed"
            && condition.status == "False"
            && condition.reason == "SyncFailed"
    };
    Budget {
        namespace: namespace.to_owned(),
        name: budget.metadata.name.unwrap_or_default(),
        selector,
        disruptions_allowed,
        current_healthy,
        desired_healthy,
        expected_pods,
        is_observed: observed_generation.is_some() && observed_generation >= generation,
        sync_failure: conditions.into_iter().flatten().find(failed).map(|condition| condition.message),
        lets_unhealthy_go: unhealthy_pod_eviction_policy.as_deref() == Some("AlwaysAllow"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::node_pod;
    use crate::spec::Facts;
    use serde_json::json;

    fn budget(selector: &serde_json::Value, desired: i32, expected: i32, allowed: i32) -> Budget {
        let budget = json!({
            "metadata": { "name": "web", "namespace": "shop", "generation": 2 },
            "spec": { "selector": selector },
            "status": { "observedGeneration": 2, "currentHealthy": expected, "desiredHealthy": desired,
                        "expectedPods": expected, "disruptionsAllowed": allowed },
        });
        look_at("shop", serde_json::from_value(budget).unwrap())
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_budget_covers_what_its_selector_names_in_its_own_namespace() {
        let web = budget(&json!({ "matchLabels": { "app": "web" } }), 2, 3, 1);
        assert!(web.selects("shop", &labels(&[("app", "web"), ("tier", "front")])));
        assert!(!web.selects("shop", &labels(&[("app", "db")])));
        assert!(!web.selects("other", &labels(&[("app", "web")])));
    }

    #[test]
    fn an_empty_selector_covers_the_namespace_and_a_missing_one_nothing() {
        assert!(budget(&json!({}), 1, 1, 0).selects("shop", &labels(&[])));
        assert!(!budget(&json!(null), 1, 1, 0).selects("shop", &labels(&[("app", "web")])));
    }

    #[test]
    fn expressions_are_understood() {
        let expression = json!({ "key": "app", "operator": "In", "values": ["web", "api"] });
        let budget = budget(&json!({ "matchExpressions": [expression] }), 2, 3, 1);
        assert!(budget.selects("shop", &labels(&[("app", "api")])));
        assert!(!budget.selects("shop", &labels(&[("app", "db")])));
    }

    #[test]
    fn a_budget_that_wants_every_pod_is_never_met() {
        assert!(budget(&json!({}), 3, 3, 0).is_never_met());
        assert!(!budget(&json!({}), 2, 3, 0).is_never_met(), "busy now, not for ever");
        assert!(!budget(&json!({}), 2, 3, 1).is_never_met());
        assert!(!budget(&json!({}), 0, 0, 0).is_never_met(), "covers no pod yet");
    }

    #[test]
    fn a_count_from_before_the_last_change_proves_nothing() {
        let mut stale = budget(&json!({}), 3, 3, 0);
        stale.is_observed = false;
        assert!(!stale.is_never_met());
    }

    fn pod(is_ready: bool, spec: &serde_json::Value) -> NodePod {
        let mut whole = json!({ "containers": [] });
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let facts = Facts::of(&serde_json::from_value(whole).unwrap());
        NodePod { labels: BTreeMap::new(), is_ready, facts, ..node_pod("web-1") }
    }

    /// Returns a budget with the status that the disruption controller writes: `healthy` of 3 pods.
    fn of_three(policy: Option<&str>, desired: i32, healthy: i32, condition: &serde_json::Value) -> Budget {
        let budget = json!({
            "metadata": { "name": "web", "namespace": "shop", "generation": 1 },
            "spec": { "selector": {}, "unhealthyPodEvictionPolicy": policy },
            "status": { "observedGeneration": 1, "currentHealthy": healthy, "desiredHealthy": desired,
                        "expectedPods": 3, "disruptionsAllowed": 0, "conditions": [condition] },
        });
        look_at("shop", serde_json::from_value(budget).unwrap())
    }

    fn condition(reason: &str) -> serde_json::Value {
        json!({ "type": "DisruptionAllowed", "status": "False", "reason": reason, "message": "no scale",
                "lastTransitionTime": "2026-11-25T00:00:00Z" })
    }

    #[test]
    fn a_failed_count_grants_nothing_until_it_works() {
        let web = pod(true, &json!({}));
        let failed = of_three(None, 2, 3, &condition("SyncFailed"));
        assert!(failed.refusal_of(&web).unwrap().contains("no scale"));
        assert_eq!(of_three(None, 2, 2, &condition("InsufficientPods")).refusal_of(&web), None);
        let job = pod(true, &json!({ "restartPolicy": "OnFailure" }));
        assert_eq!(failed.refusal_of(&job), None, "its end is waited for");
    }

    #[test]
    fn a_pod_that_is_not_ready_goes_as_the_policy_has_it() {
        let broken = pod(false, &json!({}));
        let sufficient = &condition("InsufficientPods");
        assert!(
            of_three(None, 3, 2, sufficient).refusal_of(&broken).is_some(),
            "it is the one that is missing"
        );
        assert_eq!(of_three(Some("AlwaysAllow"), 3, 2, sufficient).refusal_of(&broken), None);
        assert_eq!(of_three(None, 2, 2, sufficient).refusal_of(&broken), None, "enough others are healthy");
        let failed = of_three(Some("AlwaysAllow"), 2, 0, &condition("SyncFailed"));
        assert_eq!(failed.refusal_of(&broken), None);
        assert!(failed.refusal_of(&pod(true, &json!({}))).is_some());
    }
}
