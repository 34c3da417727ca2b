//! A hub and its members: what a member reports, whom the hub remembers, and whom it stops believing.

pub mod mute;
pub mod report;
pub mod sightings;
