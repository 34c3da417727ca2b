//! The settings: every value that the reference allows keeps the promises, and each setting has its effect, from the nearest
//! row that has it.

mod effects;
mod limits;
mod seen;

/// Fails with each of these, if any, of so many histories.
fn none_is_broken(broken: &[String], histories: usize) {
    spot_world::campaign::tally(histories, broken.len());
    assert!(histories > 0, "nothing was played");
    assert!(broken.is_empty(), "{} of {histories}:\n{}", broken.len(), broken.join("\n"));
}
