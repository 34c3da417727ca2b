//! The loop: which groups are enrolled, when a swap of one may start, and what follows from the end of the last. The
//! group watcher asks; nothing here changes anything.

pub mod back_off;
pub mod deferral;
pub mod enrolment;
pub mod name;
pub mod prospects;
pub mod window;

pub use deferral::{Deferral, Deferred};
