//! Snapshots that are locked, or shared with other accounts, against a scripted EC2: they are left alone. Where EC2
//! does not say it, the findings stand, and the report says what is unknown.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use spot_domain::waste::report::ScopeReport;
use spot_domain::waste::rules::{LeftAlone, ResourceType};
use spot_scripted::{Endpoint, ScriptedAnswer};
use support::{NOW, PLENTY, asked, locks, nothing, page, place, scan, scan_all, shared_with, snapshot};
use waste_scanner::table::progress::{Position, ScanProgress};

const ASKED: &str = "Action=DescribeSnapshotAttribute";

/// Answers a page of old snapshots, each of a volume of its own.
fn snapshots(numbers: std::ops::RangeInclusive<u32>, token: Option<&str>) -> ScriptedAnswer {
    let items: Vec<String> = numbers.map(|n| snapshot(n, &format!("vol-{n}"))).collect();
    page("snapshotSet", &items, token)
}

fn id(n: u32) -> String {
    format!("snap-{n:017x}")
}

/// Returns the count of the findings among the snapshots, and what they cost.
fn found(report: &ScopeReport) -> (u64, String) {
    let snapshots = &report.types[&ResourceType::Snapshot];
    assert!(snapshots.complete);
    (snapshots.count, snapshots.monthly_cost_usd.to_string())
}

fn left(report: &ScopeReport, why: LeftAlone) -> (u64, String) {
    let spared = report.types[&ResourceType::Snapshot].left_alone.get(&why).copied().unwrap_or_default();
    (spared.count, spared.upper_bound_usd.to_string())
}

fn sharing_unknown(report: &ScopeReport) -> u64 {
    report.types[&ResourceType::Snapshot].sharing_unknown
}

/// Returns the names of what failed.
fn failed(report: &ScopeReport) -> Vec<&str> {
    report.failed.iter().map(|failed| failed.listing.as_str()).collect()
}

#[tokio::test]
async fn a_locked_snapshot_is_left_alone_on_whatever_page_it_stands() {
    let endpoint = Endpoint::answering(|action, body| match action {
        "DescribeLockedSnapshots" if body.contains("NextToken=a") => {
            locks(&[(3, "compliance-cooloff"), (4, "expired")], None)
        }
        "DescribeLockedSnapshots" => locks(&[(1, "compliance"), (2, "governance")], Some("a")),
        "DescribeSnapshots" => snapshots(1..=5, None),
        action => nothing(action),
    })
    .await;
    let report = scan_all(&endpoint).await.report;
    assert_eq!(found(&report), (2, "10".to_owned()));
    assert_eq!(left(&report, LeftAlone::Locked), (3, "15".to_owned()));
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert_eq!(asked(&endpoint, ASKED), 2, "only the findings are asked for");
}

#[tokio::test]
async fn a_shared_or_public_snapshot_is_left_alone_and_no_other_is_asked_for() {
    let young = snapshot(5, "vol-5").replace("2024-01-01", "2026-11-18"); // less than 30 days before the scan
    let kept = "<tagSet><item><key>velero.io/backup</key><value>x</value></item></tagSet></item>";
    let kept = snapshot(6, "vol-6").replace("</item>", kept);
    let endpoint = Endpoint::answering(move |action, body| match action {
        "DescribeSnapshotAttribute" if body.contains(&id(1)) => {
            shared_with(&["<userId>210987654321</userId>"])
        }
        "DescribeSnapshotAttribute" if body.contains(&id(2)) => shared_with(&["<group>all</group>"]),
        "DescribeSnapshotAttribute" if body.contains(&id(3)) => {
            shared_with(&["<userId>123456789012</userId>"]) // its own account
        }
        "DescribeSnapshots" => {
            let mut items: Vec<String> = (1..=4).map(|n| snapshot(n, &format!("vol-{n}"))).collect();
            items.extend([young.clone(), kept.clone()]);
            page("snapshotSet", &items, None)
        }
        action => nothing(action),
    })
    .await;
    let report = scan_all(&endpoint).await.report;
    assert_eq!(found(&report), (2, "10".to_owned()));
    assert_eq!(left(&report, LeftAlone::Shared), (2, "10".to_owned()));
    assert_eq!(left(&report, LeftAlone::Velero), (1, "5".to_owned()));
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert_eq!(asked(&endpoint, ASKED), 4);
    let request = endpoint.requests().into_iter().find(|request| request.contains(ASKED)).unwrap();
    assert!(request.contains("Attribute=createVolumePermission"), "{request}");
    assert_eq!(asked(&endpoint, &format!(r#"{{"S":"snapshot#{}"}}"#, id(1))), 0, "a shared one has no row");
}

/// The role of an account whose account.yaml is older than these calls.
#[tokio::test]
async fn without_the_rights_the_findings_stand_and_their_rows_say_what_is_unknown() {
    let endpoint = Endpoint::answering(|action, body| match action {
        "DescribeLockedSnapshots" | "DescribeSnapshotAttribute" => {
            ScriptedAnswer::ec2_error(403, "UnauthorizedOperation")
        }
        "DescribeSnapshots" if body.contains("NextToken=a") => snapshots(21..=40, None),
        "DescribeSnapshots" => snapshots(1..=20, Some("a")),
        action => nothing(action),
    })
    .await;
    let report = scan_all(&endpoint).await.report;
    assert_eq!(found(&report), (40, "200".to_owned()));
    assert_eq!(failed(&report), ["snapshot-locks", "snapshot-sharing"]);
    assert!(report.failed[0].error.starts_with("ec2:DescribeLockedSnapshots: UnauthorizedOperation"));
    assert!(report.failed[1].error.starts_with("ec2:DescribeSnapshotAttribute: UnauthorizedOperation"));
    let requests = endpoint.requests();
    let rows: Vec<&str> = requests.iter().flat_map(|request| request.split("\"Put\":").skip(1)).collect();
    assert_eq!(rows.len(), 40);
    for row in rows {
        assert!(row.contains(r#""lock":{"S":"unknown"}"#), "{row}");
        assert!(row.contains(r#""sharing":{"S":"unknown"}"#), "{row}");
    }
    assert!(asked(&endpoint, ASKED) <= 4, "{} calls although all are denied", asked(&endpoint, ASKED));
}

#[tokio::test]
async fn a_call_that_fails_leaves_its_page_unknown_and_the_next_page_is_asked_for() {
    let endpoint = Endpoint::answering(|action, body| match action {
        "DescribeSnapshotAttribute" if body.contains(&id(1)) => {
            ScriptedAnswer::ec2_error(400, "InvalidParameterValue")
        }
        "DescribeSnapshotAttribute" if body.contains(&id(31)) => shared_with(&["<group>all</group>"]),
        "DescribeSnapshots" if body.contains("NextToken=a") => snapshots(31..=32, None),
        "DescribeSnapshots" => snapshots(1..=1, Some("a")),
        action => nothing(action),
    })
    .await;
    let report = scan_all(&endpoint).await.report;
    assert_eq!(failed(&report), ["snapshot-sharing"]);
    assert_eq!(found(&report), (2, "10".to_owned()));
    assert_eq!(left(&report, LeftAlone::Shared), (1, "5".to_owned()));
}

#[tokio::test]
async fn a_visit_asks_for_the_sharing_of_two_hundred_findings() {
    let endpoint = Endpoint::answering(|action, body| match action {
        "DescribeSnapshotAttribute" => shared_with(&["<group>all</group>"]),
        "DescribeSnapshots" if body.contains("NextToken=a") => snapshots(151..=250, None),
        "DescribeSnapshots" => snapshots(1..=150, Some("a")),
        action => nothing(action),
    })
    .await;
    let report = scan_all(&endpoint).await.report;
    assert_eq!(asked(&endpoint, ASKED), 200);
    assert_eq!(left(&report, LeftAlone::Shared).0, 200);
    assert_eq!(found(&report).0, 50);
    assert_eq!(sharing_unknown(&report), 50);
    assert!(failed(&report).is_empty());
}

/// EC2 refuses the token after 150 findings were asked for. The new listing lists them again.
#[tokio::test]
async fn a_listing_that_begins_anew_asks_for_its_own_two_hundred() {
    let endpoint = Endpoint::answering(|action, body| match action {
        "DescribeSnapshots" if body.contains("NextToken=b") => {
            ScriptedAnswer::ec2_error(400, "InvalidNextToken")
        }
        "DescribeSnapshots" if body.contains("NextToken=a") => snapshots(1..=150, Some("b")),
        "DescribeSnapshots" => snapshots(1..=150, None),
        action => nothing(action),
    })
    .await;
    let at = Position { token: Some("a".to_owned()), ..Position::first(ResourceType::Snapshot) };
    let progress = ScanProgress { next: Some(at), ..ScanProgress::new(NOW, &place()) };
    let report = scan(&endpoint, PLENTY, progress).await.report;
    assert_eq!((found(&report).0, asked(&endpoint, ASKED)), (150, 300));
    assert_eq!(sharing_unknown(&report), 0);
}

#[tokio::test]
async fn a_snapshot_that_is_deleted_meanwhile_fails_nothing() {
    let endpoint = Endpoint::answering(|action, _| match action {
        "DescribeSnapshotAttribute" => ScriptedAnswer::ec2_error(400, "InvalidSnapshot.NotFound"),
        "DescribeSnapshots" => snapshots(1..=3, None),
        action => nothing(action),
    })
    .await;
    let report = scan_all(&endpoint).await.report;
    assert_eq!(found(&report), (3, "15".to_owned()));
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert_eq!(asked(&endpoint, ASKED), 3);
}
