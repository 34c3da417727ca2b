//! Writes of many items: `BatchWriteItem`, each for itself, and `TransactWriteItems`, all or none.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::error::DynamoDbError;
use super::parameters::{list, require_only, table_name, text};
use super::stored_table::ItemKey;
use super::write::{ItemWrite, Verb};
use super::{Tables, find, find_mut};

const BATCH: usize = 25;
const TRANSACTION: usize = 100;
/// The time for which DynamoDB remembers the token of a transaction.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
const REMEMBERED_FOR: SignedDuration = SignedDuration::from_mins(10);

pub(super) fn batch_write_item(tables: &mut Tables, call: &Value) -> Result<Value, DynamoDbError> {
    require_only(call, &["RequestItems"])?;
    let requests = call["RequestItems"].as_object().filter(|requests| !requests.is_empty());
    let requests = requests.ok_or_else(|| DynamoDbError::validation("RequestItems is empty"))?;
    let mut writes = Vec::new();
    for (name, requests) in requests {
        for request in list(requests, "requestItems", BATCH)? {
            writes.push(batched(tables, name, request)?);
        }
    }
    if writes.len() > BATCH {
        return Err(DynamoDbError::validation("Too many items requested for the BatchWriteItem call"));
    }
    require_distinct(&writes, "Provided list of item keys contains duplicates")?;
    for write in writes {
        let table = find_mut(tables, &write.table)?;
        let after = write.outcome(table)?;
        table.write(write.key, after);
    }
    Ok(json!({"UnprocessedItems": {}}))
}

fn batched(tables: &Tables, table: &str, request: &Value) -> Result<ItemWrite, DynamoDbError> {
    require_only(request, &["PutRequest", "DeleteRequest"])?;
    let table = table_name(&json!({"TableName": table}))?.to_owned();
    match (&request["PutRequest"]["Item"], &request["DeleteRequest"]["Key"]) {
        (Value::Null, Value::Null) => Err(DynamoDbError::validation(
            "Supplied WriteRequest is empty: specify a PutRequest or a DeleteRequest",
        )),
        (Value::Null, key) => {
            ItemWrite::parse(tables, Verb::Delete, &json!({"TableName": table, "Key": key}))
        }
        (item, _) => ItemWrite::parse(tables, Verb::Put, &json!({"TableName": table, "Item": item})),
    }
}

pub(super) fn transact_write_items(
    tables: &mut Tables,
    call: &Value,
    now: Timestamp,
) -> Result<Value, DynamoDbError> {
    require_only(call, &["TransactItems", "ClientRequestToken"])?;
    let items = &call["TransactItems"];
    let token = text(call, "ClientRequestToken").map(str::to_owned);
    tables.transactions.retain(|_, (_, at)| now.duration_since(*at) < REMEMBERED_FOR);
    match token.as_ref().and_then(|token| tables.transactions.get(token)) {
        Some((done, _)) if done == items => return Ok(json!({})),
        Some(_) => return Err(DynamoDbError::TokenReused),
        None => {}
    }
    let writes = list(items, "transactItems", TRANSACTION)?.iter().map(|item| transacted(tables, item));
    let writes = writes.collect::<Result<Vec<_>, _>>()?;
    require_distinct(&writes, "Transaction request cannot include multiple operations on one item")?;
    let outcomes: Vec<_> = writes.iter().map(|write| write.outcome(find(tables, &write.table)?)).collect();
    if outcomes.iter().any(Result::is_err) {
        let reasons = outcomes.into_iter().map(|outcome| outcome.err().map(Box::new)).collect();
        return Err(DynamoDbError::Cancelled(reasons));
    }
    for (write, after) in writes.into_iter().zip(outcomes) {
        find_mut(tables, &write.table)?.write(write.key, after?);
    }
    if let Some(token) = token {
        tables.transactions.insert(token, (items.clone(), now));
    }
    Ok(json!({}))
}

fn transacted(tables: &Tables, item: &Value) -> Result<ItemWrite, DynamoDbError> {
    let verbs = [
        ("Put", Verb::Put),
        ("Update", Verb::Update),
        ("Delete", Verb::Delete),
        ("ConditionCheck", Verb::ConditionCheck),
    ];
    let mut asked = verbs.into_iter().filter(|(name, _)| !item[*name].is_null());
    let (Some((name, verb)), None) = (asked.next(), asked.next()) else {
        return Err(DynamoDbError::validation(
            "TransactItems can only contain one of Check, Put, Update or Delete",
        ));
    };
    ItemWrite::parse(tables, verb, &item[name])
}

fn require_distinct(writes: &[ItemWrite], problem: &str) -> Result<(), DynamoDbError> {
    let distinct: BTreeSet<(&str, &ItemKey)> = writes.iter().map(|it| (it.table.as_str(), &it.key)).collect();
    if distinct.len() < writes.len() { Err(DynamoDbError::validation(problem)) } else { Ok(()) }
}
