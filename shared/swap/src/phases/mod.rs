//! The phases of a swap. Each has one file, named as in the state machines, in the order of a swap.

pub mod gate;
pub mod launch;
pub mod launch_ahead;
pub mod wait_for_health;

pub mod attach;
pub mod wait_for_in_service;

pub mod retire_old;
pub mod wait_for_retirement;

pub mod restore;
pub mod rollback;
