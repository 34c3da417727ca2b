//! The WasteResource table: the findings, and the progress and report of each scope's scan.

pub mod finding;
pub mod findings;
pub mod progress;

use finding::{ACCOUNT_REGION, RESOURCE};
use spot_cloud::tables::row::{self, Row};

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
    row::key([(ACCOUNT_REGION, scope), (RESOURCE, resource)])
}
