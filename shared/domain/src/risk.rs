//! Spot pools, and when one is poisoned.

pub mod poison;
pub mod pool;
