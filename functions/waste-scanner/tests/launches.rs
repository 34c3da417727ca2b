//! Snapshots that launch templates and launch configurations name, against a scripted EC2 and Auto Scaling:
//! they are left alone, and without these lists no snapshot is judged.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use spot_domain::waste::rules::{LeftAlone, ResourceType};
use spot_scripted::{Endpoint, ScriptedAnswer};
use support::{asked, configurations, nothing, page, scan_all, snapshot, template_version, volume};

const VERSIONS: &str = "launchTemplateVersionSet";

#[tokio::test]
async fn what_a_launch_makes_volumes_of_is_left_alone_on_whatever_page_it_stands() {
    let endpoint = Endpoint::answering(|action, body| match action {
        "DescribeLaunchTemplateVersions" if body.contains("NextToken=a") => {
            page(VERSIONS, &[template_version(2)], None)
        }
        "DescribeLaunchTemplateVersions" => {
            let without = "<item><launchTemplateId>lt-9</launchTemplateId><launchTemplateData/></item>";
            page(VERSIONS, &[template_version(1), without.to_owned()], Some("a"))
        }
        "DescribeLaunchConfigurations" if body.contains("NextToken=b") => configurations(&[4], None),
        "DescribeLaunchConfigurations" => configurations(&[3], Some("b")),
        "DescribeSnapshots" => {
            let items: Vec<String> = (1..=5).map(|n| snapshot(n, &format!("vol-{n}"))).collect();
            page("snapshotSet", &items, None)
        }
        action => nothing(action),
    })
    .await;
    let progress = scan_all(&endpoint).await;
    let snapshots = &progress.report.types[&ResourceType::Snapshot];
    assert_eq!((snapshots.count, snapshots.monthly_cost_usd.to_string().as_str()), (1, "5"));
    let left = snapshots.left_alone[&LeftAlone::LaunchSource];
    assert_eq!((left.count, left.upper_bound_usd.to_string().as_str()), (4, "20"));
    assert!(progress.report.failed.is_empty(), "{:?}", progress.report.failed);
    let mut requests = endpoint.requests().into_iter();
    let request = requests.find(|request| request.contains("Action=DescribeLaunchTemplateVersions")).unwrap();
    assert!(request.contains("LaunchTemplateVersion.1=%24Default"), "{request}");
    assert!(request.contains("LaunchTemplateVersion.2=%24Latest"), "{request}");
}

/// Refused, without its list, and a page that leads back to itself.
#[tokio::test]
async fn without_the_launches_nothing_is_said_of_snapshots() {
    let stripped = "<DescribeLaunchTemplateVersionsResponse><requestId>1</requestId>\
                    </DescribeLaunchTemplateVersionsResponse>";
    for (failing, answer) in [
        ("ec2:DescribeLaunchTemplateVersions", ScriptedAnswer::ec2_error(403, "UnauthorizedOperation")),
        ("ec2:DescribeLaunchTemplateVersions", ScriptedAnswer::ok(stripped)),
        ("ec2:DescribeLaunchTemplateVersions", page(VERSIONS, &[template_version(1)], Some("a"))),
        ("autoscaling:DescribeLaunchConfigurations", ScriptedAnswer::ec2_error(403, "AccessDenied")),
        ("autoscaling:DescribeLaunchConfigurations", configurations(&[1], Some("a"))),
    ] {
        let endpoint = Endpoint::answering(move |action, _| match action {
            action if failing.ends_with(action) => answer.clone(),
            "DescribeVolumes" => page("volumeSet", &[volume(1)], None),
            "DescribeSnapshots" => page("snapshotSet", &[snapshot(1, "vol-1")], None),
            action => nothing(action),
        })
        .await;
        let report = scan_all(&endpoint).await.report;
        let [failed] = &report.failed[..] else { panic!("{:?}", report.failed) };
        assert_eq!(failed.listing, "snapshot");
        assert!(failed.error.starts_with(failing), "{}", failed.error);
        assert!(!report.types[&ResourceType::Snapshot].complete);
        assert_eq!(report.types[&ResourceType::Volume].count, 1);
        assert_eq!(asked(&endpoint, "Action=DescribeSnapshots"), 0);
        assert_eq!(asked(&endpoint, "snapshot#"), 0, "nothing of snapshots is resolved");
    }
}
