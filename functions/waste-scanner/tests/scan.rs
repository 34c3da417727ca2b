//! The scan of one account and region against a scripted EC2 and DynamoDB: paging, throttling, denied
//! calls, time that is up, and that only a complete listing resolves anything.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::Value;
use spot_cloud::places::Place;
use spot_domain::ebs_prices::PriceBook;
use spot_domain::settings::Settings;
use spot_domain::waste::{ResourceType, Rules};
use spot_scripted::{Answer, Endpoint};
use waste_scanner::progress::{Position, Progress};
use waste_scanner::scan::Scan;
use waste_scanner::table::WasteTable;

const NOW: i64 = 1_795_000_000;
const PLENTY: Duration = Duration::from_mins(15);
const NONE: Duration = Duration::ZERO;

fn place() -> Place {
    Place { account_id: "123456789012".parse().unwrap(), region: "us-east-1".parse().unwrap() }
}

async fn scan(endpoint: &Endpoint, time: Duration, mut progress: Progress) -> Progress {
    let (place, config, settings) = (place(), endpoint.config().await, Settings::default());
    let prices = PriceBook::shipped(&place.region);
    let table = WasteTable::new(aws_sdk_dynamodb::Client::new(&config), "waste");
    let now = Timestamp::from_second(NOW).unwrap();
    let rules = Rules { settings: &settings, region: &place.region, prices: &prices, now };
    let ec2 = aws_sdk_ec2::Client::new(&config);
    let deadline = SystemTime::now() + time;
    Scan { place: &place, ec2, table: &table, rules, deadline }.go_on(&mut progress).await;
    progress
}

async fn scan_all(endpoint: &Endpoint) -> Progress {
    scan(endpoint, PLENTY, Progress::new(NOW, &place())).await
}

fn page(set: &str, items: &[String], token: Option<&str>) -> Answer {
    let resource = match set {
        "addressesSet" => "Addresses",
        "volumeSet" => "Volumes",
        "snapshotSet" => "Snapshots",
        _ => "Images",
    };
    let token = token.map(|token| format!("<nextToken>{token}</nextToken>")).unwrap_or_default();
    let items = items.concat();
    Answer::ok(format!(
        "<Describe{resource}Response><{set}>{items}</{set}>{token}</Describe{resource}Response>"
    ))
}

fn volume(n: u32) -> String {
    format!(
        "<item><volumeId>vol-{n:017x}</volumeId><size>100</size><volumeType>gp3</volumeType><iops>3000</iops>\
         <throughput>125</throughput><status>available</status><availabilityZone>us-east-1a</availabilityZone>\
         <createTime>2024-01-01T00:00:00.000Z</createTime></item>"
    )
}

fn snapshot(n: u32, volume: &str) -> String {
    format!(
        "<item><snapshotId>snap-{n:017x}</snapshotId><volumeId>{volume}</volumeId><volumeSize>100</volumeSize>\
         <status>completed</status><ownerId>123456789012</ownerId><storageTier>standard</storageTier>\
         <startTime>2024-01-01T00:00:00.000Z</startTime></item>"
    )
}

fn address(n: u32) -> String {
    format!(
        "<item><allocationId>eipalloc-{n:017x}</allocationId><publicIp>198.51.100.{n}</publicIp>\
         <publicIpv4Pool>amazon</publicIpv4Pool><networkBorderGroup>us-east-1</networkBorderGroup></item>"
    )
}

/// An EC2 account that has nothing, and a table that is empty and takes everything.
fn nothing(action: &str) -> Answer {
    match action {
        "DescribeAddresses" => page("addressesSet", &[], None),
        "DescribeVolumes" => page("volumeSet", &[], None),
        "DescribeSnapshots" => page("snapshotSet", &[], None),
        "DescribeImages" => page("imagesSet", &[], None),
        "BatchGetItem" => Answer::ok(r#"{"Responses":{"waste":[]},"UnprocessedKeys":{}}"#),
        "BatchWriteItem" => Answer::ok(r#"{"UnprocessedItems":{}}"#),
        "Query" => Answer::ok(r#"{"Items":[],"Count":0}"#),
        "TransactWriteItems" | "UpdateItem" | "PutItem" => Answer::ok("{}"),
        other => panic!("{other} is not expected"),
    }
}

fn asked(endpoint: &Endpoint, what: &str) -> usize {
    endpoint.requests().iter().filter(|request| request.contains(what)).count()
}

#[tokio::test]
async fn every_page_is_read_even_after_an_empty_one() {
    let endpoint = Endpoint::answering(|action, body| match action {
        "DescribeVolumes" if body.contains("NextToken=b") => page("volumeSet", &[volume(3)], None),
        "DescribeVolumes" if body.contains("NextToken=a") => page("volumeSet", &[], Some("b")),
        "DescribeVolumes" => page("volumeSet", &[volume(1), volume(2)], Some("a")),
        action => nothing(action),
    })
    .await;
    let progress = scan_all(&endpoint).await;
    let volumes = &progress.report.types[&ResourceType::Volume];
    assert_eq!((volumes.count, volumes.monthly_cost_usd.to_string().as_str()), (3, "24"));
    assert!(volumes.complete && progress.next.is_none() && progress.report.failed.is_empty());
    assert!(endpoint.requests().iter().any(|r| r.contains("Filter.1.Value.1=available")));
}

#[tokio::test]
async fn images_count_as_use_disabled_ones_too() {
    let endpoint = Endpoint::answering(|action, _| match action {
        "DescribeImages" => page(
            "imagesSet",
            &[format!(
                "<item><imageId>ami-1</imageId><imageState>disabled</imageState><blockDeviceMapping><item>\
                 <ebs><snapshotId>snap-{:017x}</snapshotId></ebs></item></blockDeviceMapping></item>",
                1
            )],
            None,
        ),
        "DescribeSnapshots" => {
            page("snapshotSet", &[snapshot(1, "vol-1"), snapshot(2, "vol-1"), snapshot(3, "vol-1")], None)
        }
        action => nothing(action),
    })
    .await;
    let progress = scan_all(&endpoint).await;
    let snapshots = &progress.report.types[&ResourceType::Snapshot];
    assert_eq!((snapshots.count, snapshots.lineages), (2, Some(1)));
    assert_eq!(snapshots.monthly_cost_usd.to_string(), "5");
    assert_eq!(snapshots.upper_bound_usd.to_string(), "10");
    let images = endpoint.requests().into_iter().find(|r| r.contains("Action=DescribeImages")).unwrap();
    assert!(images.contains("IncludeDisabled=true") && images.contains("IncludeDeprecated=true"), "{images}");
}

#[tokio::test]
async fn without_images_nothing_is_said_of_snapshots() {
    let endpoint = Endpoint::answering(|action, _| match action {
        "DescribeImages" => Answer::ec2_error(403, "UnauthorizedOperation"),
        "DescribeVolumes" => page("volumeSet", &[volume(1)], None),
        action => nothing(action),
    })
    .await;
    let progress = scan_all(&endpoint).await;
    assert_eq!(progress.report.failed.len(), 1);
    assert_eq!(progress.report.failed[0].listing, "snapshot");
    assert!(progress.report.failed[0].error.contains("ec2:DescribeImages"), "{:?}", progress.report.failed);
    assert!(!progress.report.types[&ResourceType::Snapshot].complete);
    assert_eq!(progress.report.types[&ResourceType::Volume].count, 1);
    assert_eq!(asked(&endpoint, "Action=DescribeSnapshots"), 0);
    assert_eq!(asked(&endpoint, "snapshot#"), 0, "nothing of snapshots is resolved");
}

#[tokio::test]
async fn a_denied_region_is_reported_and_nothing_in_it_resolved() {
    let endpoint = Endpoint::answering(|action, _| match action {
        a if a.starts_with("Describe") => Answer::ec2_error(403, "UnauthorizedOperation"),
        other => panic!("{other} is not expected"),
    })
    .await;
    let progress = scan_all(&endpoint).await;
    let listings: Vec<&str> = progress.report.failed.iter().map(|f| f.listing.as_str()).collect();
    assert_eq!(listings, ["elastic-ip", "volume", "snapshot"]);
    assert!(progress.next.is_none());
}

#[tokio::test]
async fn a_listing_that_breaks_off_resolves_nothing() {
    let endpoint = Endpoint::answering(|action, body| match action {
        "DescribeVolumes" if body.contains("NextToken=a") => Answer::ec2_error(400, "InvalidParameterValue"),
        "DescribeVolumes" => page("volumeSet", &[volume(1)], Some("a")),
        action => nothing(action),
    })
    .await;
    let progress = scan_all(&endpoint).await;
    assert_eq!(progress.report.failed.len(), 1);
    assert_eq!(asked(&endpoint, r#""volume#""#), 0);
    assert_eq!(asked(&endpoint, r#""elastic-ip#""#), 1, "the complete listing may resolve");
}

#[tokio::test]
async fn a_throttled_listing_is_asked_again_patiently() {
    let calls = AtomicUsize::new(0);
    let endpoint = Endpoint::answering(move |action, _| match action {
        "DescribeAddresses" if calls.fetch_add(1, Ordering::SeqCst) < 4 => {
            Answer::ec2_error(503, "RequestLimitExceeded")
        }
        "DescribeAddresses" => page("addressesSet", &[address(1)], None),
        action => nothing(action),
    })
    .await;
    let progress = scan_all(&endpoint).await;
    assert!(progress.report.failed.is_empty(), "{:?}", progress.report.failed);
    assert_eq!(progress.report.total().to_string(), "3.6");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again_and_nothing_counts_twice() {
    let asked = AtomicUsize::new(0);
    let endpoint = Endpoint::answering(move |action, _| match action {
        "DescribeVolumes" if asked.fetch_add(1, Ordering::SeqCst) == 0 => {
            Answer::ok(format!("<DescribeVolumesResponse><volumeSet>{}<item><volumeId>vol-", volume(1)))
        }
        "DescribeVolumes" => page("volumeSet", &[volume(1), volume(2)], None),
        action => nothing(action),
    })
    .await;
    let volumes = &scan_all(&endpoint).await.report.types[&ResourceType::Volume];
    assert_eq!((volumes.count, volumes.complete), (2, true));
}

#[tokio::test]
async fn a_date_that_cannot_be_read_fails_the_listing() {
    let odd = volume(1).replace("<createTime>2", "<createTime>x2");
    assert_ne!(odd, volume(1));
    let endpoint = Endpoint::answering(move |action, _| match action {
        "DescribeVolumes" => page("volumeSet", std::slice::from_ref(&odd), None),
        action => nothing(action),
    })
    .await;
    let report = scan_all(&endpoint).await.report;
    assert!(!report.types[&ResourceType::Volume].complete);
    assert!(report.failed[0].error.contains("createTime"), "{:?}", report.failed);
}

#[tokio::test]
async fn a_page_that_leads_back_to_itself_fails_the_listing() {
    let endpoint = Endpoint::answering(|action, _| match action {
        "DescribeVolumes" => page("volumeSet", &[volume(1)], Some("a")),
        action => nothing(action),
    })
    .await;
    assert_eq!(scan_all(&endpoint).await.report.failed.len(), 1);
}

#[tokio::test]
async fn only_what_is_deleted_saves() {
    let gone = format!("vol-{:017x}", 1);
    let kept = format!("vol-{:017x}", 2);
    let rows = format!(
        r#"{{"Items":[{{"resource":{{"S":"volume#{gone}"}},"monthly_cost_usd":{{"N":"8"}}}},
            {{"resource":{{"S":"volume#{kept}"}},"monthly_cost_usd":{{"N":"5"}}}}],"Count":2}}"#
    );
    let endpoint = Endpoint::answering(move |action, body| match action {
        "Query" if body.contains(r#""volume#""#) => Answer::ok(rows.clone()),
        "DescribeVolumes" if body.contains("Filter.1.Name=volume-id") => {
            page("volumeSet", &[volume(2)], None)
        }
        action => nothing(action),
    })
    .await;
    let progress = scan_all(&endpoint).await;
    assert_eq!(progress.report.resolved.count, 2);
    assert_eq!(progress.report.resolved.saved_monthly_usd.to_string(), "8");
    let resolved = |id: &str, how: &str| {
        endpoint
            .requests()
            .iter()
            .any(|r| r.contains("UpdateExpression") && r.contains(id) && r.contains(how))
    };
    assert!(resolved(&gone, "DELETED") && resolved(&kept, "KEPT"));
}

/// A table that answers the question for lineages with the snapshots that were written to it.
fn counting(
    respond: impl Fn(&str, &str) -> Answer + Send + Sync + 'static,
) -> impl Fn(&str, &str) -> Answer + Send + Sync + 'static {
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
            return Answer::ok(format!(r#"{{"Items":[{}],"Count":{}}}"#, rows.join(","), rows.len()));
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
    let first =
        Progress { next: Some(Position::first(ResourceType::Snapshot)), ..Progress::new(NOW, &place()) };
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
    let first =
        Progress { next: Some(Position::first(ResourceType::Snapshot)), ..Progress::new(NOW, &place()) };
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
    let mut progress = Progress::new(NOW, &place());
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
            Answer::ok("{}")
        }
        // What is resolved is not found again.
        "Query" if body.contains(r#""volume#""#) => match updated.load(Ordering::SeqCst) {
            0 => Answer::ok(format!(
                r#"{{"Items":[{},{}],"Count":2,"LastEvaluatedKey":{{"resource":{{"S":"volume#vol-2"}}}}}}"#,
                row(1),
                row(2)
            )),
            _ => Answer::ok(format!(r#"{{"Items":[{}],"Count":1}}"#, row(3))),
        },
        action => nothing(action),
    })
    .await;
    let volumes =
        Progress { next: Some(Position::first(ResourceType::Volume)), ..Progress::new(NOW, &place()) };
    let stopped = scan(&endpoint, NONE, volumes).await;
    let expected = Position { listed: true, ..Position::first(ResourceType::Volume) };
    assert_eq!(stopped.next, Some(expected));
    assert_eq!(stopped.report.resolved.count, 2);
    let ended = scan(&endpoint, PLENTY, stopped).await;
    assert_eq!((ended.report.resolved.count, ended.next), (3, None));
    assert!(ended.report.types[&ResourceType::Volume].complete);
    assert_eq!(asked(&endpoint, "Filter.1.Name=status"), 1, "the volumes are listed once");
}

#[tokio::test]
async fn a_token_that_ec2_forgot_lists_the_type_anew() {
    let respond = |action: &str, body: &str| match action {
        "DescribeVolumes" if body.contains("NextToken=old") => Answer::ec2_error(400, "InvalidNextToken"),
        "DescribeVolumes" => page("volumeSet", &[volume(1), volume(2)], None),
        action => nothing(action),
    };
    let endpoint = Endpoint::answering(respond).await;
    let progress: Progress = serde_json::from_value(serde_json::json!({
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
    let progress = Progress { next: Some(at), ..Progress::new(NOW, &place()) };
    let progress = scan(&endpoint, PLENTY, progress).await;
    let failed: Vec<_> = progress.report.failed.iter().map(|failed| failed.error.as_str()).collect();
    assert_eq!(failed, ["ec2:DescribeVolumes: MalformedAnswer: an item's volumeId is None"]);
    assert!(!progress.report.types[&ResourceType::Volume].complete);
    assert_eq!(asked(&endpoint, "Action=DescribeVolumes"), 2, "each page once");
}

/// A page that lacks its list, as from a proxy that strips what is empty: with it, all snapshots would
/// read as unused, and all findings as deleted.
#[tokio::test]
async fn an_answer_without_its_list_is_not_nothing() {
    let stripped =
        |action: &str| Answer::ok(format!("<{action}Response><requestId>1</requestId></{action}Response>"));
    for failing in ["DescribeImages", "DescribeVolumes", "DescribeAddresses"] {
        let endpoint = Endpoint::answering(move |action, _| match action {
            "DescribeSnapshots" => page("snapshotSet", &[snapshot(1, "vol-1")], None),
            action if action == failing => stripped(action),
            action => nothing(action),
        })
        .await;
        let progress = scan_all(&endpoint).await;
        assert_eq!(progress.report.failed.len(), 1, "{failing}");
        let error = &progress.report.failed[0].error;
        assert!(error.starts_with(&format!("ec2:{failing}: MalformedAnswer: the answer has no ")), "{error}");
        let snapshots = &progress.report.types[&ResourceType::Snapshot];
        assert_eq!(snapshots.count, u64::from(failing != "DescribeImages"));
    }
}

/// The token is refused after pages were written on: what they counted is listed, and counted, anew.
#[tokio::test]
async fn a_token_that_ec2_forgets_in_mid_listing_loses_no_lineage() {
    let forgot = AtomicUsize::new(0);
    let respond = move |action: &str, body: &str| match action {
        "DescribeSnapshots" if body.contains("NextToken=c") && forgot.fetch_add(1, Ordering::SeqCst) == 0 => {
            Answer::ec2_error(400, "InvalidNextToken")
        }
        "DescribeSnapshots" if body.contains("NextToken=c") => page("snapshotSet", &[], None),
        "DescribeSnapshots" if body.contains("NextToken=b") => {
            page("snapshotSet", &[snapshot(2, "vol-2")], Some("c"))
        }
        "DescribeSnapshots" => page("snapshotSet", &[snapshot(1, "vol-1")], Some("b")),
        action => nothing(action),
    };
    let endpoint = Endpoint::answering(counting(respond)).await;
    let first =
        Progress { next: Some(Position::first(ResourceType::Snapshot)), ..Progress::new(NOW, &place()) };
    let kept = scan(&endpoint, NONE, first).await;
    let mut progress = scan(&endpoint, PLENTY, kept).await;
    while progress.next.is_some() {
        progress = scan(&endpoint, NONE, progress).await;
    }
    let snapshots = &progress.report.types[&ResourceType::Snapshot];
    assert_eq!((snapshots.count, snapshots.monthly_cost_usd.to_string().as_str()), (2, "10"));
}
