//! One file for each phase of a node swap, named as in `swap.asl.yaml`, in the order of the journey.

pub mod preflight;
pub mod scale_out;

pub mod await_ready;

pub mod cordon;
pub mod drain;

pub mod terminate;

pub mod rollback;

pub mod report;
