//! The limit on evictions of one controller's pods from one node. A pod that tolerates the cordon, or whose
//! template names the node, comes back to it. Without a limit, it would be evicted for ever.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Evictions for each pod that a controller had on the node: the pod itself, and its first replacement there.
const PER_POD: u32 = 2;

/// The evictions of one controller's pods from one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Pods of the controller that were on the node at first sight.
    pub here: u32,
    /// Evictions that were granted.
    pub evicted: u32,
    /// The fewest pods of the controller that may exist, on any node, when a further one is evicted. Set by the first
    /// count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<u32>,
}

impl Turn {
    /// Returns true once no pod of this controller is to be evicted again: the pods on the node have come
    /// back twice.
    #[must_use]
    pub const fn is_over(self) -> bool {
        self.evicted >= self.here.saturating_mul(PER_POD)
    }
}

/// The turns of all controllers, by the controller's UID, or by the name of a pod without one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Turns(BTreeMap<String, Turn>);

impl Turns {
    /// Notes the pods on the node. A controller that is known already keeps its first count.
    pub fn meet<'a>(&mut self, pods: impl Iterator<Item = &'a str>) {
        let mut new: BTreeMap<&str, Turn> = BTreeMap::new();
        for of in pods.filter(|of| !self.0.contains_key(*of)) {
            new.entry(of).or_default().here += 1;
        }
        let new: Vec<_> = new.into_iter().map(|(of, turn)| (of.to_owned(), turn)).collect();
        self.0.extend(new);
    }

    /// Returns the turn of a controller.
    #[must_use]
    pub fn of(&self, of: &str) -> Turn {
        self.0.get(of).copied().unwrap_or_default()
    }

    /// Keeps the fewest pods of a controller that may exist when a further one is evicted. Returns the number of the
    /// first count: a way back keeps nothing else of its counts from visit to visit.
    pub fn keep_least(&mut self, of: &str, least: u32) -> u32 {
        *self.0.entry(of.to_owned()).or_default().least.get_or_insert(least)
    }

    /// Counts an eviction.
    pub fn count(&mut self, of: &str) {
        self.0.entry(of.to_owned()).or_default().evicted += 1;
    }

    /// Returns true if nothing was noted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_comes_back_is_evicted_once_more_and_no_further() {
        let mut turns = Turns::default();
        turns.meet(["web"].into_iter());
        for expected in [false, false, true] {
            turns.meet(["web"].into_iter());
            assert_eq!(turns.of("web").is_over(), expected);
            turns.count("web");
        }
    }

    #[test]
    fn each_pod_of_a_controller_has_its_turns() {
        let mut turns = Turns::default();
        turns.meet(["web", "db", "web"].into_iter());
        turns.meet(["web"].into_iter());
        assert_eq!((turns.of("web").here, turns.of("db").here), (2, 1));
        (0..3).for_each(|_| turns.count("web"));
        assert!(!turns.of("web").is_over());
        turns.count("web");
        assert!(turns.of("web").is_over() && !turns.of("db").is_over());
    }

    #[test]
    fn what_was_never_seen_has_no_turn() {
        assert!(Turns::default().of("web").is_over());
    }
}
