//! The WasteResource table: the findings, and the progress and report of each scope's scan.

pub mod finding;
pub mod findings;
pub mod progress;

use aws_sdk_dynamodb::types::AttributeValue;
use finding::{ACCOUNT_REGION, RESOURCE, Row};

#[derive(Debug, Clone)]
pub struct WasteTable {
    dynamodb: aws_sdk_dynamodb::Client,
    name: String,
}

impl WasteTable {
    /// Opens the table of this name.
    #[must_use]
    pub fn new(dynamodb: aws_sdk_dynamodb::Client, name: impl Into<String>) -> Self {
        Self { dynamodb, name: name.into() }
    }
}

/// Returns the row's key.
fn key(scope: &str, resource: &str) -> Row {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    [(ACCOUNT_REGION.to_owned(), text(scope)), (RESOURCE.to_owned(), text(resource))].into()
}
