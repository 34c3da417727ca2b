//! One table: its keys and its items.

use std::collections::BTreeMap;

use jiff::{Span, Timestamp};
use serde_json::Value;

use super::attribute::{Attribute, AttributeMap, map, size};
use super::error::DynamoDbError;

/// The largest item in bytes, and the longest keys.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html>
pub(super) const LARGEST_ITEM: usize = 400 * 1024;
const LONGEST_HASH: usize = 2048;
const LONGEST_RANGE: usize = 1024;
/// An item that has expired for longer than this is kept: DynamoDB takes its time for a mistake.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/time-to-live-ttl-before-you-start.html>
const FORGOTTEN_AFTER_HOURS: i64 = 5 * 365 * 24;

/// A table of the stack. Its keys are texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSpec {
    pub name: String,
    /// The attribute of the partition key.
    pub hash: String,
    /// The attribute of the sort key.
    pub range: Option<String>,
    /// The attribute of the time to live.
    pub ttl: Option<String>,
}

impl TableSpec {
    /// Reads the properties of an `AWS::DynamoDB::Table`; `None` if they name no partition key.
    #[must_use]
    pub fn from_properties(name: &str, properties: &Value) -> Option<Self> {
        let key = |kind: &str| {
            let mut schema = properties["KeySchema"].as_array()?.iter();
            schema.find(|key| key["KeyType"] == kind)?["AttributeName"].as_str().map(str::to_owned)
        };
        let ttl = Some(&properties["TimeToLiveSpecification"]).filter(|ttl| ttl["Enabled"] == true);
        Some(Self {
            name: name.to_owned(),
            hash: key("HASH")?,
            range: key("RANGE"),
            ttl: ttl.and_then(|ttl| ttl["AttributeName"].as_str()).map(str::to_owned),
        })
    }
}

/// The key of an item. Keys are ordered as a scan meets them: by a hash of the partition key, then by the sort key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ItemKey {
    bucket: u64,
    pub hash: String,
    pub range: Option<String>,
}

impl ItemKey {
    /// Returns the key. The hash of a partition key is FNV-1a here; DynamoDB does not tell its own.
    pub(super) fn new(hash: &str, range: Option<&str>) -> Self {
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let bucket = hash.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
        Self { bucket, hash: hash.to_owned(), range: range.map(str::to_owned) }
    }
}

/// A table and its items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredTable {
    pub spec: TableSpec,
    pub items: BTreeMap<ItemKey, AttributeMap>,
}

impl StoredTable {
    /// Reads the key of a call: the attributes of the key and no others.
    pub(super) fn key(&self, key: &Value) -> Result<(ItemKey, AttributeMap), DynamoDbError> {
        let given = key.as_object().ok_or_else(|| DynamoDbError::validation("the key is no map"))?;
        let given = map(given)?;
        let of_key = 1 + usize::from(self.spec.range.is_some());
        let key = self.key_of(&given, |_| {
            DynamoDbError::validation("The provided key element does not match the schema")
        })?;
        if given.len() != of_key {
            return Err(DynamoDbError::validation(
                "The number of conditions on the keys is invalid; The provided key element does not match the schema",
            ));
        }
        Ok((key, given))
    }

    /// Reads an item that is put.
    pub(super) fn item(&self, item: &Value) -> Result<(ItemKey, AttributeMap), DynamoDbError> {
        let given = item.as_object().ok_or_else(|| DynamoDbError::validation("the item is no map"))?;
        let item = map(given)?;
        let key = self.key_of(&item, |fault| match fault {
            KeyFault::Missing(name) => DynamoDbError::invalid(format!("Missing the key {name} in the item")),
            KeyFault::WrongType(name, actual) => {
                DynamoDbError::invalid(format!("Type mismatch for key {name} expected: S actual: {actual}"))
            }
        })?;
        if size(&item) > LARGEST_ITEM {
            return Err(DynamoDbError::validation("Item size has exceeded the maximum allowed size"));
        }
        Ok((key, item))
    }

    fn key_of(
        &self,
        item: &AttributeMap,
        fault: impl Fn(KeyFault<'_>) -> DynamoDbError,
    ) -> Result<ItemKey, DynamoDbError> {
        let part = |name: &str, longest: usize| match item.get(name) {
            None => Err(fault(KeyFault::Missing(name))),
            Some(Attribute::S(text)) if text.is_empty() => Err(DynamoDbError::validation(format!(
                "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain \
                 an empty string value. Key: {name}"
            ))),
            Some(Attribute::S(text)) if text.len() > longest => Err(DynamoDbError::invalid(format!(
                "Size of key {name} has exceeded the maximum size limit of {longest} bytes"
            ))),
            Some(Attribute::S(text)) => Ok(text.clone()),
            Some(other) => Err(fault(KeyFault::WrongType(name, other.kind()))),
        };
        let hash = part(&self.spec.hash, LONGEST_HASH)?;
        let range = self.spec.range.as_deref().map(|name| part(name, LONGEST_RANGE)).transpose()?;
        Ok(ItemKey::new(&hash, range.as_deref()))
    }

    /// Returns the attributes of the key of an item.
    pub(super) fn key_attributes(&self, item: &AttributeMap) -> AttributeMap {
        let names = std::iter::once(&self.spec.hash).chain(&self.spec.range);
        names.filter_map(|name| Some((name.clone(), item.get(name)?.clone()))).collect()
    }

    pub(super) fn is_key(&self, name: &str) -> bool {
        self.spec.hash == name || self.spec.range.as_deref() == Some(name)
    }

    /// Writes an item, or deletes it.
    pub(super) fn write(&mut self, key: ItemKey, item: Option<AttributeMap>) {
        match item {
            Some(item) => drop(self.items.insert(key, item)),
            None => drop(self.items.remove(&key)),
        }
    }

    /// Deletes the items that have expired by `now`, and returns their number.
    pub(super) fn expire(&mut self, now: Timestamp) -> usize {
        let Some(ttl) = &self.spec.ttl else { return 0 };
        let oldest = now.checked_sub(Span::new().hours(FORGOTTEN_AFTER_HOURS)).unwrap_or(Timestamp::MIN);
        let deleted = oldest.as_second()..now.as_second();
        let before = self.items.len();
        self.items.retain(|_, item| {
            let expires_at = item.get(ttl).and_then(Attribute::as_n).and_then(|seconds| seconds.as_whole());
            !expires_at.is_some_and(|at| deleted.contains(&at))
        });
        before - self.items.len()
    }
}

enum KeyFault<'a> {
    Missing(&'a str),
    WrongType(&'a str, &'static str),
}
