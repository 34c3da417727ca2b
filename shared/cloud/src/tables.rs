//! The stack's tables in DynamoDB, a file for each.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

pub mod accounts;
pub mod batches;
pub mod leases;
pub mod risk_pools;
pub mod settings;
pub mod swaps;

/// A row, as DynamoDB returns it.
pub type Row = HashMap<String, AttributeValue>;
