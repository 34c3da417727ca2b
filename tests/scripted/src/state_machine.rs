//! The text of a state machine, for the tests that compare a function with its machine.

/// A state machine, as the YAML in the repository.
#[derive(Debug, Clone, Copy)]
pub struct StateMachine(pub &'static str);

impl StateMachine {
    /// Returns the phases that its tasks ask for.
    #[must_use]
    pub fn phases(&self) -> Vec<&'static str> {
        self.after(" phase: ", &['\n']).collect()
    }

    /// Returns the decisions that its choices compare with, as JSON.
    #[must_use]
    pub fn decisions(&self) -> Vec<&'static str> {
        self.after("$next = ", &[' ']).collect()
    }

    /// Returns the names of its Task states that invoke a function.
    #[must_use]
    pub fn tasks(&self) -> Vec<&'static str> {
        self.tasks_of("")
    }

    /// Returns the names of its Task states that invoke the function whose placeholder begins with `function`.
    #[must_use]
    pub fn tasks_of(&self, function: &str) -> Vec<&'static str> {
        let name =
            |line: &'static str| line.strip_prefix("  ")?.strip_suffix(':').filter(|n| !n.starts_with(' '));
        let mut state = "";
        let mut tasks = Vec::new();
        for line in self.0.lines() {
            state = name(line).unwrap_or(state);
            if line.strip_prefix("    Resource: ${").is_some_and(|resource| resource.starts_with(function)) {
                tasks.push(state);
            }
        }
        tasks
    }

    /// Counts its lists of errors that begin with this one, which stands first in every Retry.
    #[must_use]
    pub fn retries(&self, error: &str) -> usize {
        self.after("ErrorEquals: [", &[',']).filter(|name| *name == error).count()
    }

    /// Returns true if a Catch is for this error alone.
    #[must_use]
    pub fn catches(&self, error: &str) -> bool {
        self.after("ErrorEquals: [", &[']']).any(|name| name == error)
    }

    /// Returns the text behind `prefix` on each of its lines, up to one of `ends`.
    fn after(self, prefix: &'static str, ends: &'static [char]) -> impl Iterator<Item = &'static str> {
        self.0.lines().filter_map(move |line| line.split_once(prefix)?.1.split(ends).next())
    }
}
