//! A swap: which instance is replaced, under which conditions, and how a swap ends or is taken back.
//!
//! Start at [`group`] and [`selection`] for the choice, at [`journal`] and [`recovery`] for what survives a crash.

pub mod alert;
pub mod asked;
pub mod belongings;
pub mod decrement;
pub mod ended;
pub mod eviction;
pub mod fitness;
pub mod group;
pub mod group_tags;
pub mod journal;
pub mod lab;
pub mod market;
pub mod node;
pub mod pricing;
pub mod proof;
pub mod recovery;
pub mod report;
pub mod run_tags;
pub mod scaling;
pub mod selection;
