//! The savings of deleted snapshots, against a scripted EC2 and DynamoDB: snapshots of one volume share
//! blocks.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use spot_domain::waste::report::SharedBlocks;
use spot_scripted::{Endpoint, ScriptedAnswer};
use support::{asked, nothing, page, scan_all, snapshot};

/// The part of a request that asks for the snapshots of volumes.
const OF_VOLUMES: &str = "Filter.1.Name=volume-id";

/// Returns the row of a deleted snapshot, which added `monthly` to the total and cost $5 at most.
fn row(n: u32, lineage: &str, monthly: u32) -> String {
    format!(
        r#"{{"resource":{{"S":"snapshot#snap-{n:017x}"}},"monthly_cost_usd":{{"N":"{monthly}"}},
        "upper_bound_usd":{{"N":"5"}},"lineage":{{"S":"{lineage}"}}}}"#
    )
}

#[tokio::test]
async fn what_shares_its_blocks_with_snapshots_that_are_left_saves_nothing_for_certain() {
    let rows = [
        row(1, "vol-young", 5),
        row(2, "vol-young", 0),
        row(3, "vol-archived", 5),
        row(4, "vol-gone", 5),
        row(5, "snap-copied", 5),
    ];
    let rows = format!(r#"{{"Items":[{}],"Count":5}}"#, rows.join(","));
    let archived = snapshot(7, "vol-archived").replace(">standard<", ">archive<");
    let endpoint = Endpoint::answering(move |action, body| match action {
        "Query" if body.contains(r#""snapshot#""#) => ScriptedAnswer::ok(rows.clone()),
        "DescribeSnapshots" if body.contains(OF_VOLUMES) && body.contains("NextToken=a") => {
            page("snapshotSet", &[snapshot(8, "vol-young")], None)
        }
        "DescribeSnapshots" if body.contains(OF_VOLUMES) => {
            page("snapshotSet", std::slice::from_ref(&archived), Some("a"))
        }
        action => nothing(action),
    })
    .await;
    let resolved = scan_all(&endpoint).await.report.resolved;
    assert_eq!((resolved.count, resolved.saved_monthly_usd.to_string().as_str()), (5, "15"));
    let ten = "10".parse().map(spot_domain::Usd::new).unwrap();
    assert_eq!(resolved.shared_blocks, SharedBlocks { count: 2, upper_bound_usd: ten });
    let requests = endpoint.requests();
    let pages: Vec<&String> = requests.iter().filter(|request| request.contains(OF_VOLUMES)).collect();
    assert_eq!(pages.len(), 2);
    assert!(pages.iter().all(|request| request.contains("Filter.1.Value.3=vol-young")), "{pages:?}");
    assert!(
        !pages.iter().any(|request| request.contains("Value.4=")),
        "each volume once, no copy: {pages:?}"
    );
}

#[tokio::test]
async fn what_nothing_shares_is_not_asked_for() {
    let endpoint = Endpoint::answering(|action, _| nothing(action)).await;
    scan_all(&endpoint).await;
    assert_eq!(asked(&endpoint, OF_VOLUMES), 0);
}
