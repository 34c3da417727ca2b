//! What the text of a state machine says, for the tests that hold a function and its machine together.

/// A state machine, as the YAML that people read.
#[derive(Debug, Clone, Copy)]
pub struct StateMachine(pub &'static str);

impl StateMachine {
    /// The phases that its tasks ask for.
    #[must_use]
    pub fn phases(&self) -> Vec<&'static str> {
        self.after(" phase: ", &['\n']).collect()
    }

    /// The decisions that its choices look for, as JSON.
    #[must_use]
    pub fn decisions(&self) -> Vec<&'static str> {
        self.after("$next = ", &[' ']).collect()
    }

    /// Whether it has a state of this name.
    #[must_use]
    pub fn has_state(&self, name: &str) -> bool {
        self.0.contains(&format!("\n  {name}:\n"))
    }

    /// How many of its lists of errors begin with this one: it stands first in every Retry.
    #[must_use]
    pub fn retries(&self, error: &str) -> usize {
        self.after("ErrorEquals: [", &[',']).filter(|name| *name == error).count()
    }

    /// Whether a Catch is for this error alone.
    #[must_use]
    pub fn catches(&self, error: &str) -> bool {
        self.after("ErrorEquals: [", &[']']).any(|name| name == error)
    }

    /// What follows `prefix` on its lines, up to one of `ends`.
    fn after(self, prefix: &'static str, ends: &'static [char]) -> impl Iterator<Item = &'static str> {
        self.0.lines().filter_map(move |line| line.split_once(prefix)?.1.split(ends).next())
    }
}
