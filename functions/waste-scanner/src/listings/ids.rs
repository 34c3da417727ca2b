//! The ids of a listing that a scan can do without.

use std::collections::HashSet;

use spot_cloud::CallError;

/// The ids of all resources of a kind, as far as EC2 lists them.
#[derive(Debug)]
pub(crate) enum Ids {
    /// All of them.
    Read(HashSet<Box<str>>),
    /// They can't be listed, because of this error.
    Unread(CallError),
}

impl Default for Ids {
    fn default() -> Self {
        Self::Read(HashSet::new())
    }
}

impl From<Result<HashSet<Box<str>>, CallError>> for Ids {
    fn from(listed: Result<HashSet<Box<str>>, CallError>) -> Self {
        listed.map_or_else(Self::Unread, Self::Read)
    }
}

impl Ids {
    /// Returns the error by which they could not be listed, if any.
    pub(crate) fn unread(&self) -> Option<&CallError> {
        match self {
            Self::Read(_) => None,
            Self::Unread(error) => Some(error),
        }
    }
}
