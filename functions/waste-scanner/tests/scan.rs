//! The scan of one account and region against a scripted EC2 and DynamoDB: paging, throttling, denied
//! calls, and that only a complete listing resolves anything.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use spot_domain::Usd;
use spot_domain::waste::rules::{LeftAlone, ResourceType};
use spot_scripted::{Endpoint, ScriptedAnswer};
use support::{address, asked, binned, nothing, page, scan_all, scanned, snapshot, volume};

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
        "DescribeImages" => ScriptedAnswer::ec2_error(403, "UnauthorizedOperation"),
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
        a if a.starts_with("Describe") => ScriptedAnswer::ec2_error(403, "UnauthorizedOperation"),
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
        "DescribeVolumes" if body.contains("NextToken=a") => {
            ScriptedAnswer::ec2_error(400, "InvalidParameterValue")
        }
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
            ScriptedAnswer::ec2_error(503, "RequestLimitExceeded")
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
        "DescribeVolumes" if asked.fetch_add(1, Ordering::SeqCst) == 0 => ScriptedAnswer::ok(format!(
            "<DescribeVolumesResponse><volumeSet>{}<item><volumeId>vol-",
            volume(1)
        )),
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
        "Query" if body.contains(r#""volume#""#) => ScriptedAnswer::ok(rows.clone()),
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

/// A page that lacks its list, as from a proxy that strips empty elements. If it passed for an empty list,
/// all snapshots would read as unused, and all findings as deleted.
#[tokio::test]
async fn an_answer_without_its_list_is_not_nothing() {
    let stripped = |action: &str| {
        ScriptedAnswer::ok(format!("<{action}Response><requestId>1</requestId></{action}Response>"))
    };
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

/// Returns a snapshot with these tags and this description.
fn snapshot_with(n: u32, volume: &str, tags: &[(&str, &str)], description: &str) -> String {
    let tags: Vec<String> =
        tags.iter().map(|(k, v)| format!("<item><key>{k}</key><value>{v}</value></item>")).collect();
    let more = format!("<description>{description}</description><tagSet>{}</tagSet></item>", tags.concat());
    snapshot(n, volume).replace("</item>", &more)
}

#[tokio::test]
async fn what_another_system_needs_is_left_alone_with_its_dollars() {
    let marks: [&[(&str, &str)]; 5] = [
        &[("AWSElasticDisasterRecoveryManaged", "drs.amazonaws.com")],
        &[("AWSApplicationMigrationServiceManaged", "mgn.amazonaws.com")],
        &[("CSIVolumeSnapshotName", "snapshot-7d1c"), ("ebs.csi.aws.com/cluster", "true")],
        &[("velero.io/backup", "nightly-20240101")],
        &[("CreatedBy", "EC2 Fast Launch")],
    ];
    let items: Vec<String> =
        marks.iter().zip(1..).map(|(tags, n)| snapshot_with(n, "vol-1", tags, "")).collect();
    let (endpoint, snapshots) = scanned(items).await;
    assert_eq!((snapshots.count, snapshots.monthly_cost_usd.to_string().as_str()), (0, "0"));
    let left: Vec<_> =
        snapshots.left_alone.iter().map(|(why, left)| (*why, left.count, left.upper_bound_usd)).collect();
    let five = "5".parse().map(Usd::new).unwrap();
    let expected = [
        LeftAlone::DisasterRecovery,
        LeftAlone::ApplicationMigration,
        LeftAlone::Kubernetes,
        LeftAlone::Velero,
        LeftAlone::FastLaunch,
    ];
    assert_eq!(left, expected.map(|why| (why, 1, five)));
    assert_eq!(asked(&endpoint, "TransactItems"), 0, "no row says that it is waste");
}

fn binned_image(n: u32) -> String {
    format!("<item><imageId>ami-{n:017x}</imageId><name>old</name></item>")
}

#[tokio::test]
async fn a_snapshot_of_an_image_in_the_recycle_bin_is_left_alone() {
    let made = |n: u32| format!("Created by CreateImage(i-0123456789abcdef0) for ami-{n:017x}");
    let items = [
        snapshot_with(1, "vol-1", &[], &made(1)),
        snapshot_with(2, "vol-1", &[], &made(2)),
        snapshot_with(3, "vol-1", &[], "nightly"),
    ];
    let endpoint = Endpoint::answering(move |action, body| match action {
        "DescribeSnapshots" => page("snapshotSet", &items, None),
        "ListImagesInRecycleBin" if body.contains("NextToken") => {
            binned("Images", "imageSet", &[binned_image(1)], None)
        }
        "ListImagesInRecycleBin" => binned("Images", "imageSet", &[binned_image(7)], Some("a")),
        action => nothing(action),
    })
    .await;
    let progress = scan_all(&endpoint).await;
    let snapshots = &progress.report.types[&ResourceType::Snapshot];
    assert_eq!(snapshots.count, 2);
    assert_eq!(snapshots.left_alone[&LeftAlone::ImageInRecycleBin].count, 1);
    assert!(progress.report.failed.is_empty(), "{:?}", progress.report.failed);
}

#[tokio::test]
async fn without_the_recycle_bin_only_snapshots_of_vanished_images_are_in_doubt() {
    let made = "Created by CreateImage(i-0123456789abcdef0) for ami-00000000000000001";
    let items = [snapshot_with(1, "vol-1", &[], made), snapshot_with(2, "vol-1", &[], "nightly")];
    let endpoint = Endpoint::answering(move |action, _| match action {
        "DescribeSnapshots" => page("snapshotSet", &items, None),
        "ListImagesInRecycleBin" => ScriptedAnswer::ec2_error(403, "UnauthorizedOperation"),
        action => nothing(action),
    })
    .await;
    let progress = scan_all(&endpoint).await;
    let snapshots = &progress.report.types[&ResourceType::Snapshot];
    assert_eq!((snapshots.count, snapshots.complete), (1, true));
    assert_eq!(snapshots.left_alone[&LeftAlone::RecycleBinUnknown].count, 1);
    let [failed] = &progress.report.failed[..] else { panic!("{:?}", progress.report.failed) };
    assert_eq!(failed.listing, "recycle-bin");
    assert!(failed.error.contains("ec2:ListImagesInRecycleBin: UnauthorizedOperation"), "{}", failed.error);
}

/// Returns rows of snapshots that no listing has: one open, one that lay in the Recycle Bin at the last scan.
fn unseen_snapshots() -> ScriptedAnswer {
    let row = |n: u32, more: &str| {
        format!(
            r#"{{"resource":{{"S":"snapshot#snap-{n:017x}"}},"monthly_cost_usd":{{"N":"5"}},
            "lineage":{{"S":"vol-0cccccccccccccc0{n}"}}{more}}}"#
        )
    };
    let binned = r#","resolution":{"S":"RECYCLE_BIN"}"#;
    ScriptedAnswer::ok(format!(r#"{{"Items":[{},{}],"Count":2}}"#, row(7, ""), row(8, binned)))
}

fn update_of(endpoint: &Endpoint, n: u32) -> String {
    let id = format!("snap-{n:017x}");
    let mut updates =
        endpoint.requests().into_iter().filter(|r| r.contains("UpdateExpression") && r.contains(&id));
    updates.next_back().unwrap()
}

#[tokio::test]
async fn what_was_deleted_into_the_recycle_bin_saves_from_its_exit_on() {
    let in_bin = |ids: Vec<u32>| {
        let item = |n: &u32| {
            let time = "2027-06-01T00:00:00.000Z";
            format!(
                "<item><snapshotId>snap-{n:017x}</snapshotId><recycleBinExitTime>{time}</recycleBinExitTime></item>"
            )
        };
        let items: Vec<String> = ids.iter().map(item).collect();
        Endpoint::answering(move |action, body| match action {
            "Query" if body.contains(r#""snapshot#""#) => unseen_snapshots(),
            "ListSnapshotsInRecycleBin" => binned("Snapshots", "snapshotSet", &items, None),
            action => nothing(action),
        })
    };
    let endpoint = in_bin(vec![7, 8]).await;
    let resolved = scan_all(&endpoint).await.report.resolved;
    assert_eq!((resolved.count, resolved.saved_monthly_usd), (0, Usd::default()));
    assert_eq!(
        (resolved.recycle_bin.count, resolved.recycle_bin.monthly_cost_usd.to_string().as_str()),
        (2, "10")
    );
    for n in [7, 8] {
        let update = update_of(&endpoint, n);
        assert!(
            update.contains(r#"{"S":"RECYCLE_BIN"}"#) && update.contains(r#":saved":{"N":"0"}"#),
            "{update}"
        );
        assert!(update.contains("recycle_bin_exit_at") && update.contains(r#":exit":{"N":"18"#), "{update}");
    }
    let query = endpoint.requests().into_iter().find(|r| r.contains(r#""snapshot#""#)).unwrap();
    assert!(
        query.contains("#resolution = :bin AND #resolved_at <= :before"),
        "each scan looks at them again: {query}"
    );

    let endpoint = in_bin(vec![7]).await; // the other one has left it
    let resolved = scan_all(&endpoint).await.report.resolved;
    assert_eq!((resolved.count, resolved.saved_monthly_usd.to_string().as_str()), (1, "5"));
    let update = update_of(&endpoint, 8);
    assert!(
        update.contains(r#"{"S":"DELETED"}"#) && update.contains("REMOVE #recycle_bin_exit_at"),
        "{update}"
    );
}

#[tokio::test]
async fn where_the_recycle_bin_cannot_be_read_only_what_still_exists_is_resolved() {
    for refusal in ["UnauthorizedOperation", "InvalidAction"] {
        let endpoint = Endpoint::answering(move |action, body| match action {
            "Query" if body.contains(r#""snapshot#""#) => unseen_snapshots(),
            "ListSnapshotsInRecycleBin" => ScriptedAnswer::ec2_error(403, refusal),
            // The snapshot is in use again: it exists, and is no finding any more.
            "DescribeSnapshots" if body.contains("snapshot-id") => {
                page("snapshotSet", &[snapshot(7, "vol-7")], None)
            }
            action => nothing(action),
        })
        .await;
        let report = scan_all(&endpoint).await.report;
        assert_eq!((report.resolved.count, report.resolved.saved_monthly_usd), (1, Usd::default()));
        let failed: Vec<&str> = report.failed.iter().map(|failed| failed.listing.as_str()).collect();
        assert_eq!(failed, ["recycle-bin"], "{:?}", report.failed);
        assert!(report.failed[0].error.contains(refusal) && report.types[&ResourceType::Snapshot].complete);
        assert!(update_of(&endpoint, 7).contains(r#"{"S":"KEPT"}"#));
        assert_eq!(
            asked(&endpoint, "UpdateExpression"),
            1,
            "the money of what is gone is unknown, and not saved"
        );
    }
}
