//! The cost of an eviction to a Job. The Job's controller counts an evicted pod as failed, unless the
//! `podFailurePolicy` says otherwise (kubernetes/pkg/controller/job/job_controller.go).

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicyOnExitCodesRequirement as ExitCodes, PodFailurePolicyRule,
};

/// The default of `backoffLimit`.
const DEFAULT_BACKOFF_LIMIT: i32 = 6;
/// Counts the earlier failures of the pod's index; the Job's controller writes it on each new pod.
const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Exit codes of a container that SIGTERM, or SIGKILL after it, has ended.
const ENDED_BY_SIGNAL: [i32; 2] = [143, 137];
/// The name of Kubernetes' own Job controller in `managedBy`.
const BUILT_IN: &str = "kubernetes.io/job-controller";

/// The effect of one failed pod on its Job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Failure {
    Ignored,
    Counted,
    FailsIndex,
    FailsJob,
}

/// Returns the reason why the Job would not start the pod again after an eviction of all its pods on the node
/// (`here`). Returns `None` if the Job would start it, or has nothing left to do.
pub(crate) fn loss(job: &Job, annotations: &BTreeMap<String, String>, here: usize) -> Option<String> {
    let spec = job.spec.as_ref()?;
    let JobSpec {
        backoff_limit,
        backoff_limit_per_index,
        managed_by,
        pod_failure_policy,
        suspend,
        // The number of pods, and the pods that make a success: an eviction changes neither.
        completions: _,
        completion_mode: _,
        parallelism: _,
        success_policy: _,
        selector: _,
        manual_selector: _,
        // Counts indexes that have failed. No index fails by an eviction that is granted below.
        max_failed_indexes: _,
        // The replacement comes before or after the old pod's end: the drain waits for both.
        pod_replacement_policy: _,
        // The deadline runs from the Job's start; an eviction doesn't change it.
        active_deadline_seconds: _,
        ttl_seconds_after_finished: _,
        // The template is read like a pod's own spec.
        template: _,
    } = spec;
    if *suspend == Some(true) || is_over(job) {
        return None;
    }
    if let Some(manager) = managed_by.as_deref().filter(|manager| *manager != BUILT_IN) {
        return Some(format!("{manager} manages its Job, and may not start the pod again"));
    }
    let rules = pod_failure_policy.as_ref().map(|policy| policy.rules.as_slice()).unwrap_or_default();
    match verdict(rules) {
        Failure::Ignored => return None,
        Failure::FailsJob => return Some("its Job's podFailurePolicy fails the Job by it".to_owned()),
        Failure::FailsIndex => return Some("its Job's podFailurePolicy fails the index by it".to_owned()),
        Failure::Counted => {}
    }
    if let Some(limit) = backoff_limit_per_index {
        let failed = annotations.get(INDEX_FAILURES).and_then(|count| count.parse::<i32>().ok()).unwrap_or(0);
        if failed >= *limit {
            return Some(format!(
                "its Job counts it as a failure, and backoffLimitPerIndex {limit} allows no more than {failed}"
            ));
        }
    }
    let default = if backoff_limit_per_index.is_some() { i32::MAX } else { DEFAULT_BACKOFF_LIMIT };
    let limit = i64::from(backoff_limit.unwrap_or(default));
    let failed = i64::from(job.status.as_ref().and_then(|status| status.failed).unwrap_or(0));
    let here = i64::try_from(here).unwrap_or(i64::MAX);
    (failed.saturating_add(here) > limit).then(|| {
        format!(
            "its Job counts it as a failure: with {failed} so far and {here} pods here, backoffLimit {limit} fails \
             the Job"
        )
    })
}

fn is_over(job: &Job) -> bool {
    const OVER: [&str; 4] = ["Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"];
    let mut conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| OVER.contains(&condition.type_.as_str()) && condition.status == "True")
}

/// Returns the worst verdict of the rules on an evicted pod. The pod bears the condition `DisruptionTarget`,
/// and a signal has ended its containers. The first rule that matches decides.
fn verdict(rules: &[PodFailurePolicyRule]) -> Failure {
    let by_code = |code: i32| {
        let rule = rules.iter().find(|rule| matches(rule, code));
        rule.map_or(Failure::Counted, |rule| match rule.action.as_str() {
            "Ignore" => Failure::Ignored,
            "FailJob" => Failure::FailsJob,
            "FailIndex" => Failure::FailsIndex,
            _ => Failure::Counted,
        })
    };
    ENDED_BY_SIGNAL.into_iter().map(by_code).max().unwrap_or(Failure::Counted)
}

fn matches(rule: &PodFailurePolicyRule, code: i32) -> bool {
    let PodFailurePolicyRule { action: _, on_exit_codes, on_pod_conditions } = rule;
    // The container that a signal ends first is unknown: `containerName` frees none.
    if let Some(ExitCodes { container_name: _, operator, values }) = on_exit_codes {
        return match operator.as_str() {
            "In" => values.contains(&code),
            "NotIn" => !values.contains(&code),
            _ => false,
        };
    }
    let mut conditions = on_pod_conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn lost_of(spec: &Value, status: &Value, annotations: &[(&str, &str)], here: usize) -> Option<String> {
        let mut spec = spec.clone();
        spec["template"] = json!({});
        let job: Job = serde_json::from_value(json!({ "spec": spec, "status": status })).unwrap();
        let annotations = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        loss(&job, &annotations, here)
    }

    fn lost(spec: &Value, failed: i32, here: usize) -> Option<String> {
        lost_of(spec, &json!({ "failed": failed }), &[], here)
    }

    fn policy(rules: &Value) -> Value {
        json!({ "backoffLimit": 0, "podFailurePolicy": { "rules": rules } })
    }

    #[test]
    fn a_job_fails_by_one_failure_more_than_its_limit() {
        let why = lost(&json!({ "backoffLimit": 0 }), 0, 1).unwrap();
        assert!(why.contains("backoffLimit 0"), "{why}");
        assert_eq!(lost(&json!({}), 0, 1), None, "6 by default");
        assert!(lost(&json!({}), 6, 1).is_some(), "used up");
        assert_eq!(lost(&json!({ "backoffLimit": 6 }), 4, 2), None);
        assert!(lost(&json!({ "backoffLimit": 6 }), 4, 3).is_some(), "all pods of the node at once");
    }

    #[test]
    fn a_policy_that_ignores_disruptions_saves_the_job() {
        let ignore = json!({ "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] });
        let code = |action: &str, operator: &str, values: &[i32]| json!({ "action": action, "onExitCodes": { "operator": operator, "values": values } });
        assert_eq!(lost(&policy(&json!([ignore])), 0, 1), None);
        assert_eq!(lost(&policy(&json!([code("FailJob", "In", &[42]), ignore])), 0, 1), None);
        assert!(
            lost(&policy(&json!([code("FailJob", "NotIn", &[1]), ignore])), 0, 1).is_some(),
            "143 comes first"
        );
        assert_eq!(lost(&policy(&json!([ignore, code("FailJob", "NotIn", &[1])])), 0, 1), None);
        assert!(lost(&policy(&json!([code("Ignore", "In", &[143])])), 0, 1).is_some(), "SIGKILL may come");
        assert_eq!(lost(&policy(&json!([code("Ignore", "In", &[137, 143])])), 0, 1), None);
        let other = json!({ "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "False" }] });
        assert!(lost(&policy(&json!([other])), 0, 1).is_some());
        let fail = json!([{ "action": "FailJob", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] }]);
        let mut roomy = policy(&fail);
        roomy["backoffLimit"] = json!(6);
        assert!(lost(&roomy, 0, 1).unwrap().contains("podFailurePolicy"));
    }

    #[test]
    fn an_index_has_a_limit_of_its_own() {
        let spec = json!({ "completionMode": "Indexed", "backoffLimitPerIndex": 1 });
        assert_eq!(lost_of(&spec, &json!({ "failed": 40 }), &[], 1), None);
        let failed_once = [(INDEX_FAILURES, "1")];
        assert!(lost_of(&spec, &json!({}), &failed_once, 1).unwrap().contains("backoffLimitPerIndex 1"));
    }

    #[test]
    fn a_job_that_is_suspended_or_over_loses_nothing() {
        assert_eq!(lost(&json!({ "backoffLimit": 0, "suspend": true }), 0, 1), None);
        let over = json!({ "conditions": [{ "type": "FailureTarget", "status": "True" }] });
        assert_eq!(lost_of(&json!({ "backoffLimit": 0 }), &over, &[], 1), None);
    }

    #[test]
    fn nobody_knows_what_another_manager_does() {
        assert!(
            lost(&json!({ "managedBy": "kueue.x-k8s.io/multikueue" }), 0, 1).unwrap().contains("multikueue")
        );
        assert_eq!(lost(&json!({ "managedBy": BUILT_IN }), 0, 1), None);
    }
}
