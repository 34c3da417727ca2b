//! The summary of a run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use spot_cloud::metrics::Figure;
use spot_cloud::scopes::NotVisited;
use spot_domain::audit::reminders::Notified;
use spot_domain::metrics::Metric;
use spot_domain::not_visited::NotVisitedReason;
use spot_domain::words::{LONGEST, cut};
use spot_domain::{AccountId, InstanceId, Region};

use crate::audit::Audit;
use crate::audit::findings::{Findings, NotTerminated};
use crate::failure::Failure;

/// The most failures in a message: an SNS message holds 256 KB. Failures beyond these are only counted; the answer
/// of the run has them all.
const FAILURES_TOLD: usize = 50;
/// The characters that are kept of a cause: a thousand causes fit into a row of DynamoDB.
const CAUSE: usize = 200;

/// The answer of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AuditSummary {
    /// The number of running instances that were judged.
    pub running: usize,
    /// The number of instances that nothing authorises.
    pub unauthorised: usize,
    /// The number of instances that bear our mark without proof.
    pub suspicious: usize,
    /// The number of instances whose grace has passed, with every condition met and no tag that forbids their
    /// termination.
    pub due: usize,
    /// The instances that this run terminated.
    pub terminated: Vec<InstanceId>,
    /// The instances whose grace has passed, and whose termination something forbids.
    pub blocked: Vec<NotTerminated>,
    /// The instances that were due, and that the last check spared.
    pub spared: Vec<NotTerminated>,
    /// The exceeded limit, if more was due than a run may terminate. The run then terminated nothing.
    pub blast_radius_exceeded: Option<Failure>,
    /// True if the run could not see, announce or do something.
    pub partial: bool,
    /// The failures; the answer has them in words.
    pub failed: Vec<Failure>,
    /// The findings of each account and region.
    pub places: Vec<Findings>,
    /// The enabled regions that no run audits: no row of Accounts asks for them, or a service control policy denies
    /// them. Absent if the input names a region.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_audited: Vec<NotVisited>,
}

impl AuditSummary {
    /// Returns the summary of these audits, and of the accounts that could not be visited.
    #[must_use]
    pub fn of(audits: &[Audit], unreadable: Vec<Failure>) -> Self {
        let sum = |count: fn(&Findings) -> usize| audits.iter().map(|a| count(&a.findings)).sum();
        let mut summary = Self {
            running: sum(|f| f.running),
            unauthorised: sum(|f| f.unauthorised),
            suspicious: sum(|f| f.suspicious),
            due: sum(|f| f.due),
            blocked: audits.iter().flat_map(|a| a.blocked.clone()).collect(),
            places: audits.iter().filter(|a| !a.is_left_out).map(|a| a.findings.clone()).collect(),
            not_audited: left_out(audits),
            ..Self::default()
        };
        summary.fail_all(unreadable);
        summary.fail_all(audits.iter().flat_map(|a| a.failures.clone()).collect());
        summary
    }

    /// Notes a failure.
    pub fn fail(&mut self, what: Failure) {
        self.partial = true;
        self.failed.push(Failure { cause: cut(&what.cause, CAUSE), ..what });
    }

    /// Notes failures, if there are any.
    pub fn fail_all(&mut self, what: Vec<Failure>) {
        for what in what {
            self.fail(what);
        }
    }

    /// Returns the failures, for a message to a person, and the causes that the message names. The failures that no
    /// message of the last day named come first. Failures beyond a limit are only counted.
    #[must_use]
    pub fn failures(&self, known: &Notified, now: Timestamp) -> (String, BTreeSet<String>) {
        let is_news = |failure: &&Failure| known.owes([&failure.cause], now);
        let (news, others): (Vec<_>, Vec<_>) = self.failed.iter().partition(is_news);
        let listed: Vec<_> = news.into_iter().chain(others).take(FAILURES_TOLD).collect();
        let more = self.failed.len() - listed.len();
        let more = (more > 0).then(|| format!("and {more} more"));
        let lines = listed.iter().map(|failure| cut(&failure.words, LONGEST)).chain(more);
        (lines.collect::<Vec<_>>().join("\n"), listed.iter().map(|failure| failure.cause.clone()).collect())
    }

    /// Returns the figures for CloudWatch.
    #[must_use]
    pub fn figures(&self) -> [Figure; 4] {
        let not_audited: usize = self.not_audited.iter().map(|account| account.regions.len()).sum();
        [
            (Metric::UnauthorisedInstances, json!(self.unauthorised + self.suspicious)),
            (Metric::RegionsNotAudited, json!(not_audited)),
            (Metric::BlastRadiusExceeded, json!(u8::from(self.blast_radius_exceeded.is_some()))),
            (Metric::SecurityAuditFailures, json!(self.failed.len())),
        ]
    }
}

/// Returns the regions that these audits left out, by account.
fn left_out(audits: &[Audit]) -> Vec<NotVisited> {
    let mut regions: BTreeMap<&AccountId, Vec<Region>> = BTreeMap::new();
    for place in audits.iter().filter(|audit| audit.is_left_out).map(|audit| &audit.visit.place) {
        regions.entry(&place.account_id).or_default().push(place.region.clone());
    }
    let of = |(account_id, regions): (&AccountId, _)| {
        let (account_id, reason) = (account_id.clone(), NotVisitedReason::Denied);
        NotVisited { account_id, regions, reason, unknown: None }
    };
    regions.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use spot_domain::clock;

    use super::*;

    fn figure(summary: &AuditSummary, metric: Metric) -> Value {
        summary.figures().into_iter().find(|(of, _)| *of == metric).unwrap().1
    }

    #[test]
    fn a_run_without_findings_says_so_by_zeros() {
        let figures = AuditSummary::default().figures();
        assert!(figures.iter().all(|(_, value)| *value == json!(0)), "{figures:?}");
    }

    #[test]
    fn a_blast_radius_and_each_failure_count() {
        let blast_radius_exceeded = Some("11 instances are due".to_owned().into());
        let mut summary = AuditSummary { blast_radius_exceeded, ..AuditSummary::default() };
        summary.fail_all(vec!["one".to_owned().into(), "two".to_owned().into()]);
        assert_eq!(figure(&summary, Metric::BlastRadiusExceeded), json!(1));
        assert_eq!(figure(&summary, Metric::SecurityAuditFailures), json!(2));
    }

    #[test]
    fn the_answer_has_failures_in_words() {
        let exceeded = Failure { cause: "radius".to_owned(), words: "4 of 5 are due".to_owned() };
        let mut summary = AuditSummary { blast_radius_exceeded: Some(exceeded), ..AuditSummary::default() };
        summary.fail(Failure { cause: "a cause".to_owned(), words: "in words".to_owned() });
        let answer = json!(summary);
        assert_eq!(answer["failed"], json!(["in words"]));
        assert_eq!(answer["blast_radius_exceeded"], json!("4 of 5 are due"));
        assert!(answer.get("causes").is_none() && answer.get("blast_radius_cause").is_none());
    }

    /// The regions are `["*"]` under a policy that denies most of them, in hundreds of accounts.
    #[test]
    fn the_failures_of_a_thousand_regions_fit_into_one_message() {
        let mut summary = AuditSummary::default();
        let words = |n| format!("region {n}: {}", "\u{1f525}".repeat(2_000));
        summary.fail_all((0..1_000).map(|n| words(n).into()).collect());
        let told = summary.failures(&Notified::default(), clock::now()).0;
        assert!(told.starts_with("region 0: ") && told.ends_with("\nand 950 more"), "{}", told.len());
        assert_eq!((told.lines().count(), summary.failed.len()), (51, 1_000));
        assert!(told.len() < 256 * 1_024, "{}", told.len());
        summary.failed.truncate(50);
        assert!(
            !summary.failures(&Notified::default(), clock::now()).0.contains("more")
                && summary.failures(&Notified::default(), clock::now()).0.contains("region 49: ")
        );
    }

    #[test]
    fn whatever_nobody_answers_for_rings_the_alarm() {
        let regions = vec!["us-west-2".parse().unwrap(), "eu-west-1".parse().unwrap()];
        let account_id = "123456789012".parse().unwrap();
        let reason = NotVisitedReason::NotListed;
        let not_audited = vec![NotVisited { account_id, regions, reason, unknown: None }];
        let summary = AuditSummary { unauthorised: 2, suspicious: 1, not_audited, ..AuditSummary::default() };
        assert_eq!(figure(&summary, Metric::UnauthorisedInstances), json!(3));
        assert_eq!(figure(&summary, Metric::RegionsNotAudited), json!(2));
    }
}
