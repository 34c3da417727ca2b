//! The tables of one account and region in DynamoDB.
//!
//! A call has its whole effect or none; only the writes of a batch are effects of their own. Items outlive their time to
//! live until [`Tables::expire`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::wire::{ApiAnswer, ApiCall};

pub mod attribute;
mod batch;
pub mod condition;
mod error;
mod listing;
pub mod number;
mod parameters;
mod parser;
pub mod path;
pub mod placeholders;
mod read;
mod stored_table;
mod token;
pub mod update;
mod write;

use attribute::AttributeMap;
pub use error::DynamoDbError;
use read::ReadView;
pub use stored_table::TableSpec;
use stored_table::{ItemKey, StoredTable};
use write::Verb;

/// The tables of one account and region.
#[derive(Debug, Clone, PartialEq)]
pub struct Tables {
    by_name: BTreeMap<String, StoredTable>,
    /// The transactions of the last minutes by their tokens: their items, and their times.
    transactions: BTreeMap<String, (Value, Timestamp)>,
    /// The most items of a page, whatever its call allows.
    page_items: Option<usize>,
}

impl Tables {
    /// Returns empty tables.
    #[must_use]
    pub fn new(specs: impl IntoIterator<Item = TableSpec>) -> Self {
        let table = |spec: TableSpec| (spec.name.clone(), StoredTable { spec, items: BTreeMap::new() });
        Self {
            by_name: specs.into_iter().map(table).collect(),
            transactions: BTreeMap::new(),
            page_items: None,
        }
    }

    /// Ends every page of a query or scan after so many items, as DynamoDB ends one after a megabyte.
    #[must_use]
    pub fn with_pages_of(mut self, items: usize) -> Self {
        self.page_items = Some(items);
        self
    }

    /// Carries a call out and answers it.
    pub fn carry_out(&mut self, call: &ApiCall, now: Timestamp) -> ApiAnswer {
        let body = call.json();
        let answer = match call.action.as_str() {
            "PutItem" => write::write(self, Verb::Put, body),
            "UpdateItem" => write::write(self, Verb::Update, body),
            "DeleteItem" => write::write(self, Verb::Delete, body),
            "BatchWriteItem" => batch::batch_write_item(self, body),
            "TransactWriteItems" => batch::transact_write_items(self, body, now),
            _ => return self.read_from(self, call).unwrap_or_else(|| unknown(&call.action)),
        };
        answered(answer)
    }

    /// Answers a read; returns `None` for any other call. A read that does not ask for strong consistency is served from
    /// `past`.
    #[must_use]
    pub fn read_from(&self, past: &Self, call: &ApiCall) -> Option<ApiAnswer> {
        let (view, body) = (ReadView { now: self, past }, call.json());
        Some(answered(match call.action.as_str() {
            "GetItem" => read::get_item(view, body),
            "BatchGetItem" => read::batch_get_item(view, body),
            "Query" => listing::query(view, body),
            "Scan" => listing::scan(view, body),
            _ => return None,
        }))
    }

    /// Deletes every item whose time to live has ended by `now`, and returns their number. DynamoDB does so within a few
    /// days; until then, reads find the items.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html>
    pub fn expire(&mut self, now: Timestamp) -> usize {
        self.by_name.values_mut().map(|table| table.expire(now)).sum()
    }

    /// Puts an item, as `PutItem` writes it.
    ///
    /// # Errors
    /// The table does not exist, or the item is malformed.
    pub fn put(&mut self, table: &str, item: &Value) -> Result<(), DynamoDbError> {
        write::write(self, Verb::Put, &json!({"TableName": table, "Item": item})).map(drop)
    }

    /// Returns an item by its partition key and, if the table has one, its sort key.
    #[must_use]
    pub fn item(&self, table: &str, hash: &str, range: Option<&str>) -> Option<&AttributeMap> {
        self.by_name.get(table)?.items.get(&ItemKey::new(hash, range))
    }

    /// Returns the items of a table; none if there is no such table.
    pub fn items(&self, table: &str) -> impl Iterator<Item = &AttributeMap> {
        self.by_name.get(table).into_iter().flat_map(|table| table.items.values())
    }
}

fn find<'a>(tables: &'a Tables, name: &str) -> Result<&'a StoredTable, DynamoDbError> {
    tables.by_name.get(name).ok_or(DynamoDbError::NoSuchTable)
}

fn find_mut<'a>(tables: &'a mut Tables, name: &str) -> Result<&'a mut StoredTable, DynamoDbError> {
    tables.by_name.get_mut(name).ok_or(DynamoDbError::NoSuchTable)
}

fn answered(answer: Result<Value, DynamoDbError>) -> ApiAnswer {
    match answer {
        Ok(body) => ApiAnswer::json(&body),
        Err(error) => error.answer(),
    }
}

fn unknown(action: &str) -> ApiAnswer {
    DynamoDbError::NotInTheWorld(format!("dynamodb:{action}")).answer()
}

#[cfg(test)]
mod tests;
