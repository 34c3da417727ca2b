//! How a swap that nobody drives any more is finished or undone: one decision after another, from its journal and from
//! what AWS shows.

#[cfg(test)]
mod fate;
pub mod group;
pub mod lab;
