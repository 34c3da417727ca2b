//! The pool of an interrupted instance, with a scripted EC2 and a scripted Swaps table.

#![allow(clippy::unwrap_used)]

use risk_manager::interruption::{Interruption, Notice};
use risk_manager::pool;
use spot_cloud::tables::swaps::Swaps;
use spot_domain::clock;
use spot_scripted::{Endpoint, ScriptedAnswer};

const ID: &str = "i-0123456789abcdef0";
const SPOT: &str = "<instanceId>i-0123456789abcdef0</instanceId><instanceType>m5.large</instanceType>\
    <instanceState><code>16</code><name>running</name></instanceState><instanceLifecycle>spot</instanceLifecycle>\
    <placement><availabilityZone>us-east-1a</availabilityZone><availabilityZoneId>use1-az6</availabilityZoneId></placement>";
const ON_DEMAND: &str = "<instanceId>i-0123456789abcdef0</instanceId><instanceType>m5.large</instanceType>\
    <instanceState><code>16</code><name>running</name></instanceState>\
    <placement><availabilityZone>us-east-1a</availabilityZone></placement>";
const REQUEST: &str = "<item><instanceId>i-0123456789abcdef0</instanceId><launchSpecification><instanceType>m5.large\
    </instanceType></launchSpecification><launchedAvailabilityZoneId>use1-az6</launchedAvailabilityZoneId></item>";
const FORGOTTEN: &str = "";
/// EC2 refuses the caller there: the role is gone, or the region is switched off.
const REFUSED: &str = "refused";
/// The instance is Spot, in a zone without an id.
const NO_ZONE: &str = "<instanceId>i-0123456789abcdef0</instanceId><instanceType>m5.large</instanceType>\
    <instanceState><code>16</code><name>running</name></instanceState><instanceLifecycle>spot</instanceLifecycle>\
    <placement><availabilityZone>us-east-1z</availabilityZone></placement>";

/// The state of EC2, and the row of the swap that launched the instance.
#[derive(Clone, Copy)]
struct World {
    instance: &'static str,
    request: &'static str,
    row: &'static str,
}

fn answer(world: World, action: &str, body: &str) -> ScriptedAnswer {
    let items = |set: &str| if set.is_empty() { String::new() } else { format!("<item>{set}</item>") };
    match action {
        "DescribeInstances" if world.instance == REFUSED => {
            ScriptedAnswer::ec2_error(403, "UnauthorizedOperation")
        }
        "DescribeAvailabilityZones" => ScriptedAnswer::ok(
            "<DescribeAvailabilityZonesResponse><availabilityZoneInfo/></DescribeAvailabilityZonesResponse>",
        ),
        "DescribeInstances" => ScriptedAnswer::ok(format!(
            "<DescribeInstancesResponse><reservationSet><item><instancesSet>{}</instancesSet></item></reservationSet>\
             </DescribeInstancesResponse>",
            items(world.instance)
        )),
        "DescribeSpotInstanceRequests" => ScriptedAnswer::ok(format!(
            "<DescribeSpotInstanceRequestsResponse><spotInstanceRequestSet>{}</spotInstanceRequestSet>\
             </DescribeSpotInstanceRequestsResponse>",
            world.request
        )),
        "GetItem" if body.contains(&format!("newcomer#123456789012#us-east-1#{ID}")) => {
            ScriptedAnswer::ok(world.row)
        }
        other => ScriptedAnswer::json_error(500, other),
    }
}

/// Returns the outcome, and the number of calls.
async fn looked_up(world: World) -> (Result<Option<String>, String>, usize) {
    let endpoint = Endpoint::answering(move |action, body| answer(world, action, body)).await;
    let config = endpoint.config().await;
    let event = Interruption {
        notice: Notice::InterruptionWarning,
        account_id: "123456789012".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        instance_id: ID.parse().unwrap(),
        occurred: clock::now(),
        is_drill: false,
    };
    let swaps = Swaps::over(aws_sdk_dynamodb::Client::new(&config), "swaps");
    let pool = pool::of(&event, &aws_sdk_ec2::Client::new(&config), &swaps).await;
    let pool = pool.map(|pool| pool.map(|pool| pool.to_string())).map_err(|error| error.name().to_owned());
    (pool, endpoint.requests().len())
}

fn row(pool: &str) -> &'static str {
    format!(r#"{{"Item":{{"target":{{"S":"x"}},"launched_into":{{"S":"{pool}"}}}}}}"#).leak()
}

#[tokio::test]
async fn an_event_that_comes_too_late_for_ec2_is_learned_from_the_swap_that_launched_its_instance() {
    let late = World { instance: FORGOTTEN, request: "", row: row("us-east-1#use1-az4#c5.large") };
    assert_eq!(looked_up(late).await, (Ok(Some("us-east-1#use1-az4#c5.large".to_owned())), 3));
}

#[tokio::test]
async fn what_ec2_says_itself_is_believed_before_any_row() {
    let row = row("us-east-1#use1-az4#c5.large");
    let known = Ok(Some("us-east-1#use1-az6#m5.large".to_owned()));
    let described = World { instance: SPOT, request: "", row };
    assert_eq!(looked_up(described).await, (known.clone(), 1), "the warm path asks for nothing else");
    let requested = World { instance: FORGOTTEN, request: REQUEST, row };
    assert_eq!(looked_up(requested).await, (known, 2));
    let on_demand = World { instance: ON_DEMAND, request: "", row };
    assert_eq!(looked_up(on_demand).await, (Ok(None), 1));
}

#[tokio::test]
async fn where_ec2_cannot_be_asked_the_swap_that_launched_the_instance_is() {
    let kept = Ok(Some("us-east-1#use1-az4#c5.large".to_owned()));
    for (instance, error) in [(REFUSED, "CallFailed"), (NO_ZONE, "ZoneUnknown")] {
        let known = World { instance, request: "", row: row("us-east-1#use1-az4#c5.large") };
        assert_eq!(looked_up(known).await.0, kept);
        assert_eq!(looked_up(World { row: "{}", ..known }).await.0, Err(error.to_owned()));
    }
}

#[tokio::test]
async fn what_nobody_knows_is_never_guessed() {
    let nobody = World { instance: FORGOTTEN, request: "", row: "{}" };
    assert_eq!(looked_up(nobody).await.0, Err("InstanceUnknown".to_owned()));
    for forged in ["eu-west-1#euw1-az1#m5.large", "us-east-1#us-east-1a#m5.large", ""] {
        let forged = World { row: row(forged), ..nobody };
        assert_eq!(looked_up(forged).await.0, Err("CallFailed".to_owned()));
    }
}
