//! The histories. They are one binary: cargo plays it with all processors to its end, and links the SDK once.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod acts;
mod campaign;
mod checks;
mod fences;
mod forged_tags;
mod found;
mod habits;
mod holds;
mod input;
mod interruptions;
mod lab;
mod lab_owner;
mod lab_twin;
mod last_words;
mod launch_ahead;
mod launches;
mod loop_runs;
mod must_swap;
mod nodes;
mod notice;
mod outages;
mod overlaps;
mod pairs;
mod random;
mod refusals;
mod settings;
mod stops;
mod timeouts;
