//! The audit of one account and region: judges every running instance, keeps the rows, announces the news, and
//! lists the instances that are due. Changes nothing in EC2.

pub mod findings;
pub mod obstacle;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use spot_cloud::error::CallError;
use spot_cloud::scopes::{AccountRegion, Scope};
use spot_domain::audit::authorization::{Authorization, standing};
use spot_domain::audit::enforcement::{
    AuditNotice, AuditRun, RowChange, Rules, due, gone, is_open, not_running, noticed, observe, told,
};
use spot_domain::audit::swaps_in_progress::SwapsInProgress;
use spot_domain::clock;
use spot_domain::{InstanceId, Usd};

use crate::announce::{Announcer, Item};
use crate::auth_table::{AuthTable, Stored, WRITES_AT_ONCE};
use crate::failure::Failure;
use crate::fleet::facts::{Facts, InstancePrices};
use crate::fleet::{Presence, Running, Seen, launched_by, look_at};

use findings::{Findings, NotTerminated};

/// An audit, and the data for the terminations after it.
#[derive(Debug)]
pub struct Audit {
    /// The account and region, and their settings.
    pub visit: Scope,
    /// The client of EC2 in that account and region.
    pub ec2: aws_sdk_ec2::Client,
    /// The swaps in progress there, proven as far as EC2 shows their newcomers.
    pub swaps: SwapsInProgress,
    pub findings: Findings,
    /// The due instances, with their rows as they stand. Empty unless the listing is complete.
    pub due: Vec<(InstanceId, Stored)>,
    /// The instances that would be due, if nothing forbade their termination.
    pub blocked: Vec<NotTerminated>,
    /// The failures. With any failure, the audit is partial.
    pub failures: Vec<Failure>,
    /// A service control policy denies the region, which nobody names, so that nothing was audited.
    pub is_left_out: bool,
}

/// The resources that all audits of a run share.
#[derive(Debug, Clone)]
pub struct Auditor {
    pub table: AuthTable,
    pub announcer: Announcer,
    /// The swaps in progress when the run began, as the rows of each account and region claim them.
    pub swaps: Arc<BTreeMap<AccountRegion, SwapsInProgress>>,
    /// The prices of instances, for the notices.
    pub prices: InstancePrices,
    /// The time and the id of this run.
    pub look: AuditRun,
    /// True if at least one subscriber hears the notices. Otherwise no notice of a flag counts as sent, and
    /// nothing is terminated.
    pub heard: bool,
}

/// The distance of an instance from its termination.
enum End {
    /// The grace of the instance runs, or the instance needs none.
    NotDue,
    /// The instance may be terminated, as far as its row and its tags allow.
    Due,
    /// The grace of the instance is over, and something forbids its termination, in words.
    Blocked(String),
}

/// The decision about an instance.
struct Decision {
    id: InstanceId,
    old: Option<Stored>,
    change: RowChange,
    end: End,
    /// The facts, if a notice needs them.
    facts: Option<Facts>,
}

impl Auditor {
    /// Audits one account and region. Failures are part of the answer: observations from before a failure still
    /// count.
    ///
    /// A region that a service control policy denies is left out, if nobody names it. It is a failure all the same
    /// if the table has open flags there, or a swap: somebody worked there before.
    pub async fn audit(&self, visit: Scope, ec2: aws_sdk_ec2::Client) -> Audit {
        let mut audit = Audit {
            findings: Findings::of(&visit),
            swaps: self.swaps.get(&visit.place).cloned().unwrap_or_default(),
            visit,
            ec2,
            due: Vec::new(),
            blocked: Vec::new(),
            failures: Vec::new(),
            is_left_out: false,
        };
        if let Err(error) = self.listed(&mut audit).await {
            // The listing is incomplete: the audit flags by it, and no instance is terminated because of it.
            audit.failures.push(Failure::of(&audit.visit.place, &error));
            audit.due.clear();
        }
        audit.findings.due = audit.due.len();
        audit
    }

    async fn listed(&self, audit: &mut Audit) -> Result<(), CallError> {
        let mut rows = self.table.load(&audit.visit.place).await?;
        let ec2 = audit.ec2.clone();
        for seen in launched_by(&ec2, audit.swaps.swap_ids()).await? {
            if seen.life != Presence::Gone {
                audit.swaps.prove(&seen.subject);
            }
        }
        let mut pages = Running::of(&ec2);
        let mut is_first = true;
        while let Some(page) = pages.next().await {
            let denied = page.as_ref().err().filter(|error| is_first && audit.visit.is_left_out(error));
            if let Some(error) = denied.filter(|_| !rows.values().any(|stored| is_open(&stored.record))) {
                tracing::info!("not audited: {error}");
                audit.is_left_out = true;
                return Ok(());
            }
            is_first = false;
            let decisions = page?.into_iter().filter_map(|seen| self.judge(audit, seen, &mut rows)).collect();
            self.carry_out(audit, decisions).await?;
        }
        let decisions = self.missing(&ec2, rows).await?;
        self.carry_out(audit, decisions).await
    }

    fn judge(
        &self,
        audit: &mut Audit,
        seen: Seen,
        rows: &mut HashMap<InstanceId, Stored>,
    ) -> Option<Decision> {
        let Seen { subject, facts, .. } = seen;
        let settings = &audit.visit.settings;
        let standing = standing(&subject, settings.trust(), &audit.swaps);
        audit.findings.count(&standing);
        let old = rows.remove(&subject.id);
        let rules = Rules { grace: settings.grace(), run_before_within: settings.audit_gap() };
        let mut change = observe(old.as_ref().map(|old| &old.record), &standing, &self.look)?;
        let due = old.as_ref().filter(|old| {
            standing == Authorization::Unauthorised && due(&old.record, &self.look, rules).is_ok()
        });
        let obstacle = due.and_then(|_| obstacle::to_end(&subject, &audit.swaps, settings));
        let end = match (due, obstacle) {
            (None, _) => End::NotDue,
            (Some(_), None) => End::Due,
            (Some(_), Some(_)) if !audit.visit.auto_terminate => End::NotDue,
            (Some(old), Some(why)) => {
                let blocked = obstacle::block(&old.record, change.record, &why);
                change = RowChange { news: blocked.news.or(change.news), ..blocked };
                End::Blocked(why)
            }
        };
        let facts = change.news.map(|_| facts);
        Some(Decision { id: subject.id, old, change, end, facts })
    }

    /// Judges the rows whose instances are not among the running ones: only a complete listing may do so.
    async fn missing(
        &self,
        ec2: &aws_sdk_ec2::Client,
        rows: HashMap<InstanceId, Stored>,
    ) -> Result<Vec<Decision>, CallError> {
        let open: Vec<(InstanceId, Stored)> =
            rows.into_iter().filter(|(_, stored)| is_open(&stored.record)).collect();
        let ids: Vec<InstanceId> = open.iter().map(|(id, _)| id.clone()).collect();
        let mut found = look_at(ec2, &ids).await?;
        let decide = |(id, old): (InstanceId, Stored)| {
            let seen = found.remove(&id);
            let change = match seen.as_ref().map(|seen| seen.life) {
                None | Some(Presence::Gone) => gone(&old.record, &self.look),
                Some(Presence::Idle) => not_running(&old.record),
                Some(Presence::Running) => None, // started during this run: the next run judges it
            };
            let facts = seen.map(|seen| seen.facts);
            change.map(|change| Decision { id, old: Some(old), change, end: End::NotDue, facts })
        };
        Ok(open.into_iter().filter_map(decide).collect())
    }

    /// Announces the news, then writes the rows: a notice that failed is not noted as sent.
    async fn carry_out(&self, audit: &mut Audit, mut decisions: Vec<Decision>) -> Result<(), CallError> {
        let mut items = Vec::new();
        for decision in &decisions {
            if let Some(news) = decision.change.news {
                let facts = self.priced(audit, decision.facts.as_ref()).await;
                items.push(Item { id: &decision.id, news, record: &decision.change.record, facts });
            }
        }
        let outcome = self.announcer.tell(&audit.visit, &items).await;
        audit.failures.extend(outcome.failures);
        let now = clock::now();
        for decision in decisions.iter_mut().filter(|d| outcome.people.contains(&d.id)) {
            let record = decision.change.record.clone();
            decision.change.record =
                match decision.change.news {
                    Some(
                        AuditNotice::Flagged | AuditNotice::NoticeOwed | AuditNotice::TerminationBlocked,
                    ) if !self.heard => continue,
                    Some(AuditNotice::Flagged | AuditNotice::NoticeOwed | AuditNotice::Suspicious) => {
                        noticed(record, now)
                    }
                    Some(AuditNotice::StillRuns | AuditNotice::TerminationBlocked) => told(record, now),
                    _ => continue,
                };
        }
        self.write(audit, decisions).await
    }

    /// Adds the instance's price to its facts.
    pub(crate) async fn priced<'a>(
        &self,
        audit: &Audit,
        facts: Option<&'a Facts>,
    ) -> Option<(&'a Facts, Option<Usd>)> {
        let facts = facts?;
        Some((facts, self.prices.usd_an_hour(&audit.visit.place.region, facts).await))
    }

    /// Writes the rows in transactions. If a transaction fails, another writer has changed one of its rows. Each
    /// row is then written by itself, and the unchanged ones succeed.
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
    /// Counts the decisions that were written.
    fn note(&mut self, decision: Decision) {
        match decision.change.news {
            Some(AuditNotice::Flagged) => self.findings.flagged += 1,
            Some(AuditNotice::Cleared) => self.findings.cleared += 1,
            _ => {}
        }
        match decision.end {
            End::NotDue => {}
            End::Due => self.due.push((decision.id, decision.change.record.into())),
            End::Blocked(why) => self.blocked.push(NotTerminated::new(&decision.id, why)),
        }
    }
}
