//! The sums of [`super`], example by example and in any order.

use proptest::prelude::*;

use super::*;

fn usd(ten_thousandths: u32) -> Usd {
    Usd::new(rust_decimal::Decimal::new(i64::from(ten_thousandths), 4))
}

fn scope(costs: &[u32]) -> ScopeReport {
    let mut scope = ScopeReport::new("123456789012".parse().unwrap(), "us-east-1".parse().unwrap());
    for kind in ResourceType::ALL {
        let listing = scope.types.entry(kind).or_default();
        for cost in costs {
            listing.found(Some(usd(*cost)), Some(usd(*cost)));
        }
        listing.complete = true;
    }
    scope
}

#[test]
fn thirty_snapshots_of_one_volume_read_as_one() {
    let mut lineages = Lineages::default();
    let rows: Vec<Usd> = (0..30).map(|n| lineages.add("vol-0123456789abcdef0", usd(50_000 + n))).collect();
    assert_eq!(rows.into_iter().sum::<Usd>(), usd(50_029));
    assert_eq!(lineages.count(), 1);
}

#[test]
fn a_snapshot_saves_nothing_for_certain_while_others_of_its_volume_are_left() {
    let mut shared = scope(&[]);
    shared.resolved.deleted(Some(Saving::AtMost(usd(50_000))));
    shared.resolved.deleted(Some(Saving::AtMost(usd(40_000))));
    shared.resolved.deleted(Some(Saving::Whole(usd(30_000))));
    shared.resolved.deleted(None);
    let summary = ScanSummary::new(Timestamp::UNIX_EPOCH, vec![shared.clone(), shared], Vec::new(), false);
    assert_eq!((summary.resolved.count, summary.resolved.saved_monthly_usd), (8, usd(60_000)));
    let expected = SharedBlocks { count: 4, upper_bound_usd: usd(180_000) };
    assert_eq!(summary.resolved.shared_blocks, expected);
}

#[test]
fn a_failed_listing_is_not_none() {
    let mut broken = scope(&[]);
    broken.fail(ResourceType::Volume, &"ec2:DescribeVolumes: denied");
    let summary = ScanSummary::new(Timestamp::UNIX_EPOCH, vec![scope(&[1]), broken], Vec::new(), false);
    assert!(summary.partial);
    assert!(!summary.types[&ResourceType::Volume].complete);
    assert!(summary.types[&ResourceType::Snapshot].complete);
    assert_eq!(summary.failed[0].listing, "volume");
}

#[test]
fn a_scope_that_was_not_reached_is_not_none() {
    let unreached = ScopeReport::new("123456789012".parse().unwrap(), "eu-west-1".parse().unwrap());
    let summary = ScanSummary::new(Timestamp::UNIX_EPOCH, vec![unreached], Vec::new(), true);
    assert!(summary.partial && summary.continues);
    assert!(summary.types.values().all(|listing| !listing.complete));
}

#[test]
fn a_region_that_is_left_out_is_named_and_makes_nothing_partial() {
    let mut denied = ScopeReport::new("123456789012".parse().unwrap(), "eu-west-1".parse().unwrap());
    denied.types.insert(ResourceType::ElasticIp, Listing::default());
    denied.leave_out();
    let summary = ScanSummary::new(Timestamp::UNIX_EPOCH, vec![scope(&[1]), denied], Vec::new(), false);
    assert!(!summary.partial && summary.types.values().all(|listing| listing.complete));
    assert_eq!(summary.scopes.len(), 1);
    let summary = serde_json::to_value(summary).unwrap();
    let named =
        serde_json::json!([{"account_id": "123456789012", "region": "eu-west-1", "reason": "DENIED"}]);
    assert_eq!(summary["not_scanned"], named);
}

#[test]
fn what_a_newer_run_took_over_is_not_none() {
    let mut overtaken = ScopeReport::new("123456789012".parse().unwrap(), "eu-west-1".parse().unwrap());
    overtaken.overtaken = true;
    let summary = ScanSummary::new(Timestamp::UNIX_EPOCH, vec![scope(&[1]), overtaken], Vec::new(), false);
    assert!(summary.partial && !summary.continues);
}

#[test]
fn what_is_left_alone_keeps_its_dollars_apart_from_the_total() {
    let mut left = scope(&[5]);
    let volumes = left.types.entry(ResourceType::Volume).or_default();
    volumes.left_alone(LeftAlone::Kubernetes, Some(usd(80_000)));
    volumes.left_alone(LeftAlone::Kubernetes, None);
    volumes.left_alone(LeftAlone::OptedOut, Some(usd(10)));
    let summary = ScanSummary::new(Timestamp::UNIX_EPOCH, vec![left.clone(), left], Vec::new(), false);
    let volumes = &summary.types[&ResourceType::Volume];
    assert_eq!((volumes.count, volumes.monthly_cost_usd), (2, usd(10)));
    let spared = Spared { count: 4, upper_bound_usd: usd(160_000), unknown_price: 2 };
    assert_eq!(volumes.left_alone[&LeftAlone::Kubernetes], spared);
    assert_eq!(volumes.left_alone[&LeftAlone::OptedOut].upper_bound_usd, usd(20));
}

#[test]
fn what_is_unknown_of_sharing_is_counted_and_spoils_nothing() {
    let mut report = scope(&[5]);
    report.types.entry(ResourceType::Snapshot).or_default().sharing_unknown = 2;
    let summary = ScanSummary::new(Timestamp::UNIX_EPOCH, vec![report.clone(), report], Vec::new(), false);
    assert!(!summary.partial);
    let types = serde_json::to_value(summary.types).unwrap();
    assert_eq!(types["snapshot"]["sharing_unknown"], 4);
    assert_eq!(types["volume"].get("sharing_unknown"), None);
}

#[test]
fn what_lies_in_the_recycle_bin_has_saved_nothing() {
    let mut binned = scope(&[]);
    binned.resolved.deleted(Some(Saving::Whole(usd(7))));
    binned.resolved.binned(usd(50));
    let summary = ScanSummary::new(Timestamp::UNIX_EPOCH, vec![binned.clone(), binned], Vec::new(), false);
    assert_eq!((summary.resolved.count, summary.resolved.saved_monthly_usd), (2, usd(14)));
    assert_eq!(summary.resolved.recycle_bin, Binned { count: 2, monthly_cost_usd: usd(100) });
    let nothing = serde_json::to_value(Resolved::default()).unwrap();
    assert_eq!((nothing.get("recycle_bin"), nothing.get("shared_blocks")), (None, None));
}

#[test]
fn each_right_that_the_recycle_bin_lacks_is_said_once_and_spoils_no_listing() {
    let mut report = scope(&[1]);
    for call in ["ListVolumesInRecycleBin", "ListImagesInRecycleBin", "ListImagesInRecycleBin"] {
        report.fail_recycle_bin(&format!("ec2:{call}: denied"));
    }
    let summary = ScanSummary::new(Timestamp::UNIX_EPOCH, vec![report], Vec::new(), false);
    assert!(summary.partial && summary.types[&ResourceType::Snapshot].complete);
    let listings: Vec<&str> = summary.failed.iter().map(|failed| failed.listing.as_str()).collect();
    assert_eq!(listings, ["recycle-bin"; 2]);
    assert!(summary.failed[1].error.contains("ListImagesInRecycleBin"), "{:?}", summary.failed);
}

#[test]
fn what_is_unknown_of_locks_and_sharing_is_said_once_and_spoils_no_listing() {
    let mut report = scope(&[1]);
    for snapshot in ["snap-1", "snap-2"] {
        report.fail_locks(&"ec2:DescribeLockedSnapshots: denied");
        report.fail_sharing(&format!("ec2:DescribeSnapshotAttribute: denied on {snapshot}"));
    }
    let summary = ScanSummary::new(Timestamp::UNIX_EPOCH, vec![report], Vec::new(), false);
    assert!(summary.partial && summary.types[&ResourceType::Snapshot].complete);
    let listings: Vec<&str> = summary.failed.iter().map(|failed| failed.listing.as_str()).collect();
    assert_eq!(listings, ["snapshot-locks", "snapshot-sharing"]);
}

#[test]
fn an_unknown_price_is_counted_not_summed() {
    let mut listing = Listing::default();
    listing.found(None, None);
    listing.found(Some(usd(1)), Some(usd(1)));
    assert_eq!((listing.count, listing.unknown_price, listing.monthly_cost_usd), (2, 1, usd(1)));
}

proptest! {
    #[test]
    fn the_rows_add_up_to_the_total(costs in proptest::collection::vec(
        proptest::collection::vec(0_u32..100_000_000, 0..20), 0..6))
    {
        let summary = ScanSummary::new(
            Timestamp::UNIX_EPOCH, costs.iter().map(|c| scope(c)).collect(), Vec::new(), false);
        let rows: Usd = costs.iter().flatten().map(|cost| usd(*cost)).sum();
        prop_assert_eq!(summary.total_monthly_waste_usd, rows + rows + rows);
        prop_assert_eq!(summary.scopes.iter().map(ScopeReport::total).sum::<Usd>(), rows + rows + rows);
    }

    #[test]
    fn lineages_add_up_to_their_largest_in_any_order(
        snapshots in proptest::collection::vec((0_u8..5, 0_u32..1_000_000), 0..60).prop_shuffle())
    {
        let mut lineages = Lineages::default();
        let mut largest: BTreeMap<u8, u32> = BTreeMap::new();
        let rows: Usd = snapshots.iter().map(|(volume, price)| {
            let largest = largest.entry(*volume).or_default();
            *largest = (*largest).max(*price);
            lineages.add(&format!("vol-0{volume:016x}"), usd(*price))
        }).sum();
        prop_assert_eq!(rows, largest.values().map(|price| usd(*price)).sum());
    }
}
