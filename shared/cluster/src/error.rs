//! One error for every Kubernetes call, sorted by the caller's next step.

use kube::core::Status;
use spot_domain::words::{self, Cause, chain};

/// The next step that is open to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The same call may succeed later: no answer, throttled, or a fault of the API server itself.
    Retry,
    /// The API server does not know this caller (a token expires after 15 minutes). Open a new client. If the
    /// server refuses that client too, a person must add an access entry for the role.
    Unauthorized,
    /// The ClusterRole lacks a verb: notify a person.
    Denied,
    /// The object does not exist (any more).
    NotFound,
    /// Another client changed the object in between: read it again.
    Conflict,
    /// The API server refuses this request: the same request will never succeed.
    Rejected,
}

/// A failed call to the API server. Holds no secret.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{call} {object}: {reason}: {message}")]
pub struct ClusterError {
    /// Verb and resource, as RBAC spells them (`patch nodes`).
    pub call: &'static str,
    /// The object of the call: a node's name, `namespace/pod`, or a list's selector.
    pub object: String,
    pub kind: Kind,
    /// Kubernetes' reason (`Forbidden`), or the class of failure (`NoAnswer`).
    pub reason: String,
    /// The API server's message, which names the missing verb or the invalid field.
    pub message: String,
    /// The client's error; `None` if the server answered and the answer was read.
    #[source]
    pub source: Option<Cause>,
}

impl ClusterError {
    /// Sorts kube's error for `call` on `object`.
    pub(crate) fn new(call: &'static str, object: impl Into<String>, error: kube::Error) -> Self {
        let message = chain(&error);
        let (kind, reason) = match &error {
            kube::Error::Api(status) => return Self::from_status(call, object, status),
            // A server with a foreign certificate will have it the next time, too.
            kube::Error::HyperError(_) | kube::Error::Service(_) if message.contains("certificate") => {
                (Kind::Rejected, "NoAnswer")
            }
            kube::Error::HyperError(_) | kube::Error::Service(_) => (Kind::Retry, "NoAnswer"),
            kube::Error::Auth(_) => (Kind::Unauthorized, "NoToken"),
            _ => (Kind::Rejected, "BadCall"),
        };
        let (object, reason) = (object.into(), reason.to_owned());
        Self { call, object, kind, reason, message, source: Some(Cause::of(error)) }
    }

    /// Sorts an error status of the API server.
    pub(crate) fn from_status(call: &'static str, object: impl Into<String>, status: &Status) -> Self {
        let kind = match status.code {
            401 => Kind::Unauthorized,
            403 => Kind::Denied,
            404 => Kind::NotFound,
            409 => Kind::Conflict,
            // 410: the list's next page has expired; a new list works.
            410 | 429 | 500.. => Kind::Retry,
            _ => Kind::Rejected,
        };
        let reason = if status.reason.is_empty() { status.code.to_string() } else { status.reason.clone() };
        Self { call, object: object.into(), kind, reason, message: status.message.clone(), source: None }
    }

    /// Makes the error for an object that lacks a field which it always has.
    pub(crate) fn malformed(
        call: &'static str,
        object: impl Into<String>,
        problem: impl Into<String>,
    ) -> Self {
        let reason = "MalformedAnswer".to_owned();
        Self {
            call,
            object: object.into(),
            kind: Kind::Rejected,
            reason,
            message: problem.into(),
            source: None,
        }
    }
}

/// Makes the closure for `map_err` at a call site.
pub(crate) fn failed(
    call: &'static str,
    object: impl Into<String>,
) -> impl FnOnce(kube::Error) -> ClusterError {
    move |error| ClusterError::new(call, object, error)
}

/// Cuts a foreign text, which may be long: the state that travels between passes must stay small.
pub(crate) fn cut(words: &str) -> String {
    words::cut(words, 250)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_way_out() {
        let cases = [
            (401, Kind::Unauthorized),
            (403, Kind::Denied),
            (404, Kind::NotFound),
            (409, Kind::Conflict),
            (410, Kind::Retry),
            (422, Kind::Rejected),
            (429, Kind::Retry),
            (500, Kind::Retry),
            (503, Kind::Retry),
        ];
        for (code, kind) in cases {
            let status = Status::failure("no", "Because").with_code(code);
            let error = ClusterError::new("get nodes", "n1", kube::Error::Api(status.boxed()));
            assert_eq!(error.kind, kind, "{code}");
            assert_eq!(error.to_string(), "get nodes n1: Because: no");
        }
    }

    #[test]
    fn silence_is_worth_another_try_and_a_foreign_certificate_is_not() {
        let service = |text: &str| kube::Error::Service(text.to_owned().into());
        let kind = |error| ClusterError::new("list pods", "n1", error).kind;
        assert_eq!(kind(service("connection refused")), Kind::Retry);
        assert_eq!(kind(service("invalid peer certificate: UnknownIssuer")), Kind::Rejected);
    }
}
