//! Changed input at every edge: a function that refuses it names the field, and nothing is written.

mod events;
mod judge;
mod payloads;
mod rows;
