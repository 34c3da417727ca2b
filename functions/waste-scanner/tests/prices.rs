//! The prices of snapshots by tier and place, against a scripted EC2.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use support::{scanned, snapshot};

#[tokio::test]
async fn a_snapshot_that_is_restored_for_a_time_is_billed_twice_and_its_row_says_what_no_price_includes() {
    let archived = |n, until: &str| {
        let until = format!("<restoreExpiryTime>{until}</restoreExpiryTime></item>");
        let archived = snapshot(n, "vol-1").replace(">standard<", ">archive<");
        archived.replace("</item>", &until)
    };
    let items = [archived(1, "2026-11-19T00:00:00.000Z"), archived(2, "2026-11-18T00:00:00.000Z")];
    let (endpoint, snapshots) = scanned(items.into()).await;
    assert_eq!((snapshots.count, snapshots.monthly_cost_usd.to_string().as_str()), (2, "7.50"));
    let write = endpoint.requests().into_iter().find(|request| request.contains("TransactItems")).unwrap();
    assert!(write.contains(r#""restored_until":{"S":"2026-11-19T00:00:00Z"}"#), "{write}");
    assert!(write.contains(r#""price_excludes":{"S":"fast snapshot restore"}"#), "{write}");
}

#[tokio::test]
async fn a_snapshot_that_names_a_zone_of_the_region_has_its_price() {
    let in_zone = |n, zone: &str| {
        let zone = format!("<availabilityZone>{zone}</availabilityZone></item>");
        snapshot(n, &format!("vol-{n}")).replace("</item>", &zone)
    };
    let items = [in_zone(1, "us-east-1a"), in_zone(2, "us-east-1-bos-1a")];
    let (_endpoint, snapshots) = scanned(items.into()).await;
    assert_eq!((snapshots.count, snapshots.unknown_price), (2, 1));
    assert_eq!(snapshots.monthly_cost_usd.to_string(), "5");
}
