//! The fuzz targets, a file each. Each says in its first lines what its parser promises.
//!
//! `make test` runs each for a few seconds, `make fuzz SECONDS=600` for longer. How one is added: CONTRIBUTING.md.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod event;
mod kubeconfig;
mod listing;
mod marks;
mod payload;
mod rows;
mod window;

/// Fails the case unless the promise holds.
fn promise(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}
