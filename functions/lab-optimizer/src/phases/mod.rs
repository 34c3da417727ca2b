//! The phases that only a lab swap has. `spot_swap` holds gate, launch, health and rollback.

pub mod bring_back;
pub mod capture_image;
pub mod discover;
pub mod report;
pub mod retire_old;
pub mod take_over;
