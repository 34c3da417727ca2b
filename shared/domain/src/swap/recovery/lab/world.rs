//! A world that is not atomic, in which lab swaps are cut, repeated, resumed and brought back.
//!
//! It leaves out: more than one address; a newcomer that its owner stops (a Spot instance of one-time requests can't be);
//! target groups that AWS throttles.
//!
//! Undecidable, and so excused where they happen: who has stopped an instance once our stop is written ahead, who has
//! deregistered a target once our call is written ahead (AWS tells neither), and what happens between a look and its call:
//! that is put right afterwards, which the end is asked for.

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
use crate::swap::journal::{Retirement, SwapKind, Undo};
use crate::swap::lab::{Captured, Registration, Traits};
use execution::{At, Execution};
use jiff::Timestamp;
use oracles::Traces;
