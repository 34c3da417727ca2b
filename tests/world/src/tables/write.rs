//! Writes of one item: `PutItem`, `UpdateItem`, `DeleteItem`, and the condition check of a transaction.

use serde_json::{Value, json};

use super::attribute::{AttributeMap, size, to_json};
use super::condition::Condition;
use super::error::DynamoDbError;
use super::parameters::{one_of, require_only, table_name, text};
use super::placeholders::Placeholders;
use super::stored_table::{ItemKey, LARGEST_ITEM, StoredTable};
use super::update::Update;
use super::{Tables, find, find_mut};

const CONDITION: &str = "ConditionExpression";
const OF_ALL: [&str; 6] = [
    "TableName",
    CONDITION,
    "ExpressionAttributeNames",
    "ExpressionAttributeValues",
    "ReturnValuesOnConditionCheckFailure",
    "ReturnValues",
];

/// The kind of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Put,
    Update,
    Delete,
    ConditionCheck,
}

/// A write that is well-formed.
#[derive(Debug, Clone)]
pub(super) struct ItemWrite {
    pub table: String,
    pub key: ItemKey,
    change: ItemChange,
    condition: Option<Condition>,
    shows_item: bool,
    returns: String,
}

#[derive(Debug, Clone)]
enum ItemChange {
    Put(AttributeMap),
    Update { key: AttributeMap, update: Update },
    Delete,
    Nothing,
}

impl ItemWrite {
    /// Parses a write. A call that is malformed is refused before its condition is looked at.
    pub(super) fn parse(tables: &Tables, verb: Verb, call: &Value) -> Result<Self, DynamoDbError> {
        let (own, returns): (&[&str], &[&'static str]) = match verb {
            Verb::Put => (&["Item"], &["NONE", "ALL_OLD"]),
            Verb::Update => {
                (&["Key", "UpdateExpression"], &["NONE", "ALL_OLD", "UPDATED_OLD", "ALL_NEW", "UPDATED_NEW"])
            }
            Verb::Delete => (&["Key"], &["NONE", "ALL_OLD"]),
            Verb::ConditionCheck => (&["Key"], &["NONE"]),
        };
        require_only(call, &[own, &OF_ALL].concat())?;
        let returns = one_of(call, "ReturnValues", returns)?.to_owned();
        let failure = one_of(call, "ReturnValuesOnConditionCheckFailure", &["NONE", "ALL_OLD"])?;
        let mut placeholders = Placeholders::of(call)?;
        let update = text(call, "UpdateExpression").map(|update| Update::parse(update, &mut placeholders));
        let update = update.transpose()?.unwrap_or_default();
        let condition = text(call, CONDITION).map(|it| Condition::parse(CONDITION, it, &mut placeholders));
        let condition = condition.transpose()?;
        placeholders.require_all_used()?;
        if verb == Verb::ConditionCheck && condition.is_none() {
            return Err(DynamoDbError::validation("The expression can not be empty;"));
        }
        let name = table_name(call)?;
        let table = find(tables, name)?;
        let (key, change) = change(table, verb, call, update)?;
        Ok(Self { table: name.to_owned(), key, change, condition, shows_item: failure == "ALL_OLD", returns })
    }

    /// Returns the item after the write; `None` if it does not exist then. Nothing is written.
    pub(super) fn outcome(&self, table: &StoredTable) -> Result<Option<AttributeMap>, DynamoDbError> {
        let stored = table.items.get(&self.key);
        let nothing = AttributeMap::new();
        let before = stored.unwrap_or(&nothing);
        if self.condition.as_ref().is_some_and(|condition| !condition.holds(before)) {
            return Err(DynamoDbError::ConditionFailed(stored.filter(|_| self.shows_item).cloned()));
        }
        match &self.change {
            ItemChange::Put(item) => Ok(Some(item.clone())),
            ItemChange::Delete => Ok(None),
            ItemChange::Nothing => Ok(stored.cloned()),
            ItemChange::Update { key, update } => {
                let after = update.apply(before, stored.unwrap_or(key).clone())?;
                if size(&after) > LARGEST_ITEM {
                    return Err(DynamoDbError::validation(
                        "Item size to update has exceeded the maximum allowed size",
                    ));
                }
                let is_made = stored.is_some() || !update.only_takes_away();
                Ok(is_made.then_some(after))
            }
        }
    }

    /// Returns the answer of a write that has turned the item `before` into `after`.
    fn answer(&self, before: Option<&AttributeMap>, after: Option<&AttributeMap>) -> Value {
        let touched = |item: &AttributeMap| match &self.change {
            ItemChange::Update { update, .. } => update.touched(item),
            _ => item.clone(),
        };
        let shown = match self.returns.as_str() {
            "ALL_OLD" => before.cloned(),
            "ALL_NEW" => after.cloned(),
            "UPDATED_OLD" => before.map(touched),
            "UPDATED_NEW" => after.map(touched),
            _ => None,
        };
        match shown.filter(|shown| !shown.is_empty()) {
            Some(shown) => json!({"Attributes": to_json(&shown)}),
            None => json!({}),
        }
    }
}

fn change(
    table: &StoredTable,
    verb: Verb,
    call: &Value,
    update: Update,
) -> Result<(ItemKey, ItemChange), DynamoDbError> {
    if verb == Verb::Put {
        let (key, item) = table.item(&call["Item"])?;
        return Ok((key, ItemChange::Put(item)));
    }
    let (key, attributes) = table.key(&call["Key"])?;
    if let Some(name) = update.roots().find(|root| table.is_key(root)) {
        return Err(DynamoDbError::invalid(format!(
            "Cannot update attribute {name}. This attribute is part of the key"
        )));
    }
    Ok(match verb {
        Verb::Update => (key, ItemChange::Update { key: attributes, update }),
        Verb::Delete => (key, ItemChange::Delete),
        Verb::Put | Verb::ConditionCheck => (key, ItemChange::Nothing),
    })
}

/// Carries one write out.
pub(super) fn write(tables: &mut Tables, verb: Verb, call: &Value) -> Result<Value, DynamoDbError> {
    let write = ItemWrite::parse(tables, verb, call)?;
    let table = find_mut(tables, &write.table)?;
    let before = table.items.get(&write.key).cloned();
    let after = write.outcome(table)?;
    let answer = write.answer(before.as_ref(), after.as_ref());
    table.write(write.key, after);
    Ok(answer)
}
