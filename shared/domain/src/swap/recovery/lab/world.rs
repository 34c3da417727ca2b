//! A world that is not atomic, in which lab swaps are cut, repeated, resumed and brought back.
//!
//! It leaves out: more than one address, an address that AWS has not yet let go of while it is described as free, and what
//! is written to disks.

mod aws;
mod execution;
mod history;
mod launch;
mod look;
mod oracles;
mod progress;
mod recoverer;
mod tests;

use std::collections::BTreeSet;

use super::*;
use crate::swap::journal::{Retirement, Undo};
use crate::swap::lab::{Captured, Registration, Traits};
use execution::{At, Execution};
use jiff::Timestamp;
use oracles::Traces;
