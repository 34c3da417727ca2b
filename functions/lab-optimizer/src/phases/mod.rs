//! The phases that only a lab swap has; gate, launch, health and rollback are `spot_swap`'s.

pub mod bring_back;
pub mod capture_image;
pub mod discover;
pub mod report;
pub mod retire_old;
pub mod take_over;
