//! Auto Scaling groups.

pub(crate) mod described_group;
pub mod groups;
