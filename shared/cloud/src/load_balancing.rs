//! Target groups of load balancers, and who is registered in them.

pub mod others;
pub mod target_groups;
pub mod targets;
