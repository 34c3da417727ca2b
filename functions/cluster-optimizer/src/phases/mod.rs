//! The first and the last phase of a run over a group. The phases of each swap between them are
//! `spot_swap`'s.

pub mod discover;
pub mod report;
