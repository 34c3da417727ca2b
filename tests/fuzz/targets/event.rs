//! Events and inputs: what EventBridge hands to the functions, and what a person types as the input of an execution.
//!
//! The parsers promise: no panic. An event is parsed, or an error names the field. Nothing but a JSON object is taken:
//! serde would fill a struct from an array by position. What serialises reads back as it was.

use std::fmt::Debug;

use group_watcher::input::Request;
use jiff::Timestamp;
use risk_manager::error::RiskError;
use security_enforcer::input as audit;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use spot_domain::events::OwnEvent;
use spot_domain::swap::lab::LabSwapRequest;
use spot_domain::swap::node::NodeSwapRequest;
use spot_domain::swap::report::SwapRequest;
use spot_fuzz::Target;
use spot_swap::request;
use waste_scanner::input as waste;

use crate::promise;

const PLACE: [&str; 2] = ["account_id", "region"];
/// The fields of every event of EventBridge.
const ENVELOPE: [&str; 9] =
    ["version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"];

#[test]
fn event() {
    let words = &[
        "max_swaps",
        "replace",
        "ON_DEMAND",
        "drain_timeout_seconds",
        "bring_back",
        "spot-optimizer.drill",
        "instanceLifecycle",
    ];
    Target { name: "event", samples: &["events"], words, cases: 6_000 }.fuzz(check);
}

fn check(bytes: &[u8]) -> Result<(), String> {
    // Lambda hands on JSON only.
    let Ok(event) = serde_json::from_slice::<Value>(bytes) else { return Ok(()) };
    risk(&event)?;
    let ended = reconciler::executions::ended(&event);
    promise(ended.is_none() || event.is_object(), || format!("{event} is no event and names {ended:?}"))?;
    execution::<SwapRequest>(&event, &["asg_name", "max_swaps", "replace", "to", "dry_run"])?;
    execution::<NodeSwapRequest>(
        &event,
        &["instance_id", "cluster_name", "drain_timeout_seconds", "dry_run"],
    )?;
    execution::<LabSwapRequest>(&event, &["instance_id", "capture_image", "bring_back", "dry_run"])?;
    audit_request(&event)?;
    notice(&event)?;
    loop_input(&event)?;
    scan(&event)
}

fn risk(event: &Value) -> Result<(), String> {
    for allow_drills in [true, false] {
        match risk_manager::event::parse(event.clone(), allow_drills) {
            Ok(parsed) => {
                promise(event.is_object(), || format!("{event} is no object and means {parsed:?}"))?;
            }
            Err(RiskError::InvalidEvent { field, problem }) => {
                promise(!field.is_empty() && !problem.to_string().is_empty(), || {
                    format!("{field:?}: {problem:?}")
                })?;
            }
            Err(other) => return Err(format!("not an error of the event: {other:?}")),
        }
    }
    Ok(())
}

fn execution<T>(event: &Value, fields: &[&str]) -> Result<(), String>
where
    T: DeserializeOwned + Serialize + PartialEq + Debug,
{
    match request::parse::<T>(event.clone(), "{}") {
        Ok(request) => {
            promise(event.is_object(), || format!("{event} is no object and means {request:?}"))?;
            let again = request::parse::<T>(serde_json::to_value(&request).unwrap(), "{}");
            promise(again.as_ref().ok() == Some(&request), || format!("{request:?} reads back as {again:?}"))
        }
        Err(error) => names_a_field(&error.to_string(), event, fields),
    }
}

/// The notices of EC2 that the interruption responder hears, and the input of its execution.
fn notice(event: &Value) -> Result<(), String> {
    for allow_drills in [true, false] {
        match interruption_responder::event::parse(event.clone(), allow_drills) {
            Ok(heard) => {
                promise(event.is_object(), || format!("{event} is no object and means {heard:?}"))?;
                promise(allow_drills || !heard.is_drill, || format!("a drill is heard: {heard:?}"))?;
            }
            Err(error) => begins_with_a_field(&error.to_string(), event, &ENVELOPE)?,
        }
    }
    match request::parse::<interruption_responder::work::Request>(event.clone(), "{}") {
        Ok(request) => promise(event.is_object(), || format!("{event} is no object and means {request:?}")),
        Err(error) => {
            names_a_field(&error.to_string(), event, &["instance_id", "asg_name", "cluster_name", "occurred"])
        }
    }
}

/// The input of the group watcher. One that names anything never sweeps every group.
fn loop_input(event: &Value) -> Result<(), String> {
    match group_watcher::input::parse(event.clone()) {
        Ok(request) => {
            let is_named = event.as_object().is_some_and(|fields| fields.values().any(|v| !v.is_null()));
            promise(event.is_object(), || format!("{event} is no object and means {request:?}"))?;
            promise(request != Request::Sweep || !is_named, || format!("{event} sweeps everything"))
        }
        Err(error) => {
            let fields = [&ENVELOPE[..], &PLACE[..], &["asg_name"][..]].concat();
            begins_with_a_field(&error.to_string(), event, &fields)
        }
    }
}

fn audit_request(event: &Value) -> Result<(), String> {
    match audit::parse(event.clone()) {
        Ok(request) => {
            promise(!request.run_name("invocation").is_empty(), || "a run without a name".to_owned())?;
            promise(event.is_object(), || format!("{event} is no object and means {request:?}"))
        }
        Err(error) => names_a_field(&error.to_string(), event, &["auto_terminate", "scheduled_for"]),
    }
}

fn scan(event: &Value) -> Result<(), String> {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    match waste::parse(event.clone(), now) {
        Ok(run) => {
            let taken = event.is_object() || event.is_null();
            promise(taken, || format!("{event} is no object and means {run:?}"))?;
            promise(run.started() <= now, || format!("{run:?} begins in the future"))?;
            let next = run.next();
            let sent = serde_json::json!({"detail-type": OwnEvent::WasteScanToBeContinued.detail_type(), "source": "x", "detail": next});
            let again = waste::parse(sent, now);
            promise(again.as_ref().ok() == Some(&next), || format!("{next:?} reads back as {again:?}"))
        }
        Err(error) => {
            let fields = [
                "detail-type",
                "detail",
                "source",
                "run_started",
                "continuation",
                "stack",
                "time",
                "resources",
                "id",
            ];
            names_a_field(&error.to_string(), event, &fields)
        }
    }
}

/// Holds an error against the fields of its input, as [`names_a_field`] does. A word within the error is not enough.
fn begins_with_a_field(error: &str, event: &Value, fields: &[&str]) -> Result<(), String> {
    let known = fields.iter().any(|field| error.starts_with(field));
    let unknown = error.contains("unknown field `");
    let whole = !event.is_object() && error.starts_with("input: must be a JSON object");
    promise(known || unknown || whole, || format!("the error names no field: {error}"))
}

/// Holds an error against the fields of its input: one it knows, one that it does not, or all of it.
fn names_a_field(error: &str, event: &Value, fields: &[&str]) -> Result<(), String> {
    let known = fields.iter().chain(&PLACE).any(|field| error.contains(field));
    let unknown = error.contains("unknown field `");
    let whole = !event.is_object() && error.contains("object");
    promise(known || unknown || whole, || format!("the error names no field: {error}"))
}
