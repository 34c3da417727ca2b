//! The reasons for which the loop does not start a swap now, although a group or a lab instance may have something to swap.
//! Each has one stable code. The codes are an interface: answers, events and the Groups table bear them.
//!
//! A reason is declared once, in the list below; docs/reference/reasons.md follows from it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::codes::codes;

/// Makes the deferrals from `Name = "CODE", way_out: "…";`.
macro_rules! deferrals {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, way_out: $way_out:literal;)+) => {
        codes! {
            /// The code of a deferral.
            Deferral { $($(#[doc = $doc])+ $name = $code;)+ }
        }

        impl Deferral {
            /// Returns what a person can do about it, in Markdown. Links are relative to docs/reference.
            #[must_use]
            pub const fn way_out(self) -> &'static str {
                match self { $(Self::$name => $way_out,)+ }
            }
        }
    };
}

deferrals! {
    /// A tag of the group or lab instance can't be read, or its key is misspelt; the detail names the tag and the fault. It
    /// is told once a day.
    BadTag = "BAD_TAG",
        way_out: "Correct or remove the tag, or set `spot-optimizer:enabled` to `false`.";
    /// The last runs failed, one after the other, as often as `max_failed_runs`. It is told once a day.
    TooManyFailures = "TOO_MANY_FAILURES",
        way_out: "Repair what the detail names, then delete the row in the Groups table.";
    /// The last run failed. The pause begins with 15 minutes and doubles with each failure, up to 6 hours.
    BackingOff = "BACKING_OFF",
        way_out: "Wait, or repair what the detail names and delete the row in the Groups table.";
    /// The window of the tag `spot-optimizer:window` is closed.
    WindowClosed = "WINDOW_CLOSED",
        way_out: "Wait, or change the tag.";
    /// An execution works on the group or lab instance, or every slot of its Kubernetes cluster is taken.
    SwapInProgress = "SWAP_IN_PROGRESS",
        way_out: "None is needed: the next sweep looks again.";
    /// Every On-Demand member that may be swapped was launched less than `settle_seconds` ago, or the lab instance was
    /// started so. While other members are settled, the loop swaps those.
    Settling = "SETTLING",
        way_out: "None is needed. For a shorter pause, lower `settle_seconds`.";
    /// The group launches or terminates members of its own.
    GroupScaling = "GROUP_SCALING",
        way_out: "None is needed: the next sweep looks again.";
    /// As many executions of the loop run as `max_groups_at_once` allows.
    TooManyAtOnce = "TOO_MANY_AT_ONCE",
        way_out: "None is needed: the next sweep looks again. For more at a time, raise `max_groups_at_once`.";
    /// An execution for this group or lab instance was started less than 15 minutes ago, and has ended.
    StartedRecently = "STARTED_RECENTLY",
        way_out: "None is needed: the next sweep looks again.";
    /// A refresh of its instances is under way, or the group is being deleted.
    GroupBusy = "GROUP_BUSY",
        way_out: "Wait for its end.";
    /// The group may not be swapped as it is configured; the detail says why.
    GroupNotSupported = "GROUP_NOT_SUPPORTED",
        way_out: "See [groups](../groups.md). The loop looks again after an hour.";
    /// The group has On-Demand members, and none of them can be swapped, or the lab instance can't; the detail names the
    /// first, each with its [reason](#reasons-and-errors).
    NoCandidate = "NO_CANDIDATE",
        way_out: "See the [reasons](#reasons-and-errors). The loop looks again after an hour.";
    /// The last run swapped nothing; the detail names the first members, each with its [reason](#reasons-and-errors).
    NothingSwapped = "NOTHING_SWAPPED",
        way_out: "See the [reasons](#reasons-and-errors). The loop tries again after 6 hours.";
    /// The loop has swapped this lab instance before, and it runs again: its owner brought it back. It is told once a day.
    BroughtBack = "BROUGHT_BACK",
        way_out: "To swap it again, delete its row in the Groups table. To keep it On-Demand, set its tag \
            `spot-optimizer:enabled` to `false`.";
    /// Every pool that might replace a member, or the pool of the lab instance, is poisoned. `not_before` is the earliest end of a poison.
    PoolPoisoned = "POOL_POISONED",
        way_out: "Wait, or allow other types (tag `spot-optimizer:instance-types`). [Risk](../risk.md) says how to \
            unpoison a pool.";
    /// No pool is known to be clear: a row of the risk table can't be read.
    PoolUnreadable = "POOL_UNREADABLE",
        way_out: "Repair or delete the row that the detail names.";
    /// The risk table, or a member's hub, did not answer.
    GateUnreachable = "GATE_UNREACHABLE",
        way_out: "None is needed: the next sweep asks again. If it lasts, look at the risk table; in a member, at the \
            [hub](../hub.md).";
}

impl Deferral {
    /// Returns true if a person must act: it is told every day.
    #[must_use]
    pub const fn needs_a_person(self) -> bool {
        matches!(self, Self::BadTag | Self::TooManyFailures | Self::BroughtBack)
    }
}

/// The reason for which a group or a lab instance is not swapped now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferred {
    /// The code.
    pub reason: Deferral,
    /// The reason in words.
    pub detail: String,
    /// The earliest time at which a swap may start, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
}

impl Deferred {
    /// Returns a deferral whose end is not known.
    #[must_use]
    pub fn new(reason: Deferral, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), not_before: None }
    }

    /// Returns a deferral until this time.
    #[must_use]
    pub fn until(reason: Deferral, detail: impl Into<String>, not_before: Timestamp) -> Self {
        Self { not_before: Some(not_before), ..Self::new(reason, detail) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_screaming_snake_and_unique() {
        let codes: std::collections::BTreeSet<_> = Deferral::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Deferral::ALL.len());
        for reason in Deferral::ALL {
            assert!(reason.code().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{reason}");
            assert_eq!(serde_json::to_string(reason).unwrap(), format!("\"{reason}\""));
        }
    }

    #[test]
    fn a_deferral_is_spelled_as_the_answer_has_it() {
        let until = Deferred::until(Deferral::WindowClosed, "closed", Timestamp::UNIX_EPOCH);
        assert_eq!(
            serde_json::to_value(until).unwrap(),
            serde_json::json!({"reason": "WINDOW_CLOSED", "detail": "closed", "not_before": "1970-01-01T00:00:00Z"})
        );
    }
}
