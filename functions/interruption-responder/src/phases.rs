//! The phases of `respond.asl.yaml`, a file for each: what it does, what it records, and how that is undone.

pub mod answer;
pub mod leave;
pub mod release;
pub mod replace;
pub mod report;
pub mod restore;
pub mod wait_for_replacement;
