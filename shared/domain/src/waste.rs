//! Waste: what nobody uses, what it costs, and the report of a scan.

pub mod keepers;
pub mod left_alone;
pub mod prices;
pub mod report;
pub mod resources;
pub mod rules;
