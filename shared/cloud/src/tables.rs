//! The stack's tables in DynamoDB, a file for each.

pub mod accounts;
pub mod batches;
pub mod leases;
pub mod risk_pools;
pub mod row;
pub mod settings;
pub mod swaps;
