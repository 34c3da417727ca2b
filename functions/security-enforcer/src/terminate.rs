//! The end of one instance: a fresh look right before, the intent written ahead, one call for one
//! instance. Protection is respected, never lifted.

use jiff::Timestamp;
use spot_cloud::error::{CallError, Kind};
use spot_cloud::instances;
use spot_domain::InstanceId;
use spot_domain::authorization::{Standing, Subject, standing};
use spot_domain::enforcement::{AuthStatus, Change, News, Record, clear, observe};
use spot_domain::settings::Settings;

use crate::audit::Auditor;
use crate::auth_table::Stored;
use crate::fleet::{Life, look_at};
use crate::place::Beat;

/// What became of one that was due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Terminated by us.
    Terminated,
    /// Something forbids it.
    Blocked(String),
    /// The fresh look, or its row, says otherwise by now.
    Spared(String),
}

/// What the fresh look says.
enum Verdict {
    StillUnauthorised,
    /// The row is to say this now.
    Changed(Change),
    /// Left to the next run.
    Wait(&'static str),
    /// Its owner forbids it, in words.
    Forbidden(String),
}

/// Terminates one instance, if a fresh look still says so.
///
/// # Errors
/// A call failed; the next run tries again. What the row says has not gone further than EC2.
pub async fn terminate(
    auditor: &Auditor,
    ec2: &aws_sdk_ec2::Client,
    beat: &Beat,
    id: &InstanceId,
    row: &Stored,
) -> Result<Outcome, CallError> {
    let case = Case { auditor, beat, id, row };
    match fresh_verdict(auditor, ec2, beat, id, row).await? {
        Verdict::Wait(why) => return Ok(Outcome::Spared(why.to_owned())),
        Verdict::Changed(change) => {
            let why = change.record.reason.clone();
            case.conclude(row, change).await?;
            return Ok(Outcome::Spared(why));
        }
        Verdict::Forbidden(why) => return case.blocked(row, why).await,
        Verdict::StillUnauthorised => {}
    }
    let intent = Record { terminating_at: Some(Timestamp::now()), ..row.record.clone() };
    if !auditor.table.write(&beat.place, id, Some(row), &intent).await? {
        return Ok(Outcome::Spared("its row was changed during this run".to_owned()));
    }
    match instances::terminate(ec2, id).await {
        Ok(()) => case.terminated(intent).await,
        Err(error) if matches!(error.kind, Kind::Denied | Kind::Rejected) => {
            case.blocked(&intent.into(), format!("{}: {}", error.code, error.message)).await
        }
        Err(error) => Err(error), // the intent stays in the row: if EC2 did hear us, the next run sees it gone
    }
}

async fn fresh_verdict(
    auditor: &Auditor,
    ec2: &aws_sdk_ec2::Client,
    beat: &Beat,
    id: &InstanceId,
    row: &Stored,
) -> Result<Verdict, CallError> {
    // The slower question first, so that the tags are read right before the call.
    let protected = match instances::is_termination_protected(ec2, id).await {
        Err(error) if error.kind == Kind::NotFound => false,
        answer => answer?,
    };
    let found = look_at(ec2, std::slice::from_ref(id)).await?;
    let Some((subject, life)) = found.get(id) else {
        return Ok(Verdict::Changed(clear(
            &row.record,
            "the instance is gone, and not through us",
            &auditor.look,
        )));
    };
    if *life != Life::Running {
        return Ok(Verdict::Wait("it no longer runs"));
    }
    let standing = standing(subject, &beat.settings.owner_marks, &auditor.swaps);
    if standing != Standing::Unauthorised {
        let change = observe(Some(&row.record), &standing, &auditor.look);
        return Ok(change.map_or(Verdict::Wait("a swap is replacing it"), Verdict::Changed));
    }
    if protected {
        return Ok(Verdict::Forbidden("its termination protection is on (DisableApiTermination)".to_owned()));
    }
    Ok(opted_out(subject, &beat.settings).map_or(Verdict::StillUnauthorised, Verdict::Forbidden))
}

/// The opt-out tag authorises nothing, but whoever set it asked to be left alone.
fn opted_out(subject: &Subject, settings: &Settings) -> Option<String> {
    let value = subject.tags.get(&settings.opt_out_tag)?;
    (value != "false").then(|| format!("it is opted out by its tag {}", settings.opt_out_tag))
}

/// One instance's case, from the fresh look on.
struct Case<'a> {
    auditor: &'a Auditor,
    beat: &'a Beat,
    id: &'a InstanceId,
    row: &'a Stored,
}

impl Case<'_> {
    async fn terminated(&self, intent: Record) -> Result<Outcome, CallError> {
        let record = Record {
            status: Some(AuthStatus::Terminated),
            last_seen: Some(Timestamp::now()),
            reason: format!("terminated: {}", intent.reason),
            ..intent.clone()
        };
        self.conclude(&intent.into(), Change { record, news: Some(News::Terminated) }).await?;
        Ok(Outcome::Terminated)
    }

    async fn blocked(&self, stored: &Stored, why: String) -> Result<Outcome, CallError> {
        // The same obstacle as in the run before is no news.
        let known =
            self.row.record.status == Some(AuthStatus::TerminationBlocked) && self.row.record.reason == why;
        let record = Record {
            status: Some(AuthStatus::TerminationBlocked),
            terminating_at: None,
            reason: why.clone(),
            ..stored.record.clone()
        };
        self.conclude(stored, Change { record, news: (!known).then_some(News::TerminationBlocked) }).await?;
        Ok(Outcome::Blocked(why))
    }

    /// Writes, then tells: what has happened is in the table even if nobody can be told.
    async fn conclude(&self, stored: &Stored, change: Change) -> Result<(), CallError> {
        let Change { record, news } = change;
        let written = self.auditor.table.write(&self.beat.place, self.id, Some(stored), &record).await?;
        if let Some(news) = news.filter(|_| written) {
            let item = crate::announce::Item { id: self.id, news, record: &record };
            let told = self.auditor.announcer.tell(self.beat, &[item]).await;
            for failure in told.failures {
                tracing::error!(instance_id = %self.id, "{failure}");
            }
        }
        Ok(())
    }
}
