//! Scripted answers for a visit of one account and region.

#![allow(dead_code, unreachable_pub)] // each test binary uses its part
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::time::Duration;

use group_watcher::answer::Answer;
use group_watcher::executions::Machine;
use group_watcher::input::Request;
use group_watcher::table::{GroupsTable, Memories};
use group_watcher::tools::{Tools, now};
use group_watcher::visit::Visit;
use spot_cloud::access::Access;
use spot_cloud::announcements::Announcements;
use spot_cloud::launch::gatekeeper::Gatekeeper;
use spot_cloud::scopes::{AccountRegion, Scope};
use spot_cloud::tables::swaps::Swaps;
use spot_cloud::{CallError, RegionClients};
use spot_domain::EnvironmentType;
use spot_domain::clock;
use spot_domain::settings::Settings;
use spot_scripted::{Endpoint, ScriptedAnswer};

/// Launched before every test.
pub const LONG_AGO: &str = "2024-01-01T00:00:00.000Z";
pub const ENABLED: (&str, &str) = ("spot-optimizer:enabled", "true");
/// The launch configuration of every group.
pub const CONFIGURATION: &str = "<LaunchConfigurations><member><LaunchConfigurationName>web</LaunchConfigurationName>\
     <LaunchConfigurationARN>arn</LaunchConfigurationARN><ImageId>ami-1</ImageId><InstanceType>m5.large</InstanceType>\
     <CreatedTime>2024-01-01T00:00:00Z</CreatedTime></member></LaunchConfigurations>";

/// A zone by its name and its id.
pub type Zone = (&'static str, &'static str);
pub const ZONE_A: Zone = ("us-east-1a", "use1-az6");
pub const ZONE_B: Zone = ("us-east-1b", "use1-az1");
pub const ZONE_C: Zone = ("us-east-1c", "use1-az2");

/// Returns the tags as EC2 (`key`, `value`) or Auto Scaling (`Key`, `Value`) spell them, each in an element.
pub fn tags(element: &str, [key, value]: [&str; 2], tags: &[(&str, &str)]) -> String {
    let tag =
        |(k, v): &(&str, &str)| format!("<{element}><{key}>{k}</{key}><{value}>{v}</{value}></{element}>");
    tags.iter().map(tag).collect()
}

/// An instance as EC2 describes it.
#[derive(Clone, Copy)]
pub struct Described<'a> {
    pub id: &'a str,
    pub is_spot: bool,
    pub launched: &'a str,
    pub tags: &'a [(&'a str, &'a str)],
    pub zone: Zone,
}

impl Described<'_> {
    fn xml(&self) -> String {
        let Self { id, is_spot, launched, zone: (zone, az_id), .. } = self;
        let lifecycle = if *is_spot { "<instanceLifecycle>spot</instanceLifecycle>" } else { "" };
        let tags = tags("item", ["key", "value"], self.tags);
        format!(
            "<item><instanceId>{id}</instanceId><instanceType>m5.large</instanceType>{lifecycle}\
             <instanceState><name>running</name></instanceState><launchTime>{launched}</launchTime>\
             <placement><availabilityZone>{zone}</availabilityZone>\
             <availabilityZoneId>{az_id}</availabilityZoneId></placement><subnetId>subnet-1</subnetId>\
             <tagSet>{tags}</tagSet></item>"
        )
    }
}

/// Returns the answer that describes these instances.
pub fn described(instances: &[Described<'_>]) -> ScriptedAnswer {
    let mut xml = String::new();
    for instance in instances {
        write!(xml, "{}", instance.xml()).unwrap();
    }
    ScriptedAnswer::ok(format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet>{xml}</instancesSet></item></reservationSet>\
         </DescribeInstancesResponse>"
    ))
}

/// Returns the answer of Auto Scaling to a call that describes.
pub fn auto_scaling(action: &str, content: &str) -> ScriptedAnswer {
    ScriptedAnswer::ok(format!(
        "<{action}Response><{action}Result>{content}</{action}Result></{action}Response>"
    ))
}

/// Returns the answer that describes no group.
pub fn no_groups() -> ScriptedAnswer {
    auto_scaling("DescribeAutoScalingGroups", "<AutoScalingGroups/>")
}

/// Returns the ARN of the group of this name.
pub fn arn(name: &str) -> String {
    format!("arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:u:autoScalingGroupName/{name}")
}

/// Returns a group with these members, all in service. `more` is put beside its other fields.
pub fn group(name: &str, members: &[&str], all_tags: &[(&str, &str)], more: &str) -> String {
    let (tags, arn, count) = (tags("member", ["Key", "Value"], all_tags), arn(name), members.len());
    let mut xml = String::new();
    for id in members {
        write!(
            xml,
            "<member><InstanceId>{id}</InstanceId><LifecycleState>InService</LifecycleState>\
             <HealthStatus>Healthy</HealthStatus><ProtectedFromScaleIn>false</ProtectedFromScaleIn>\
             <LaunchConfigurationName>web</LaunchConfigurationName></member>"
        )
        .unwrap();
    }
    format!(
        "<member><AutoScalingGroupName>{name}</AutoScalingGroupName><AutoScalingGroupARN>{arn}</AutoScalingGroupARN>\
         <MinSize>0</MinSize><MaxSize>9</MaxSize><DesiredCapacity>{count}</DesiredCapacity>\
         <LaunchConfigurationName>web</LaunchConfigurationName><Tags>{tags}</Tags><Instances>{xml}</Instances>{more}\
         </member>"
    )
}

/// The place of every test.
pub fn place() -> AccountRegion {
    AccountRegion { account_id: "123456789012".parse().unwrap(), region: "us-east-1".parse().unwrap() }
}

/// Sweeps one place of this kind; returns the answer, and the number of calls.
pub async fn sweep(
    endpoint: &Endpoint,
    environment_type: EnvironmentType,
    memories: Memories,
) -> (Answer, usize) {
    let answer = visit(endpoint, environment_type, &Request::Sweep, memories).await;
    (answer, endpoint.requests().len())
}

/// Visits one place of this kind.
pub async fn visit(
    endpoint: &Endpoint,
    environment_type: EnvironmentType,
    request: &Request,
    memories: Memories,
) -> Answer {
    visited(endpoint, environment_type, request, memories, true).await.unwrap()
}

/// Visits one place of this kind, whose region the row of Accounts or the input names, or not.
pub async fn visited(
    endpoint: &Endpoint,
    environment_type: EnvironmentType,
    request: &Request,
    mut memories: Memories,
    is_named: bool,
) -> Result<Answer, CallError> {
    let config = endpoint.config().await;
    let dynamodb = aws_sdk_dynamodb::Client::new(&config);
    let machine = |name: &str| Machine(format!("arn:aws:states:us-east-1:123456789012:stateMachine:{name}"));
    let tools = Tools {
        swaps: Swaps::over(dynamodb.clone(), "swaps"),
        table: GroupsTable::new(dynamodb.clone(), "groups".to_owned()),
        gatekeeper: Gatekeeper::over(dynamodb, "risk"),
        announcements: Announcements::over(&config, "arn:aws:sns:us-east-1:123456789012:alerts".to_owned()),
        sfn: aws_sdk_sfn::Client::new(&config),
        group_swap: machine("group"),
        node_swap: machine("node"),
        lab_swap: machine("lab"),
    };
    let scope = Scope {
        place: place(),
        access: Access { environment_type, role: None },
        settings: Settings::default(),
        auto_terminate: false,
        is_named,
    };
    let clients = RegionClients::new(&config);
    let mut answer = Answer::default();
    let stop_at = clock::system_time() + Duration::from_mins(5);
    let mut visit =
        Visit { tools: &tools, scope: &scope, clients: &clients, now: now(), stop_at, answer: &mut answer };
    visit.run(request, &mut memories).await?;
    Ok(answer)
}
