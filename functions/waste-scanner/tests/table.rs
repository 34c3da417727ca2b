//! The WasteResource table against a scripted DynamoDB: batches, unprocessed items, and the content of a row.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use spot_domain::waste::prices::PriceBook;
use spot_domain::waste::resources::Address;
use spot_scripted::{Endpoint, ScriptedAnswer};
use waste_scanner::table::WasteTable;
use waste_scanner::table::finding::Finding;

const SCOPE: &str = "123456789012#us-east-1";

fn finding(n: u32) -> Finding {
    let address = Address {
        id: format!("eipalloc-{n}"),
        public_ip: "198.51.100.1".to_owned(),
        is_associated: false,
        is_service_managed: false,
        is_own_range: false,
        border_group: None,
        tags: [("Name".to_owned(), "old web".to_owned())].into(),
    };
    let price = PriceBook::shipped(&"us-east-1".parse().unwrap()).idle_address();
    Finding::address(address, price)
}

async fn table(endpoint: &Endpoint) -> WasteTable {
    WasteTable::new(aws_sdk_dynamodb::Client::new(&endpoint.config().await), "waste")
}

fn empty(action: &str) -> ScriptedAnswer {
    match action {
        "BatchGetItem" => ScriptedAnswer::ok(r#"{"Responses":{"waste":[]},"UnprocessedKeys":{}}"#),
        "BatchWriteItem" => ScriptedAnswer::ok(r#"{"UnprocessedItems":{}}"#),
        "TransactWriteItems" => ScriptedAnswer::ok("{}"),
        other => panic!("{other} is not expected"),
    }
}

/// Returns the items of all writing requests, batches and transactions alike.
fn written(endpoint: &Endpoint) -> Vec<Value> {
    let puts = |request: &String| -> Option<Vec<Value>> {
        let request: Value = serde_json::from_str(request).ok()?;
        let (puts, member) = match request.get("TransactItems") {
            Some(puts) => (puts, "Put"),
            None => (request.get("RequestItems")?.get("waste")?, "PutRequest"),
        };
        Some(puts.as_array()?.iter().filter_map(|put| put.get(member)?.get("Item").cloned()).collect())
    };
    endpoint.requests().iter().filter_map(puts).flatten().collect()
}

#[tokio::test]
async fn findings_go_out_in_batches() {
    let endpoint = Endpoint::answering(|action, _| empty(action)).await;
    table(&endpoint).await.write(SCOPE, (0..250).map(finding).collect()).await.unwrap();
    assert_eq!(written(&endpoint).len(), 250);
    assert_eq!(endpoint.requests().len(), 3 + 3, "a read and a transaction for each hundred");
}

#[tokio::test]
async fn no_findings_are_no_calls() {
    let endpoint = Endpoint::answering(|action, _| empty(action)).await;
    table(&endpoint).await.write(SCOPE, Vec::new()).await.unwrap();
    assert!(endpoint.requests().is_empty());
}

#[tokio::test]
async fn a_row_says_what_when_and_how_much() {
    let endpoint = Endpoint::answering(|action, _| empty(action)).await;
    table(&endpoint).await.write(SCOPE, vec![finding(1)]).await.unwrap();
    let row = &written(&endpoint)[0];
    assert_eq!(row["account_region"]["S"], SCOPE);
    assert_eq!(row["resource"]["S"], "elastic-ip#eipalloc-1");
    assert_eq!(row["resource_type"]["S"], "elastic-ip");
    assert_eq!(row["status"]["S"], "OPEN");
    assert_eq!(row["monthly_cost_usd"]["N"], "3.6");
    assert_eq!(
        (&row["price_source"]["S"], &row["price_as_of"]["S"]),
        (&"shipped-table".into(), &"2026-11-01".into())
    );
    assert_eq!(row["first_seen"], row["last_seen"]);
    assert_eq!(row["details"]["M"]["name"]["S"], "old web");
}

#[tokio::test]
async fn first_seen_stays_while_a_finding_is_open() {
    let endpoint = Endpoint::answering(|action, _| match action {
        "BatchGetItem" => ScriptedAnswer::ok(
            r#"{"Responses":{"waste":[
                {"resource":{"S":"elastic-ip#eipalloc-1"},"status":{"S":"OPEN"},"first_seen":{"N":"1700000000"}},
                {"resource":{"S":"elastic-ip#eipalloc-2"},"status":{"S":"RESOLVED"},"first_seen":{"N":"1700000000"}}
               ]},"UnprocessedKeys":{}}"#,
        ),
        action => empty(action),
    })
    .await;
    table(&endpoint).await.write(SCOPE, vec![finding(1), finding(2)]).await.unwrap();
    let rows = written(&endpoint);
    assert_eq!(rows[0]["first_seen"]["N"], "1700000000");
    assert_ne!(rows[0]["last_seen"]["N"], "1700000000");
    assert_eq!(rows[1]["first_seen"], rows[1]["last_seen"], "it is waste anew");
}

/// Answers with the row that another run opened while ours was on its way.
fn opened_by_another(resource: &str, first_seen: i64) -> ScriptedAnswer {
    ScriptedAnswer::ok(format!(
        r#"{{"Responses":{{"waste":[{{"resource":{{"S":"{resource}"}},"status":{{"S":"OPEN"}},
            "first_seen":{{"N":"{first_seen}"}}}}]}},"UnprocessedKeys":{{}}}}"#
    ))
}

#[tokio::test]
async fn of_two_overlapping_runs_the_first_ones_first_seen_stands() {
    let transactions = AtomicUsize::new(0);
    let reads = AtomicUsize::new(0);
    let endpoint = Endpoint::answering(move |action, _| match action {
        "TransactWriteItems" if transactions.fetch_add(1, Ordering::SeqCst) == 0 => {
            ScriptedAnswer::json_error(400, "TransactionCanceledException")
        }
        "BatchGetItem" if reads.fetch_add(1, Ordering::SeqCst) == 1 => {
            opened_by_another("elastic-ip#eipalloc-1", 1_700_000_000)
        }
        action => empty(action),
    })
    .await;
    table(&endpoint).await.write(SCOPE, vec![finding(1), finding(2)]).await.unwrap();
    let requests = endpoint.requests();
    assert!(requests[1].contains("attribute_not_exists(#status) OR #status <> :open"), "{}", requests[1]);
    let held = &written(&endpoint)[2..]; // the cancelled transaction wrote none of its two
    assert_eq!(held.len(), 2);
    assert_eq!(held[0]["resource"]["S"], "elastic-ip#eipalloc-1");
    assert_eq!(held[0]["first_seen"]["N"], "1700000000");
    assert_eq!(held[1]["resource"]["S"], "elastic-ip#eipalloc-2");
    assert_eq!(held[1]["first_seen"], held[1]["last_seen"]);
}

#[tokio::test]
async fn a_row_that_never_opens_fails_the_listing() {
    let endpoint = Endpoint::answering(|action, _| match action {
        "TransactWriteItems" => ScriptedAnswer::json_error(400, "ValidationException"),
        action => empty(action),
    })
    .await;
    let error = table(&endpoint).await.write(SCOPE, vec![finding(1)]).await.unwrap_err();
    assert!(error.to_string().contains("ValidationException"), "{error}");
}

#[tokio::test]
async fn what_dynamodb_leaves_unprocessed_is_sent_again() {
    let calls = AtomicUsize::new(0);
    let endpoint = Endpoint::answering(move |action, body| match action {
        "BatchWriteItem" if calls.fetch_add(1, Ordering::SeqCst) == 0 => {
            let request: Value = serde_json::from_str(body).unwrap();
            let left = serde_json::json!({"UnprocessedItems": request["RequestItems"]});
            ScriptedAnswer::ok(left.to_string())
        }
        "BatchGetItem" => opened_by_another("elastic-ip#eipalloc-1", 1_700_000_000),
        action => empty(action),
    })
    .await;
    table(&endpoint).await.write(SCOPE, vec![finding(1)]).await.unwrap();
    assert_eq!(written(&endpoint).len(), 2);
}

#[tokio::test]
async fn an_answer_without_the_table_is_not_an_empty_table() {
    let endpoint = Endpoint::answering(|_, _| ScriptedAnswer::ok("{}")).await;
    assert!(table(&endpoint).await.write(SCOPE, vec![finding(1)]).await.is_err());
}
