//! Reads: `GetItem` and `BatchGetItem`.

use serde_json::{Map, Value, json};

use super::attribute::{AttributeMap, to_json};
use super::error::DynamoDbError;
use super::parameters::{is_consistent, list, require_only, table_name, text};
use super::parser::projection;
use super::path::{DocumentPath, project};
use super::placeholders::Placeholders;
use super::stored_table::StoredTable;
use super::{Tables, find};

/// The most keys of one `BatchGetItem`.
const BATCH: usize = 100;

/// The tables as a read may see them: as they are, and as an eventually consistent read may still find them.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadView<'a> {
    pub now: &'a Tables,
    pub past: &'a Tables,
}

impl<'a> ReadView<'a> {
    /// Returns the table that a call reads.
    pub(super) fn table(self, name: &str, is_consistent: bool) -> Result<&'a StoredTable, DynamoDbError> {
        find(if is_consistent { self.now } else { self.past }, name)
    }
}

/// The part of each item that a read answers with.
pub(super) struct Projection(Option<Vec<DocumentPath>>);

impl Projection {
    pub(super) fn parse(call: &Value, placeholders: &mut Placeholders) -> Result<Self, DynamoDbError> {
        let expression = text(call, "ProjectionExpression");
        expression.map(|expression| projection(expression, placeholders)).transpose().map(Self)
    }

    pub(super) fn of(&self, item: &AttributeMap) -> Value {
        match &self.0 {
            Some(paths) => to_json(&project(item, paths)),
            None => to_json(item),
        }
    }
}

pub(super) fn get_item(view: ReadView<'_>, call: &Value) -> Result<Value, DynamoDbError> {
    require_only(
        call,
        &["TableName", "Key", "ConsistentRead", "ProjectionExpression", "ExpressionAttributeNames"],
    )?;
    let mut placeholders = Placeholders::of(call)?;
    let projection = Projection::parse(call, &mut placeholders)?;
    placeholders.require_all_used()?;
    let table = view.table(table_name(call)?, is_consistent(call))?;
    let (key, _) = table.key(&call["Key"])?;
    Ok(match table.items.get(&key) {
        Some(item) => json!({"Item": projection.of(item)}),
        None => json!({}),
    })
}

pub(super) fn batch_get_item(view: ReadView<'_>, call: &Value) -> Result<Value, DynamoDbError> {
    require_only(call, &["RequestItems"])?;
    let requests = call["RequestItems"].as_object().filter(|requests| !requests.is_empty());
    let requests = requests.ok_or_else(|| DynamoDbError::validation("RequestItems is empty"))?;
    let keys = |request: &Value| request["Keys"].as_array().map_or(0, Vec::len);
    if requests.values().map(keys).sum::<usize>() > BATCH {
        return Err(DynamoDbError::validation("Too many items requested for the BatchGetItem call"));
    }
    let mut responses = Map::new();
    for (name, request) in requests {
        responses.insert(name.clone(), get_some(view, name, request)?);
    }
    Ok(json!({"Responses": responses, "UnprocessedKeys": {}}))
}

fn get_some(view: ReadView<'_>, name: &str, request: &Value) -> Result<Value, DynamoDbError> {
    require_only(request, &["Keys", "ConsistentRead", "ProjectionExpression", "ExpressionAttributeNames"])?;
    let mut placeholders = Placeholders::of(request)?;
    let projection = Projection::parse(request, &mut placeholders)?;
    placeholders.require_all_used()?;
    let table = view.table(table_name(&json!({"TableName": name}))?, is_consistent(request))?;
    let given = list(&request["Keys"], "requestItems.keys", BATCH)?;
    let mut keys =
        given.iter().map(|key| Ok(table.key(key)?.0)).collect::<Result<Vec<_>, DynamoDbError>>()?;
    keys.sort_unstable();
    keys.dedup();
    if keys.len() < given.len() {
        return Err(DynamoDbError::validation("Provided list of item keys contains duplicates"));
    }
    // DynamoDB promises no order.
    Ok(keys.iter().filter_map(|key| table.items.get(key)).map(|item| projection.of(item)).collect())
}
