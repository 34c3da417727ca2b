//! Thin AWS calls, one file for each thing that AWS holds. Paging, timeouts and the classification of errors
//! happen here; decisions are in `spot-domain`.
//!
//! Nothing here knows a Lambda function or a state machine. Every launch of an instance in the whole code
//! base goes through [`launch::launcher`], which takes a proof that only [`launch::gatekeeper`] makes.

pub mod access;
pub mod announcements;
pub mod auto_scaling;
pub mod clients;
pub mod ec2;
pub mod environment;
pub mod error;
mod fields;
pub mod forwarding;
pub mod hub;
pub mod input;
pub mod lambda;
pub mod launch;
pub mod load_balancing;
pub mod metrics;
pub mod price_list;
pub mod prices;
pub mod retry;
pub mod scopes;
pub mod tables;

pub use clients::{RegionClients, Stack};
pub use error::{CallError, Kind};

#[cfg(test)]
mod sample;
