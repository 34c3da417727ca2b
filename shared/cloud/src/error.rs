//! One error for every AWS call, sorted by the action that is left to the caller.

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use spot_domain::words::{Cause, LONGEST, chain, cut};

const MALFORMED: &str = "MalformedAnswer";
/// The code of a call whose answer never came, or not whole.
pub(crate) const NO_ANSWER: &str = "NoAnswer";
/// The words before an encoded copy of the refusal.
const ENCODED: &str = "Encoded authorization failure message";

/// The action that is left to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The caller may repeat the call later: it was throttled, timed out, or failed by AWS's own fault.
    Retry,
    /// The caller may try the next pool: this one has no capacity, or its zone has none of what a launch needs beside
    /// the instance. The error says nothing about the pool's risk.
    NextPool,
    /// The caller may try another subnet of the same zone: this one has no free address, or is gone.
    NextSubnet,
    /// A quota of the account stands against the call, for a class of types or for all: an operator has to
    /// have it raised.
    Quota,
    /// A permission is missing: an operator has to grant it.
    Denied,
    /// The resource that the call names does not exist (or not yet: EC2 is eventually consistent).
    NotFound,
    /// Another writer was faster: a condition on a table row did not hold. A transaction that DynamoDB
    /// cancels is of this kind, too; its message lists the reasons.
    ConditionFailed,
    /// AWS refuses these parameters: the same call will never succeed.
    Rejected,
}

/// A call that failed. Reports quote its message, which therefore has the words of its source, too.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{call}: {code}: {message}")]
pub struct CallError {
    /// The API action, as IAM spells it (`ec2:RunInstances`).
    pub call: &'static str,
    /// The action that is left to the caller.
    pub kind: Kind,
    /// AWS's error code, or the SDK's class of failure.
    pub code: String,
    /// AWS's message, which names the permission, the quota or the parameter.
    pub message: String,
    /// The error of the SDK or of a parser; `None` if the answer was read and is not what it must be.
    #[source]
    pub source: Option<Cause>,
}

impl CallError {
    /// Classifies the SDK's error for `call`.
    pub fn new<E>(call: &'static str, error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let (kind, code, message) = sorted(&error);
        Self { call, kind, code, message, source: Some(Cause::of(error)) }
    }

    /// Returns the error of an answer that lacks a field which AWS always gives.
    #[must_use]
    pub fn malformed(call: &'static str, message: impl Into<String>) -> Self {
        Self { call, kind: Kind::Rejected, code: MALFORMED.to_owned(), message: message.into(), source: None }
    }

    /// Returns true if Auto Scaling says that the instance is no member of the group any more, or is leaving
    /// it. The code is `ValidationError`, so that only the text tells.
    #[must_use]
    pub fn is_no_member(&self) -> bool {
        self.kind == Kind::Rejected && NO_MEMBER.iter().any(|text| self.message.contains(text))
    }

    /// Returns true if a service control policy of the organization denies the call itself. Only the text tells. The
    /// denial of a role that was to be assumed for the call names another action.
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html>
    #[must_use]
    pub fn is_denied_by_organization(&self) -> bool {
        let refused = format!("not authorized to perform: {}", self.call);
        self.kind == Kind::Denied && self.message.contains(&refused) && self.message.contains(BY_ORGANIZATION)
    }

    /// Returns true if AWS has answered that it did not do what the call asked for, so that a call that was sent once
    /// has changed nothing. A failure of AWS's own, and an answer that never came or can't be read, prove nothing.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self.kind {
            Kind::Retry => REFUSED_FOR_NOW.contains(&self.code.as_str()),
            _ => self.code != NO_ANSWER && !self.is_malformed(),
        }
    }

    /// Returns true if AWS did answer, and the answer can't be read.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        self.code == MALFORMED
    }
}

const BY_ORGANIZATION: &str = "with an explicit deny in a service control policy";

/// "Instance Id not found - No managed instance found for instance ID: …", "The instance … is not part of Auto Scaling
/// group …", "The instance … is not in InService or Standby."
const NO_MEMBER: [&str; 3] =
    ["No managed instance found", "is not part of Auto Scaling group", "is not in InService or Standby"];

/// Refusals that pass: AWS was asked too much or at a bad moment, or the signature was too old.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/CommonErrors.html>
const REFUSED_FOR_NOW: [&str; 9] = [
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "RequestThrottled",
    "ResourceContention",
    "ScalingActivityInProgress",
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
];

/// Returns the mapping of an SDK error for `map_err` at a call site.
pub fn failed<E>(call: &'static str) -> impl Fn(SdkError<E, HttpResponse>) -> CallError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    move |error| CallError::new(call, error)
}

/// Returns the mapping of the error that a request can't be written for, or an answer can't be read for, for `map_err`.
pub fn unreadable<E>(call: &'static str) -> impl Fn(E) -> CallError
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |error| {
        let malformed = CallError::malformed(call, chain(&error));
        CallError { source: Some(Cause::of(error)), ..malformed }
    }
}

/// Returns the kind, the code and the message of the SDK's error.
fn sorted<E>(error: &SdkError<E, HttpResponse>) -> (Kind, String, String)
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let code = error.code().unwrap_or_default().to_owned();
    let status = error.raw_response().map(|response| response.status().as_u16());
    if !code.is_empty() {
        return (kind_of(&code, status), code, message(error.message()));
    }
    let message = chain(error);
    // The call was never sent. Only the text holds the answer of the credentials' provider.
    if status.is_none() && message.contains("AccessDenied") {
        return (Kind::Denied, "AccessDenied".to_owned(), message);
    }
    // An answer that was cut short is no refusal either: AWS may have done what the call asked for.
    let unknown = status.is_none_or(|s| !(400..500).contains(&s) || s == 429);
    (if unknown { Kind::Retry } else { Kind::Rejected }, NO_ANSWER.to_owned(), message)
}

/// Returns AWS's message, cut, without the encoded copy of the refusal that EC2 adds.
///
/// The copy differs at each call, so that the same refusal would never read the same.
/// <https://docs.aws.amazon.com/cli/latest/reference/sts/decode-authorization-message.html>
fn message(text: Option<&str>) -> String {
    let text = text.unwrap_or_default();
    let words = text.split(ENCODED).next().unwrap_or(text).trim_end();
    if words.is_empty() { "no message".to_owned() } else { cut(words, LONGEST) }
}

/// Returns the kind of an error code, from the EC2, Auto Scaling and DynamoDB API references.
/// A shortage (`Insufficient…Capacity`) comes as HTTP 500, so that the code counts before the status.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>
fn kind_of(code: &str, status: Option<u16>) -> Kind {
    match code {
        "InsufficientInstanceCapacity"
        | "UnfulfillableCapacity"
        | "SpotMaxPriceTooLow"
        | "InstanceCreditSpecification.NotSupported"
        | "InsufficientCapacity"
        | "InsufficientHostCapacity"
        | "InsufficientVolumeCapacity"
        | "InsufficientAddressCapacity"
        | "InsufficientCapacityOnOutpost"
        | "AttachmentLimitExceeded" // of a type that takes fewer interfaces
        | "Unsupported"
        | "UnsupportedOperation"
        | "UnsupportedHostConfiguration" => Kind::NextPool,
        "InsufficientFreeAddressesInSubnet" | "InvalidSubnetID.NotFound" | "InvalidSubnet" => Kind::NextSubnet,
        "MaxSpotInstanceCountExceeded" | "MaxSpotFleetRequestCountExceeded" => Kind::Quota,
        "UnauthorizedOperation"
        | "AccessDenied"
        | "AccessDeniedException"
        | "Blocked"
        | "OptInRequired"
        | "PendingVerification"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId" => Kind::Denied,
        code if code.starts_with("AuthFailure") => Kind::Denied,
        "ConditionalCheckFailedException" | "TransactionCanceledException" => Kind::ConditionFailed,
        "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "RequestThrottled"
        | "ProvisionedThroughputExceededException"
        | "ResourceContention"
        | "TransactionConflictException"
        | "TransactionInProgressException"
        | "ScalingActivityInProgress"
        | "Unavailable"
        | "ServiceUnavailable"
        | "InternalError"
        | "InternalFailure"
        | "InternalServerError"
        // An attempt of ours with other parameters is under way: its instance is found by its tag.
        | "IdempotentParameterMismatch"
        | "InvalidSnapshot.InUse" // for a moment after the image that used it is deregistered
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "RequestTimeout" => Kind::Retry,
        // The limit is on the tags of one instance, not on the account's.
        "TagLimitExceeded" => Kind::Rejected,
        code if code.ends_with("LimitExceeded") => Kind::Quota,
        code if code.ends_with("NotFound")
            || code.ends_with("NotFoundException")
            || code.ends_with(".Malformed") =>
        {
            Kind::NotFound
        }
        _ if status.is_some_and(|s| s >= 500) => Kind::Retry,
        _ => Kind::Rejected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_has_left_its_group_is_told_by_the_words_of_the_refusal() {
        let refused = |kind, message: &str| {
            let message = message.to_owned();
            let code = "ValidationError".to_owned();
            CallError { kind, code, ..CallError::malformed("autoscaling:DetachInstances", message) }
        };
        for words in [
            "Instance Id not found - No managed instance found for instance ID: i-0abc",
            "The instance i-0abc is not part of Auto Scaling group web.",
            "The instance i-0abc is not in InService or Standby.",
        ] {
            assert!(refused(Kind::Rejected, words).is_no_member(), "{words}");
            assert!(!refused(Kind::Retry, words).is_no_member(), "{words}");
        }
        let smallest = "Currently, desiredSize equals minSize (1).";
        assert!(!refused(Kind::Rejected, smallest).is_no_member());
    }

    #[test]
    fn a_denial_of_the_organization_is_told_from_any_other() {
        let refused = |kind, message: &str| CallError {
            kind,
            code: "UnauthorizedOperation".to_owned(),
            ..CallError::malformed("ec2:DescribeInstances", message)
        };
        let words = "You are not authorized to perform this operation. User: arn:aws:sts::123456789012:assumed-role/a/b \
                     is not authorized to perform: ec2:DescribeInstances with an explicit deny in a service control policy";
        assert!(refused(Kind::Denied, words).is_denied_by_organization());
        let with_arn =
            format!("{words}: arn:aws:organizations::210987654321:policy/o-1/service_control_policy/p-1.");
        assert!(refused(Kind::Denied, &with_arn).is_denied_by_organization());
        for other in [
            words.replace("in a service control policy", "in an identity-based policy"),
            words.replace(
                "with an explicit deny in a service",
                "because no identity-based policy allows it. Not a service",
            ),
            words.replace("ec2:DescribeInstances", "sts:AssumeRole"),
        ] {
            assert!(!refused(Kind::Denied, &other).is_denied_by_organization(), "{other}");
        }
        assert!(!refused(Kind::Rejected, words).is_denied_by_organization());
    }

    #[test]
    fn reader_2_a_refusal_proves_that_nothing_was_done_and_a_failure_of_awss_own_does_not() {
        let of = |code: &str, status| {
            let (kind, code) = (kind_of(code, Some(status)), code.to_owned());
            CallError { kind, code, ..CallError::malformed("autoscaling:DetachInstances", "") }
        };
        for (code, status) in [
            ("Throttling", 400),
            ("RequestLimitExceeded", 503),
            ("ScalingActivityInProgress", 400),
            ("ResourceContention", 500),
            ("AccessDenied", 403),
            ("ValidationError", 400),
            ("ExpiredToken", 403),
        ] {
            assert!(of(code, status).is_refusal(), "{code}");
        }
        for (code, status) in [
            ("InternalFailure", 500),
            ("ServiceUnavailable", 503),
            ("SomethingNew", 500),
            ("RequestTimeout", 408),
        ] {
            assert!(!of(code, status).is_refusal(), "{code}");
        }
        let silent = |kind| CallError { kind, ..of(NO_ANSWER, 400) };
        assert!(!silent(Kind::Retry).is_refusal() && !silent(Kind::Rejected).is_refusal());
        assert!(!CallError::malformed("autoscaling:DetachInstances", "no activity").is_refusal());
    }

    /// Each code with the kind that it must have: it stops a pool, a subnet, one instance, or the account.
    const CODES: &[(&str, u16, Kind)] = &[
        ("InsufficientInstanceCapacity", 500, Kind::NextPool),
        ("UnfulfillableCapacity", 500, Kind::NextPool),
        ("InsufficientCapacity", 400, Kind::NextPool),
        ("InsufficientHostCapacity", 500, Kind::NextPool),
        ("InsufficientVolumeCapacity", 500, Kind::NextPool),
        ("InsufficientAddressCapacity", 500, Kind::NextPool),
        ("SpotMaxPriceTooLow", 400, Kind::NextPool),
        ("InstanceCreditSpecification.NotSupported", 400, Kind::NextPool),
        ("Unsupported", 400, Kind::NextPool),
        ("UnsupportedOperation", 400, Kind::NextPool),
        ("InsufficientFreeAddressesInSubnet", 400, Kind::NextSubnet),
        ("InvalidSubnetID.NotFound", 400, Kind::NextSubnet),
        ("InvalidSubnet", 400, Kind::NextSubnet),
        ("MaxSpotInstanceCountExceeded", 400, Kind::Quota),
        ("VcpuLimitExceeded", 400, Kind::Quota),
        ("InstanceLimitExceeded", 400, Kind::Quota),
        ("VolumeLimitExceeded", 400, Kind::Quota),
        ("NetworkInterfaceLimitExceeded", 400, Kind::Quota),
        ("LimitExceeded", 400, Kind::Quota),
        ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", 400, Kind::Denied),
        ("UnauthorizedOperation", 403, Kind::Denied),
        ("AccessDenied", 403, Kind::Denied),
        ("PendingVerification", 400, Kind::Denied),
        ("Blocked", 400, Kind::Denied),
        ("OptInRequired", 401, Kind::Denied),
        ("InvalidInstanceID.NotFound", 400, Kind::NotFound),
        ("InvalidLaunchTemplateId.NotFound", 400, Kind::NotFound),
        ("InvalidInstanceID.Malformed", 400, Kind::NotFound),
        ("RequestLimitExceeded", 503, Kind::Retry),
        ("Throttling", 400, Kind::Retry),
        ("InvalidSnapshot.InUse", 400, Kind::Retry),
        ("Server.InternalError", 500, Kind::Retry),
        ("SomethingNew", 500, Kind::Retry),
        ("TagLimitExceeded", 400, Kind::Rejected),
        ("InvalidParameterCombination", 400, Kind::Rejected),
        ("InvalidParameterValue", 400, Kind::Rejected),
        ("IdempotentParameterMismatch", 400, Kind::Retry),
        ("IdempotentInstanceTerminated", 400, Kind::Rejected), // the next pool follows, as after any refusal
        ("AttachmentLimitExceeded", 400, Kind::NextPool),
        ("ValidationError", 400, Kind::Rejected),
        ("ConditionalCheckFailedException", 400, Kind::ConditionFailed),
        ("TransactionCanceledException", 400, Kind::ConditionFailed),
        ("TransactionConflictException", 400, Kind::Retry),
    ];

    #[test]
    fn every_code_stops_what_it_is_about() {
        for (code, status, kind) in CODES {
            assert_eq!(kind_of(code, Some(*status)), *kind, "{code}");
        }
    }

    /// EC2 encodes the same refusal anew at each call: with the encoded part, no two refusals would ever be
    /// the same.
    #[test]
    fn the_same_refusal_has_the_same_words_at_each_call() {
        let words = "You are not authorized to perform this operation. User: arn:aws:sts::123456789012:assumed-role/a/b is \
                     not authorized to perform: ec2:TerminateInstances";
        for encoded in ["aGVsbG8", "d29ybGQ"] {
            let whole = format!("{words}. Encoded authorization failure message: {encoded}");
            assert_eq!(message(Some(&whole)), format!("{words}."));
        }
        assert_eq!(message(Some("Encoded authorization failure message: x")), "no message");
        assert_eq!((message(Some(words)).as_str(), message(None).as_str()), (words, "no message"));
    }
}
