//! How a pass of a drain treats the pods that may not, or should not, go.

/// The treatment of the last Ready pod of a controller that wants several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastReady {
    /// The pod stays until another one is Ready.
    Keep,
    /// The pod is evicted, as by kubectl: the deadline is near. It stays if an evicted pod has no replacement.
    Evict,
}

/// The fate of the other pods while one is there that no pass can move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// The others stay: no pod is evicted for a drain that can't end.
    Stay,
    /// The others go: the node is about to be lost in any case.
    Go,
}

/// The manner of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    pub last_ready: LastReady,
    pub others: Others,
}

impl From<LastReady> for Manner {
    fn from(last_ready: LastReady) -> Self {
        Self { last_ready, others: Others::Stay }
    }
}
