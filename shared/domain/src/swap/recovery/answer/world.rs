//! A world that is not atomic, in which answers to a two-minute notice are cut, repeated and resumed.
//!
//! It leaves out: what the owner asks for between a look and the raise of desired, which is an absolute number, or while that
//! call is under way (docs/to-try-on-aws.md: inherent); what he asks for between a look at MaxSize and its change (hole 12b:
//! inherent); a wish of the owner that is by chance what we made of desired (hole 5d: nobody could tell); another swap of
//! the group, which its lease keeps out.

mod execution;
mod history;
mod oracles;
mod recoverer;
mod tests;

use super::*;
use crate::reason::Reason;
use crate::swap::journal::Undo;
