//! A pod that was asked to end and has not ended yet: the time of the request, and what holds the pod.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

/// The time that a living kubelet takes to end a pod after its grace period, and a controller to remove its
/// finalizer.
const OVERDUE_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// The end of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Termination {
    /// The time at which the pod was asked to end.
    pub since: Timestamp,
    /// Seconds that the pod may take to end.
    pub grace_seconds: i64,
    /// Finalizers: controllers must finish their work and remove these before the API server forgets the pod.
    pub finalizers: Vec<String>,
}

impl Termination {
    /// Returns the pod's termination; `None` if the pod was not asked to end.
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        // The deletion timestamp is the end of the grace period, not its beginning.
        let until = pod.metadata.deletion_timestamp.as_ref()?.0.as_second();
        let grace_seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(0).max(0);
        let since = Timestamp::from_second(until.saturating_sub(grace_seconds)).unwrap_or(Timestamp::MIN);
        Some(Self { since, grace_seconds, finalizers: pod.metadata.finalizers.clone().unwrap_or_default() })
    }

    /// Returns the end of the grace period.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        let seconds = self.since.as_second().saturating_add(self.grace_seconds);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
    }

    /// Returns true if the pod is so far past its grace period that it won't end by itself: its kubelet is
    /// dead, or no controller removes its finalizer.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        now.duration_since(self.until()) > OVERDUE_AFTER
    }

    /// Describes for a person how long the pod has been ending, and what would help.
    #[must_use]
    pub fn why(&self, now: Timestamp) -> String {
        let age = now.duration_since(self.since).as_secs().max(0);
        let grace = self.grace_seconds;
        if age <= grace {
            return format!("Terminating for {age} s of its grace period of {grace} s");
        }
        if self.finalizers.is_empty() {
            return format!(
                "Terminating for {age} s, past its grace period of {grace} s: its kubelet has not ended it"
            );
        }
        let names = self.finalizers.join(", ");
        format!("Terminating for {age} s: the finalizer {names} holds it, which its owner must remove")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn leaving(metadata: &Value) -> Option<Termination> {
        Termination::of(&serde_json::from_value(json!({ "metadata": metadata })).unwrap())
    }

    #[test]
    fn the_age_counts_from_the_request_and_not_from_the_end_of_the_grace_period() {
        let until =
            json!({ "deletionTimestamp": "2026-11-25T02:00:00Z", "deletionGracePeriodSeconds": 7200 });
        let long = leaving(&until).unwrap();
        let at = |text: &str| text.parse().unwrap();
        assert_eq!(
            long.why(at("2026-11-25T00:00:30Z")),
            "Terminating for 30 s of its grace period of 7200 s"
        );
        assert!(
            long.why(at("2026-11-25T03:00:00Z")).contains("for 10800 s, past its grace period of 7200 s")
        );
        assert_eq!(leaving(&json!({})), None);
    }

    #[test]
    fn a_pod_is_overdue_some_minutes_after_its_grace_period_and_no_sooner() {
        let until =
            json!({ "deletionTimestamp": "2026-11-25T02:00:00Z", "deletionGracePeriodSeconds": 7200 });
        let long = leaving(&until).unwrap();
        let is_overdue = |at: &str| long.is_overdue(at.parse().unwrap());
        assert!(!is_overdue("2026-11-25T01:59:00Z") && !is_overdue("2026-11-25T02:04:00Z"));
        assert!(is_overdue("2026-11-25T02:06:00Z"));
    }

    #[test]
    fn a_finalizer_is_named() {
        let held = leaving(
            &json!({ "deletionTimestamp": "2026-11-25T02:00:00Z", "finalizers": ["example.org/hold"] }),
        );
        let why = held.unwrap().why("2026-11-25T02:00:05Z".parse().unwrap());
        assert_eq!(
            why,
            "Terminating for 5 s: the finalizer example.org/hold holds it, which its owner must remove"
        );
    }
}
