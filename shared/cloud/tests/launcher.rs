//! The launcher against a scripted DynamoDB and EC2: its requests to EC2, and the kinds of EC2's refusals.
//! The proofs come from the real gate.

#![allow(clippy::unwrap_used, clippy::panic)]

use jiff::Timestamp;
use spot_cloud::launch::launcher::{Blueprint, Launcher, Order};
use spot_cloud::launch::template::{NotForSpot, ResolvedTemplate, TemplatePlacement};
use spot_cloud::{Kind, RegionClients};
use spot_domain::Usd;
use spot_domain::swap::journal::{Journal, OnDemandLaunch, Retirement, SwapKind};
use spot_domain::swap::market::Market;
use spot_domain::tags::Tags;
use spot_scripted::{Endpoint, ScriptedAnswer};

use common::{cleared, order_for};

mod common;

const LAUNCHED: &str = r"<RunInstancesResponse><instancesSet><item>
    <instanceId>i-0123456789abcdef0</instanceId></item></instancesSet></RunInstancesResponse>";

fn template() -> ResolvedTemplate {
    ResolvedTemplate { id: "lt-0123".into(), version: "7".into(), ..ResolvedTemplate::default() }
}

fn order() -> Order {
    let tags = Tags::from([("team".to_owned(), "payments".to_owned())]);
    Order { tags, ..order_for(Blueprint::Template(Box::new(template()))) }
}

async fn launcher(endpoint: &Endpoint) -> Launcher {
    Launcher::new(&RegionClients::new(&endpoint.config().await))
}

#[tokio::test]
async fn it_asks_for_one_one_time_spot_instance_of_the_owners_template() {
    let ec2 = Endpoint::start(vec![ScriptedAnswer::ok(LAUNCHED)]).await;
    let newcomer = launcher(&ec2).await.launch(cleared().await, &order(), "token-0").await.unwrap();
    assert_eq!(newcomer.as_str(), "i-0123456789abcdef0");
    let request = &ec2.requests()[0];
    for expected in [
        "Action=RunInstances",
        "ClientToken=token-0",
        "InstanceMarketOptions.MarketType=spot",
        "InstanceMarketOptions.SpotOptions.SpotInstanceType=one-time",
        "InstanceType=m5.large",
        "LaunchTemplate.LaunchTemplateId=lt-0123",
        "LaunchTemplate.Version=7",
        "MaxCount=1",
        "SubnetId=subnet-1",
        "TagSpecification.1.Tag.1.Key=team",
    ] {
        assert!(request.contains(expected), "{expected} is not in {request}");
    }
    for absent in ["MaxPrice", "Placement", "ImageId", "DisableApi"] {
        assert!(!request.contains(absent), "{absent} is in {request}");
    }
}

async fn asked_for(order: Order) -> String {
    let ec2 = Endpoint::start(vec![ScriptedAnswer::ok(LAUNCHED)]).await;
    launcher(&ec2).await.launch(cleared().await, &order, "token-0").await.unwrap();
    ec2.requests()[0].clone()
}

#[tokio::test]
async fn what_the_group_says_of_image_placement_and_price_is_said_again() {
    let request = asked_for(Order {
        image_id: Some("ami-7".into()),
        placement_group: Some("hpc".into()),
        spot_max_price: Some(Usd::new("0.05".parse().unwrap())),
        ..order()
    })
    .await;
    for expected in ["ImageId=ami-7", "Placement.GroupName=hpc", "SpotOptions.MaxPrice=0.05"] {
        assert!(request.contains(expected), "{expected} is not in {request}");
    }
}

#[tokio::test]
async fn a_template_is_overruled_only_where_spot_does_not_have_it() {
    let mut of_owner = template();
    of_owner.not_for_spot =
        NotForSpot { termination_protection: true, stop_protection: true, stops_at_shutdown: true };
    of_owner.placement = TemplatePlacement {
        names_zone: true,
        partition_number: Some(2),
        group_name: Some("racks".into()),
        ..TemplatePlacement::default()
    };
    let request = asked_for(Order { blueprint: Blueprint::Template(Box::new(of_owner)), ..order() }).await;
    for expected in [
        "DisableApiTermination=false",
        "DisableApiStop=false",
        "InstanceInitiatedShutdownBehavior=terminate",
        "Placement.AvailabilityZone=us-east-1a",
        "Placement.PartitionNumber=2",
        "Placement.GroupName=racks",
    ] {
        assert!(request.contains(expected), "{expected} is not in {request}");
    }
}

fn asked_back() -> OnDemandLaunch {
    let old = "i-0123456789abcdef0".parse().unwrap();
    let journal = Journal::new(&old, Timestamp::UNIX_EPOCH, Retirement::Detach, SwapKind::Group);
    let back = Journal { to: Market::OnDemand, ..journal };
    back.on_demand_launch(&"c5.large".parse().unwrap()).unwrap()
}

#[tokio::test]
async fn an_on_demand_launch_is_the_owners_own_without_a_market_and_can_be_undone() {
    let mut of_owner = template();
    of_owner.not_for_spot =
        NotForSpot { termination_protection: true, stop_protection: true, stops_at_shutdown: true };
    let ec2 = Endpoint::start(vec![ScriptedAnswer::ok(LAUNCHED)]).await;
    let order = Order {
        blueprint: Blueprint::Template(Box::new(of_owner)),
        spot_max_price: Some(Usd::new("0.05".parse().unwrap())),
        ..order()
    };
    launcher(&ec2).await.launch_on_demand(asked_back(), &order, "token-d0").await.unwrap();
    let request = &ec2.requests()[0];
    for expected in [
        "Action=RunInstances",
        "ClientToken=token-d0",
        "InstanceType=c5.large",
        "LaunchTemplate.LaunchTemplateId=lt-0123",
        "MaxCount=1",
        "SubnetId=subnet-1",
        "TagSpecification.1.Tag.1.Key=team",
        "DisableApiTermination=false",
        "DisableApiStop=false",
    ] {
        assert!(request.contains(expected), "{expected} is not in {request}");
    }
    for absent in ["InstanceMarketOptions", "MaxPrice", "InstanceInitiatedShutdownBehavior"] {
        assert!(!request.contains(absent), "{absent} is in {request}");
    }
}

#[tokio::test]
async fn an_on_demand_launch_without_capacity_is_made_once() {
    let ec2 = Endpoint::start(vec![ScriptedAnswer::ec2_error(500, "InsufficientInstanceCapacity")]).await;
    let launched = launcher(&ec2).await.launch_on_demand(asked_back(), &order(), "t").await;
    assert_eq!(launched.unwrap_err().kind, Kind::NextPool);
    assert_eq!(ec2.requests().len(), 1);
}

#[tokio::test]
async fn capacity_errors_are_not_hammered_though_they_come_as_http_500() {
    let ec2 = Endpoint::start(vec![ScriptedAnswer::ec2_error(500, "InsufficientInstanceCapacity")]).await;
    let error = launcher(&ec2).await.launch(cleared().await, &order(), "t").await.unwrap_err();
    assert_eq!(error.kind, Kind::NextPool);
    assert_eq!(ec2.requests().len(), 1);
}

#[tokio::test]
async fn refusals_are_sorted_by_what_to_do() {
    let cases = [
        (400, "MaxSpotInstanceCountExceeded", Kind::Quota),
        (403, "UnauthorizedOperation", Kind::Denied),
        (400, "InvalidParameterCombination", Kind::Rejected),
        (503, "RequestLimitExceeded", Kind::Retry),
    ];
    for (status, code, kind) in cases {
        let ec2 = Endpoint::start(vec![ScriptedAnswer::ec2_error(status, code)]).await;
        let error = launcher(&ec2).await.launch(cleared().await, &order(), "t").await.unwrap_err();
        assert_eq!((error.kind, error.code.as_str(), error.call), (kind, code, "ec2:RunInstances"));
    }
}
