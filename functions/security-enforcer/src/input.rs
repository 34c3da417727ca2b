//! The input of the enforcer, parsed at the edge: the request of the schedule or of a person.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use spot_cloud::input::BadInput;
use spot_domain::{AccountId, Region};

/// The input. Unknown fields are refused: a misspelt `auto_terminate` must not terminate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRequest {
    /// The only account to audit; if absent, every enabled one.
    pub account_id: Option<AccountId>,
    /// The only region to audit, if the account's row lists it or the input names the account, too. If absent, the
    /// regions of each account.
    pub region: Option<Region>,
    /// `false` switches off what the account's row switches on. `true` switches nothing on.
    pub auto_terminate: Option<bool>,
    /// The time of the schedule's invocation. The schedule delivers at least once, and two deliveries of one audit
    /// must not count as two audits.
    pub scheduled_for: Option<String>,
}

/// Parses the input.
///
/// # Errors
/// [`BadInput`] names the field.
pub fn parse(input: Value) -> Result<AuditRequest, BadInput> {
    spot_cloud::input::parse(None, input)
}

impl AuditRequest {
    /// Returns the id of the run: its time in the schedule, or else the invocation.
    #[must_use]
    pub fn run_name(&self, invocation: &str) -> String {
        let scheduled = self.scheduled_for.as_deref().filter(|time| time.parse::<Timestamp>().is_ok());
        scheduled.map_or_else(|| invocation.to_owned(), |time| format!("scheduled for {time}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_events_are_read() {
        let sample = |name: &str| -> AuditRequest {
            let path = format!("{}/../../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
            parse(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()).unwrap()
        };
        assert_eq!(sample("security-audit").auto_terminate, Some(false));
        assert!(sample("security-audit-schedule").run_name("x").contains("2026-11-20T10:00:00Z"));
        assert_eq!(parse(serde_json::json!({})).unwrap(), AuditRequest::default());
    }

    #[test]
    fn one_audit_delivered_twice_has_one_name() {
        let request =
            |time: &str| AuditRequest { scheduled_for: Some(time.to_owned()), ..AuditRequest::default() };
        let hour = request("2026-11-20T10:00:00Z");
        assert_eq!(hour.run_name("first"), hour.run_name("second"));
        assert_ne!(hour.run_name("first"), request("2026-11-20T11:00:00Z").run_name("first"));
        assert_eq!(request("<aws.scheduler.scheduled-time>").run_name("first"), "first");
        assert_eq!(AuditRequest::default().run_name("first"), "first");
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (input, expected) in [
            (r#"{"auto_terminat":false}"#, "unknown field `auto_terminat`"),
            (r#"{"auto_terminate":"no"}"#, "auto_terminate: invalid type: string \"no\", expected a boolean"),
            (r#"{"scheduled_for":1}"#, "scheduled_for: invalid type"),
            (r#"{"account_id":"12"}"#, "account id \"12\" is malformed"),
            (r#"{"region":"Narnia"}"#, "region \"Narnia\" is malformed"),
            (r"[null, null, true, null]", "input: must be a JSON object"),
        ] {
            let error = parse(serde_json::from_str(input).unwrap()).unwrap_err().to_string();
            assert!(error.contains(expected), "{input}: {error}");
        }
    }
}
