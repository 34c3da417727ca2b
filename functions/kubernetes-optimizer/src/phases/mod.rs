//! The phases of a node swap. Each has one file, named as in `swap.asl.yaml`, in the order of a swap.

pub mod preflight;
pub mod scale_out;

pub mod await_ready;

pub mod cordon;
pub mod drain;

pub mod terminate;

pub mod rollback;

pub mod report;
