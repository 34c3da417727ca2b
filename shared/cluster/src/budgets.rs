//! PodDisruptionBudgets: which of them a pod is in, and which can never be met.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ListParams;
use kube::core::{Selector, SelectorExt};
use kube::{Api, Client};

use crate::error::ClusterError;
use crate::pages;

/// Budgets per page of a list.
const PAGE_SIZE: u32 = 100;

/// A PodDisruptionBudget with its controller's last count.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Its namespace: it selects pods of this one only.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which pods; none = no pod, empty = all pods of the namespace (policy/v1).
    pub selector: Option<LabelSelector>,
    /// Evictions that it would grant now.
    pub disruptions_allowed: i32,
    /// Healthy pods that there are.
    pub current_healthy: i32,
    /// Healthy pods that there must be.
    pub desired_healthy: i32,
    /// Pods that there should be, healthy or not.
    pub expected_pods: i32,
    /// Its controller has counted since the budget last changed.
    pub is_observed: bool,
}

impl Budget {
    /// Whether the budget covers a pod of `namespace` with `labels`.
    #[must_use]
    pub fn selects(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        let Some(selector) = self.selector.clone() else { return false };
        // The API server lets no malformed selector in; one that this crate can't read covers
        // every pod, so that the budget is never overlooked.
        self.namespace == namespace && Selector::try_from(selector).map_or(true, |s| s.matches(labels))
    }

    /// Waiting won't help: it wants every pod healthy at all times (`maxUnavailable: 0`,
    /// `minAvailable` ≥ the number of pods), so that it never grants the eviction of a healthy one.
    #[must_use]
    pub fn is_never_met(&self) -> bool {
        self.is_observed
            && self.expected_pods > 0
            && self.disruptions_allowed == 0
            && self.desired_healthy >= self.expected_pods
    }
}

/// The budgets of these namespaces, in pages.
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
    let status = budget.status.unwrap_or_default();
    Budget {
        namespace: namespace.to_owned(),
        name: budget.metadata.name.unwrap_or_default(),
        selector: budget.spec.and_then(|spec| spec.selector),
        disruptions_allowed: status.disruptions_allowed,
        current_healthy: status.current_healthy,
        desired_healthy: status.desired_healthy,
        expected_pods: status.expected_pods,
        is_observed: status.observed_generation.is_some() && status.observed_generation >= generation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
}
