//! The fuzz targets, a file for each kind of data. Each says in its first lines what its parser promises. The target of a
//! parser that is private to its crate lies beside the parser, as its module `fuzz`.
//!
//! `make test` runs each for a few seconds, `make fuzz SECONDS=600` for longer. How one is added: CONTRIBUTING.md.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod event;
mod kubeconfig;
mod listing;
mod marks;
mod output;
mod payload;
mod product;
mod progress;
mod rows;
mod window;

/// Fails the case unless the promise holds.
fn promise(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}
