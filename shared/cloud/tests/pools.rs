//! The pool of an instance, against a scripted EC2: while EC2 describes the instance, and after it is gone.

#![allow(clippy::unwrap_used)]

use spot_cloud::ec2::instances as ec2_instances;
use spot_cloud::ec2::pools::{Lookup, of_instance};
use spot_domain::InstanceId;
use spot_scripted::{Endpoint, ScriptedAnswer};

const ID: &str = "i-0123456789abcdef0";

fn instances(instance: &str) -> ScriptedAnswer {
    let item = if instance.is_empty() { String::new() } else { format!("<item>{instance}</item>") };
    ScriptedAnswer::ok(format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet>{item}</instancesSet></item></reservationSet>\
         </DescribeInstancesResponse>"
    ))
}

fn requests(request: &str) -> ScriptedAnswer {
    ScriptedAnswer::ok(format!(
        "<DescribeSpotInstanceRequestsResponse><spotInstanceRequestSet>{request}</spotInstanceRequestSet>\
         </DescribeSpotInstanceRequestsResponse>"
    ))
}

fn request(zone: &str) -> String {
    format!(
        "<item><spotInstanceRequestId>sir-1</spotInstanceRequestId><state>closed</state><instanceId>{ID}</instanceId>\
         <launchSpecification><instanceType>m5.large</instanceType></launchSpecification>{zone}</item>"
    )
}

fn zones() -> ScriptedAnswer {
    ScriptedAnswer::ok(
        "<DescribeAvailabilityZonesResponse><availabilityZoneInfo><item><zoneName>us-east-1a</zoneName>\
         <zoneId>use1-az6</zoneId></item></availabilityZoneInfo></DescribeAvailabilityZonesResponse>",
    )
}

async fn looked_up(instance: &'static str, spot_request: String) -> (Result<Lookup, String>, usize) {
    let endpoint = Endpoint::answering(move |action, _| match action {
        "DescribeInstances" => instances(instance),
        "DescribeSpotInstanceRequests" => requests(&spot_request),
        "DescribeAvailabilityZones" => zones(),
        other => ScriptedAnswer::json_error(500, other),
    })
    .await;
    let client = aws_sdk_ec2::Client::new(&endpoint.config().await);
    let lookup = of_instance(&client, &"us-east-1".parse().unwrap(), &ID.parse().unwrap()).await;
    (lookup.map_err(|error| error.to_string()), endpoint.requests().len())
}

fn pool() -> Lookup {
    Lookup::Pool("us-east-1#use1-az6#m5.large".parse().unwrap())
}

#[tokio::test]
async fn an_event_whose_instance_is_gone_is_learned_from_its_spot_request() {
    for zone in [
        "<launchedAvailabilityZone>us-east-1a</launchedAvailabilityZone>",
        "<launchedAvailabilityZoneId>use1-az6</launchedAvailabilityZoneId>",
    ] {
        assert_eq!(looked_up("", request(zone)).await.0, Ok(pool()), "{zone}");
    }
}

#[tokio::test]
async fn what_ec2_knows_nothing_of_is_gone_and_never_guessed() {
    assert_eq!(looked_up("", String::new()).await.0, Ok(Lookup::Gone));
    let elsewhere = "<launchedAvailabilityZone>us-east-1z</launchedAvailabilityZone>";
    assert_eq!(looked_up("", request(elsewhere)).await.0, Ok(Lookup::ZoneUnknown("us-east-1z".into())));
    let nowhere = looked_up("", request("")).await.0.unwrap_err();
    assert!(nowhere.contains("names no zone"), "{nowhere}");
    let typeless = looked_up("", "<item><instanceId>i-1</instanceId></item>".to_owned()).await.0.unwrap_err();
    assert!(typeless.contains("names no instance type"), "{typeless}");
}

#[tokio::test]
async fn an_instance_that_is_described_needs_no_request() {
    let spot = "<instanceId>i-0123456789abcdef0</instanceId><instanceType>m5.large</instanceType>\
                <instanceState><code>16</code><name>running</name></instanceState><instanceLifecycle>spot</instanceLifecycle>\
                <placement><availabilityZone>us-east-1a</availabilityZone><availabilityZoneId>use1-az6</availabilityZoneId>\
                </placement>";
    assert_eq!(looked_up(spot, String::new()).await, (Ok(pool()), 1));
    let on_demand = "<instanceId>i-0123456789abcdef0</instanceId><instanceType>m5.large</instanceType>\
                     <instanceState><code>16</code><name>running</name></instanceState>\
                     <placement><availabilityZone>us-east-1a</availabilityZone></placement>";
    assert_eq!(looked_up(on_demand, request("")).await.0, Ok(Lookup::NotSpot));
}

#[tokio::test]
async fn an_instance_of_a_persistent_spot_request_is_known_before_its_replacement() {
    let item = |n: u32, kind: &str| {
        format!(
            "<item><spotInstanceRequestId>sir-{n}</spotInstanceRequestId><type>{kind}</type>\
             <instanceId>i-0123456789abcde{n:02}</instanceId></item>"
        )
    };
    let found = item(1, "one-time") + &item(2, "persistent");
    let endpoint = Endpoint::answering(move |_, _| requests(&found)).await;
    let client = aws_sdk_ec2::Client::new(&endpoint.config().await);
    let ids: Vec<InstanceId> = [1, 2].map(|n| format!("i-0123456789abcde{n:02}").parse().unwrap()).to_vec();
    let persistent = ec2_instances::persistent_requests(&client, &ids).await.unwrap();
    assert_eq!(persistent.into_iter().collect::<Vec<_>>(), [(ids[1].clone(), "sir-2".to_owned())]);
    assert!(ec2_instances::persistent_requests(&client, &[]).await.unwrap().is_empty());
    assert_eq!(endpoint.requests().len(), 1, "nothing is asked about nobody");
}
