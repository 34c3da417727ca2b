//! Announces a run: its summary as an event, and an SNS message if a listing failed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use spot_cloud::CallError;
use spot_cloud::announcements::{Announcements, event};
use spot_cloud::lambda::stack_name;
use spot_domain::Usd;
use spot_domain::events::OwnEvent;
use spot_domain::waste::report::{Failed, Listing, Resolved, ScanSummary};
use spot_domain::waste::rules::ResourceType;

use crate::input::Run;

/// EventBridge takes an event of 256 KB, so the event lists this many failures and counts the rest. The table
/// has all of them.
const FAILURES_LISTED: usize = 50;

/// The summary without its scopes, whose number is unlimited. The table holds the scopes.
#[derive(Serialize)]
struct CompletedEvent<'a> {
    run_started: Timestamp,
    total_monthly_waste_usd: Usd,
    partial: bool,
    types: &'a BTreeMap<ResourceType, Listing>,
    resolved: Resolved,
    accounts_and_regions: usize,
    /// Enabled regions that a service control policy denies.
    not_scanned: usize,
    /// Scopes among the scanned ones whose rest a newer run has taken over.
    overtaken: usize,
    failures: usize,
    failed: &'a [Failed],
}

impl<'a> CompletedEvent<'a> {
    fn of(summary: &'a ScanSummary) -> Self {
        Self {
            run_started: summary.run_started,
            total_monthly_waste_usd: summary.total_monthly_waste_usd,
            partial: summary.partial,
            types: &summary.types,
            resolved: summary.resolved,
            accounts_and_regions: summary.scopes.len(),
            not_scanned: summary.not_scanned.len(),
            overtaken: summary.scopes.iter().filter(|scope| scope.overtaken).count(),
            failures: summary.failed.len(),
            failed: first(&summary.failed),
        }
    }
}

/// Asks to be continued: a rule of the stack passes the event back to the scanner.
///
/// # Errors
/// The event could not be put, so that nothing would continue the scan.
pub async fn to_be_continued(announcements: &Announcements, run: &Run) -> Result<(), CallError> {
    let next = continuation(run);
    announcements.put(vec![event(OwnEvent::WasteScanToBeContinued, &next)?]).await
}

/// Returns the run for the next invocation of this stack.
fn continuation(run: &Run) -> Run {
    Run { stack: Some(stack_name()), ..run.next() }
}

/// Announces the end of the run.
///
/// # Errors
/// The event or the message could not be sent.
pub async fn completed(announcements: &Announcements, summary: &ScanSummary) -> Result<(), CallError> {
    let detail = CompletedEvent::of(summary);
    announcements.put(vec![event(OwnEvent::WasteScanCompleted, &detail)?]).await?;
    if summary.failed.is_empty() {
        return Ok(());
    }
    let subject = format!("Waste scan incomplete: {} listings failed", summary.failed.len());
    announcements.alert(&subject, &message(summary)).await
}

fn first(failed: &[Failed]) -> &[Failed] {
    failed.get(..FAILURES_LISTED).unwrap_or(failed)
}

fn message(summary: &ScanSummary) -> String {
    let lines = first(&summary.failed).iter().map(|failed| {
        let place = failed.region.as_ref().map_or_else(String::new, |region| format!(" in {region}"));
        format!("- {} of account {}{place}: {}", failed.listing, failed.account_id, failed.error)
    });
    let more = summary.failed.len().saturating_sub(FAILURES_LISTED);
    let more = (more > 0).then(|| format!("- and {more} more"));
    format!(
        "These listings failed. They may have missed resources, and none of their findings was \
         resolved:\n{}\nThe next daily scan tries again.",
        lines.chain(more).collect::<Vec<_>>().join("\n")
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::input::Request;

    fn fields(detail: &impl Serialize) -> BTreeSet<String> {
        serde_json::to_value(detail).unwrap().as_object().unwrap().keys().cloned().collect()
    }

    fn named(fields: impl Iterator<Item = &'static str>) -> BTreeSet<String> {
        fields.map(str::to_owned).collect()
    }

    #[test]
    fn the_end_of_a_run_has_the_declared_fields() {
        let summary = ScanSummary::new(Timestamp::UNIX_EPOCH, Vec::new(), Vec::new(), false);
        let declared = OwnEvent::WasteScanCompleted.declared();
        assert_eq!(fields(&CompletedEvent::of(&summary)), named(declared.fields_of_all()));
    }

    #[test]
    fn a_continuation_has_the_declared_fields_and_the_scope_that_was_asked_for() {
        let run = |request| continuation(&Run::new(request, Timestamp::UNIX_EPOCH));
        let declared = OwnEvent::WasteScanToBeContinued.declared();
        let everything = Request { account_id: None, region: None };
        assert_eq!(fields(&run(everything)), named(declared.fields_of_all()));
        let one = Request { account_id: "123456789012".parse().ok(), region: "us-east-1".parse().ok() };
        assert_eq!(fields(&run(one)), named(declared.fields()));
    }

    #[test]
    fn a_thousand_failures_fit_into_one_message() {
        let failed = Failed {
            account_id: "123456789012".parse().unwrap(),
            region: "us-east-1".parse().ok(),
            listing: "volume".to_owned(),
            error: "ec2:DescribeVolumes: UnauthorizedOperation: no".to_owned(),
        };
        let summary = ScanSummary::new(Timestamp::UNIX_EPOCH, Vec::new(), vec![failed; 1_000], false);
        let message = message(&summary);
        assert!(
            message.contains("- volume of account 123456789012 in us-east-1: ec2:DescribeVolumes"),
            "{message}"
        );
        assert!(message.contains("- and 950 more\n"), "{message}");
        assert!(message.len() < 100_000);
    }
}
