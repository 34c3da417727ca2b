//! The audit of one account and region: judges every running instance, keeps the rows, tells the
//! news, and says what is due. It changes nothing in EC2.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use spot_cloud::error::CallError;
use spot_cloud::places::{Place, Visit};
use spot_domain::InstanceId;
use spot_domain::authorization::{Standing, Subject, SwapsInProgress, standing};
use spot_domain::enforcement::{
    Change, Look, News, Rules, due, gone, is_open, not_running, noticed, observe,
};

use crate::announce::{Announcer, Item};
use crate::auth_table::{AuthTable, Stored, WRITES_AT_ONCE};
use crate::fleet::{Life, Running, look_at};

/// What one audit found; the counts are of instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// Whether what is due may be terminated here.
    pub enforced: bool,
    /// Running.
    pub running: usize,
    /// Of these, those that an owner answers for.
    pub authorised: usize,
    /// Those that nobody answers for.
    pub unauthorised: usize,
    /// Those that say they are ours, without proof.
    pub suspicious: usize,
    /// Those that a swap is replacing right now.
    pub being_replaced: usize,
    /// Flagged by this run.
    pub flagged: usize,
    /// Cleared by this run.
    pub cleared: usize,
    /// Due for termination.
    pub due: usize,
}

/// An audit and what follows from it.
#[derive(Debug)]
pub struct Audit {
    /// Where, and the rules there.
    pub visit: Visit,
    /// EC2 there.
    pub ec2: aws_sdk_ec2::Client,
    /// The counts.
    pub findings: Findings,
    /// What is due, with the row as it stands. Empty unless the listing is complete.
    pub due: Vec<(InstanceId, Stored)>,
    /// What failed. With any of it, the audit is partial.
    pub failures: Vec<String>,
}

/// What every audit of a run shares.
#[derive(Debug, Clone)]
pub struct Auditor {
    /// The rows.
    pub table: AuthTable,
    /// Who is told.
    pub announcer: Announcer,
    /// The swaps in progress when the run began.
    pub swaps: Arc<SwapsInProgress>,
    /// This run.
    pub look: Look,
    /// Somebody hears what is told: else no notice of a flag counts as gone out, and nothing is terminated.
    pub heard: bool,
}

/// What the look at an instance leads to.
struct Decision {
    id: InstanceId,
    old: Option<Stored>,
    change: Change,
    due: bool,
}

impl Auditor {
    /// Audits one place. Failures are part of the answer: what was seen before one still counts.
    pub async fn audit(&self, visit: Visit, ec2: aws_sdk_ec2::Client) -> Audit {
        let findings = Findings::of(&visit);
        let mut audit = Audit { findings, visit, ec2, due: Vec::new(), failures: Vec::new() };
        if let Err(error) = self.listed(&mut audit).await {
            // An incomplete view: it flags, but nothing is terminated on its word.
            audit.failures.push(format!("{}: {error}", audit.visit.place));
            audit.due.clear();
        }
        audit.findings.due = audit.due.len();
        audit
    }

    async fn listed(&self, audit: &mut Audit) -> Result<(), CallError> {
        let mut rows = self.table.load(&audit.visit.place).await?;
        let ec2 = audit.ec2.clone();
        let mut pages = Running::of(&ec2);
        while let Some(page) = pages.next().await {
            let decisions =
                page?.into_iter().filter_map(|subject| self.judge(audit, &subject, &mut rows)).collect();
            self.carry_out(audit, decisions).await?;
        }
        let decisions = self.missing(&ec2, rows).await?;
        self.carry_out(audit, decisions).await
    }

    fn judge(
        &self,
        audit: &mut Audit,
        subject: &Subject,
        rows: &mut HashMap<InstanceId, Stored>,
    ) -> Option<Decision> {
        let settings = &audit.visit.settings;
        let standing = standing(subject, &settings.owner_marks, &self.swaps);
        audit.findings.count(&standing);
        let old = rows.remove(&subject.id);
        let rules = Rules { grace: settings.grace(), run_before_within: settings.audit_gap() };
        let due = standing == Standing::Unauthorised
            && old.as_ref().is_some_and(|old| due(&old.record, &self.look, rules).is_ok());
        let change = observe(old.as_ref().map(|old| &old.record), &standing, &self.look)?;
        Some(Decision { id: subject.id.clone(), old, change, due })
    }

    /// Rows whose instances are not among the running ones: only a complete listing may say so.
    async fn missing(
        &self,
        ec2: &aws_sdk_ec2::Client,
        rows: HashMap<InstanceId, Stored>,
    ) -> Result<Vec<Decision>, CallError> {
        let open: Vec<(InstanceId, Stored)> =
            rows.into_iter().filter(|(_, stored)| is_open(&stored.record)).collect();
        let ids: Vec<InstanceId> = open.iter().map(|(id, _)| id.clone()).collect();
        let found = look_at(ec2, &ids).await?;
        let decide = |(id, old): (InstanceId, Stored)| {
            let change = match found.get(&id).map(|(_, life)| life) {
                None | Some(Life::Gone) => gone(&old.record, &self.look),
                Some(Life::Idle) => not_running(&old.record),
                Some(Life::Running) => None, // started during this run: the next one's
            };
            change.map(|change| Decision { id, old: Some(old), change, due: false })
        };
        Ok(open.into_iter().filter_map(decide).collect())
    }

    /// Tells the news, then writes the rows: a notice that failed is not noted as gone out.
    async fn carry_out(&self, audit: &mut Audit, mut decisions: Vec<Decision>) -> Result<(), CallError> {
        let item = |d: &'_ Decision| d.change.news.map(|news| (d.id.clone(), news, d.change.record.clone()));
        let news: Vec<_> = decisions.iter().filter_map(item).collect();
        let items: Vec<Item<'_>> =
            news.iter().map(|(id, news, record)| Item { id, news: *news, record }).collect();
        let told = self.announcer.tell(&audit.visit, &items).await;
        audit.failures.extend(told.failures);
        for decision in decisions.iter_mut().filter(|d| told.people.contains(&d.id)) {
            let is_notice = match decision.change.news {
                Some(News::Flagged | News::NoticeOwed) => self.heard,
                news => news == Some(News::Suspicious),
            };
            if is_notice {
                decision.change.record = noticed(decision.change.record.clone(), jiff::Timestamp::now());
            }
        }
        self.write(audit, decisions).await
    }

    /// Writes in transactions. Where one does not go through, a row in it was changed meanwhile: then
    /// each is written by itself, and those that still stand hold.
    async fn write(&self, audit: &mut Audit, mut decisions: Vec<Decision>) -> Result<(), CallError> {
        while !decisions.is_empty() {
            let rest = decisions.split_off(decisions.len().min(WRITES_AT_ONCE));
            let writes = decisions.iter().map(|d| (&d.id, d.old.as_ref(), &d.change.record));
            let at_once = decisions.len() > 1 && self.table.write_all(&audit.visit.place, writes).await?;
            for decision in decisions {
                let (old, new) = (decision.old.as_ref(), &decision.change.record);
                if at_once || self.table.write(&audit.visit.place, &decision.id, old, new).await? {
                    audit.note(decision);
                }
            }
            decisions = rest;
        }
        Ok(())
    }
}

impl Audit {
    /// Counts what has been written.
    fn note(&mut self, decision: Decision) {
        match decision.change.news {
            Some(News::Flagged) => self.findings.flagged += 1,
            Some(News::Cleared) => self.findings.cleared += 1,
            _ => {}
        }
        if decision.due {
            self.due.push((decision.id, decision.change.record.into()));
        }
    }
}

impl Findings {
    fn of(visit: &Visit) -> Self {
        Self {
            place: visit.place.clone(),
            enforced: visit.auto_terminate,
            running: 0,
            authorised: 0,
            unauthorised: 0,
            suspicious: 0,
            being_replaced: 0,
            flagged: 0,
            cleared: 0,
            due: 0,
        }
    }

    fn count(&mut self, standing: &Standing) {
        self.running += 1;
        match standing {
            Standing::Authorised(_) => self.authorised += 1,
            Standing::Unauthorised => self.unauthorised += 1,
            Standing::Suspicious(_) => self.suspicious += 1,
            Standing::BeingReplaced => self.being_replaced += 1,
        }
    }
}
