//! The audit of running instances: who answers for each of them, and what follows where nobody does.

pub mod authorization;
pub mod blast_radius;
pub mod enforcement;
pub mod reminders;
pub mod subject;
pub mod swaps_in_progress;
