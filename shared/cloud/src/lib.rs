//! Thin AWS calls, one file for each thing that AWS holds. Paging, timeouts and the classification of errors
//! happen here; decisions are in `spot-domain`.
//!
//! Nothing here knows a Lambda function or a state machine. Every launch of an instance in the whole code
//! base goes through [`launch::launcher`], which takes a proof that only [`launch::gatekeeper`] makes.

pub mod announcements;
pub mod auto_scaling;
pub mod clients;
pub mod ec2;
pub mod error;
mod fields;
pub mod hub;
pub mod lambda;
pub mod launch;
pub mod load_balancing;
pub mod metrics;
pub mod prices;
pub mod scopes;
pub mod tables;

pub use clients::{RegionClients, Stack};
pub use error::{CallError, Kind};
