//! The scanner's input, parsed at the edge: a request of the schedule or of a person, or the event by which
//! an earlier invocation asks to be continued.

use aws_lambda_events::eventbridge::EventBridgeEvent;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spot_cloud::input::{self, BadInput};
use spot_domain::events::OwnEvent;
use spot_domain::{AccountId, Region};

use crate::error::WasteError;

/// The scope of a scan. Unknown fields are refused: a misspelt `region` must not scan everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Scans this account alone; if absent, every enabled account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    /// Scans this region alone, if the account lists it or the request names the account; if absent, all
    /// regions of each account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
}

/// A scan, or the rest of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The scope of the scan.
    #[serde(flatten)]
    pub request: Request,
    /// Start of the first invocation, epoch seconds. Ages count up to this time.
    pub run_started: i64,
    /// Number of invocations before this one.
    pub continuation: u32,
    /// The stack that scans: another stack on the same bus does not continue the scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
}

impl Run {
    /// Begins a new run now.
    #[must_use]
    pub fn new(request: Request, now: Timestamp) -> Self {
        Self { request, run_started: now.as_second(), continuation: 0, stack: None }
    }

    /// Returns the start of the first invocation.
    #[must_use]
    pub fn started(&self) -> Timestamp {
        Timestamp::from_second(self.run_started).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Returns the run for the next invocation.
    #[must_use]
    pub fn next(&self) -> Self {
        Self { continuation: self.continuation.saturating_add(1), ..self.clone() }
    }
}

/// Parses an event.
///
/// # Errors
/// [`WasteError::InvalidInput`] names the field.
pub fn parse(event: Value, now: Timestamp) -> Result<Run, WasteError> {
    if event.get("detail-type").is_none() {
        let event = if event.is_null() { Value::Object(serde_json::Map::new()) } else { event };
        return Ok(Run::new(input::parse(None, event)?, now));
    }
    let event: EventBridgeEvent = input::parse(None, event)?;
    if event.detail_type != OwnEvent::WasteScanToBeContinued.detail_type() {
        return Err(bad("detail-type", format!("{:?} is not handled here", event.detail_type)));
    }
    let run: Run = input::parse(Some("detail"), event.detail)?;
    let started = Timestamp::from_second(run.run_started).ok().filter(|started| *started <= now);
    started.map(|_| run).ok_or_else(|| bad("detail.run_started", "lies in the future".to_owned()))
}

fn bad(field: &str, problem: String) -> WasteError {
    BadInput { field: field.to_owned(), problem: problem.into() }.into()
}

#[cfg(test)]
mod tests {
    use spot_domain::events::SOURCE;

    use super::*;

    const TO_BE_CONTINUED: &str = OwnEvent::WasteScanToBeContinued.detail_type();

    fn sample(name: &str) -> Value {
        let path = format!("{}/../../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    #[test]
    fn the_sample_events_are_read() {
        let all = parse(sample("waste-scan-schedule"), now()).unwrap();
        assert_eq!(all.request, Request { account_id: None, region: None });
        let one = parse(sample("waste-scan-input"), now()).unwrap();
        assert!(one.request.account_id.is_some() && one.request.region.is_some());
        assert_eq!((one.started(), one.continuation), (now(), 0));
        let rest = parse(sample("waste-scan-to-be-continued"), now()).unwrap();
        assert_eq!(rest.continuation, 1);
        assert!(rest.started() < now());
    }

    #[test]
    fn a_continuation_is_read_as_it_was_sent() {
        let request = Request { account_id: Some("123456789012".parse().unwrap()), region: None };
        let run = Run::new(request, now()).next();
        let event = serde_json::json!({"detail-type": TO_BE_CONTINUED, "source": SOURCE, "detail": run});
        assert_eq!(parse(event, now()).unwrap(), run);
    }

    #[test]
    fn an_error_names_the_field() {
        let rest = |field: &str, value: Value| {
            let mut detail = serde_json::json!({"run_started": 1_700_000_000, "continuation": 1});
            detail[field] = value;
            serde_json::json!({"detail-type": TO_BE_CONTINUED, "source": SOURCE, "detail": detail})
        };
        for (event, field) in [
            (serde_json::json!({"region": 1}), "region"),
            (serde_json::json!({"account_id": {}}), "account_id"),
            (rest("region", Value::from(1)), "detail"),
            (rest("continuation", Value::from(-1)), "detail.continuation"),
            (rest("run_started", Value::from(1_900_000_000)), "detail.run_started"),
            (serde_json::json!({"detail-type": TO_BE_CONTINUED, "detail": rest("x", Value::Null)}), "source"),
            // By position: an account and a region.
            (serde_json::json!(["123456789012", "us-east-1"]), "input"),
        ] {
            let error = parse(event.clone(), now()).map_err(|error| error.to_string());
            assert!(
                error.as_ref().is_err_and(|e| e.starts_with(&format!("input: {field}: "))),
                "{event}: {error:?}"
            );
        }
    }

    #[test]
    fn the_last_of_all_runs_has_a_next_one() {
        let run = Run::new(Request { account_id: None, region: None }, now());
        assert_eq!(Run { continuation: u32::MAX, ..run }.next().continuation, u32::MAX);
    }

    #[test]
    fn nonsense_is_refused() {
        let future = serde_json::json!({"run_started": 1_900_000_000, "continuation": 1});
        let rest = serde_json::json!({"run_started": 1_700_000_000, "continuation": 1});
        for event in [
            serde_json::json!({"regoin": "us-east-1"}),
            serde_json::json!({"account_id": "12"}),
            serde_json::json!({"region": "us-east-1a"}),
            serde_json::json!(["us-east-1"]),
            serde_json::json!({"detail-type": "Scheduled Event", "source": SOURCE, "detail": {}}),
            serde_json::json!({"detail-type": TO_BE_CONTINUED, "source": SOURCE, "detail": {}}),
            serde_json::json!({"detail-type": TO_BE_CONTINUED, "source": SOURCE, "detail": future}),
            serde_json::json!({"detail-type": TO_BE_CONTINUED, "detail": rest}),
        ] {
            let error = parse(event.clone(), now()).unwrap_err();
            assert_eq!(error.name(), "InvalidInput", "{event}");
        }
    }
}
