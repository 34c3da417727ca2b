//! The rules between a flag and a termination: when the clock starts, what stops it, when an
//! instance is due, and how many may be.
//!
//! The clock starts at the first flag and no later run moves it. Nothing that is missing, malformed
//! or in the future ever counts as expired: such a flag starts anew.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::authorization::Standing;
use crate::reminders::{CLOCK_SKEW, is_recent};

/// EC2 may still list as running what was terminated a moment ago.
const STILL_LISTED: SignedDuration = SignedDuration::from_hours(1);

/// What the InstanceAuth table says of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuthStatus {
    /// Nobody answers for it; the clock runs.
    Flagged,
    /// It was flagged, and no longer is: authorised, or gone without us.
    Cleared,
    /// We terminated it.
    Terminated,
    /// It was to be terminated, and something forbids it. The clock has run.
    TerminationBlocked,
    /// It says that it is ours, and nothing proves it. Never terminated.
    Suspicious,
}

impl AuthStatus {
    /// Every status there is.
    pub const ALL: [Self; 5] =
        [Self::Flagged, Self::Cleared, Self::Terminated, Self::TerminationBlocked, Self::Suspicious];

    /// As the table spells it.
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
    type Err = crate::ids::Malformed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or_else(|| crate::ids::Malformed {
            kind: "auth_status",
            given: text.chars().take(80).collect(),
            expected: "FLAGGED, CLEARED, TERMINATED, TERMINATION_BLOCKED or SUSPICIOUS",
        })
    }
}

/// A row of InstanceAuth. A field is `None` where the table has none, or none that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub status: Option<AuthStatus>,
    /// The first flag. It never moves while the status stays.
    pub flagged_at: Option<Timestamp>,
    /// How long after the flag its notice went out: zero when all is well, `None` until one has.
    /// The owner has the whole grace from the notice on.
    pub notice_delay: Option<SignedDuration>,
    /// When a person was last told that it runs so; `None` in rows that no reminder has been sent for.
    pub told_at: Option<Timestamp>,
    /// When a run last saw it so.
    pub last_seen: Option<Timestamp>,
    /// Which run that was: one repeated by Lambda does not count as the run before. `None` once a
    /// run has found it not running.
    pub seen_by: Option<String>,
    /// Set before the call that terminates it, so that a run which died there is understood.
    pub terminating_at: Option<Timestamp>,
    /// Why, for a person.
    pub reason: String,
}

/// One look of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// When.
    pub at: Timestamp,
    /// Names the run.
    pub run: String,
}

/// What somebody is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum News {
    /// The clock started.
    Flagged,
    /// The clock started earlier, and the notice of it is still owed.
    NoticeOwed,
    /// It still runs, flagged, blocked or suspicious, a day after a person was last told.
    StillRuns,
    /// The flag is gone.
    Cleared,
    /// Our mark on what no swap launched.
    Suspicious,
    /// Terminated by us.
    Terminated,
    /// Due, and something forbids it.
    TerminationBlocked,
}

/// What a look changes: the row to write, and whom to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The new row.
    pub record: Record,
    /// What is news; `None` where only `last_seen` moved.
    pub news: Option<News>,
}

/// What a running instance's look changes in its row.
#[must_use]
pub fn observe(old: Option<&Record>, standing: &Standing, look: &Look) -> Option<Change> {
    match standing {
        Standing::BeingReplaced => None,
        Standing::Authorised(by) => {
            old.filter(|r| is_open(r)).map(|r| clear(r, &format!("authorised: {by}"), look))
        }
        Standing::Suspicious(why) => Some(match old {
            Some(r) if r.status == Some(AuthStatus::Suspicious) => {
                Change { news: owed(r, News::Suspicious, look), ..seen_again(r, look) }
            }
            _ => begin(
                AuthStatus::Suspicious,
                News::Suspicious,
                &format!("ManagedBy=SpotOptimizer, but {why}"),
                look,
            ),
        }),
        Standing::Unauthorised => unauthorised(old, look),
    }
}

fn unauthorised(old: Option<&Record>, look: &Look) -> Option<Change> {
    let begin = |why: &str| Some(begin(AuthStatus::Flagged, News::Flagged, why, look));
    let Some(record) = old else { return begin("no tag of an owner, no operator") };
    match record.status {
        Some(AuthStatus::Flagged | AuthStatus::TerminationBlocked) => match age(record, look.at) {
            Some(_) => {
                Some(Change { news: owed(record, News::NoticeOwed, look), ..seen_again(record, look) })
            }
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
fn owed(record: &Record, notice: News, look: &Look) -> Option<News> {
    let Some(delay) = record.notice_delay else { return Some(notice) };
    let told = record.told_at.or_else(|| record.flagged_at?.checked_add(delay).ok());
    (!told.is_some_and(|told| is_recent(told, look.at))).then_some(News::StillRuns)
}

/// An open row whose instance no longer exists: terminated by us in a run that died before it could
/// say so, or by somebody else.
#[must_use]
pub fn gone(old: &Record, look: &Look) -> Option<Change> {
    if !is_open(old) {
        return None;
    }
    if old.terminating_at.is_none() {
        return Some(clear(old, "the instance is gone, and not through us", look));
    }
    let reason = "terminated by us; the run ended before it was noted".to_owned();
    let record =
        Record { status: Some(AuthStatus::Terminated), last_seen: Some(look.at), reason, ..old.clone() };
    Some(Change { record, news: Some(News::Terminated) })
}

/// An open row whose instance exists and does not run: the next run can't say that the run before
/// saw it unauthorised.
#[must_use]
pub fn not_running(old: &Record) -> Option<Change> {
    let was_seen = is_open(old) && old.seen_by.is_some();
    was_seen.then(|| Change { record: Record { seen_by: None, ..old.clone() }, news: None })
}

/// Whether the row still wants something: a status that can't be read does.
#[must_use]
pub fn is_open(record: &Record) -> bool {
    !matches!(record.status, Some(AuthStatus::Cleared | AuthStatus::Terminated))
}

/// The flag goes.
#[must_use]
pub fn clear(old: &Record, why: &str, look: &Look) -> Change {
    let record = Record {
        status: Some(AuthStatus::Cleared),
        last_seen: Some(look.at),
        seen_by: Some(look.run.clone()),
        terminating_at: None,
        reason: why.to_owned(),
        ..old.clone()
    };
    Change { record, news: Some(News::Cleared) }
}

fn begin(status: AuthStatus, news: News, why: &str, look: &Look) -> Change {
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
    Change { record, news: Some(news) }
}

fn seen_again(old: &Record, look: &Look) -> Change {
    let record = Record { last_seen: Some(look.at), seen_by: Some(look.run.clone()), ..old.clone() };
    Change { record, news: None }
}

/// Returns the row once its notice has gone out at `at`.
#[must_use]
pub fn noticed(record: Record, at: Timestamp) -> Record {
    let delay = record.flagged_at.map(|flagged| at.duration_since(flagged).max(SignedDuration::ZERO));
    Record { notice_delay: delay, ..told(record, at) }
}

/// Returns the row once a person has been told at `at` that the instance runs.
#[must_use]
pub fn told(record: Record, at: Timestamp) -> Record {
    Record { told_at: Some(at), ..record }
}

/// Returns when the grace of a flagged instance is over, if its notice has gone out.
#[must_use]
pub fn grace_ends(record: &Record, grace: SignedDuration) -> Option<Timestamp> {
    record.flagged_at?.checked_add(grace.checked_add(record.notice_delay?)?).ok()
}

/// Time since the flag; `None` if the flag is missing, malformed or in the future.
fn age(record: &Record, now: Timestamp) -> Option<SignedDuration> {
    let age = now.duration_since(record.flagged_at?);
    (age >= -CLOCK_SKEW).then(|| age.max(SignedDuration::ZERO))
}

/// What the settings say of termination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// From the flag's notice to the end.
    pub grace: SignedDuration,
    /// How long ago the run before may have been. Longer ago means that a run is missing.
    pub run_before_within: SignedDuration,
}

/// Why a flagged instance stays for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDue {
    /// Not FLAGGED or TERMINATION_BLOCKED.
    #[error("its status is not one that leads to a termination")]
    OtherStatus,
    /// The flag is missing, malformed or in the future.
    #[error("its flag can't be read or lies in the future")]
    NoClock,
    /// Nobody has been told.
    #[error("no notice of the flag has gone out")]
    NoNotice,
    /// The grace runs.
    #[error("its grace has not passed")]
    Grace,
    /// The run before did not see it unauthorised.
    #[error("the run before did not see it unauthorised")]
    NotSeenBefore,
}

/// Whether an instance that this run sees unauthorised may be terminated, as far as its row goes.
/// `before` is the row as the run found it.
///
/// # Errors
/// What is missing.
pub fn due(before: &Record, look: &Look, rules: Rules) -> Result<(), NotDue> {
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

/// One account and region of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// What to call it.
    pub name: String,
    /// Its running instances.
    pub running: usize,
    /// Those due.
    pub due: usize,
    /// Most that a whole run may terminate, as this account and region have it.
    pub max_per_run: u32,
    /// Most of its running instances that a run may terminate, in percent.
    pub max_percent: u32,
}

/// More is due than a run may terminate: it terminates none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlastRadius {
    /// Too many in all.
    #[error("{due} instances are due, more than max_terminations_per_run = {limit}: none is terminated")]
    PerRun {
        /// In the whole run.
        due: usize,
        /// The strictest limit of those with something due.
        limit: u32,
    },
    /// Too many of one account and region.
    #[error(
        "{name}: {due} of {running} running instances are due, more than max_terminations_percent = {limit}: none is terminated"
    )]
    Percent {
        /// Which.
        name: String,
        /// How many there.
        due: usize,
        /// Of how many.
        running: usize,
        /// The limit there.
        limit: u32,
    },
}

impl BlastRadius {
    /// Returns the limit and its place, which are the same in every run that exceeds it.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::PerRun { .. } => "max_terminations_per_run".to_owned(),
            Self::Percent { name, .. } => format!("{name}: max_terminations_percent"),
        }
    }
}

/// Whether a run stays within its limits: the count over the whole run, the percentage in each
/// account and region. Beyond one of them it acts on none, anywhere.
///
/// # Errors
/// Which limit is exceeded.
pub fn blast_radius(reaches: &[Reach]) -> Result<(), BlastRadius> {
    let acting = || reaches.iter().filter(|reach| reach.due > 0);
    let due = acting().map(|reach| reach.due).sum();
    let limit = acting().map(|reach| reach.max_per_run).min().unwrap_or(0);
    if due > limit as usize {
        return Err(BlastRadius::PerRun { due, limit });
    }
    let too_many = |r: &&Reach| r.due.saturating_mul(100) > r.running.saturating_mul(r.max_percent as usize);
    acting().find(too_many).map_or(Ok(()), |r| {
        let Reach { name, due, running, max_percent: limit, .. } = r.clone();
        Err(BlastRadius::Percent { name, due, running, limit })
    })
}

#[cfg(test)]
#[path = "enforcement_tests.rs"]
mod tests;
