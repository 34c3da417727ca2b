//! Thin AWS calls, one file for each thing that AWS holds. Paging, timeouts and the classification of errors
//! happen here; decisions are in `spot-domain`.
//!
//! Nothing here knows a Lambda function or a state machine. Every launch of an instance in the whole code
//! base goes through [`launcher`], which takes a proof that only [`gatekeeper`] makes.

pub mod accounts;
pub mod addresses;
pub mod announcements;
pub mod batches;
pub mod clients;
mod described_group;
mod described_instance;
pub mod error;
mod fields;
pub mod gatekeeper;
pub mod groups;
pub mod hub;
pub mod images;
pub mod instances;
pub mod lambda;
pub mod launch_configuration;
pub mod launch_template;
pub mod launcher;
pub mod leases;
pub mod listing;
pub mod places;
pub mod pools;
pub mod prices;
pub mod regions;
pub mod risk_table;
pub mod settings;
pub mod subnets;
pub mod swaps;
pub mod target_groups;
pub mod targets;
pub mod twin;

pub use clients::{Stack, Target};
pub use error::{CallError, Kind};
