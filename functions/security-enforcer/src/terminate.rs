//! The end of what is due, within the blast radius: a fresh look right before, the intent written
//! ahead, one call for one instance. Protection is respected, never lifted.

use jiff::Timestamp;
use serde_json::json;
use spot_cloud::error::{CallError, Kind};
use spot_cloud::instances;
use spot_domain::InstanceId;
use spot_domain::authorization::{Standing, Subject, standing};
use spot_domain::enforcement::{
    AuthStatus, BlastRadius, Change, News, Reach, Record, blast_radius, observe, told,
};
use spot_domain::owners::group_of;
use spot_domain::settings::Settings;

use crate::announce::Item;
use crate::audit::{Audit, Auditor};
use crate::auth_table::Stored;
use crate::facts::Facts;
use crate::fleet::{Life, Seen, look_at};
use crate::summary::{Kept, Summary};

/// Why a protected instance stays.
const PROTECTED: &str = "its termination protection is on (DisableApiTermination)";

/// What became of one that was due.
enum Outcome {
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

/// Terminates what is due in these audits, if the run `may_act`, all of it is within the blast radius and
/// the places enforce at all; one after another. Too large a radius is told in any case.
pub async fn enforce(auditor: &Auditor, audits: &[Audit], may_act: bool, summary: &mut Summary) {
    let enforced = || audits.iter().filter(|audit| audit.visit.auto_terminate);
    let reaches: Vec<Reach> = enforced().map(reach).collect();
    if let Err(exceeded) = blast_radius(&reaches) {
        tell_of_blast_radius(auditor, &exceeded, summary).await;
        return;
    }
    for audit in enforced().filter(|_| may_act) {
        for (id, row) in &audit.due {
            match (Case { auditor, audit, id, row }).close().await {
                Ok(Outcome::Terminated) => summary.terminated.push(id.clone()),
                Ok(Outcome::Blocked(why)) => summary.blocked.push(Kept::new(id, why)),
                Ok(Outcome::Spared(why)) => summary.spared.push(Kept::new(id, why)),
                Err(error) => summary.fail(format!("{}: {id}: {error}", audit.visit.place)),
            }
        }
    }
}

fn reach(audit: &Audit) -> Reach {
    Reach {
        name: audit.visit.place.to_string(),
        running: audit.findings.running,
        due: audit.due.len(),
        max_per_run: audit.visit.settings.max_terminations_per_run,
        max_percent: audit.visit.settings.max_terminations_percent,
    }
}

async fn tell_of_blast_radius(auditor: &Auditor, exceeded: &BlastRadius, summary: &mut Summary) {
    let words = exceeded.to_string();
    let detail = json!({"problem": words, "due": summary.due});
    let told = [
        auditor.announcer.put_run("Blast Radius Exceeded", &detail).await,
        auditor.announcer.publish("Spot Optimizer: blast radius exceeded, nothing terminated", &words).await,
    ];
    summary.blast_radius_exceeded = Some(words);
    summary.fail_all(told.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect());
}

/// One instance that is due, with its row as it stands.
struct Case<'a> {
    auditor: &'a Auditor,
    audit: &'a Audit,
    id: &'a InstanceId,
    row: &'a Stored,
}

impl Case<'_> {
    /// Terminates the instance, if a fresh look still says so. On an error the next run tries again.
    async fn close(&self) -> Result<Outcome, CallError> {
        let (verdict, facts) = self.fresh_verdict().await?;
        let facts = facts.as_ref();
        match verdict {
            Verdict::Wait(why) => return Ok(Outcome::Spared(why.to_owned())),
            Verdict::Changed(change) => {
                let why = change.record.reason.clone();
                self.conclude(self.row, change, facts).await?;
                return Ok(Outcome::Spared(why));
            }
            Verdict::Forbidden(why) => return self.blocked(self.row, why, facts).await,
            Verdict::StillUnauthorised => {}
        }
        let intent = Record { terminating_at: Some(Timestamp::now()), ..self.row.record.clone() };
        if !self.write(self.row, &intent).await? {
            return Ok(Outcome::Spared("its row was changed during this run".to_owned()));
        }
        match instances::terminate(&self.audit.ec2, self.id).await {
            Ok(()) => self.terminated(intent, facts).await,
            Err(error) if matches!(error.kind, Kind::Denied | Kind::Rejected) => {
                self.blocked(&intent.into(), format!("{}: {}", error.code, error.message), facts).await
            }
            // The intent stays in the row: if EC2 did hear us, the next run sees the instance gone.
            Err(error) => Err(error),
        }
    }

    /// Judges by the tags first: the role may not even ask for the protection of a group's member. The tags are read
    /// once more after the slower question, right before the call.
    async fn fresh_verdict(&self) -> Result<(Verdict, Option<Facts>), CallError> {
        let (verdict, facts) = self.fresh_look().await?;
        if !matches!(verdict, Verdict::StillUnauthorised) {
            return Ok((verdict, facts));
        }
        match instances::is_termination_protected(&self.audit.ec2, self.id).await {
            Ok(true) => Ok((Verdict::Forbidden(PROTECTED.to_owned()), facts)),
            Err(error) if error.kind == Kind::Denied => {
                let why = format!("its termination protection can't be read: {error}");
                Ok((Verdict::Forbidden(why), facts))
            }
            Err(error) if error.kind != Kind::NotFound => Err(error),
            Ok(false) | Err(_) => self.fresh_look().await,
        }
    }

    async fn fresh_look(&self) -> Result<(Verdict, Option<Facts>), CallError> {
        let mut found = look_at(&self.audit.ec2, std::slice::from_ref(self.id)).await?;
        Ok(match found.remove(self.id) {
            None => (Verdict::Wait("EC2 does not describe it"), None),
            Some(Seen { subject, facts, life }) => (self.verdict(&subject, life), Some(facts)),
        })
    }

    fn verdict(&self, subject: &Subject, life: Life) -> Verdict {
        let (settings, look) = (&self.audit.visit.settings, &self.auditor.look);
        if life != Life::Running {
            return Verdict::Wait("it no longer runs");
        }
        let standing = standing(subject, settings.trust(), &self.auditor.swaps);
        if standing != Standing::Unauthorised {
            let change = observe(Some(&self.row.record), &standing, look);
            return change.map_or(Verdict::Wait("a swap is replacing it"), Verdict::Changed);
        }
        if let Some(group) = group_of(&subject.tags) {
            // The group would launch another in its place. The role is denied it, too.
            return Verdict::Forbidden(format!(
                "it is a member of the Auto Scaling group {group}, which bears none of group_marks: end the group"
            ));
        }
        opted_out(subject, settings).map_or(Verdict::StillUnauthorised, Verdict::Forbidden)
    }

    async fn terminated(&self, intent: Record, facts: Option<&Facts>) -> Result<Outcome, CallError> {
        let record = Record {
            status: Some(AuthStatus::Terminated),
            last_seen: Some(Timestamp::now()),
            reason: "terminated: nobody answered for it since its flag".to_owned(),
            ..intent.clone()
        };
        self.conclude(&intent.into(), Change { record, news: Some(News::Terminated) }, facts).await?;
        Ok(Outcome::Terminated)
    }

    async fn blocked(
        &self,
        stored: &Stored,
        why: String,
        facts: Option<&Facts>,
    ) -> Result<Outcome, CallError> {
        // The same obstacle as in the run before is no news: the audit reminds of it once a day.
        let known =
            self.row.record.status == Some(AuthStatus::TerminationBlocked) && self.row.record.reason == why;
        let record = Record {
            status: Some(AuthStatus::TerminationBlocked),
            terminating_at: None,
            reason: why.clone(),
            ..stored.record.clone()
        };
        let news = (!known).then_some(News::TerminationBlocked);
        self.conclude(stored, Change { record, news }, facts).await?;
        Ok(Outcome::Blocked(why))
    }

    /// Writes, then tells: what has happened is in the table even if nobody can be told.
    async fn conclude(
        &self,
        stored: &Stored,
        change: Change,
        facts: Option<&Facts>,
    ) -> Result<(), CallError> {
        let Change { record, news } = change;
        let written = self.write(stored, &record).await?;
        let Some(news) = news.filter(|_| written) else { return Ok(()) };
        let facts = self.auditor.priced(self.audit, facts).await;
        let item = Item { id: self.id, news, record: &record, facts };
        let outcome = self.auditor.announcer.tell(&self.audit.visit, &[item]).await;
        for failure in &outcome.failures {
            tracing::error!(instance_id = %self.id, "{failure}");
        }
        if news == News::TerminationBlocked && outcome.people.contains(self.id) {
            // Else the reminder of the flag might come an hour later.
            let since = told(record.clone(), Timestamp::now());
            self.write(&record.into(), &since).await?;
        }
        Ok(())
    }

    async fn write(&self, old: &Stored, new: &Record) -> Result<bool, CallError> {
        self.auditor.table.write(&self.audit.visit.place, self.id, Some(old), new).await
    }
}

/// The opt-out tag authorises nothing, but whoever set it asked to be left alone.
fn opted_out(subject: &Subject, settings: &Settings) -> Option<String> {
    let value = subject.tags.get(&settings.opt_out_tag)?;
    (value != "false").then(|| format!("it is opted out by its tag {}", settings.opt_out_tag))
}
