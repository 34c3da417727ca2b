//! Reads of many items: `Query` and `Scan`, page by page.

use std::ops::Bound;

use serde_json::{Value, json};

use super::attribute::{Attribute, AttributeMap, size, to_json};
use super::condition::{Comparator, Condition, Operand};
use super::error::DynamoDbError;
use super::parameters::{is_consistent, one_of, require_only, table_name, text};
use super::path::DocumentPath;
use super::placeholders::{Placeholders, invalid};
use super::read::{Projection, ReadView};
use super::stored_table::{ItemKey, StoredTable};

/// The most bytes that one page looks through.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Query.Pagination.html>
const PAGE_BYTES: usize = 1024 * 1024;
const KEY_CONDITION: &str = "KeyConditionExpression";
const FILTER: &str = "FilterExpression";
const OF_BOTH: [&str; 9] = [
    "TableName",
    "ConsistentRead",
    FILTER,
    "ProjectionExpression",
    "ExpressionAttributeNames",
    "ExpressionAttributeValues",
    "Limit",
    "ExclusiveStartKey",
    "Select",
];

/// The part that queries and scans have in common.
struct PageRequest {
    filter: Option<Condition>,
    projection: Projection,
    counts_only: bool,
    /// The most items that the page looks at.
    limit: Option<usize>,
    after: Option<ItemKey>,
}

pub(super) fn scan(view: ReadView<'_>, call: &Value) -> Result<Value, DynamoDbError> {
    require_only(call, &OF_BOTH)?;
    let table = view.table(table_name(call)?, is_consistent(call))?;
    let mut placeholders = Placeholders::of(call)?;
    let request = PageRequest::parse(view, table, call, &mut placeholders)?;
    placeholders.require_all_used()?;
    let start = request.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
    Ok(request.page(table, table.items.range((start, Bound::Unbounded))))
}

pub(super) fn query(view: ReadView<'_>, call: &Value) -> Result<Value, DynamoDbError> {
    require_only(call, &[OF_BOTH.as_slice(), &[KEY_CONDITION, "ScanIndexForward"]].concat())?;
    let table = view.table(table_name(call)?, is_consistent(call))?;
    let mut placeholders = Placeholders::of(call)?;
    let condition = text(call, KEY_CONDITION).ok_or_else(|| {
        DynamoDbError::validation(
            "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.",
        )
    })?;
    let condition = Condition::parse(KEY_CONDITION, condition, &mut placeholders)?;
    let hash = partition(table, &condition)?;
    let request = PageRequest::parse(view, table, call, &mut placeholders)?;
    placeholders.require_all_used()?;
    request.require_no_key_in_filter(table)?;
    if request.after.as_ref().is_some_and(|after| after.hash != hash) {
        return Err(DynamoDbError::validation(
            "The provided starting key is outside query boundaries based on provided conditions",
        ));
    }
    let is_backward = call.get("ScanIndexForward") == Some(&Value::Bool(false));
    let after = request.after.clone();
    let of_partition = table.items.iter().filter(|(key, item)| key.hash == hash && condition.holds(item));
    Ok(if is_backward {
        let before = of_partition.rev().filter(|(key, _)| after.as_ref().is_none_or(|after| *key < after));
        request.page(table, before)
    } else {
        request.page(table, of_partition.filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after)))
    })
}

impl PageRequest {
    fn parse(
        view: ReadView<'_>,
        table: &StoredTable,
        call: &Value,
        placeholders: &mut Placeholders,
    ) -> Result<Self, DynamoDbError> {
        let filter = text(call, FILTER).map(|filter| Condition::parse(FILTER, filter, placeholders));
        let select = one_of(call, "Select", &["ALL_ATTRIBUTES", "COUNT", "SPECIFIC_ATTRIBUTES"])?;
        let after = call.get("ExclusiveStartKey").filter(|key| !key.is_null());
        let start = |_| DynamoDbError::validation("The provided starting key is invalid");
        let given = call.get("Limit").filter(|limit| !limit.is_null()).map(|limit| {
            let limit =
                limit.as_u64().and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
            limit.ok_or_else(|| DynamoDbError::validation("Limit must be greater than or equal to 1"))
        });
        Ok(Self {
            filter: filter.transpose()?,
            projection: Projection::parse(call, placeholders)?,
            counts_only: select == "COUNT",
            limit: [given.transpose()?, view.now.page_items].into_iter().flatten().min(),
            after: after.map(|key| table.key(key).map(|(key, _)| key).map_err(start)).transpose()?,
        })
    }

    fn require_no_key_in_filter(&self, table: &StoredTable) -> Result<(), DynamoDbError> {
        let mut roots = self.filter.iter().flat_map(Condition::roots);
        match roots.find(|root| table.is_key(root)) {
            Some(key) => {
                let problem =
                    "Filter Expression can only contain non-primary key attributes: Primary key attribute";
                Err(DynamoDbError::validation(format!("{problem}: {key}")))
            }
            None => Ok(()),
        }
    }

    /// Returns the next page. The filter comes after the limit, so that a page may be empty and not the last.
    fn page<'a>(
        &self,
        table: &StoredTable,
        items: impl Iterator<Item = (&'a ItemKey, &'a AttributeMap)>,
    ) -> Value {
        let (mut scanned, mut bytes, mut last, mut is_cut) = (0_usize, 0_usize, None, false);
        let mut found = Vec::new();
        for (_, item) in items {
            bytes += size(item);
            if bytes > PAGE_BYTES && scanned > 0 {
                is_cut = true;
                break;
            }
            scanned += 1;
            last = Some(item);
            if self.filter.as_ref().is_none_or(|filter| filter.holds(item)) {
                found.push(self.projection.of(item));
            }
            if self.limit == Some(scanned) {
                is_cut = true;
                break;
            }
        }
        let mut page = json!({"Count": found.len(), "ScannedCount": scanned});
        if !self.counts_only {
            page["Items"] = found.into();
        }
        if let Some(last) = last.filter(|_| is_cut) {
            page["LastEvaluatedKey"] = to_json(&table.key_attributes(last));
        }
        page
    }
}

/// Returns the partition that a key condition names, and checks that the condition is one of the allowed forms.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Query.KeyConditionExpressions.html>
fn partition(table: &StoredTable, condition: &Condition) -> Result<String, DynamoDbError> {
    let parts = match condition {
        Condition::And(one, two) => vec![one.as_ref(), two.as_ref()],
        alone => vec![alone],
    };
    let not_supported = || DynamoDbError::validation("Query key condition not supported");
    let mut hash = None;
    for part in parts {
        match part {
            Condition::Compare(Operand::Path(path), Comparator::Equal, Operand::Value(value))
                if path.root == table.spec.hash && path.steps.is_empty() && hash.is_none() =>
            {
                hash = Some(value);
            }
            Condition::Compare(Operand::Path(path), comparator, Operand::Value(value))
                if is_range(table, path) && *comparator != Comparator::NotEqual =>
            {
                require_text(value)?;
            }
            Condition::Between(Operand::Path(path), Operand::Value(low), Operand::Value(high))
                if is_range(table, path) =>
            {
                require_text(low)?;
                require_text(high)?;
            }
            Condition::BeginsWith(Operand::Path(path), Operand::Value(_)) if is_range(table, path) => {}
            Condition::Compare(Operand::Path(path), ..) if !table.is_key(&path.root) => {
                return Err(missed(table));
            }
            Condition::Or(..) => {
                return Err(invalid(KEY_CONDITION, "Invalid operator used in KeyConditionExpression: OR"));
            }
            Condition::Not(_) => {
                return Err(invalid(KEY_CONDITION, "Invalid operator used in KeyConditionExpression: NOT"));
            }
            _ => return Err(not_supported()),
        }
    }
    let hash = hash.ok_or_else(|| missed(table))?;
    require_text(hash)?;
    match hash.as_s() {
        Some("") => Err(DynamoDbError::validation(format!(
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty \
             string value. Key: {}",
            table.spec.hash
        ))),
        Some(text) => Ok(text.to_owned()),
        None => Err(not_supported()),
    }
}

fn missed(table: &StoredTable) -> DynamoDbError {
    DynamoDbError::validation(format!("Query condition missed key schema element: {}", table.spec.hash))
}

fn is_range(table: &StoredTable, path: &DocumentPath) -> bool {
    table.spec.range.as_ref() == Some(&path.root) && path.steps.is_empty()
}

fn require_text(value: &Attribute) -> Result<(), DynamoDbError> {
    match value {
        Attribute::S(_) => Ok(()),
        _ => Err(DynamoDbError::invalid("Condition parameter type does not match schema type")),
    }
}
