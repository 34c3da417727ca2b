//! The terminations of due instances, within the blast radius. Each has a fresh check right before it, an intent
//! that is written first, and one call for one instance. Protection is respected, never removed.

use spot_cloud::ec2::instances;
use spot_cloud::error::{CallError, Kind};
use spot_domain::InstanceId;
use spot_domain::audit::authorization::{Authorization, standing};
use spot_domain::audit::blast_radius::{BlastRadius, TerminationScope, blast_radius};
use spot_domain::audit::enforcement::{AuditNotice, AuthStatus, Record, RowChange, observe, told};
use spot_domain::audit::subject::Subject;
use spot_domain::clock;

use crate::announce::Item;
use crate::audit::findings::NotTerminated;
use crate::audit::obstacle::{self, PROTECTED};
use crate::audit::{Audit, Auditor};
use crate::auth_table::Stored;
use crate::failure::Failure;
use crate::fleet::facts::Facts;
use crate::fleet::{Presence, Seen, look_at};
use crate::summary::AuditSummary;

/// The outcome for an instance that was due.
enum TerminationOutcome {
    /// We terminated the instance.
    Terminated,
    /// Something forbids the termination, in words.
    Blocked(String),
    /// The fresh check, or the row, no longer allows the termination.
    Spared(String),
}

/// The verdict of the fresh check.
enum FreshVerdict {
    StillUnauthorised,
    /// The row changes as follows.
    Changed(RowChange),
    /// The next run decides.
    Wait(&'static str),
    /// The owner forbids the termination, in words.
    Forbidden(String),
}

/// Terminates the due instances of these audits, one after another. Conditions: the run `may_act`, all due
/// instances are within the blast radius, and their account and region enforce. If the blast radius is exceeded,
/// the run announces it in any case.
pub async fn enforce(auditor: &Auditor, audits: &[Audit], may_act: bool, summary: &mut AuditSummary) {
    let mut candidates = Vec::new();
    for audit in audits.iter().filter(|audit| audit.visit.auto_terminate) {
        candidates.push((audit, unprotected(audit, summary).await));
    }
    let reaches: Vec<TerminationScope> =
        candidates.iter().map(|(audit, due)| reach(audit, due.len())).collect();
    if let Err(exceeded) = blast_radius(&reaches) {
        tell_of_blast_radius(auditor, &exceeded, summary).await;
        return;
    }
    for (audit, due) in candidates.into_iter().filter(|_| may_act) {
        for (id, row) in due {
            match (Case { auditor, audit, id, row }).close().await {
                Ok(TerminationOutcome::Terminated) => summary.terminated.push(id.clone()),
                Ok(TerminationOutcome::Blocked(why)) => summary.blocked.push(NotTerminated::new(id, why)),
                Ok(TerminationOutcome::Spared(why)) => summary.spared.push(NotTerminated::new(id, why)),
                Err(error) => summary.fail(Failure::of(format!("{}: {id}", audit.visit.place), &error)),
            }
        }
    }
}

/// Returns the due instances, without those that protection blocked before and still blocks. This run leaves those
/// alone, even if their protection is removed meanwhile: only instances that the blast radius counts may be
/// terminated.
async fn unprotected<'a>(audit: &'a Audit, summary: &mut AuditSummary) -> Vec<&'a (InstanceId, Stored)> {
    let mut unprotected = Vec::new();
    for due in &audit.due {
        let (id, Stored { record, .. }) = due;
        let was_protected =
            record.status == Some(AuthStatus::TerminationBlocked) && record.reason == PROTECTED;
        // If the answer is no clear yes, the instance counts.
        if was_protected && matches!(instances::is_termination_protected(&audit.ec2, id).await, Ok(true)) {
            summary.blocked.push(NotTerminated::new(id, PROTECTED.to_owned()));
        } else {
            unprotected.push(due);
        }
    }
    unprotected
}

fn reach(audit: &Audit, due: usize) -> TerminationScope {
    TerminationScope {
        name: audit.visit.place.to_string(),
        running: audit.findings.running,
        due,
        max_per_run: audit.visit.settings.max_terminations_per_run,
        max_percent: audit.visit.settings.max_terminations_percent,
    }
}

/// Puts the exceeded blast radius on the bus. The run's report notifies people.
async fn tell_of_blast_radius(auditor: &Auditor, exceeded: &BlastRadius, summary: &mut AuditSummary) {
    let exceeded = Failure { cause: exceeded.cause(), words: exceeded.to_string() };
    let told = auditor.announcer.put_blast_radius(&exceeded.words, summary.due).await;
    summary.blast_radius_exceeded = Some(exceeded);
    if let Err(error) = told {
        summary.fail(Failure::of("blast radius", &error));
    }
}

/// One due instance, with its row as it stands.
struct Case<'a> {
    auditor: &'a Auditor,
    audit: &'a Audit,
    id: &'a InstanceId,
    row: &'a Stored,
}

impl Case<'_> {
    /// Terminates the instance, if a fresh check still allows it. After an error the next run tries again.
    async fn close(&self) -> Result<TerminationOutcome, CallError> {
        let (verdict, facts) = self.fresh_verdict().await?;
        let facts = facts.as_ref();
        match verdict {
            FreshVerdict::Wait(why) => return Ok(TerminationOutcome::Spared(why.to_owned())),
            FreshVerdict::Changed(change) => {
                let why = change.record.reason.clone();
                self.conclude(self.row, change, facts).await?;
                return Ok(TerminationOutcome::Spared(why));
            }
            FreshVerdict::Forbidden(why) => return self.blocked(self.row, why, facts).await,
            FreshVerdict::StillUnauthorised => {}
        }
        let intent = Record { terminating_at: Some(clock::now()), ..self.row.record.clone() };
        if !self.write(self.row, &intent).await? {
            return Ok(TerminationOutcome::Spared("its row was changed during this run".to_owned()));
        }
        match instances::terminate(&self.audit.ec2, self.id).await {
            Ok(()) => self.terminated(intent, facts).await,
            Err(error) if matches!(error.kind, Kind::Denied | Kind::Rejected) => {
                self.blocked(&intent.into(), format!("{}: {}", error.code, error.message), facts).await
            }
            // The intent stays in the row: if EC2 did get the call, the next run sees that the instance is gone.
            Err(error) => Err(error),
        }
    }

    /// Returns the verdict of a fresh check. The check judges the tags first: the role may not read the protection
    /// of a group's member. It reads the tags again after the slower question, right before the call.
    async fn fresh_verdict(&self) -> Result<(FreshVerdict, Option<Facts>), CallError> {
        let (verdict, facts) = self.fresh_look().await?;
        if !matches!(verdict, FreshVerdict::StillUnauthorised) {
            return Ok((verdict, facts));
        }
        match instances::is_termination_protected(&self.audit.ec2, self.id).await {
            Ok(true) => Ok((FreshVerdict::Forbidden(PROTECTED.to_owned()), facts)),
            Err(error) if error.kind == Kind::Denied => {
                let why = format!("its termination protection can't be read: {error}");
                Ok((FreshVerdict::Forbidden(why), facts))
            }
            Err(error) if error.kind != Kind::NotFound => Err(error),
            Ok(false) | Err(_) => self.fresh_look().await,
        }
    }

    async fn fresh_look(&self) -> Result<(FreshVerdict, Option<Facts>), CallError> {
        let mut found = look_at(&self.audit.ec2, std::slice::from_ref(self.id)).await?;
        Ok(match found.remove(self.id) {
            None => (FreshVerdict::Wait("EC2 does not describe it"), None),
            Some(Seen { subject, facts, life }) => (self.verdict(&subject, life), Some(facts)),
        })
    }

    fn verdict(&self, subject: &Subject, life: Presence) -> FreshVerdict {
        let (settings, look) = (&self.audit.visit.settings, &self.auditor.look);
        if life != Presence::Running {
            return FreshVerdict::Wait("it no longer runs");
        }
        let standing = standing(subject, settings.trust(), &self.audit.swaps);
        if standing != Authorization::Unauthorised {
            let change = observe(Some(&self.row.record), &standing, look);
            return change.map_or(FreshVerdict::Wait("a swap is replacing it"), FreshVerdict::Changed);
        }
        obstacle::to_end(subject, &self.audit.swaps, settings)
            .map_or(FreshVerdict::StillUnauthorised, FreshVerdict::Forbidden)
    }

    async fn terminated(
        &self,
        intent: Record,
        facts: Option<&Facts>,
    ) -> Result<TerminationOutcome, CallError> {
        let record = Record {
            status: Some(AuthStatus::Terminated),
            last_seen: Some(clock::now()),
            reason: "terminated: nobody answered for it since its flag".to_owned(),
            ..intent.clone()
        };
        self.conclude(&intent.into(), RowChange { record, news: Some(AuditNotice::Terminated) }, facts)
            .await?;
        Ok(TerminationOutcome::Terminated)
    }

    async fn blocked(
        &self,
        stored: &Stored,
        why: String,
        facts: Option<&Facts>,
    ) -> Result<TerminationOutcome, CallError> {
        let change = obstacle::block(&self.row.record, stored.record.clone(), &why);
        self.conclude(stored, change, facts).await?;
        Ok(TerminationOutcome::Blocked(why))
    }

    /// Writes the row, then announces: the table has the outcome even if no announcement succeeds.
    async fn conclude(
        &self,
        stored: &Stored,
        change: RowChange,
        facts: Option<&Facts>,
    ) -> Result<(), CallError> {
        let RowChange { record, news } = change;
        let written = self.write(stored, &record).await?;
        let Some(news) = news.filter(|_| written) else { return Ok(()) };
        let facts = self.auditor.priced(self.audit, facts).await;
        let item = Item { id: self.id, news, record: &record, facts };
        let outcome = self.auditor.announcer.tell(&self.audit.visit, &[item]).await;
        for failure in &outcome.failures {
            tracing::error!(instance_id = %self.id, "{}", failure.words);
        }
        if news == AuditNotice::TerminationBlocked && outcome.people.contains(self.id) {
            // Without this note, the reminder of the flag might come an hour later.
            let since = told(record.clone(), clock::now());
            self.write(&record.into(), &since).await?;
        }
        Ok(())
    }

    async fn write(&self, old: &Stored, new: &Record) -> Result<bool, CallError> {
        self.auditor.table.write(&self.audit.visit.place, self.id, Some(old), new).await
    }
}
