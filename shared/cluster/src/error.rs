//! One error for every Kubernetes call, sorted by what the caller may do about it.

/// What the caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The same call may go through later: no answer, throttled, the API server's own fault.
    Retry,
    /// The API server does not know this caller (a token expires after 15 minutes): open a new
    /// client; if that is refused too, a person must let the role in (an access entry).
    Unauthorized,
    /// A verb is missing in the ClusterRole: tell a person.
    Denied,
    /// The object does not exist (any more).
    NotFound,
    /// Somebody else changed the object in between: look again.
    Conflict,
    /// The API server refuses this request: the same one will never go through.
    Rejected,
}

/// A call to the API server that failed. Holds no secret.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{call} {object}: {reason}: {message}")]
pub struct ClusterError {
    /// Verb and resource, as RBAC spells them (`patch nodes`).
    pub call: &'static str,
    /// What the call was about: a node's name, `namespace/pod`, a list's selector.
    pub object: String,
    /// What the caller may do.
    pub kind: Kind,
    /// Kubernetes' reason (`Forbidden`), or the class of failure (`NoAnswer`).
    pub reason: String,
    /// The API server's message, which names the missing verb or the invalid field.
    pub message: String,
}
