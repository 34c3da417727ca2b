//! The phases of a node swap. Each has one file, named as in `swap.asl.yaml`, in the order of a swap. After them comes the
//! phase of an evacuation.

pub mod preflight;
pub mod scale_out;

pub mod await_ready;

pub mod cordon;
pub mod drain;

pub mod terminate;

pub mod rollback;

pub mod report;

// The answer to a two-minute notice: `respond.asl.yaml` of the interruption responder.
pub mod evacuate_node;
