//! Scans that need several invocations, and invocations that are killed. Each invocation resumes at the last
//! stored position, and counts every finding exactly once.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use spot_domain::waste::rules::ResourceType;
use spot_scripted::{Endpoint, ScriptedAnswer};
use support::{NONE, NOW, PLENTY, asked, binned, nothing, page, place, scan, snapshot, volume};
use waste_scanner::table::progress::{Position, ScanProgress};

/// A table that answers the query for lineages with the snapshots that were written to it.
fn counting(
    respond: impl Fn(&str, &str) -> ScriptedAnswer + Send + Sync + 'static,
) -> impl Fn(&str, &str) -> ScriptedAnswer + Send + Sync + 'static {
    let rows = Mutex::new(BTreeMap::<String, String>::new());
    move |action, body| {
        if action == "TransactWriteItems" {
            let asked: Value = serde_json::from_str(body).unwrap();
            let items = asked["TransactItems"].as_array().unwrap().iter().map(|item| &item["Put"]["Item"]);
            let row = |item: &Value| (item["resource"].to_string(), item.to_string());
            rows.lock().unwrap().extend(items.map(row));
        }
        if action == "Query" && body.contains(":started") {
            let rows: Vec<String> = rows.lock().unwrap().values().cloned().collect();
            return ScriptedAnswer::ok(format!(r#"{{"Items":[{}],"Count":{}}}"#, rows.join(","), rows.len()));
        }
        respond(action, body)
    }
}

/// Three snapshots of two volumes on three pages.
async fn three_pages() -> Endpoint {
    let respond = |action: &str, body: &str| match action {
        "DescribeSnapshots" if body.contains("NextToken=b") => {
            page("snapshotSet", &[snapshot(3, "vol-2")], None)
        }
        "DescribeSnapshots" if body.contains("NextToken=a") => {
            page("snapshotSet", &[snapshot(2, "vol-1")], Some("b"))
        }
        "DescribeSnapshots" => page("snapshotSet", &[snapshot(1, "vol-1")], Some("a")),
        action => nothing(action),
    };
    Endpoint::answering(counting(respond)).await
}

#[tokio::test]
async fn an_invocation_that_was_killed_and_is_repeated_counts_what_it_had_not_kept() {
    let endpoint = three_pages().await;
    let first = ScanProgress {
        next: Some(Position::first(ResourceType::Snapshot)),
        ..ScanProgress::new(NOW, &place())
    };
    scan(&endpoint, PLENTY, first.clone()).await; // killed before its progress was kept
    let mut progress = first;
    while progress.next.is_some() {
        progress = scan(&endpoint, NONE, progress).await;
    }
    let snapshots = &progress.report.types[&ResourceType::Snapshot];
    assert_eq!((snapshots.count, snapshots.monthly_cost_usd.to_string().as_str()), (3, "10"));
}

#[tokio::test]
async fn an_invocation_that_was_killed_after_its_progress_was_kept_counts_nothing_twice() {
    let endpoint = three_pages().await;
    let first = ScanProgress {
        next: Some(Position::first(ResourceType::Snapshot)),
        ..ScanProgress::new(NOW, &place())
    };
    let kept = scan(&endpoint, NONE, first).await;
    scan(&endpoint, PLENTY, kept.clone()).await; // killed: it is repeated from what was kept
    let progress = scan(&endpoint, PLENTY, kept).await;
    let snapshots = &progress.report.types[&ResourceType::Snapshot];
    assert_eq!((snapshots.count, snapshots.monthly_cost_usd.to_string().as_str()), (3, "10"));
    assert_eq!(snapshots.lineages, Some(2));
}

#[tokio::test]
async fn when_time_is_up_the_scan_goes_on_where_it_stopped() {
    let respond = |action: &str, body: &str| match action {
        "DescribeSnapshots" if body.contains("NextToken=a") => {
            page("snapshotSet", &[snapshot(2, "vol-1"), snapshot(3, "vol-2")], None)
        }
        "DescribeSnapshots" => page("snapshotSet", &[snapshot(1, "vol-1")], Some("a")),
        action => nothing(action),
    };
    let endpoint = Endpoint::answering(counting(respond)).await;
    let mut progress = ScanProgress::new(NOW, &place());
    let mut invocations = 0;
    while progress.next.is_some() {
        progress = scan(&endpoint, NONE, progress).await;
        let stored = serde_json::to_string(&progress).unwrap();
        progress = serde_json::from_str(&stored).unwrap();
        invocations += 1;
        assert!(invocations < 10, "it does not come to its end");
    }
    assert_eq!(invocations, 4, "addresses, volumes, two pages of snapshots");
    let snapshots = &progress.report.types[&ResourceType::Snapshot];
    assert_eq!((snapshots.count, snapshots.lineages, snapshots.complete), (3, Some(2), true));
    assert_eq!(snapshots.monthly_cost_usd.to_string(), "10", "two lineages, as in one go");
    assert_eq!(asked(&endpoint, r#""snapshot#""#), 2, "the lineages so far, then what to resolve");
}

#[tokio::test]
async fn when_time_is_up_in_the_resolving_it_goes_on_without_listing_again() {
    let row =
        |n: u32| format!(r#"{{"resource":{{"S":"volume#vol-{n:017x}"}},"monthly_cost_usd":{{"N":"8"}}}}"#);
    let updated = AtomicUsize::new(0);
    let endpoint = Endpoint::answering(move |action, body| match action {
        "UpdateItem" => {
            updated.fetch_add(1, Ordering::SeqCst);
            ScriptedAnswer::ok("{}")
        }
        // A resolved finding is not found again.
        "Query" if body.contains(r#""volume#""#) => match updated.load(Ordering::SeqCst) {
            0 => ScriptedAnswer::ok(format!(
                r#"{{"Items":[{},{}],"Count":2,"LastEvaluatedKey":{{"resource":{{"S":"volume#vol-2"}}}}}}"#,
                row(1),
                row(2)
            )),
            _ => ScriptedAnswer::ok(format!(r#"{{"Items":[{}],"Count":1}}"#, row(3))),
        },
        action => nothing(action),
    })
    .await;
    let volumes = ScanProgress {
        next: Some(Position::first(ResourceType::Volume)),
        ..ScanProgress::new(NOW, &place())
    };
    let stopped = scan(&endpoint, NONE, volumes).await;
    let expected = Position { listed: true, ..Position::first(ResourceType::Volume) };
    assert_eq!(stopped.next, Some(expected));
    assert_eq!(stopped.report.resolved.count, 2);
    let ended = scan(&endpoint, PLENTY, stopped).await;
    assert_eq!((ended.report.resolved.count, ended.next), (3, None));
    assert!(ended.report.types[&ResourceType::Volume].complete);
    assert_eq!(asked(&endpoint, "Filter.1.Name=status"), 1, "the volumes are listed once");
}

/// The table of this test answers as DynamoDB does, by the content of its one row and by the conditions of
/// the request.
#[tokio::test]
async fn what_lies_in_the_recycle_bin_is_counted_once_in_a_run_of_several_invocations() {
    let id = format!("vol-{:017x}", 1);
    let marked = AtomicUsize::new(0);
    let in_bin = format!("<item><volumeId>{id}</volumeId></item>");
    let endpoint = Endpoint::answering(move |action, body| match action {
        "UpdateItem" => {
            marked.fetch_add(1, Ordering::SeqCst);
            ScriptedAnswer::ok("{}")
        }
        "Query" if body.contains(r#""volume#""#) => {
            let leaves_out_the_marked = body.contains("#resolution = :bin AND #resolved_at <= :before");
            let more = r#","LastEvaluatedKey":{"resource":{"S":"volume#vol-2"}}"#;
            if marked.load(Ordering::SeqCst) > 0 && leaves_out_the_marked {
                return ScriptedAnswer::ok(r#"{"Items":[],"Count":0}"#);
            }
            ScriptedAnswer::ok(format!(
                r#"{{"Items":[{{"resource":{{"S":"volume#{id}"}},"monthly_cost_usd":{{"N":"8"}}}}],"Count":1{more}}}"#
            ))
        }
        "ListVolumesInRecycleBin" => binned("Volumes", "volumeSet", std::slice::from_ref(&in_bin), None),
        action => nothing(action),
    })
    .await;
    let volumes = ScanProgress {
        next: Some(Position::first(ResourceType::Volume)),
        ..ScanProgress::new(NOW, &place())
    };
    let stopped = scan(&endpoint, NONE, volumes).await;
    assert!(stopped.next.is_some(), "the table has another page");
    let went_on = scan(&endpoint, NONE, stopped).await;
    let bin = went_on.report.resolved.recycle_bin;
    assert_eq!((bin.count, bin.monthly_cost_usd.to_string().as_str()), (1, "8"));
}

#[tokio::test]
async fn a_token_that_ec2_forgot_lists_the_type_anew() {
    let respond = |action: &str, body: &str| match action {
        "DescribeVolumes" if body.contains("NextToken=old") => {
            ScriptedAnswer::ec2_error(400, "InvalidNextToken")
        }
        "DescribeVolumes" => page("volumeSet", &[volume(1), volume(2)], None),
        action => nothing(action),
    };
    let endpoint = Endpoint::answering(respond).await;
    let progress: ScanProgress = serde_json::from_value(serde_json::json!({
        "run_started": NOW,
        "next": {"listing": "volume", "token": "old"},
        "report": {"account_id": "123456789012", "region": "us-east-1", "resolved": {"count": 0, "saved_monthly_usd": 0},
            "failed": [], "types": {"volume": {"count": 1, "monthly_cost_usd": 8, "unknown_price": 0,
                "upper_bound_usd": 8, "left_alone": {}, "complete": false}}}
    }))
    .unwrap();
    let progress = scan(&endpoint, PLENTY, progress).await;
    assert!(progress.report.failed.is_empty(), "{:?}", progress.report.failed);
    assert_eq!(progress.report.types[&ResourceType::Volume].count, 2);
}

#[tokio::test]
async fn a_resumed_listing_that_cannot_be_read_fails_and_is_not_begun_anew() {
    let nameless = "<item><size>8</size></item>".to_owned();
    let endpoint = Endpoint::answering(move |action, body| match action {
        "DescribeVolumes" if body.contains("NextToken=b") => {
            page("volumeSet", std::slice::from_ref(&nameless), None)
        }
        "DescribeVolumes" if body.contains("NextToken=a") => page("volumeSet", &[volume(2)], Some("b")),
        action => nothing(action),
    })
    .await;
    let at = Position { token: Some("a".to_owned()), ..Position::first(ResourceType::Volume) };
    let progress = ScanProgress { next: Some(at), ..ScanProgress::new(NOW, &place()) };
    let progress = scan(&endpoint, PLENTY, progress).await;
    let failed: Vec<_> = progress.report.failed.iter().map(|failed| failed.error.as_str()).collect();
    assert_eq!(failed, ["ec2:DescribeVolumes: MalformedAnswer: an item's volumeId is None"]);
    assert!(!progress.report.types[&ResourceType::Volume].complete);
    assert_eq!(asked(&endpoint, "Action=DescribeVolumes"), 2, "each page once");
}

/// EC2 refuses the token after pages were written. The new listing lists and counts those pages again.
#[tokio::test]
async fn a_token_that_ec2_forgets_in_mid_listing_loses_no_lineage() {
    let forgot = AtomicUsize::new(0);
    let respond = move |action: &str, body: &str| match action {
        "DescribeSnapshots" if body.contains("NextToken=c") && forgot.fetch_add(1, Ordering::SeqCst) == 0 => {
            ScriptedAnswer::ec2_error(400, "InvalidNextToken")
        }
        "DescribeSnapshots" if body.contains("NextToken=c") => page("snapshotSet", &[], None),
        "DescribeSnapshots" if body.contains("NextToken=b") => {
            page("snapshotSet", &[snapshot(2, "vol-2")], Some("c"))
        }
        "DescribeSnapshots" => page("snapshotSet", &[snapshot(1, "vol-1")], Some("b")),
        action => nothing(action),
    };
    let endpoint = Endpoint::answering(counting(respond)).await;
    let first = ScanProgress {
        next: Some(Position::first(ResourceType::Snapshot)),
        ..ScanProgress::new(NOW, &place())
    };
    let kept = scan(&endpoint, NONE, first).await;
    let mut progress = scan(&endpoint, PLENTY, kept).await;
    while progress.next.is_some() {
        progress = scan(&endpoint, NONE, progress).await;
    }
    let snapshots = &progress.report.types[&ResourceType::Snapshot];
    assert_eq!((snapshots.count, snapshots.monthly_cost_usd.to_string().as_str()), (2, "10"));
}
