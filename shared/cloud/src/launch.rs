//! The launch of an instance: its gate, and what is launched. There is no other way to launch one.

pub mod configuration;
pub mod gatekeeper;
pub mod launcher;
pub mod template;
pub mod twin;
