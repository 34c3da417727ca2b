//! Changed input at every edge: a function that refuses it names the field, and nothing is written.

#![allow(clippy::panic)]

#[path = "../holds/mod.rs"]
mod holds;

mod events;
mod judge;
mod payloads;
mod rows;
