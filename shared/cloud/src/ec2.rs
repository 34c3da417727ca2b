//! Instances, and what belongs to them.

pub mod addresses;
pub(crate) mod described_instance;
pub mod images;
pub mod instances;
pub mod listing;
pub mod pools;
pub mod regions;
pub mod subnets;
