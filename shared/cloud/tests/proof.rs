//! The instances that a swap takes for its own, against a scripted EC2 in which others bear its tag.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use aws_sdk_ec2::Client;
use spot_cloud::ec2::images::{self, ImageProgress};
use spot_cloud::ec2::instances;
use spot_domain::InstanceId;
use spot_domain::swap::journal::SwapId;
use spot_scripted::{Endpoint, ScriptedAnswer};

const SWAP: &str = "i-0123456789abcdef0-1700000000000";

fn swap() -> SwapId {
    SWAP.parse().unwrap()
}

fn id(n: u32) -> InstanceId {
    format!("i-0000000{n}").parse().unwrap()
}

/// An instance with this lifecycle and ClientToken, and with the swap's tag or none.
fn instance(n: u32, lifecycle: &str, token: &str, tag: Option<&str>) -> String {
    let tag = tag.map_or_else(String::new, |value| {
        format!("<tagSet><item><key>spot-optimizer:swap</key><value>{value}</value></item></tagSet>")
    });
    format!(
        "<item><instanceId>{}</instanceId><instanceType>m5.large</instanceType><instanceState><name>running</name>\
         </instanceState><instanceLifecycle>{lifecycle}</instanceLifecycle><clientToken>{token}</clientToken>{tag}</item>",
        id(n)
    )
}

async fn launched(by_token: Vec<String>, by_tag: Vec<String>) -> (instances::Launched, Vec<String>) {
    let ec2 = Endpoint::answering(move |_, body| {
        let found = if body.contains("client-token") { &by_token } else { &by_tag };
        ScriptedAnswer::ok(format!(
            "<DescribeInstancesResponse><reservationSet><item><instancesSet>{}</instancesSet></item></reservationSet>\
             </DescribeInstancesResponse>",
            found.concat()
        ))
    })
    .await;
    let found = instances::launched_by(&Client::new(&ec2.config().await), &swap()).await.unwrap();
    (found, ec2.requests())
}

#[tokio::test]
async fn an_instance_is_the_swaps_by_its_client_token_and_not_by_its_tag() {
    let ours = instance(1, "spot", &format!("{SWAP}-0"), Some(SWAP));
    let bystanders = [
        instance(2, "", "terraform-20260101", Some(SWAP)),
        instance(3, "spot", "", Some(SWAP)),
        instance(4, "spot", "i-0123456789abcdef0-1700000000001-0", Some(SWAP)),
        instance(5, "", &format!("{SWAP}-1"), Some(SWAP)),
    ];
    let by_tag = [vec![ours.clone()], bystanders.to_vec()].concat();
    let (found, requests) = launched(vec![ours], by_tag).await;
    assert_eq!(found.by_swap.iter().map(|i| i.id.clone()).collect::<Vec<_>>(), [id(1)]);
    assert_eq!(found.only_tagged, [id(2), id(3), id(4), id(5)]);
    assert!(requests[0].contains(&format!("Filter.1.Value.1={SWAP}-*").replace('*', "%2A")), "{requests:?}");
}

#[tokio::test]
async fn a_newcomer_whose_tag_was_taken_away_is_found() {
    let untagged = instance(1, "spot", &format!("{SWAP}-12"), None);
    let (found, _) = launched(vec![untagged], vec![]).await;
    assert_eq!((found.by_swap.len(), found.only_tagged.len()), (1, 0));
}

fn image(ami: &str, name: &str, source: &str) -> String {
    format!(
        "<item><imageId>{ami}</imageId><name>{name}</name><imageState>available</imageState>{source}<blockDeviceMapping>\
         <item><ebs><snapshotId>snap-of-{ami}</snapshotId></ebs></item></blockDeviceMapping></item>"
    )
}

async fn captured(found: Vec<String>) -> Option<images::Image> {
    let ec2 = Endpoint::answering(move |_, _| {
        let found = found.concat();
        ScriptedAnswer::ok(format!(
            "<DescribeImagesResponse><imagesSet>{found}</imagesSet></DescribeImagesResponse>"
        ))
    })
    .await;
    let old = "i-0123456789abcdef0".parse().unwrap();
    let captured = images::captured_by(&Client::new(&ec2.config().await), &swap(), &old).await.unwrap();
    let request = &ec2.requests()[0];
    assert!(request.contains("Owner.1=self") && request.contains(&swap().image_name()), "{request}");
    captured
}

#[tokio::test]
async fn an_image_is_the_swaps_by_its_name_and_its_source() {
    let source = |id: &str| format!("<sourceInstanceId>{id}</sourceInstanceId>");
    let (name, old) = (swap().image_name(), "i-0123456789abcdef0");
    let found = captured(vec![image("ami-1", &name, &source(old))]).await.unwrap();
    assert_eq!((found.id.as_str(), found.progress), ("ami-1", ImageProgress::Available));
    assert_eq!(found.snapshots, BTreeSet::from(["snap-of-ami-1".to_owned()]));
    for (name, source) in [
        (name.as_str(), source("i-0123456789abcdef1")),
        (name.as_str(), String::new()), // RegisterImage and CopyImage set no source instance
        ("AwsBackup_i-0123456789abcdef0_1", source(old)),
    ] {
        assert_eq!(captured(vec![image("ami-2", name, &source)]).await, None, "{name} {source}");
    }
}

#[tokio::test]
async fn a_volume_is_the_newcomers_by_the_journal_and_not_by_its_tag() {
    let volume = |id: &str, created: &str, attached_to: Option<&str>| {
        let state = if attached_to.is_some() { "in-use" } else { "available" };
        let goes = id == "vol-going"; // with its instance, which may still be shutting down
        let attached = attached_to.map_or_else(String::new, |instance| {
            format!("<item><instanceId>{instance}</instanceId><deleteOnTermination>{goes}</deleteOnTermination></item>")
        });
        format!(
            "<item><volumeId>{id}</volumeId><status>{state}</status><createTime>{created}</createTime>\
             <attachmentSet>{attached}</attachmentSet></item>"
        )
    };
    let (young, old) = ("2023-11-14T22:13:30Z", "2023-11-14T22:13:10Z"); // the run began at 22:13:20
    let volumes = [
        volume("vol-launched", young, None),
        volume("vol-attached", young, Some("i-00000001")),
        volume("vol-old", old, None),
        volume("vol-tagged", young, None),
        volume("vol-anothers", young, Some("i-00000009")),
        volume("vol-going", young, Some("i-00000001")),
        volume("vol-outliving", young, Some("i-00000001")),
    ]
    .concat();
    let ec2 = Endpoint::answering(move |_, _| {
        ScriptedAnswer::ok(format!(
            "<DescribeVolumesResponse><volumeSet>{volumes}</volumeSet></DescribeVolumesResponse>"
        ))
    })
    .await;
    let noted = ["vol-launched", "vol-attached", "vol-old"].map(str::to_owned).into();
    let client = Client::new(&ec2.config().await);
    let found = images::volumes_left_by(&client, &swap(), Some(&id(1)), &noted).await.unwrap();
    let left: Vec<_> = found.left.iter().map(|volume| (volume.id.as_str(), volume.is_attached)).collect();
    assert_eq!(left, [("vol-launched", false), ("vol-attached", true)]);
    assert_eq!(found.only_tagged, ["vol-old", "vol-tagged", "vol-anothers", "vol-outliving"]);
}
