//! Regions that a service control policy denies: left out where nobody names them, and failed listings where somebody
//! does.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use spot_domain::waste::report::ScopeReport;
use spot_scripted::{Endpoint, ScriptedAnswer};
use support::{NOW, PLENTY, nothing, place, scan_of, visit};
use waste_scanner::table::progress::ScanProgress;

/// Scans a region in which each call that begins so is refused, with an explicit deny in such a policy.
async fn scanned(is_named: bool, refused: &'static str, policy: &'static str) -> (ScopeReport, usize) {
    let endpoint = Endpoint::answering(move |action, _| {
        if action.starts_with(refused) {
            let words = format!(
                "User: arn:aws:sts::123456789012:assumed-role/a/b is not authorized to perform: ec2:{action} with an \
                 explicit deny in {policy}"
            );
            return ScriptedAnswer::ec2_error(403, "UnauthorizedOperation").saying(&words);
        }
        nothing(action)
    })
    .await;
    let progress = ScanProgress::new(NOW, &place());
    let progress = scan_of(&visit(is_named), &endpoint, PLENTY, progress).await;
    assert!(progress.next.is_none());
    (progress.report, endpoint.requests().len())
}

const BY_ORGANIZATION: &str = "a service control policy";

#[tokio::test]
async fn a_region_that_nobody_names_is_left_out_after_its_first_call() {
    let (report, calls) = scanned(false, "Describe", BY_ORGANIZATION).await;
    assert!(report.left_out && report.failed.is_empty() && report.types.is_empty(), "{report:?}");
    assert_eq!(calls, 1);
}

#[tokio::test]
async fn any_other_denial_is_a_failed_listing() {
    for (is_named, refused, policy, failed) in [
        (true, "Describe", BY_ORGANIZATION, 3),
        (false, "Describe", "an identity-based policy", 3),
        (false, "DescribeVolumes", BY_ORGANIZATION, 1), // the addresses could be listed
    ] {
        let (report, _) = scanned(is_named, refused, policy).await;
        assert_eq!(
            (report.failed.len(), report.left_out),
            (failed, false),
            "{refused}, {policy}: {report:?}"
        );
    }
}
