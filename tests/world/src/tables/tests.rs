#![allow(clippy::unwrap_used)]

use super::*;
use crate::wire::{CallBody, Service};

mod batches;
mod keys;
mod listings;
mod writes;

/// Tables like the stack's: leases by target, findings by scope and resource.
fn tables() -> Tables {
    let spec = |name: &str, hash: &str, range: Option<&str>, ttl: Option<&str>| TableSpec {
        name: name.to_owned(),
        hash: hash.to_owned(),
        range: range.map(str::to_owned),
        ttl: ttl.map(str::to_owned),
    };
    Tables::new([
        spec("swaps", "target", None, Some("expires_at")),
        spec("waste", "account_region", Some("resource"), None),
    ])
}

fn call(action: &str, body: Value) -> ApiCall {
    ApiCall {
        service: Service::DynamoDb,
        account: None,
        region: "us-east-1".to_owned(),
        action: action.to_owned(),
        body: CallBody::Json(body),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Carries a call out, and returns the status and the body of its answer.
fn send(tables: &mut Tables, action: &str, body: Value) -> (u16, Value) {
    let answer = tables.carry_out(&call(action, body), at(0));
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

/// Carries a call out that succeeds.
fn done(tables: &mut Tables, action: &str, body: Value) -> Value {
    let (status, answer) = send(tables, action, body);
    assert_eq!(status, 200, "{answer}");
    answer
}

/// Carries a call out that is refused as invalid and changes nothing; returns the message.
fn refused(tables: &mut Tables, action: &str, body: Value) -> String {
    let before = tables.clone();
    let (status, answer) = send(tables, action, body);
    assert_eq!(
        (status, answer["__type"].as_str()),
        (400, Some("com.amazon.coral.validate#ValidationException"))
    );
    assert_eq!(tables, &before);
    answer["message"].as_str().unwrap().to_owned()
}

/// Returns a row of the swaps' table.
fn row(tables: &mut Tables, target: &str) -> Value {
    done(tables, "GetItem", json!({"TableName": "swaps", "Key": {"target": {"S": target}}}))["Item"].take()
}

fn kind(answer: &Value) -> &str {
    answer["__type"].as_str().unwrap().rsplit_once('#').unwrap().1
}
