//! The rules between a flag and a termination: start and stop of the clock, and the due time.
//!
//! The clock starts at the first flag, and no later run moves it. A flag that is missing, malformed or in the
//! future never counts as expired: it starts anew.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::audit::authorization::Authorization;
use crate::audit::reminders::{CLOCK_SKEW, is_recent};

/// The time for which EC2 may still list a terminated instance as running.
const STILL_LISTED: SignedDuration = SignedDuration::from_hours(1);

/// The status of an instance in the InstanceAuth table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuthStatus {
    /// Nothing authorises the instance; the clock runs.
    Flagged,
    /// The instance was flagged, and no longer is: it is authorised, or gone without us.
    Cleared,
    /// We terminated the instance.
    Terminated,
    /// The instance was due, and something forbids its termination. The clock has run.
    TerminationBlocked,
    /// The instance bears our mark, and nothing proves that it is ours. Such an instance is never terminated.
    Suspicious,
}

impl AuthStatus {
    /// Every status there is.
    pub const ALL: [Self; 5] =
        [Self::Flagged, Self::Cleared, Self::Terminated, Self::TerminationBlocked, Self::Suspicious];

    /// Returns the status as the table spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flagged => "FLAGGED",
            Self::Cleared => "CLEARED",
            Self::Terminated => "TERMINATED",
            Self::TerminationBlocked => "TERMINATION_BLOCKED",
            Self::Suspicious => "SUSPICIOUS",
        }
    }
}

impl fmt::Display for AuthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AuthStatus {
    type Err = crate::ids::MalformedText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or_else(|| {
            crate::ids::MalformedText {
                kind: "auth_status",
                given: text.chars().take(80).collect(),
                expected: "FLAGGED, CLEARED, TERMINATED, TERMINATION_BLOCKED or SUSPICIOUS",
            }
        })
    }
}

/// A row of InstanceAuth. A field is `None` where the table has none, or none that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The status of the instance.
    pub status: Option<AuthStatus>,
    /// The time of the first flag. This time never moves while the status stays.
    pub flagged_at: Option<Timestamp>,
    /// The time from the flag until its notice went out: zero if nothing delayed the notice, `None` until it
    /// has gone out. The owner has the whole grace from the notice on.
    pub notice_delay: Option<SignedDuration>,
    /// The time of the last notice or reminder that the instance runs; `None` in rows without one.
    pub told_at: Option<Timestamp>,
    /// The time at which a run last saw the instance in this status.
    pub last_seen: Option<Timestamp>,
    /// The run that last saw the instance. A run repeated by Lambda does not count as the run before. `None`
    /// once a run has found the instance not running.
    pub seen_by: Option<String>,
    /// The time right before the call that terminates the instance: it shows that a run may have died there.
    pub terminating_at: Option<Timestamp>,
    /// The reason in words.
    pub reason: String,
}

/// One observation by one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRun {
    /// The time of the observation.
    pub at: Timestamp,
    /// The id of the run.
    pub run: String,
}

/// An event that is worth a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum AuditNotice {
    /// The clock started.
    Flagged,
    /// The clock started earlier, and the notice of it is still owed.
    NoticeOwed,
    /// The instance still runs, flagged, blocked or suspicious, a day after the last notice.
    StillRuns,
    /// The flag is gone.
    Cleared,
    /// The instance bears our mark, and no swap launched it.
    Suspicious,
    /// We terminated the instance.
    Terminated,
    /// The instance is due, and something forbids its termination.
    TerminationBlocked,
}

/// The outcome of an observation: the row to write, and the notice to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// The new row.
    pub record: Record,
    /// The notice; `None` if only `last_seen` moved.
    pub news: Option<AuditNotice>,
}

/// Returns how an observation of a running instance changes its row.
#[must_use]
pub fn observe(old: Option<&Record>, standing: &Authorization, look: &AuditRun) -> Option<RowChange> {
    match standing {
        Authorization::BeingReplaced => None,
        Authorization::Authorised(by) => {
            old.filter(|r| is_open(r)).map(|r| clear(r, &format!("authorised: {by}"), look))
        }
        Authorization::Suspicious(why) => Some(match old {
            Some(r) if r.status == Some(AuthStatus::Suspicious) => {
                RowChange { news: owed(r, AuditNotice::Suspicious, look), ..seen_again(r, look) }
            }
            _ => begin(
                AuthStatus::Suspicious,
                AuditNotice::Suspicious,
                &format!("ManagedBy=SpotOptimizer, but {why}"),
                look,
            ),
        }),
        Authorization::Unauthorised => unauthorised(old, look),
    }
}

fn unauthorised(old: Option<&Record>, look: &AuditRun) -> Option<RowChange> {
    let begin = |why: &str| Some(begin(AuthStatus::Flagged, AuditNotice::Flagged, why, look));
    let Some(record) = old else { return begin("no tag of an owner, no operator") };
    match record.status {
        Some(AuthStatus::Flagged | AuthStatus::TerminationBlocked) => match age(record, look.at) {
            Some(_) => Some(RowChange {
                news: owed(record, AuditNotice::NoticeOwed, look),
                ..seen_again(record, look)
            }),
            None => begin(
                "no tag of an owner, no operator (its flag was unreadable or in the future: it starts anew)",
            ),
        },
        Some(AuthStatus::Terminated)
            if record.last_seen.is_some_and(|t| look.at.duration_since(t) < STILL_LISTED) =>
        {
            None
        }
        _ => begin("no tag of an owner, no operator"),
    }
}

/// Returns the notice that has not gone out yet, or the reminder that is due.
fn owed(record: &Record, notice: AuditNotice, look: &AuditRun) -> Option<AuditNotice> {
    let Some(delay) = record.notice_delay else { return Some(notice) };
    let told = record.told_at.or_else(|| record.flagged_at?.checked_add(delay).ok());
    (!told.is_some_and(|told| is_recent(told, look.at))).then_some(AuditNotice::StillRuns)
}

/// Returns the change that closes an open row whose instance no longer exists.
///
/// Either a run of ours terminated the instance and died before it wrote so, or another party terminated it.
#[must_use]
pub fn gone(old: &Record, look: &AuditRun) -> Option<RowChange> {
    if !is_open(old) {
        return None;
    }
    if old.terminating_at.is_none() {
        return Some(clear(old, "the instance is gone, and not through us", look));
    }
    let reason = "terminated by us; the run ended before it was noted".to_owned();
    let record =
        Record { status: Some(AuthStatus::Terminated), last_seen: Some(look.at), reason, ..old.clone() };
    Some(RowChange { record, news: Some(AuditNotice::Terminated) })
}

/// Returns the change of an open row whose instance exists and does not run. The next run can't claim that
/// the run before saw the instance unauthorised.
#[must_use]
pub fn not_running(old: &Record) -> Option<RowChange> {
    let was_seen = is_open(old) && old.seen_by.is_some();
    was_seen.then(|| RowChange { record: Record { seen_by: None, ..old.clone() }, news: None })
}

/// Returns true if the row still needs a run's attention. A row whose status can't be read does.
#[must_use]
pub fn is_open(record: &Record) -> bool {
    !matches!(record.status, Some(AuthStatus::Cleared | AuthStatus::Terminated))
}

/// Returns the change that removes the flag.
#[must_use]
pub fn clear(old: &Record, why: &str, look: &AuditRun) -> RowChange {
    let record = Record {
        status: Some(AuthStatus::Cleared),
        last_seen: Some(look.at),
        seen_by: Some(look.run.clone()),
        terminating_at: None,
        reason: why.to_owned(),
        ..old.clone()
    };
    RowChange { record, news: Some(AuditNotice::Cleared) }
}

fn begin(status: AuthStatus, news: AuditNotice, why: &str, look: &AuditRun) -> RowChange {
    let record = Record {
        status: Some(status),
        flagged_at: Some(look.at),
        notice_delay: None,
        told_at: None,
        last_seen: Some(look.at),
        seen_by: Some(look.run.clone()),
        terminating_at: None,
        reason: why.to_owned(),
    };
    RowChange { record, news: Some(news) }
}

fn seen_again(old: &Record, look: &AuditRun) -> RowChange {
    let record = Record { last_seen: Some(look.at), seen_by: Some(look.run.clone()), ..old.clone() };
    RowChange { record, news: None }
}

/// Returns the row once its notice has gone out at `at`.
#[must_use]
pub fn noticed(record: Record, at: Timestamp) -> Record {
    let delay = record.flagged_at.map(|flagged| at.duration_since(flagged).max(SignedDuration::ZERO));
    Record { notice_delay: delay, ..told(record, at) }
}

/// Returns the row once a notice or reminder has gone out at `at` that the instance runs.
#[must_use]
pub fn told(record: Record, at: Timestamp) -> Record {
    Record { told_at: Some(at), ..record }
}

/// Returns when the grace of a flagged instance is over, if its notice has gone out.
#[must_use]
pub fn grace_ends(record: &Record, grace: SignedDuration) -> Option<Timestamp> {
    record.flagged_at?.checked_add(grace.checked_add(record.notice_delay?)?).ok()
}

/// Returns the time since the flag; `None` if the flag is missing, malformed or in the future.
fn age(record: &Record, now: Timestamp) -> Option<SignedDuration> {
    let age = now.duration_since(record.flagged_at?);
    (age >= -CLOCK_SKEW).then(|| age.max(SignedDuration::ZERO))
}

/// The settings for terminations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The time from the flag's notice to the termination.
    pub grace: SignedDuration,
    /// The longest time since the run before. A longer gap means that a run is missing.
    pub run_before_within: SignedDuration,
}

/// The reason for which a flagged instance stays for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDue {
    /// The status is neither FLAGGED nor TERMINATION_BLOCKED.
    #[error("its status is not one that leads to a termination")]
    OtherStatus,
    /// The flag is missing, malformed or in the future.
    #[error("its flag can't be read or lies in the future")]
    NoClock,
    /// No notice has gone out.
    #[error("no notice of the flag has gone out")]
    NoNotice,
    /// The grace runs.
    #[error("its grace has not passed")]
    Grace,
    /// The run before did not see the instance unauthorised.
    #[error("the run before did not see it unauthorised")]
    NotSeenBefore,
}

/// Decides from the row if an instance that this run sees unauthorised may be terminated. `before` is the row
/// as the run found it.
///
/// # Errors
/// The first condition that is not met.
pub fn due(before: &Record, look: &AuditRun, rules: Rules) -> Result<(), NotDue> {
    if !matches!(before.status, Some(AuthStatus::Flagged | AuthStatus::TerminationBlocked)) {
        return Err(NotDue::OtherStatus);
    }
    let age = age(before, look.at).ok_or(NotDue::NoClock)?;
    let delay = before.notice_delay.filter(|d| !d.is_negative()).ok_or(NotDue::NoNotice)?;
    let deadline = rules.grace.checked_add(delay).ok_or(NotDue::NoClock)?;
    if age < deadline {
        return Err(NotDue::Grace);
    }
    let since_seen =
        before.last_seen.map(|seen| look.at.duration_since(seen)).ok_or(NotDue::NotSeenBefore)?;
    let by_another_run = before.seen_by.as_deref().is_some_and(|run| run != look.run);
    if since_seen < -CLOCK_SKEW || since_seen > rules.run_before_within || !by_another_run {
        return Err(NotDue::NotSeenBefore);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
