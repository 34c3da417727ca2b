//! The calls of a lab swap to EC2 and load balancing, against a scripted endpoint. They cover the twin's
//! launch, the image, the holder of an address, and an instance's target groups.

#![allow(clippy::unwrap_used, clippy::panic)]

use spot_cloud::ec2::{addresses, images, instances};
use spot_cloud::launch::launcher::{Blueprint, Launcher, Order};
use spot_cloud::launch::twin::{Twin, describe, examine};
use spot_cloud::load_balancing::target_groups::TargetHealth;
use spot_cloud::load_balancing::{others, targets};
use spot_cloud::{Kind, RegionClients};
use spot_domain::InstanceId;
use spot_domain::swap::journal::SwapId;
use spot_domain::swap::lab::Registration;
use spot_domain::swap::recovery::lab::{AddressAt, TargetState};
use spot_domain::tags::Tags;
use spot_scripted::{Endpoint, ScriptedAnswer};

use common::{cleared, order_for};

#[path = "../common/mod.rs"]
mod common;
mod target_groups;
mod twins;

const INSTANCE: &str = "<instanceId>i-0123456789abcdef0</instanceId><imageId>ami-1</imageId>
    <instanceState><name>running</name></instanceState><instanceType>m5.large</instanceType>
    <keyName>lab</keyName><ebsOptimized>true</ebsOptimized><monitoring><state>enabled</state></monitoring>
    <placement><availabilityZone>us-east-1a</availabilityZone><groupName>near</groupName></placement>
    <subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId><privateIpAddress>10.0.0.7</privateIpAddress>
    <ipAddress>198.51.100.7</ipAddress><rootDeviceType>ebs</rootDeviceType>
    <iamInstanceProfile><arn>arn:aws:iam::123456789012:instance-profile/lab</arn></iamInstanceProfile>
    <metadataOptions><httpTokens>required</httpTokens>
      <httpPutResponseHopLimit>3</httpPutResponseHopLimit></metadataOptions>
    <groupSet><item><groupId>sg-1</groupId></item></groupSet>";
const NIC: &str = "<networkInterfaceSet><item><interfaceType>interface</interfaceType>
    <privateIpAddressesSet><item><privateIpAddress>10.0.0.7</privateIpAddress></item>
    </privateIpAddressesSet></item></networkInterfaceSet>";

fn described(more: &str) -> String {
    format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet><item>{INSTANCE}{more}\
         </item></instancesSet></item></reservationSet></DescribeInstancesResponse>"
    )
}

fn attribute(inner: &str) -> String {
    format!("<DescribeInstanceAttributeResponse>{inner}</DescribeInstanceAttributeResponse>")
}

fn id() -> InstanceId {
    "i-0123456789abcdef0".parse().unwrap()
}

fn swap() -> SwapId {
    "i-0123456789abcdef0-1700000000000".parse().unwrap()
}

async fn clients(endpoint: &Endpoint) -> RegionClients {
    RegionClients::new(&endpoint.config().await)
}

/// The twin of the instance, as EC2 describes it now.
async fn twin_of(clients: &RegionClients, image_id: Option<&str>) -> Blueprint {
    let source = Box::new(describe(&clients.ec2, &id()).await.unwrap().unwrap());
    Blueprint::Twin(Twin { source, image_id: image_id.map(str::to_owned) })
}

#[tokio::test]
async fn a_type_that_is_not_described_is_an_error_and_never_no_instance_store() {
    let ec2 = Endpoint::answering(|action, _| match action {
        "DescribeInstances" => ScriptedAnswer::ok(described(NIC)),
        "DescribeInstanceTypes" => ScriptedAnswer::ok("<DescribeInstanceTypesResponse/>"),
        _ => ScriptedAnswer::ok(attribute("")),
    })
    .await;
    let error = examine(&clients(&ec2).await.ec2, &id()).await.unwrap_err();
    assert_eq!((error.call, error.kind), ("ec2:DescribeInstanceTypes", Kind::Rejected));
}

#[tokio::test]
async fn an_image_bears_the_swaps_tag_with_its_snapshots_and_reboots_nothing() {
    let ec2 = Endpoint::start(vec![ScriptedAnswer::ok(
        "<CreateImageResponse><imageId>ami-2</imageId></CreateImageResponse>",
    )])
    .await;
    let image = images::capture(&clients(&ec2).await.ec2, &id(), &swap()).await.unwrap();
    assert_eq!(image, "ami-2");
    let request = &ec2.requests()[0];
    for expected in [
        "NoReboot=true",
        "Name=spot-optimizer-i-0123456789abcdef0-1700000000000",
        "TagSpecification.1.ResourceType=image",
        "TagSpecification.2.ResourceType=snapshot",
        "TagSpecification.2.Tag.2.Key=spot-optimizer%3Aswap",
    ] {
        assert!(request.contains(expected), "{expected} is not in {request}");
    }
}

#[tokio::test]
async fn an_address_is_ours_to_move_only_where_one_of_the_two_has_it_or_nobody() {
    let newcomer: InstanceId = "i-0123456789abcdef1".parse().unwrap();
    let address = |inner: &str| {
        ScriptedAnswer::ok(format!(
            "<DescribeAddressesResponse><addressesSet><item><allocationId>eipalloc-1</allocationId>{inner}\
             </item></addressesSet></DescribeAddressesResponse>"
        ))
    };
    let cases = [
        (address("<instanceId>i-0123456789abcdef0</instanceId>"), AddressAt::Old),
        (address("<instanceId>i-0123456789abcdef1</instanceId>"), AddressAt::Newcomer),
        (address("<instanceId>i-0123456789abcdef2</instanceId>"), AddressAt::Elsewhere),
        (address("<associationId>eipassoc-1</associationId>"), AddressAt::Elsewhere),
        (address(""), AddressAt::Nobody),
        (ScriptedAnswer::ec2_error(400, "InvalidAllocationID.NotFound"), AddressAt::Elsewhere),
    ];
    for (answer, expected) in cases {
        let ec2 = Endpoint::start(vec![answer]).await;
        let client = clients(&ec2).await.ec2;
        let seen = addresses::whereabouts(&client, "eipalloc-1", &id(), Some(&newcomer)).await.unwrap();
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn starting_what_still_stops_is_no_error_but_a_lack_of_capacity_is() {
    let ec2 = Endpoint::start(vec![ScriptedAnswer::ec2_error(400, "IncorrectInstanceState")]).await;
    instances::start(&clients(&ec2).await.ec2, &id()).await.unwrap();
    let ec2 = Endpoint::start(vec![ScriptedAnswer::ec2_error(500, "InsufficientInstanceCapacity")]).await;
    instances::start(&clients(&ec2).await.ec2, &id()).await.unwrap_err();
}

/// Returns the result of `examine` for an instance described with `more`, whose type has an instance store or
/// not.
async fn examined(more: &'static str, store: bool) -> spot_domain::swap::lab::Original {
    let ec2 = Endpoint::answering(move |action, body| match action {
        "DescribeInstances" => ScriptedAnswer::ok(described(more)),
        "DescribeInstanceTypes" => ScriptedAnswer::ok(format!(
            "<DescribeInstanceTypesResponse><instanceTypeSet><item><instanceType>m5.large</instanceType>\
             <instanceStorageSupported>{store}</instanceStorageSupported></item></instanceTypeSet>\
             </DescribeInstanceTypesResponse>"
        )),
        _ if body.contains("disableApiStop") => {
            ScriptedAnswer::ok(attribute("<disableApiStop><value>true</value></disableApiStop>"))
        }
        _ => ScriptedAnswer::ok(attribute(
            "<disableApiTermination><value>false</value></disableApiTermination>",
        )),
    })
    .await;
    examine(&clients(&ec2).await.ec2, &id()).await.unwrap().unwrap()
}
